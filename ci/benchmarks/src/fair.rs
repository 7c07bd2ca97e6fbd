//! Fairness: the delay that thousands of messages to a black hole cause to one message a second
//! that goes elsewhere.
//!
//! The black hole accepts connections and never says a word. The contestant's own `sendmail` queues
//! its messages before Postfix starts: in the maildrop for stock, in Redis for OPTIMUS. Then
//! Postfix and the agents start, and a message to the sink is submitted each second. Its time
//! counts from `sendmail`'s start, and from its exit, to its delivery. The first ones wait for
//! earlier messages in the queue, in both; the medians are of all of them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, Progress};

use crate::rounds::{
    Bell, Medians, STOCK_SENDMAIL, Submitted, Times, message_file, rounded, run_once_to, table_of,
};

/// Limit of a message's time. A slower one counts as this.
const PATIENCE: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);

/// Options of `fair`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of messages to the black hole.
    #[arg(long, default_value_t = 5000)]
    messages: u64,
    /// Number of messages that go elsewhere, one each second.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// `mail.window` in the last of the measurements.
    #[arg(long, default_value_t = 2000)]
    window: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

/// Result of `fair`.
#[derive(Serialize)]
pub(crate) struct FairReport {
    benchmark: &'static str,
    to_a_black_hole: u64,
    rows: Vec<FairRow>,
}

/// Times of the messages that go elsewhere.
#[derive(Serialize)]
struct FairRow {
    contestant: String,
    times: Medians,
    /// Median from the start, as a multiple of stock's.
    ratio_from_start: f64,
    /// Median from the exit, as a multiple of stock's.
    ratio_from_exit: f64,
}

/// Stock, or OPTIMUS with these settings.
struct Contestant {
    name: String,
    settings: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<FairReport> {
    let window = arguments.window;
    let contestants = [
        Contestant { name: "stock".to_owned(), settings: None },
        Contestant { name: "optimus".to_owned(), settings: Some(String::new()) },
        Contestant {
            name: format!("optimus, window {window}"),
            settings: Some(format!("[mail]\nwindow = {window}\n")),
        },
    ];
    let mut rows: Vec<FairRow> = Vec::new();
    for contestant in contestants {
        let times = measure(&contestant, arguments)?.medians();
        let stock = rows.first().map_or(times, |stock| stock.times);
        let row = FairRow {
            contestant: contestant.name,
            times,
            ratio_from_start: rounded(times.from_start_ms / stock.from_start_ms),
            ratio_from_exit: rounded(times.from_exit_ms / stock.from_exit_ms),
        };
        eprintln!("fair: {}", serde_json::to_string(&row)?);
        rows.push(row);
    }
    Ok(FairReport { benchmark: "fair", to_a_black_hole: arguments.messages, rows })
}

fn measure(contestant: &Contestant, arguments: &Arguments) -> Result<Times> {
    let black_hole = TcpListener::bind("127.0.0.1:0")?;
    let route = format!(
        "transport_maps = inline:{{ slow.example=smtp:[127.0.0.1]:{} }}",
        black_hole.local_addr()?.port()
    );
    let builder = Platform::builder().own_redis().main(&route);
    let mut platform =
        builder.settings(contestant.settings.as_deref().unwrap_or_default()).prepare()?;
    fill(&platform, contestant, arguments)?;
    platform.postfix.start()?;
    if contestant.settings.is_some() {
        platform.start_agents()?;
    }
    let mut times = Times::default();
    for number in 1..=arguments.seconds {
        let began = Instant::now();
        let message =
            message_file(&platform.postfix, &format!("urgent-{number}"), arguments.bytes)?;
        let submitted = Submitted::by(&platform.postfix, &contestant.sendmail(), &message)?;
        // A late message must not be taken for the next one.
        let _ = platform.sink.wait_for_distinct(usize::try_from(number)?, PATIENCE);
        times.delivered(submitted);
        std::thread::sleep(SECOND.saturating_sub(began.elapsed()));
    }
    let arrived = platform.sink.distinct() as u64;
    ensure!(
        arrived == arguments.seconds,
        "sink: {arrived} of {} messages arrived",
        arguments.seconds
    );
    Ok(times)
}

impl Contestant {
    fn sendmail(&self) -> PathBuf {
        match self.settings {
            None => STOCK_SENDMAIL.into(),
            Some(_) => testbed::bin("sendmail"),
        }
    }
}

/// Queues the messages to the black hole.
fn fill(platform: &Platform, contestant: &Contestant, arguments: &Arguments) -> Result<()> {
    let program = contestant.sendmail();
    let _bell = Bell::new(&platform.postfix)?;
    let mut progress =
        Progress::new(&format!("queued for {}", contestant.name), arguments.messages);
    let message = message_file(&platform.postfix, "slow", arguments.bytes)?;
    for number in 1..=arguments.messages {
        run_once_to("to@slow.example", &platform.postfix, &program, &message)?;
        progress.set(number, "");
    }
    Ok(())
}

pub(crate) fn draw(report: &FairReport) -> Table {
    let heads =
        ["", "ms from start", "times stock's", "ms from exit", "times stock's", "longest ms"];
    let rows = report.rows.iter().map(|row| {
        let Medians { from_start_ms, from_exit_ms, longest_from_start_ms } = row.times;
        let (start, exit) = (row.ratio_from_start, row.ratio_from_exit);
        let figures = [from_start_ms, start, from_exit_ms, exit, longest_from_start_ms];
        ([row.contestant.clone()], figures)
    });
    table_of(&heads, rows)
}
