//! Tests with maildrop files of stock sendmail and postdrop.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use postfix_wire::record::{Segment, put};
use postfix_wire::{QueueId, RecordType, Records};
use testbed::Postfix;

/// Submits with the stock programs to a Postfix that is not running. Returns the maildrop file.
pub(crate) fn submit(postfix: &Postfix, arguments: &[&str], message: &[u8]) -> Result<PathBuf> {
    let output = postfix.sendmail("/usr/sbin/sendmail", arguments, message)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    postfix.queue_files("maildrop").pop().context("nothing in maildrop")
}

/// Checks that `bytes` are a maildrop file, and that writing its records gives the same bytes.
pub(crate) fn check(bytes: &[u8]) -> Result<Vec<(RecordType, Vec<u8>)>> {
    let (mut segment, mut records, mut again) = (Some(Segment::Envelope), Vec::new(), Vec::new());
    for record in Records::new(bytes) {
        let record = record?;
        let part = segment.with_context(|| format!("{:?} after the end", record.kind))?;
        let time = records.is_empty() && record.kind == RecordType::Time;
        ensure!(time || part.accepts_from_user(record.kind), "{:?} in {part:?}", record.kind);
        segment = if record.kind == part.end() { part.next() } else { segment };
        put(&mut again, record.kind, record.data);
        records.push((record.kind, record.data.to_vec()));
    }
    ensure!(segment.is_none() && again == bytes);
    Ok(records)
}

#[test]
fn a_stock_submission_has_the_expected_records() -> Result<()> {
    let postfix = Postfix::builder().prepare()?;
    let long = "x".repeat(5000);
    let message = format!("To: rcpt@example.org\n\n{long}\n.\nlast");
    let path = submit(
        &postfix,
        &["-i", "-f", "sender@example.org", "rcpt@example.org"],
        message.as_bytes(),
    )?;
    let records = check(&std::fs::read(&path)?)?;
    let id = path.file_name().context("name")?.to_string_lossy().parse::<QueueId>()?;
    ensure!(id.inode().is_some() && !id.is_long());
    ensure!(records.contains(&(RecordType::From, b"sender@example.org".to_vec())));
    // A line cut short by the end of input is marked as continued, without a continuation.
    ensure!(records.contains(&(RecordType::Cont, b"last".to_vec())));
    let pieces: Vec<_> = records
        .iter()
        .filter(|(kind, _)| *kind == RecordType::Cont)
        .map(|(_, data)| data.len())
        .collect();
    ensure!(pieces == [2048, 2048, 4], "{pieces:?}");
    Ok(())
}
