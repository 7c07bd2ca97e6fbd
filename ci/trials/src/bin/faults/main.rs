//! `ci/faults`: mail flows, and every part is killed in turn, at moments that a seed chooses.
//!
//! Each case is a platform of its own with each agent as a process of its own. A shell loop submits
//! all the while. Half of its messages wait in Redis before the agents start, so that there is mail
//! at every step. The victim is killed with SIGKILL several times (a few get SIGTERM, or are
//! stopped). Parts that no supervisor restarts are started again after a random time, sometimes
//! shorter and sometimes longer than a lease. In the end every message that `sendmail` accepted
//! must have arrived, and none may have been sent twice under two queue ids. Copies under one queue
//! id are Postfix's own: it was killed between the remote server's answer and its note of that. So
//! are copies from the maildrop: stock pickup was killed before it removed a file that cleanup had
//! taken. Both are counted apart.
//!
//! In some cases an administrator is at work instead: `postsuper` on random files, Postfix stopped
//! and started, Redis swapped, demoted, or restored from an older copy. Messages that the
//! administrator deletes count as deleted. `docs/architecture.md` names the losses and repetitions
//! that a deed may cause. They have columns of their own, and each such message needs the deed that
//! explains it.
//!
//! One more case is a site with content rules. Its direct hand-off has a window in which a message
//! may be sent twice. Such a pair of copies needs a kill between them, and each kill has at most a
//! window's worth of them.
//!
//! `ci/faults nodes` is another campaign, of many nodes: see [`nodes`].
//!
//! A failpoint is a place between two steps of the hand-off at which a process kills itself. It
//! needs programs built with the feature `failpoints`, as the script does.

mod account;
mod nodes;
mod report;
mod several;

use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use simulation::Random;
use trials::{
    Aftermath, Case, Mailer, Notes, Output, Patience, Platform, Strike, Victim, end, seconds,
};

use crate::account::Account;
use crate::report::{FaultsReport, Row, draw};
use crate::several::run_all;

/// Longest time without a submission or delivery; then the case fails.
const PATIENCE: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_millis(5);
/// Limit of messages whose outcome hasn't been read yet: the one under submission, and those in the
/// pipe.
const UNHEARD: u64 = 5;
/// Time between two flushes of the queue when all has been submitted. A restarted queue manager may
/// find a message in the hands of a delivery agent. By itself it tries that one only after 60 s.
const FLUSH: Duration = Duration::from_secs(1);

/// Kills every part in turn while mail flows, and counts what arrives.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Subcommand)]
enum Other {
    /// Strikes one of many nodes, each in a network namespace of its own.
    Nodes(nodes::NodesOptions),
}

#[derive(Args)]
struct Arguments {
    /// Number of messages that each case sends.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..))]
    messages: u64,
    /// Seed that chooses the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of kills of each victim.
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// Number of cases that run at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Only the cases whose name contains this; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let CommandLine { arguments, other } = CommandLine::parse();
    end(
        "faults",
        other.map_or_else(|| run(&arguments), |Other::Nodes(options)| nodes::run(&options)),
    )
}

fn run(arguments: &Arguments) -> Result<bool> {
    let wanted = |case: &Case| {
        arguments.case.is_empty() || arguments.case.iter().any(|it| case.name().contains(it))
    };
    let wanted: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    if wanted.is_empty() {
        bail!("--case: no case has such a name; leave the option out to run all");
    }
    let cases = run_all(&wanted, arguments.jobs, |case| announced(case, arguments))?;
    let clean = cases.iter().all(Row::is_clean);
    let report = FaultsReport { seed: arguments.seed, messages: arguments.messages, cases, clean };
    Output::new(arguments.json).print(&report, draw)?;
    Ok(clean)
}

/// Runs one case, and says at its end how it went.
fn announced(case: &Case, arguments: &Arguments) -> Result<Row> {
    let row = try_case(case, arguments).with_context(|| format!("case {}", case.name()));
    match &row {
        Ok(row) if row.is_clean() => eprintln!("faults: {}: clean, {} s", row.case, row.seconds),
        Ok(row) => eprintln!("faults: {}: FAILED after {} s", row.case, row.seconds),
        Err(error) => eprintln!("faults: {error:#}"),
    }
    row
}

/// Runs one case from its start to its account. A failure in between is part of the result.
fn try_case(case: &Case, arguments: &Arguments) -> Result<Row> {
    let name = case.name().replace([' ', ','], "-");
    let mut platform = case.platform().start()?;
    platform.allow_failpoints()?;
    if !platform.has_own_redis() {
        platform.start_agents()?;
    }
    platform.allow_postfix_command()?;
    let mailer =
        Mailer::start(&platform.postfix, &testbed::bin("sendmail"), &name, arguments.messages)?;
    let mut trial = Trial::new(&mut platform, &mailer, case);
    let outcome = trial.run(case, arguments);
    let Trial { strikes, mut notes, started, .. } = trial;
    if case.rewinds() {
        notes.left_to_operator(&platform);
    }
    notes.dropped_by_queue_manager(&platform.postfix.log());
    let elapsed = started.elapsed();
    let outcome =
        outcome.and_then(|()| platform.unexpected_lines(|line| notes.explains_line(line)));
    let submitted = mailer.outcome();
    let arrivals = platform.sink.received();
    let account =
        Account::of(case, (&strikes, &notes), &submitted, arrivals, &platform.postfix.log());
    let row = account.row(seconds(elapsed), outcome.err().map(|error| format!("{error:#}")));
    if !row.is_clean() {
        let folder = platform.keep_evidence(&name)?;
        eprintln!(
            "faults: {}: {:?} {:?}; logs in {}",
            row.case,
            row.tally,
            row.error,
            folder.display()
        );
        let found = account.unexplained().into_iter().chain(platform.files_left());
        found.for_each(|it| eprintln!("faults: {}: {it}", row.case));
    }
    Ok(row)
}

