//! Insertion: the time for one message, as seen by a script that sends one after another. With
//! several such scripts at once it is the time of all, divided by the messages.
//!
//! Nothing takes the mail away meanwhile: Postfix's daemons and the agents are stopped on both
//! sides. An empty program (`/bin/true`) tells the part that starting a process takes. All take
//! turns of some hundred messages, so that other load of the machine hits each of them. Messages
//! stay, so the last of N finds N - 1. SMTP to stock smtpd, which starts no process for a message,
//! stands for applications with their own client: see [`crate::smtp`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use comfy_table::Table;
use serde::Serialize;
use trials::Platform;

use crate::rounds::{
    Bell, STOCK_SENDMAIL, median, message_file, order, rounded, run_once, table_of,
};
use crate::smtp::Smtpd;

/// Options of `insert`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Numbers of messages, with one figure for each.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    sizes: Vec<u64>,
    /// Numbers of senders at once, with one figure for each.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    senders: Vec<u64>,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

/// Result of `insert`.
#[derive(Serialize)]
pub(crate) struct InsertReport {
    benchmark: &'static str,
    rounds: usize,
    message_bytes: usize,
    rows: Vec<InsertRow>,
}

/// Milliseconds per message; medians of rounds.
#[derive(Serialize)]
struct InsertRow {
    messages: u64,
    senders: u64,
    empty_program_ms: f64,
    stock_ms: f64,
    smtp_ms: f64,
    optimus_ms: f64,
    /// Stock sendmail's time, as a multiple of this one.
    ratio: f64,
    /// SMTP's time, as a multiple of this one.
    ratio_to_smtp: f64,
    over_empty_program_ms: f64,
}

/// Number of messages in one contestant's turn.
const TURN: u64 = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Submitter {
    Empty,
    Stock,
    Smtp,
    Optimus,
}

const ALL: [Submitter; 4] =
    [Submitter::Empty, Submitter::Stock, Submitter::Smtp, Submitter::Optimus];

/// A number of messages, and the number of their senders at once.
#[derive(Clone, Copy)]
struct Load {
    messages: u64,
    senders: u64,
}

