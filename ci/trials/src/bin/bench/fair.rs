//! Fairness: the delay that thousands of messages to a black hole cause to one message a second
//! that goes elsewhere.
//!
//! The black hole accepts connections and never says a word. The contestant's own `sendmail` queues
//! its messages before Postfix starts: in the maildrop for stock, in Redis for OPTIMUS. Then
//! Postfix and the agents start, and a message to the sink is submitted each second. Its time
//! counts from `sendmail`'s exit to its delivery. The first ones wait for earlier messages in the
//! queue, in both; the median is of all of them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, Progress, table};

use crate::rounds::{Bell, STOCK_SENDMAIL, median, message_file, rounded, run_once, run_once_to};

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
pub(crate) struct Report {
    benchmark: &'static str,
    to_a_black_hole: u64,
    rows: Vec<Row>,
}

/// Times of the messages that go elsewhere, milliseconds.
#[derive(Serialize)]
struct Row {
    contestant: String,
    median_ms: f64,
    longest_ms: f64,
    /// Median, as a multiple of stock's.
    ratio: f64,
}

/// Stock, or OPTIMUS with these settings.
struct Contestant {
    name: String,
    settings: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let window = arguments.window;
    let contestants = [
        Contestant { name: "stock".to_owned(), settings: None },
        Contestant { name: "optimus".to_owned(), settings: Some(String::new()) },
        Contestant {
            name: format!("optimus, window {window}"),
            settings: Some(format!("[mail]\nwindow = {window}\n")),
        },
    ];
    let mut rows: Vec<Row> = Vec::new();
    for contestant in contestants {
        let times = measure(&contestant, arguments)?;
        let longest_ms = rounded(times.iter().copied().fold(0.0, f64::max));
        let median_ms = rounded(median(times));
        let ratio = rounded(median_ms / rows.first().map_or(median_ms, |stock| stock.median_ms));
        eprintln!("fair: {}: median {median_ms} ms, longest {longest_ms} ms", contestant.name);
        rows.push(Row { contestant: contestant.name, median_ms, longest_ms, ratio });
    }
    Ok(Report { benchmark: "fair", to_a_black_hole: arguments.messages, rows })
}

fn measure(contestant: &Contestant, arguments: &Arguments) -> Result<Vec<f64>> {
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
    let mut times = Vec::new();
    for number in 1..=arguments.seconds {
        let began = Instant::now();
        let message =
            message_file(&platform.postfix, &format!("urgent-{number}"), arguments.bytes)?;
        run_once(&platform.postfix, &contestant.sendmail(), &message)?;
        let exited = Instant::now();
        // A late message must not be taken for the next one.
        let _ = platform.sink.wait_for_distinct(usize::try_from(number)?, PATIENCE);
        times.push(exited.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(SECOND.saturating_sub(began.elapsed()));
    }
    let arrived = platform.sink.distinct() as u64;
    ensure!(arrived == arguments.seconds, "{arrived} of {} messages arrived", arguments.seconds);
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

pub(crate) fn draw(report: &Report) -> Table {
    let mut table = table(&["", "median ms", "longest ms", "times stock's median"]);
    for row in &report.rows {
        let figures =
            [row.median_ms, row.longest_ms, row.ratio].map(|figure| format!("{figure:.2}"));
        table.add_row(std::iter::once(row.contestant.clone()).chain(figures));
    }
    table
}
