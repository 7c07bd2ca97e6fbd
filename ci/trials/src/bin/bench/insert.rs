//! Insertion: how long one `sendmail` takes, as a script that sends one message after another sees it.
//!
//! Nothing takes the mail away meanwhile: Postfix's daemons and the agents are stopped on both sides. An empty
//! program (`/bin/true`) tells what of it is the start of a process.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::{Platform, table};

use crate::rounds::{Bell, STOCK_SENDMAIL, median, message_file, order, rounded, run_once};

/// Options of `insert`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many messages, one figure for each.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    sizes: Vec<u64>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

/// The result.
#[derive(Serialize)]
pub(crate) struct Report {
    benchmark: &'static str,
    rounds: usize,
    message_bytes: usize,
    rows: Vec<Row>,
}

/// Milliseconds per message; medians of rounds.
#[derive(Serialize)]
struct Row {
    messages: u64,
    empty_program_ms: f64,
    stock_ms: f64,
    optimus_ms: f64,
    /// How many times faster.
    ratio: f64,
    over_empty_program_ms: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Empty,
    Stock,
    Optimus,
}

const ALL: [Contestant; 3] = [Contestant::Empty, Contestant::Stock, Contestant::Optimus];

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let track = Track::new(arguments.bytes)?;
    // Whoever runs first would pay for cold caches.
    ALL.into_iter().try_for_each(|contestant| track.round(contestant, 20).map(drop))?;
    let rows = arguments.sizes.iter().map(|messages| row(&track, *messages, arguments.rounds));
    let rows = rows.collect::<Result<_>>()?;
    Ok(Report { benchmark: "insert", rounds: arguments.rounds, message_bytes: arguments.bytes, rows })
}

fn row(track: &Track, messages: u64, rounds: usize) -> Result<Row> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for contestant in order(ALL, round) {
            times[contestant as usize].push(track.round(contestant, messages)?);
        }
        eprintln!("insert: {messages} messages, round {} of {rounds}", round + 1);
    }
    let [empty, stock, optimus] = times.map(median);
    Ok(Row {
        messages,
        empty_program_ms: rounded(empty),
        stock_ms: rounded(stock),
        optimus_ms: rounded(optimus),
        ratio: rounded(stock / optimus),
        over_empty_program_ms: rounded(optimus - empty),
    })
}

/// A Postfix and a Redis into which mail is put, and nobody who takes it out.
struct Track {
    // Before the folder in which it is.
    _bell: Bell,
    platform: Platform,
    message: PathBuf,
    optimus: PathBuf,
}

impl Track {
    fn new(bytes: usize) -> Result<Self> {
        let platform = Platform::builder().own_redis().prepare()?;
        let message = message_file(&platform.postfix, "1", bytes)?;
        let bell = Bell::new(&platform.postfix)?;
        Ok(Self { _bell: bell, platform, message, optimus: testbed::bin("sendmail") })
    }

    /// Milliseconds per message. Before it all is empty, after it all messages are there.
    fn round(&self, contestant: Contestant, messages: u64) -> Result<f64> {
        self.empty()?;
        let program = match contestant {
            Contestant::Empty => Path::new("/bin/true"),
            Contestant::Stock => Path::new(STOCK_SENDMAIL),
            Contestant::Optimus => &self.optimus,
        };
        let started = Instant::now();
        for _ in 0..messages {
            run_once(&self.platform.postfix, program, &self.message)?;
        }
        let elapsed = started.elapsed();
        self.check(contestant, messages)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        Ok(elapsed.as_secs_f64() * 1000.0 / messages as f64)
    }

    fn empty(&self) -> Result<()> {
        for file in self.platform.postfix.queue_files("maildrop") {
            std::fs::remove_file(file)?;
        }
        self.platform.redis_cli(&["FLUSHDB"]).map(drop)
    }

    fn check(&self, contestant: Contestant, messages: u64) -> Result<()> {
        let found = (
            self.platform.postfix.queue_files("maildrop").len() as u64,
            self.platform.kept_in_redis()? as u64,
        );
        let expected = match contestant {
            Contestant::Empty => (0, 0),
            Contestant::Stock => (messages, 0),
            Contestant::Optimus => (0, messages),
        };
        ensure!(found == expected, "in maildrop and Redis: {found:?}, expected {expected:?}");
        Ok(())
    }
}

pub(crate) fn draw(report: &Report) -> Table {
    let heads = ["messages", "empty program ms", "stock ms", "optimus ms", "times faster", "over empty ms"];
    let mut table = table(&heads);
    for row in &report.rows {
        let figures =
            [row.empty_program_ms, row.stock_ms, row.optimus_ms, row.ratio, row.over_empty_program_ms];
        let cells = std::iter::once(row.messages.to_string());
        table.add_row(cells.chain(figures.map(|figure| format!("{figure:.2}"))));
    }
    table
}
