//! Tests of listings, read from the real showq(8) and compared with those of the real postqueue(1).

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postfix_wire::showq::{Entry, ListingReader, TextListing, json_line};
use testbed::{Postfix, until};

/// Limit of a wait, far above the time of any step on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Senders and recipients that are hard to print.
const ENVELOPES: &[&[&str]] = &[
    &["ann@example.org", "bob@example.net"],
    &["", "carol@example.net", "dave@example.net"],
    &["\"ann b\"@example.org", "\"quo\\\"te\"@example.net", "caf\u{e9}@example.net"],
    &["held@example.org", "bob@example.net"],
];

fn entries(postfix: &Postfix) -> Result<Vec<Entry>> {
    let stream = UnixStream::connect(postfix.queue_dir().join("public/showq"))?;
    let mut report = ListingReader::open(BufReader::new(stream))?;
    let mut entries = Vec::new();
    while let Some(entry) = report.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn postqueue(postfix: &Postfix, option: &str) -> Result<String> {
    let output = postfix.command("/usr/sbin/postqueue").arg(option).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn local_time(unix_s: i64) -> String {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["-d", &format!("@{unix_s}"), "+%a %b %e %H:%M:%S"]);
    let output = date.output().expect("date(1)");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn compare(postfix: &Postfix, has_long_ids: bool) -> Result<()> {
    let (entries, mut listing) = (entries(postfix)?, TextListing::new(has_long_ids));
    let lines: String = entries.iter().map(|entry| listing.entry(entry, local_time)).collect();
    assert_eq!(lines + &listing.summary(), postqueue(postfix, "-p")?);
    assert_eq!(entries.iter().map(json_line).collect::<String>(), postqueue(postfix, "-j")?);
    Ok(())
}

#[test]
fn listings_are_read_and_printed_as_by_stock() -> Result<()> {
    let postfix = Postfix::builder().start()?;
    compare(&postfix, false)?;
    for (sender, recipients) in ENVELOPES.iter().filter_map(|envelope| envelope.split_first()) {
        let arguments = [&["-i", "-f", sender, "--"][..], recipients].concat();
        let output = postfix.sendmail("/usr/sbin/sendmail", &arguments, b"Subject: x\n\nbody\n")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    until(LIMIT, "all to be deferred", || {
        postfix.queue_files("deferred").len() == ENVELOPES.len()
    })?;
    let held = entries(&postfix)?.into_iter().find(|entry| entry.sender.starts_with("held"));
    let held = held.context("the message to be held")?.id;
    ensure!(postfix.command("/usr/sbin/postsuper").args(["-h", &held]).status()?.success());
    compare(&postfix, false)?;
    postfix.set_main(&["enable_long_queue_ids = yes"])?;
    compare(&postfix, true)
}