struct Trial<'a> {
    platform: &'a mut Platform,
    mailer: &'a Mailer,
    patience: Patience,
    started: Instant,
    strikes: Vec<Strike>,
    notes: Notes,
    /// Number of messages that a strike may send twice.
    at_stake: usize,
    rewinds: bool,
    flushed: Instant,
}

impl<'a> Trial<'a> {
    fn new(platform: &'a mut Platform, mailer: &'a Mailer, case: &Case) -> Self {
        let patience = Patience::new(PATIENCE);
        let (started, notes) = (Instant::now(), Notes::default());
        Self {
            platform,
            mailer,
            patience,
            started,
            strikes: Vec::new(),
            notes,
            at_stake: case.twice_per_kill(),
            rewinds: case.rewinds(),
            flushed: started,
        }
    }

    fn run(&mut self, case: &Case, arguments: &Arguments) -> Result<()> {
        let victims = case.schedule(arguments.kills);
        let mut random = Random::new(arguments.seed);
        if self.platform.has_own_redis() {
            self.wait("half of the submissions", |trial| {
                trial.mailer.tried() >= arguments.messages / 2
            })?;
            self.platform.start_agents()?;
        }
        let moments = moments(&mut random, arguments.messages, victims.len());
        for (victim, moment) in victims.into_iter().zip(moments) {
            self.wait("deliveries", |trial| trial.ended() >= moment || trial.is_over())?;
            if self.is_over() {
                break;
            }
            self.strike(victim, &mut random).with_context(|| format!("{victim}: not killed"))?;
        }
        self.wait("delivery of everything", Self::is_over)
    }

    fn strike(&mut self, victim: Victim, random: &mut Random) -> Result<()> {
        let (before, arrived) = (UNIX_EPOCH.elapsed()?, self.platform.sink.count());
        let (first, recoveries) = (self.mailer.tried() + 1, self.platform.recoveries());
        victim.strike(self.platform, random, &mut self.notes)?;
        let submitted = first..=self.mailer.tried() + UNHEARD;
        self.outlast(victim, recoveries)?;
        self.strikes.push(Strike { time: before..=UNIX_EPOCH.elapsed()?, arrived, submitted });
        Ok(())
    }

    /// Waits until messages under way in the direct hand-off have come to their end.
    fn outlast(&mut self, victim: Victim, recoveries: usize) -> Result<()> {
        match victim.aftermath() {
            Aftermath::Recovery if self.at_stake > 0 => {
                self.wait("recovery", |trial| trial.platform.recoveries() > recoveries)
            }
            Aftermath::Window if self.at_stake > 0 => {
                let enough = self.platform.settled()? + self.at_stake as u64;
                let is_enough =
                    |trial: &Self| trial.platform.settled().is_ok_and(|it| it >= enough);
                self.wait("settling", |trial| is_enough(trial) || trial.is_over())
            }
            Aftermath::Recovery | Aftermath::Window | Aftermath::None => Ok(()),
        }
    }

    /// Has the queue manager try deferred messages again, in the end.
    fn flush(&mut self) -> Result<()> {
        if self.mailer.is_done() && self.flushed.elapsed() >= FLUSH {
            self.platform
                .postfix
                .command("/usr/sbin/postqueue")
                .arg("-f")
                .output()
                .context("postqueue: not started")?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    /// Returns the number of messages that are known to have ended.
    fn ended(&self) -> u64 {
        (self.platform.sink.distinct() + self.notes.spared()) as u64
    }

    /// Whether everything has been submitted, and nothing waits anywhere.
    fn is_over(&self) -> bool {
        let rests = |platform: &Platform| match self.rewinds {
            true => platform.is_left_to_operator(),
            false => platform.is_at_rest(),
        };
        self.mailer.is_done() && rests(self.platform)
    }

    /// Waits while anything moves, and restarts processes that have killed themselves.
    fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) -> Result<()> {
        while !until(self) {
            let (tried, arrived) = (self.mailer.tried(), self.platform.sink.count() as u64);
            self.patience
                .look(tried + arrived)
                .with_context(|| format!("{what}: waited for in vain"))?;
            self.platform.revive()?;
            self.flush()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Chooses the moments to strike, in messages delivered: spread over the run, and well before its
/// end.
fn moments(random: &mut Random, messages: u64, count: usize) -> Vec<u64> {
    let (first, last) = (messages / 20, messages * 3 / 4);
    let mut moments: Vec<u64> = (0..count).map(|_| random.between(first, last)).collect();
    moments.sort_unstable();
    moments
}
