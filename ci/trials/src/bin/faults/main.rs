//! `ci/faults`: mail flows, and every part is killed in turn, at moments that a seed chooses.
//!
//! Each case is a platform of its own with each agent as a process of its own. A shell loop submits
//! all the while; half of it waits in Redis before the agents start, so that afterwards there is
//! always mail at every step. The victim is killed with SIGKILL (a few are asked to end, or stand
//! still), several times; what nobody else starts again is started again after a random while,
//! sometimes shorter and sometimes longer than a lease. In the end everything that `sendmail`
//! accepted must have arrived, and nothing may have been sent twice under two queue ids. Copies
//! under one queue id are Postfix's own (it was killed after the remote server's yes and before it
//! noted that), and so are copies from the maildrop (stock pickup was killed before it removed what
//! cleanup had taken); both are counted apart.
//!
//! In some cases an administrator is at work instead: `postsuper` on random files, Postfix stopped
//! and started, Redis swapped, demoted, or restored from an older copy. What the administrator has
//! deleted is counted as that. `docs/architecture.md` names what a deed may lose or repeat; that
//! has columns of its own, and each such message needs the deed that explains it.
//!
//! One more case is a site with content rules, whose direct hand-off has a window in which a
//! message may be sent twice. Such a pair of copies needs a kill between them, and no kill may have
//! more than a window's worth.
//!
//! The failpoints (a process kills itself between two steps of the hand-off) need programs built
//! with the feature `failpoints`, as the script does.

mod account;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use trials::{
    Aftermath, Case, Mailer, Notes, Output, Patience, Platform, Progress, Random, Strike, Victim,
    end, seconds,
};

use crate::account::Account;
use crate::report::{Report, Row, draw};

/// Nothing submitted and nothing delivered for this long: it will not come.
const PATIENCE: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_millis(5);
/// The message that is being submitted, and those whose fate has not been read from the pipe yet.
const UNHEARD: u64 = 5;
/// How often the queue is flushed when all has been submitted. By itself Postfix looks only after
/// 60 s at a message that its queue manager found in the hands of a delivery agent of an earlier
/// life.
const FLUSH: Duration = Duration::from_secs(1);

/// Kills every part in turn while mail flows, and counts what arrives.
#[derive(Parser)]
struct Arguments {
    /// How many messages each case sends.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..))]
    messages: u64,
    /// Chooses the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each victim is killed.
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// Only the cases whose name contains this; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    end("faults", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let wanted = |case: &Case| {
        arguments.case.is_empty() || arguments.case.iter().any(|it| case.name().contains(it))
    };
    let wanted: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    if wanted.is_empty() {
        bail!("no case is called so");
    }
    let mut cases = Vec::new();
    for (number, case) in wanted.iter().enumerate() {
        eprintln!("faults: {} of {}: {}", number + 1, wanted.len(), case.name());
        cases.push(try_case(case, arguments)?);
    }
    let clean = cases.iter().all(Row::is_clean);
    let report = Report { seed: arguments.seed, messages: arguments.messages, cases, clean };
    Output::new(arguments.json).print(&report, draw)?;
    Ok(clean)
}

/// One case from its start to its count. What goes wrong in between is part of the result.
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
    let mut trial = Trial::new(&mut platform, &mailer, case, arguments.messages);
    let outcome = trial.run(case, arguments);
    let Trial { strikes, mut notes, started, .. } = trial;
    if case.rewinds() {
        notes.left_to_operator(&platform);
    }
    let elapsed = started.elapsed();
    let outcome = outcome.and_then(|()| platform.strange_lines());
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
    progress: Progress,
    patience: Patience,
    started: Instant,
    strikes: Vec<Strike>,
    notes: Notes,
    /// How many messages a strike may send twice.
    at_stake: usize,
    rewinds: bool,
    flushed: Instant,
}

impl<'a> Trial<'a> {
    fn new(platform: &'a mut Platform, mailer: &'a Mailer, case: &Case, total: u64) -> Self {
        let (progress, patience) = (Progress::new("delivered", total), Patience::new(PATIENCE));
        let (started, notes) = (Instant::now(), Notes::default());
        Self {
            platform,
            mailer,
            progress,
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
            self.strike(victim, &mut random).with_context(|| format!("killing {victim}"))?;
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

    /// Waits until what was under way in the direct hand-off has come to its end.
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

    /// Has the queue manager try again, in the end, what it deferred.
    fn flush(&mut self) -> Result<()> {
        if self.mailer.is_done() && self.flushed.elapsed() >= FLUSH {
            self.platform
                .postfix
                .command("/usr/sbin/postqueue")
                .arg("-f")
                .output()
                .context("postqueue")?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    /// How many messages have come to their end, as far as it is known.
    fn ended(&self) -> u64 {
        (self.platform.sink.distinct() + self.notes.spared()) as u64
    }

    /// Has everything been submitted, and does nothing wait anywhere?
    fn is_over(&self) -> bool {
        let rests = |platform: &Platform| match self.rewinds {
            true => platform.is_left_to_operator(),
            false => platform.is_at_rest(),
        };
        self.mailer.is_done() && rests(self.platform)
    }

    /// Waits while anything moves, and starts again what has killed itself.
    fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) -> Result<()> {
        while !until(self) {
            let (tried, arrived) = (self.mailer.tried(), self.platform.sink.count() as u64);
            self.progress.set(arrived, what);
            self.patience.look(tried + arrived).with_context(|| format!("waiting for {what}"))?;
            self.platform.revive()?;
            self.flush()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// When to strike, in messages delivered: spread over the run, and while its end is still far.
fn moments(random: &mut Random, messages: u64, count: usize) -> Vec<u64> {
    let (first, last) = (messages / 20, messages * 3 / 4);
    let mut moments: Vec<u64> = (0..count).map(|_| random.within(first..last)).collect();
    moments.sort_unstable();
    moments
}
