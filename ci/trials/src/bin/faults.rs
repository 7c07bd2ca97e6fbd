//! `ci/faults`: mail flows, and every part is killed in turn, at moments that a seed chooses.
//!
//! Each case is a platform of its own with each agent as a process of its own. A shell loop submits all the while; half of
//! it waits in Redis before the agents start, so that afterwards there is always mail at every step. The victim is killed with SIGKILL, several times; what nobody else starts again is started again after a random while,
//! sometimes shorter and sometimes longer than a lease. In the end everything that `sendmail` accepted must have arrived, and
//! nothing may have been sent twice under two queue ids. Copies under one queue id are Postfix's own (it was killed
//! after the remote server's yes and before it noted that) and are counted apart.
//!
//! The failpoints (a process kills itself between two steps of the hand-off) need programs built with the feature
//! `failpoints`, as the script does.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use comfy_table::Table;
use serde::Serialize;
use testbed::Tally;
use trials::{Mailer, Output, Patience, Platform, Progress, Random, Victim, seconds, table};

/// Nothing submitted and nothing delivered for this long: it will not come. When its queue manager finds a message in the
/// hands of a delivery agent of an earlier life, Postfix looks at it again after 60 s.
const PATIENCE: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_millis(5);
/// How long the sink takes over each message, so that there are always some on their way to it.
const ACKNOWLEDGEMENT: Duration = Duration::from_millis(5);

/// Short, so that leases end and lots move while a case runs; small lots and windows, so that every step happens often.
const SETTINGS: &str = "\
[lots]
size = 50
[agents]
lease_ms = 1000
[mail]
window = 300
";

/// The queue manager looks through its queues every 3 s instead of every five minutes.
const QUEUE_RUNS: (&str, &str) = ("queue_run_delay = 3s", "qmgr unix n - n 3 1 qmgr");

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

#[derive(Serialize)]
struct Report {
    seed: u64,
    messages: u64,
    cases: Vec<Row>,
    clean: bool,
}

#[derive(Serialize)]
struct Row {
    case: String,
    kills: u64,
    refused: usize,
    #[serde(flatten)]
    tally: Tally,
    seconds: f64,
    /// What went wrong besides the counts.
    error: Option<String>,
}

impl Row {
    fn is_clean(&self) -> bool {
        self.error.is_none() && self.tally.is_clean()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let wanted =
        |name: &str| arguments.case.is_empty() || arguments.case.iter().any(|part| name.contains(part));
    let victims: Vec<Victim> =
        Victim::all().into_iter().filter(|victim| wanted(&victim.to_string())).collect();
    if victims.is_empty() {
        bail!("no case is called so");
    }
    let mut cases = Vec::new();
    for (number, victim) in victims.iter().enumerate() {
        eprintln!("faults: {} of {}: {victim}", number + 1, victims.len());
        cases.push(try_case(*victim, arguments)?);
    }
    let clean = cases.iter().all(Row::is_clean);
    let report = Report { seed: arguments.seed, messages: arguments.messages, cases, clean };
    Output::new(arguments.json).print(&report, draw)?;
    Ok(clean)
}

/// One case from its start to its count. What goes wrong in between is part of the result.
fn try_case(victim: Victim, arguments: &Arguments) -> Result<Row> {
    let name = victim.to_string().replace(' ', "-");
    let platform = victim.platform().settings(SETTINGS).main(QUEUE_RUNS.0).service(QUEUE_RUNS.1);
    let mut platform = platform.delay(ACKNOWLEDGEMENT).start()?;
    platform.allow_failpoints()?;
    if !platform.has_own_redis() {
        platform.start_agents()?;
    }
    let started = Instant::now();
    let mailer = Mailer::start(&platform.postfix, &testbed::bin("sendmail"), &name, arguments.messages)?;
    let mut case = Case::new(&mut platform, &mailer, arguments.messages);
    let outcome = case.run(victim, arguments);
    let (kills, elapsed) = (case.kills, started.elapsed());
    drop(case);
    let outcome = outcome.and_then(|()| platform.strange_lines());
    let submitted = mailer.outcome();
    let deliveries = platform.sink.received();
    let row = Row {
        case: victim.to_string(),
        kills,
        refused: submitted.refused.len(),
        tally: Tally::of(submitted.accepted.iter().map(String::as_str), &deliveries),
        seconds: seconds(elapsed),
        error: outcome.err().map(|error| format!("{error:#}")),
    };
    if !row.is_clean() {
        let folder = platform.keep_evidence(&name)?;
        eprintln!("faults: {}: {:?} {:?}; logs in {}", row.case, row.tally, row.error, folder.display());
    }
    Ok(row)
}

struct Case<'a> {
    platform: &'a mut Platform,
    mailer: &'a Mailer,
    progress: Progress,
    patience: Patience,
    kills: u64,
}

impl<'a> Case<'a> {
    fn new(platform: &'a mut Platform, mailer: &'a Mailer, total: u64) -> Self {
        let (progress, patience) = (Progress::new("delivered", total), Patience::new(PATIENCE));
        Self { platform, mailer, progress, patience, kills: 0 }
    }

    fn run(&mut self, victim: Victim, arguments: &Arguments) -> Result<()> {
        let mut random = Random::new(arguments.seed);
        if self.platform.has_own_redis() {
            self.wait("half of the submissions", |case| case.mailer.tried() >= arguments.messages / 2)?;
            self.platform.start_agents()?;
        }
        for moment in moments(&mut random, arguments) {
            self.wait("deliveries", |case| case.platform.sink.distinct() as u64 >= moment)?;
            victim.strike(self.platform, &mut random).with_context(|| format!("killing {victim}"))?;
            self.kills += 1;
        }
        self.wait("delivery of everything", |case| {
            case.mailer.is_done() && case.platform.sink.distinct() as u64 >= case.mailer.accepted()
        })?;
        self.wait("rest", |case| case.platform.is_at_rest())
    }

    /// Waits while anything moves, and starts again what has killed itself.
    fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) -> Result<()> {
        while !until(self) {
            let (tried, arrived) = (self.mailer.tried(), self.platform.sink.count() as u64);
            self.progress.set(arrived, what);
            self.patience.look(tried + arrived).with_context(|| format!("waiting for {what}"))?;
            self.platform.revive()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// When to strike, in messages delivered: spread over the run, and while its end is still far.
fn moments(random: &mut Random, arguments: &Arguments) -> Vec<u64> {
    let (first, last) = (arguments.messages / 20, arguments.messages * 3 / 4);
    let mut moments: Vec<u64> = (0..arguments.kills).map(|_| random.within(first..last)).collect();
    moments.sort_unstable();
    moments
}

fn draw(report: &Report) -> Table {
    let heads = [
        "killed",
        "times",
        "submitted",
        "refused",
        "delivered",
        "lost",
        "duplicates",
        "Postfix's own",
        "seconds",
    ];
    let mut table = table(&heads);
    for row in &report.cases {
        let tally = &row.tally;
        let mut cells = vec![row.case.clone(), row.kills.to_string(), tally.submitted.to_string()];
        let counts = [row.refused, tally.delivered, tally.lost, tally.duplicates, tally.postfix_duplicates];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format!("{:.1}", row.seconds));
        cells.extend(row.error.clone());
        table.add_row(cells);
    }
    table
}
