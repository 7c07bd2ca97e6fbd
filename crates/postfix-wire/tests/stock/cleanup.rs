//! Tests of conversations with stock cleanup.

use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use postfix_wire::record::{Segment, put};
use postfix_wire::{
    CleanupFlags, CleanupStatus, MainCf, QueueLayout, QueueName, RecordReader, RecordType,
};
use testbed::Postfix;

use crate::conversation::{converse, message};

const HELD: CleanupFlags = CleanupFlags::EXTERNAL.with(CleanupFlags::HOLD);

/// Reads all records of a queue file, and checks that each is in a segment where Postfix expects
/// it.
pub(crate) fn queue_file(path: &Path) -> Result<Vec<(RecordType, Vec<u8>)>> {
    let mut reader = RecordReader::new(BufReader::new(std::fs::File::open(path)?), 100_000);
    let (mut records, mut data, mut segment) = (Vec::new(), Vec::new(), Some(Segment::Envelope));
    while let Some(kind) = reader.next(&mut data)? {
        let part = segment.with_context(|| format!("{kind:?} after the end"))?;
        // A pointer to text that is inserted later may be in any segment.
        ensure!(part.accepts(kind) || kind == RecordType::Ptr, "{kind:?} in {part:?}");
        segment = if kind == part.end() { part.next() } else { segment };
        records.push((kind, data.clone()));
    }
    ensure!(segment.is_none(), "no end");
    Ok(records)
}

fn held_file_lies_where_its_id_says(settings: &[&str], long: bool) -> Result<()> {
    let builder = settings.iter().fold(Postfix::builder(), |builder, line| builder.main(line));
    let postfix = builder.start()?;
    let layout = QueueLayout::of(&MainCf::load(postfix.config_dir())?)?;
    let records = message(&["rcpt@example.org"], &[b"Subject: x", b"", b"body \0\xff."]);
    let said = converse(&postfix, HELD, &records)?;
    ensure!(said.status.is_ok(), "{}: {}\n{}", said.status, said.reason, postfix.log());
    ensure!(said.queue_id.is_long() == long, "{}", said.queue_id);

    let path = postfix.queue_dir().join(layout.path(QueueName::Hold, &said.queue_id));
    let metadata = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
    ensure!(said.queue_id.inode() == Some(metadata.ino()));
    if long {
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + said.queue_id.time().context("time")?)?;
        ensure!(age.as_secs() < 60, "{age:?}");
    }
    let file = queue_file(&path)?;
    ensure!(file[0].0 == RecordType::Size);
    for expected in [
        (RecordType::Attr, b"optimus_id=01HF7YAT00AAAAAAAAAAAAAAAA".to_vec()),
        (RecordType::From, b"sender@example.org".to_vec()),
        (RecordType::Rcpt, b"rcpt@example.org".to_vec()),
        (RecordType::Norm, b"body \0\xff.".to_vec()),
    ] {
        ensure!(file.contains(&expected), "{expected:?} is not in the file:\n{}", shown(&file));
    }
    Ok(())
}

#[test]
fn a_short_id_says_where_the_file_lies() -> Result<()> {
    held_file_lies_where_its_id_says(&[], false)
}

#[test]
fn a_short_id_says_where_the_file_lies_in_a_hashed_queue() -> Result<()> {
    held_file_lies_where_its_id_says(
        &["hash_queue_names = hold, deferred", "hash_queue_depth = 2"],
        false,
    )
}

#[test]
fn a_long_id_says_where_the_file_lies() -> Result<()> {
    held_file_lies_where_its_id_says(&["enable_long_queue_ids = yes"], true)
}

#[test]
fn a_long_id_says_where_the_file_lies_in_a_hashed_queue() -> Result<()> {
    let settings = [
        "enable_long_queue_ids = yes",
        "hash_queue_names = hold, deferred",
        "hash_queue_depth = 4",
    ];
    held_file_lies_where_its_id_says(&settings, true)
}

fn shown(records: &[(RecordType, Vec<u8>)]) -> String {
    records.iter().map(|(kind, data)| format!("{kind:?} {}\n", data.escape_ascii())).collect()
}

fn message_without_sender() -> Vec<u8> {
    let mut records = Vec::new();
    for kind in
        [RecordType::Time, RecordType::Rcpt, RecordType::Mesg, RecordType::Xtra, RecordType::End]
    {
        put(&mut records, kind, b"1");
    }
    records
}

#[test]
fn cleanup_refuses_with_the_expected_status() -> Result<()> {
    let postfix = Postfix::builder()
        .main("header_checks = regexp:$config_directory/checks")
        .file("checks", "/^Subject: bad/ REJECT we do not like it\n")
        .main("message_size_limit = 10000")
        .start()?;
    let large = vec![b'x'; 1000];
    let bad: &[&[u8]] = &[b"Subject: bad"];
    for (records, status) in [
        (message(&["rcpt@example.org"], bad), CleanupStatus::CONT),
        (message(&["rcpt@example.org"], &[large.as_slice(); 20]), CleanupStatus::SIZE),
        (message(&[], &[b"Subject: x"]), CleanupStatus::RCPT),
        (message_without_sender(), CleanupStatus::BAD),
    ] {
        let said = converse(&postfix, HELD, &records)?;
        ensure!(said.status == status, "{} instead of {status}", said.status);
        ensure!(
            status != CleanupStatus::CONT || said.reason.contains("we do not like it"),
            "{}",
            said.reason
        );
        let path = QueueLayout::new([], 1).path(QueueName::Hold, &said.queue_id);
        ensure!(!postfix.queue_dir().join(path).exists(), "{status}: a file was left");
    }
    Ok(())
}
