//! Latency: the time of one message on an idle platform, from `sendmail`'s start and from its exit
//! until the sink has it.
//!
//! Stock and OPTIMUS take turns on the same Postfix. Stock is `sendmail`, the maildrop and stock
//! pickup; OPTIMUS is its own `sendmail`, Redis, the agents and pickup-rs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use trials::Platform;

use crate::rounds::{Medians, STOCK_SENDMAIL, Submitted, Times, message_file, table_of};

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

/// Result of `latency`.
#[derive(Serialize)]
pub(crate) struct LatencyReport {
    benchmark: &'static str,
    rounds: usize,
    message_bytes: usize,
    stock: Medians,
    optimus: Medians,
}

pub(crate) fn run(arguments: &Arguments) -> Result<LatencyReport> {
    let mut platform = Platform::builder().own_redis().start()?;
    platform.start_agents()?;
    let programs = [PathBuf::from(STOCK_SENDMAIL), testbed::bin("sendmail")];
    let mut times = [Times::default(), Times::default()];
    // The first message of each starts Postfix's daemons, and is not counted.
    for round in 0..=arguments.rounds {
        for (program, times) in programs.iter().zip(&mut times) {
            let message = message_file(&platform.postfix, &round.to_string(), arguments.bytes)?;
            let mut uncounted = Times::default();
            one(&platform, program, &message, if round > 0 { times } else { &mut uncounted })?;
        }
    }
    let [stock, optimus] = times.map(Times::medians);
    let (rounds, message_bytes) = (arguments.rounds, arguments.bytes);
    Ok(LatencyReport { benchmark: "latency", rounds, message_bytes, stock, optimus })
}

fn one(platform: &Platform, program: &Path, message: &Path, times: &mut Times) -> Result<()> {
    let before = platform.sink.count();
    let submitted = Submitted::by(&platform.postfix, program, message)?;
    platform.sink.wait_for(before + 1, PATIENCE)?;
    times.delivered(submitted);
    testbed::until(PATIENCE, "rest", || platform.is_at_rest())?;
    Ok(())
}

pub(crate) fn draw(report: &LatencyReport) -> Table {
    let rows = [("stock", &report.stock), ("optimus", &report.optimus)].map(|(name, it)| {
        let figures = [it.from_start_ms, it.from_exit_ms, it.longest_from_start_ms];
        ([name.to_owned()], figures)
    });
    table_of(&["", "ms from start to delivery", "from exit", "longest from start"], rows)
}
