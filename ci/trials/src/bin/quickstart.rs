//! `ci/quickstart`: the whole path once, in a temporary folder, counted at the receiving side.
//!
//! Exit code 0 means: `sendmail` accepted every message, all went through Redis, each arrived
//! exactly once, and nothing was left in Redis or in Postfix's queue.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::Table;
use serde::Serialize;
use testbed::Tally;
use trials::{Mailer, Output, Patience, Platform, Progress, end, seconds, table};

/// Longest time without a submission or delivery; then something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for Redis and Postfix to forget delivered messages.
const REST: Duration = Duration::from_secs(30);
/// Settings with patience: on a slow machine no submission should take the maildrop.
const SETTINGS: &str = "[submit]\ntimeout_ms = 60000\n";
const LOOK: Duration = Duration::from_millis(50);

/// Sends mail through a private Postfix and Redis, and counts what arrives.
#[derive(Parser)]
struct Arguments {
    /// Number of messages to send.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct QuickstartReport {
    submitted: usize,
    delivered: usize,
    lost: usize,
    duplicates: usize,
    /// Number of messages that `sendmail` refused.
    refused: usize,
    /// Number of messages submitted through Redis. The others went to the maildrop, because Redis
    /// was away.
    through_redis: u64,
    seconds: f64,
}

impl QuickstartReport {
    fn is_clean(&self, messages: u64) -> bool {
        let all = self.delivered as u64 == messages && self.through_redis == messages;
        all && self.lost == 0 && self.duplicates == 0
    }
}

fn main() -> ExitCode {
    end("quickstart", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let mut platform = Platform::builder().settings(SETTINGS).start()?;
    platform.start_agents()?;
    let started = Instant::now();
    let mailer = Mailer::start(
        &platform.postfix,
        &testbed::bin("sendmail"),
        "quickstart",
        arguments.messages,
    )?;
    let waited = wait(&platform, &mailer, arguments.messages);
    let elapsed = started.elapsed();
    let rest = testbed::until(REST, "rest", || platform.is_at_rest());
    let report = report(&platform, &mailer, elapsed)?;
    let ended = waited.and(rest.context("platform: mail was left in Redis or in the queue"));
    if let Err(error) = &ended {
        eprintln!("quickstart: {error:#}\n{}", platform.logs());
    }
    Output::new(arguments.json).print(&report, draw)?;
    Ok(ended.is_ok() && report.is_clean(arguments.messages))
}

/// Waits until all accepted messages have arrived.
fn wait(platform: &Platform, mailer: &Mailer, total: u64) -> Result<()> {
    let mut progress = Progress::new("delivered", total);
    let mut patience = Patience::new(PATIENCE);
    loop {
        let done = mailer.is_done();
        let (accepted, delivered) = (mailer.accepted(), platform.sink.distinct() as u64);
        progress.set(delivered, &format!("(submitted {accepted})"));
        if done && delivered >= accepted {
            return Ok(());
        }
        patience.look(mailer.tried() + delivered)?;
        std::thread::sleep(LOOK);
    }
}

fn report(platform: &Platform, mailer: &Mailer, elapsed: Duration) -> Result<QuickstartReport> {
    let outcome = mailer.outcome();
    let tally = Tally::of(outcome.accepted.iter().map(String::as_str), &platform.sink.received());
    Ok(QuickstartReport {
        submitted: tally.submitted,
        delivered: tally.delivered,
        lost: tally.lost,
        duplicates: tally.duplicates + tally.postfix_duplicates,
        refused: outcome.refused.len(),
        through_redis: platform.submitted_to_redis()?,
        seconds: seconds(elapsed),
    })
}

fn draw(report: &QuickstartReport) -> Table {
    let mut table = table(&["", "messages"]);
    table.add_row(["submitted", &report.submitted.to_string()]);
    table.add_row(["through Redis", &report.through_redis.to_string()]);
    table.add_row(["delivered", &report.delivered.to_string()]);
    table.add_row(["lost", &report.lost.to_string()]);
    table.add_row(["duplicates", &report.duplicates.to_string()]);
    table.add_row(["seconds", &format!("{:.2}", report.seconds)]);
    table
}