impl Load {
    /// Returns the number of this sender's messages; senders count from 0.
    fn share(self, sender: u64) -> u64 {
        self.messages / self.senders + u64::from(sender < self.messages % self.senders)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<InsertReport> {
    ensure!(!arguments.senders.contains(&0), "--senders: 0 sends nothing; give 1 or more");
    let track = Track::new(arguments.bytes)?;
    // The first contestant would pay for cold caches.
    track.round(Load { messages: 20, senders: 1 })?;
    let loads = arguments.sizes.iter().flat_map(|&messages| {
        arguments.senders.iter().map(move |&senders| Load { messages, senders })
    });
    let rows = loads.map(|load| row(&track, load, arguments.rounds)).collect::<Result<_>>()?;
    Ok(InsertReport {
        benchmark: "insert",
        rounds: arguments.rounds,
        message_bytes: arguments.bytes,
        rows,
    })
}

fn row(track: &Track, load: Load, rounds: usize) -> Result<InsertRow> {
    let mut times = [const { Vec::new() }; ALL.len()];
    let Load { messages, senders } = load;
    for round in 0..rounds {
        track.round(load)?.into_iter().zip(&mut times).for_each(|(time, times)| times.push(time));
        eprintln!(
            "insert: {messages} messages, {senders} at once, round {} of {rounds}",
            round + 1
        );
    }
    let [empty, stock, smtp, optimus] = times.map(median);
    Ok(InsertRow {
        messages,
        senders,
        empty_program_ms: rounded(empty),
        stock_ms: rounded(stock),
        smtp_ms: rounded(smtp),
        optimus_ms: rounded(optimus),
        ratio: rounded(stock / optimus),
        ratio_to_smtp: rounded(smtp / optimus),
        over_empty_program_ms: rounded(optimus - empty),
    })
}

/// A Postfix and a Redis that store mail, with no program that takes it out.
struct Track {
    // Dropped before the folder that it is in.
    _bell: Bell,
    platform: Platform,
    smtpd: Smtpd,
    message: PathBuf,
    /// Content of the message, with SMTP's line endings.
    content: Vec<u8>,
    optimus: PathBuf,
}

impl Track {
    fn new(bytes: usize) -> Result<Self> {
        let platform = Platform::builder().own_redis().prepare()?;
        let message = message_file(&platform.postfix, "1", bytes)?;
        let content = std::fs::read_to_string(&message)?.replace('\n', "\r\n").into_bytes();
        let bell = Bell::new(&platform.postfix)?;
        let (smtpd, optimus) = (Smtpd::start()?, testbed::bin("sendmail"));
        Ok(Self { _bell: bell, platform, smtpd, message, content, optimus })
    }

    /// Returns each contestant's milliseconds per message. Empties everything before, and checks
    /// afterwards that all messages are there.
    fn round(&self, load: Load) -> Result<[f64; ALL.len()]> {
        self.empty()?;
        let mut times = [Duration::ZERO; ALL.len()];
        let turns = usize::try_from(load.messages.div_ceil(TURN))?;
        for turn in 0..turns {
            let messages = TURN.min(load.messages - TURN * turn as u64);
            for contestant in order(ALL, turn) {
                times[contestant as usize] += self.turn(contestant, Load { messages, ..load })?;
            }
        }
        self.check(load.messages)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        Ok(times.map(|time| time.as_secs_f64() * 1000.0 / load.messages as f64))
    }

    fn turn(&self, contestant: Submitter, load: Load) -> Result<Duration> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let shares = (0..load.senders).map(|sender| load.share(sender));
            let senders: Vec<_> =
                shares.map(|share| scope.spawn(move || self.send(contestant, share))).collect();
            senders.into_iter().try_for_each(|sender| {
                sender
                    .join()
                    .map_err(|_| anyhow!("sender: its thread panicked; see the messages above"))?
            })
        })?;
        Ok(started.elapsed())
    }

    fn send(&self, contestant: Submitter, messages: u64) -> Result<()> {
        let program = match contestant {
            Submitter::Smtp => {
                return (0..messages).try_for_each(|_| self.smtpd.submit(&self.content));
            }
            Submitter::Empty => Path::new("/bin/true"),
            Submitter::Stock => Path::new(STOCK_SENDMAIL),
            Submitter::Optimus => &self.optimus,
        };
        (0..messages).try_for_each(|_| run_once(&self.platform.postfix, program, &self.message))
    }

    fn empty(&self) -> Result<()> {
        for file in self.platform.postfix.queue_files("maildrop") {
            std::fs::remove_file(file)?;
        }
        self.smtpd.empty()?;
        self.platform.redis_cli(&["FLUSHDB"]).map(drop)
    }

    fn check(&self, messages: u64) -> Result<()> {
        let maildrop = self.platform.postfix.queue_files("maildrop").len() as u64;
        let found = [maildrop, self.smtpd.kept(), self.platform.kept_in_redis()? as u64];
        ensure!(
            found == [messages; 3],
            "maildrop, smtpd's queue and Redis: {found:?} messages found, {messages} wanted in each"
        );
        Ok(())
    }
}

pub(crate) fn draw(report: &InsertReport) -> Table {
    let heads = [
        "messages",
        "at once",
        "empty program ms",
        "stock ms",
        "SMTP ms",
        "optimus ms",
        "times faster",
        "than SMTP",
        "over empty ms",
    ];
    let rows = report.rows.iter().map(|row| {
        let [empty, stock, smtp] = [row.empty_program_ms, row.stock_ms, row.smtp_ms];
        let [optimus, over] = [row.optimus_ms, row.over_empty_program_ms];
        let figures = [empty, stock, smtp, optimus, row.ratio, row.ratio_to_smtp, over];
        ([row.messages, row.senders].map(|count| count.to_string()), figures)
    });
    table_of(&heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_senders_shares_add_up_to_the_load() {
        let load = Load { messages: 10, senders: 4 };
        assert_eq!([0, 1, 2, 3].map(|sender| load.share(sender)), [3, 3, 2, 2]);
    }
}
