//! Sending: a full queue, from the start of Postfix and the agents until the last message is
//! delivered.
//! For stock, stock `sendmail` fills the maildrop, then Postfix is started, whose pickup reads it.
//! For OPTIMUS, its `sendmail` fills Redis, then the same Postfix with the service `optimus` is
//! started, and `optimus run`. Both have the same `main.cf` and send to the same kind of sink. The
//! figure includes the time of starting.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, Progress, seconds};

use crate::rounds::{
    Bell, STOCK_SENDMAIL, median, message_file, order, rounded, run_once, table_of,
};

/// Longest time without a delivery; then the trial fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options of `send`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Numbers of queued messages, with one figure for each.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    messages: Vec<u64>,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

/// Result of `send`.
#[derive(Serialize)]
pub(crate) struct SendReport {
    benchmark: &'static str,
    rounds: usize,
    message_bytes: usize,
    rows: Vec<SendRow>,
}

/// Medians of rounds.
#[derive(Serialize)]
struct SendRow {
    messages: u64,
    stock_s: f64,
    optimus_s: f64,
    /// Stock's time, as a multiple of OPTIMUS's.
    ratio: f64,
    stock_ms_per_message: f64,
    optimus_ms_per_message: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Stock,
    Optimus,
}

const ALL: [Contestant; 2] = [Contestant::Stock, Contestant::Optimus];

pub(crate) fn run(arguments: &Arguments) -> Result<SendReport> {
    let rows = arguments.messages.iter().map(|messages| row(*messages, arguments));
    let rows = rows.collect::<Result<_>>()?;
    Ok(SendReport {
        benchmark: "send",
        rounds: arguments.rounds,
        message_bytes: arguments.bytes,
        rows,
    })
}

fn row(messages: u64, arguments: &Arguments) -> Result<SendRow> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        for contestant in order(ALL, round) {
            let elapsed = measure(contestant, messages, arguments.bytes)?;
            let (round, rounds, name) = (round + 1, arguments.rounds, contestant.name());
            eprintln!(
                "send: {messages} messages, round {round} of {rounds}: {name} {:.2} s",
                seconds(elapsed)
            );
            times[contestant as usize].push(elapsed.as_secs_f64());
        }
    }
    let [stock, optimus] = times.map(median);
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let per_message = |seconds: f64| rounded(seconds * 1000.0 / messages as f64);
    Ok(SendRow {
        messages,
        stock_s: rounded(stock),
        optimus_s: rounded(optimus),
        ratio: rounded(stock / optimus),
        stock_ms_per_message: per_message(stock),
        optimus_ms_per_message: per_message(optimus),
    })
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Optimus => "optimus",
        }
    }

    fn sendmail(self) -> PathBuf {
        match self {
            Self::Stock => STOCK_SENDMAIL.into(),
            Self::Optimus => testbed::bin("sendmail"),
        }
    }
}

fn measure(contestant: Contestant, messages: u64, bytes: usize) -> Result<Duration> {
    let mut platform = Platform::builder().own_redis().prepare()?;
    fill(&platform, contestant, messages, bytes)?;
    let started = Instant::now();
    platform.postfix.start()?;
    if contestant == Contestant::Optimus {
        platform.start_agents()?;
    }
    platform.sink.wait_for_distinct(usize::try_from(messages)?, PATIENCE)?;
    let elapsed = started.elapsed();
    let deliveries = platform.sink.count() as u64;
    ensure!(deliveries == messages, "sink: {deliveries} deliveries of {messages} messages");
    Ok(elapsed)
}

/// Queues messages by the contestant's own `sendmail`, and checks that they are in its queue.
fn fill(platform: &Platform, contestant: Contestant, messages: u64, bytes: usize) -> Result<()> {
    let program = contestant.sendmail();
    let _bell = Bell::new(&platform.postfix)?;
    let mut progress = Progress::new(&format!("queued for {}", contestant.name()), messages);
    for number in 1..=messages {
        let message = message_file(&platform.postfix, &number.to_string(), bytes)?;
        run_once(&platform.postfix, &program, &message)?;
        std::fs::remove_file(message)?;
        progress.set(number, "");
    }
    let queued = match contestant {
        Contestant::Stock => platform.postfix.queue_files("maildrop").len(),
        Contestant::Optimus => platform.kept_in_redis()?,
    };
    ensure!(queued as u64 == messages, "queue: {queued} of {messages} messages arrived");
    Ok(())
}

pub(crate) fn draw(report: &SendReport) -> Table {
    let heads =
        ["messages", "stock s", "optimus s", "times faster", "stock ms each", "optimus ms each"];
    let rows = report.rows.iter().map(|row| {
        let each = (row.stock_ms_per_message, row.optimus_ms_per_message);
        let figures = [row.stock_s, row.optimus_s, row.ratio, each.0, each.1];
        ([row.messages.to_string()], figures)
    });
    table_of(&heads, rows)
}
