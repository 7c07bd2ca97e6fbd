//! Bulk: messages of an mbox per second by `optimus inject`, beside a loop that runs OPTIMUS's
//! `sendmail` for each.
//!
//! Both store the same messages durably in the same Redis (`appendfsync always`), and nothing takes
//! the mail away meanwhile. The loop has fewer of them, because its time per message doesn't depend
//! on their number.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, table};

use crate::rounds::{median, message_file, rounded, run_once};
use spool::keys;

/// Options of `inject`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of messages in the mailbox.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Number of messages that the loop sends.
    #[arg(long, default_value_t = 300)]
    looped: u64,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 500)]
    bytes: usize,
}

/// Result: messages per second, medians of rounds.
#[derive(Serialize)]
pub(crate) struct InjectReport {
    benchmark: &'static str,
    rounds: usize,
    messages: u64,
    message_bytes: usize,
    inject_per_s: f64,
    loop_per_s: f64,
    ratio: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<InjectReport> {
    let platform = Platform::builder().own_redis().prepare()?;
    let folder = platform.postfix.path();
    let mailbox = folder.join("mailbox");
    std::fs::write(&mailbox, mbox(arguments))?;
    let message = message_file(&platform.postfix, "looped", arguments.bytes)?;
    let (mut inject, mut looped) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        inject.push(injected(&platform, &mailbox, arguments.messages)?);
        looped.push(one_by_one(&platform, &message, arguments.looped)?);
        eprintln!("inject: round {} of {}", round + 1, arguments.rounds);
    }
    let (inject, looped) = (median(inject), median(looped));
    Ok(InjectReport {
        benchmark: "inject",
        rounds: arguments.rounds,
        messages: arguments.messages,
        message_bytes: arguments.bytes,
        inject_per_s: inject.round(),
        loop_per_s: looped.round(),
        ratio: rounded(inject / looped),
    })
}

fn mbox(arguments: &Arguments) -> String {
    let line = "This is a line of a message that says nothing, but that at some length.\n";
    let body = line.repeat(arguments.bytes.div_ceil(line.len()));
    let mut text = String::new();
    for number in 0..arguments.messages {
        let header = format!(
            "From: from@example.org\nTo: to@example.org\nX-Test-Id: i{number}\nSubject: bulk\n\n"
        );
        let rest = arguments.bytes.saturating_sub(header.len() + 1);
        let _ =
            write!(text, "From from@example.org\n{header}{}\n\n", &body[..rest.min(body.len())]);
    }
    text
}

/// Returns messages per second.
fn injected(platform: &Platform, mailbox: &Path, messages: u64) -> Result<f64> {
    let before = in_inbox(platform)?;
    let mut command = platform.postfix.command(testbed::bin("optimus"));
    command
        .args(["inject", "-t", "--from", "from@example.org"])
        .arg(mailbox)
        .current_dir(platform.postfix.path());
    let started = Instant::now();
    let output = command.output()?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "optimus inject: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    ensure_submitted(platform, before, messages)?;
    Ok(messages as f64 / seconds)
}

fn one_by_one(platform: &Platform, message: &Path, messages: u64) -> Result<f64> {
    let (before, program): (u64, PathBuf) = (in_inbox(platform)?, testbed::bin("sendmail"));
    let started = Instant::now();
    (0..messages).try_for_each(|_| run_once(&platform.postfix, &program, message).map(drop))?;
    let seconds = started.elapsed().as_secs_f64();
    ensure_submitted(platform, before, messages)?;
    Ok(messages as f64 / seconds)
}

fn ensure_submitted(platform: &Platform, before: u64, messages: u64) -> Result<()> {
    let found = in_inbox(platform)?.saturating_sub(before);
    ensure!(found == messages, "Redis: {found} of {messages} messages arrived in the inbox");
    Ok(())
}

fn in_inbox(platform: &Platform) -> Result<u64> {
    platform
        .redis_cli(&["LLEN", keys::INBOX])?
        .trim()
        .parse()
        .context("Redis: length of the inbox not understood")
}

pub(crate) fn draw(report: &InjectReport) -> Table {
    let mut table = table(&["", "messages a second", "times"]);
    table.add_row(["a loop of sendmail", &format!("{:.0}", report.loop_per_s), "1"]);
    let ratio = format!("{:.1}", report.ratio);
    table.add_row(["optimus inject", &format!("{:.0}", report.inject_per_s), &ratio]);
    table
}
