//! Latency: the time of one message on an idle platform, from `sendmail`'s exit until the sink has
//! it.
//!
//! Stock and OPTIMUS take turns on the same Postfix. Stock is `sendmail`, the maildrop and stock
//! pickup; OPTIMUS is its own `sendmail`, Redis, the agents and pickup-rs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, table};

use crate::rounds::{STOCK_SENDMAIL, median, message_file, rounded, run_once};

const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `latency`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of messages of each.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

/// Result: milliseconds, medians.
#[derive(Serialize)]
pub(crate) struct Report {
    benchmark: &'static str,
    rounds: usize,
    message_bytes: usize,
    stock_ms: f64,
    optimus_ms: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let mut platform = Platform::builder().own_redis().start()?;
    platform.start_agents()?;
    let programs = [PathBuf::from(STOCK_SENDMAIL), testbed::bin("sendmail")];
    let mut times = [Vec::new(), Vec::new()];
    // The first message of each starts Postfix's daemons, and is not counted.
    for round in 0..=arguments.rounds {
        for (program, times) in programs.iter().zip(&mut times) {
            let message = message_file(&platform.postfix, &round.to_string(), arguments.bytes)?;
            let elapsed = one(&platform, program, &message)?;
            times.extend((round > 0).then_some(elapsed));
        }
    }
    let [stock, optimus] = times.map(median);
    Ok(Report {
        benchmark: "latency",
        rounds: arguments.rounds,
        message_bytes: arguments.bytes,
        stock_ms: rounded(stock),
        optimus_ms: rounded(optimus),
    })
}

/// Returns milliseconds from `sendmail`'s exit to delivery.
fn one(platform: &Platform, program: &std::path::Path, message: &std::path::Path) -> Result<f64> {
    let before = platform.sink.count();
    run_once(&platform.postfix, program, message)?;
    let exited = Instant::now();
    platform.sink.wait_for(before + 1, PATIENCE)?;
    let elapsed = exited.elapsed();
    testbed::until(PATIENCE, "rest", || platform.is_at_rest())?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}

pub(crate) fn draw(report: &Report) -> Table {
    let mut table = table(&["", "ms from exit to delivery"]);
    table.add_row(["stock", &format!("{:.2}", report.stock_ms)]);
    table.add_row(["optimus", &format!("{:.2}", report.optimus_ms)]);
    table
}
