//! Files that stock Postfix made, kept in `tests/vectors`; its README says how.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use postfix_wire::attr::decode;
use postfix_wire::{CleanupFlags, CleanupStatus, QueueId, QueueLayout, QueueName, RecordType, Records};
use testbed::Postfix;

use crate::conversation::{converse, message};
use crate::{cleanup, maildrop};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

const SUBMISSION: &[u8] = b"\
From: sender@example.org
To: first@example.org, second@example.org
Subject: caf\xc3\xa9

8-bit \xff, a carriage return \r in the line,
.
and no newline at the end";

const ARGUMENTS: [&str; 12] = [
    "-i",
    "-f",
    "sender@example.org",
    "-F",
    "Full Name",
    "-V",
    "envelope-id",
    "-N",
    "failure,delay",
    "-B8BITMIME",
    "first@example.org",
    "second@example.org",
];

/// Makes the vectors again: `cargo test -p postfix-wire --test stock -- --ignored make_vectors`.
#[test]
#[ignore = "writes into the tree"]
fn make_vectors() -> Result<()> {
    let postfix = Postfix::builder()
        .main("enable_long_queue_ids = yes")
        .main("hash_queue_names = hold, deferred, defer")
        .main("hash_queue_depth = 3")
        .prepare()?;
    std::fs::write(vector("maildrop"), std::fs::read(maildrop::submit(&postfix, &ARGUMENTS, SUBMISSION)?)?)?;
    postfix.queue_files("maildrop").iter().try_for_each(std::fs::remove_file)?;
    postfix.start()?;
    let flags = CleanupFlags::EXTERNAL | CleanupFlags::HOLD;
    let said =
        converse(&postfix, flags, &message(&["first@example.org"], &[b"Subject: vector", b"", b"body"]))?;
    let path = postfix.queue_files("hold").pop().context("nothing in hold")?;
    std::fs::write(vector("queue-file"), std::fs::read(&path)?)?;
    std::fs::write(vector("queue-file-path"), path.strip_prefix(postfix.queue_dir())?.display().to_string())?;
    std::fs::write(vector("cleanup-greeting"), said.greeting)?;
    std::fs::write(vector("cleanup-request"), said.request)?;
    std::fs::write(vector("cleanup-verdict"), said.verdict)?;
    Ok(())
}

#[test]
fn maildrop_file() -> Result<()> {
    let records = maildrop::check(&std::fs::read(vector("maildrop"))?)?;
    for (kind, data) in [
        (RecordType::Full, "Full Name"),
        (RecordType::From, "sender@example.org"),
        (RecordType::Attr, "envelope_id=envelope-id"),
        (RecordType::Rcpt, "first@example.org"),
        (RecordType::Rcpt, "second@example.org"),
        (RecordType::Cont, "and no newline at the end"),
    ] {
        ensure!(records.contains(&(kind, data.as_bytes().to_vec())), "{kind:?} {data}: {records:?}");
    }
    ensure!(records.contains(&(RecordType::Norm, b"8-bit \xff, a carriage return \r in the line,".to_vec())));
    ensure!(records[0].0 == RecordType::Time);
    Ok(())
}

#[test]
fn queue_file() -> Result<()> {
    let records = cleanup::queue_file(&vector("queue-file"))?;
    ensure!(records.first().map(|(kind, _)| *kind) == Some(RecordType::Size));
    ensure!(records.last().map(|(kind, _)| *kind) == Some(RecordType::End));
    let identity = (RecordType::Attr, b"optimus_id=01HF7YAT00AAAAAAAAAAAAAAAA".to_vec());
    ensure!(records.contains(&identity), "{records:?}");
    Ok(())
}

#[test]
fn path_of_a_long_id() -> Result<()> {
    let path = std::fs::read_to_string(vector("queue-file-path"))?;
    let id: QueueId = path.rsplit('/').next().context("name")?.parse()?;
    let layout = QueueLayout::new([QueueName::Hold], 3);
    ensure!(id.is_long() && layout.path(QueueName::Hold, &id) == Path::new(&path), "{path}");
    Ok(())
}

#[test]
fn conversation_with_cleanup() -> Result<()> {
    let list = |name| -> Result<_> {
        let bytes = std::fs::read(vector(name))?;
        Ok((decode(&bytes)?.context("incomplete")?, bytes))
    };
    let ((greeting, length), bytes) = list("cleanup-greeting")?;
    ensure!(length == bytes.len() && greeting.get("protocol") == Some("cleanup_protocol"));
    let path = std::fs::read_to_string(vector("queue-file-path"))?;
    ensure!(path.ends_with(greeting.require("queue_id")?));

    let ((flags, length), bytes) = list("cleanup-request")?;
    ensure!(flags.require_u32("flags")? == (CleanupFlags::EXTERNAL | CleanupFlags::HOLD).bits());
    let kinds: Vec<_> =
        Records::new(&bytes[length..]).map(|record| Ok(record?.kind)).collect::<Result<_>>()?;
    ensure!(kinds.first() == Some(&RecordType::Time) && kinds.last() == Some(&RecordType::End));

    let ((verdict, length), bytes) = list("cleanup-verdict")?;
    ensure!(length == bytes.len() && verdict.get("reason") == Some(""));
    ensure!(CleanupStatus::from_bits(verdict.require_u32("status")?) == CleanupStatus::OK);
    Ok(())
}
