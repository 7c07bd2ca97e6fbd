//! `ci/faults nodes`: a platform of many nodes, of which one falls sick, or an agent dies.
//!
//! Each node has a Postfix, pickup-rs and a Mail Agent in a network namespace of its own; two
//! Schedulers, two Info Agents and Redis are at the centre. All mail is counted at the targets, by
//! node. Each case has a goal and a measurement. The campaign fails when mail is lost or sent twice
//! beyond what `docs/architecture.md` names, and when a goal isn't met that is marked as met today.
//! The other goals are shown as they are.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};
use serde::Serialize;
use testbed::Tally;
use trials::{Measured, NodesCase, Output, require_namespaces, seconds, table};

use crate::several::run_all;

/// Options of the campaign of many nodes.
#[derive(Args)]
pub(crate) struct NodesOptions {
    /// Number of nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=20))]
    nodes: u8,
    /// Number of messages that each case sends, or a few more.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(40..))]
    messages: u64,
    /// Number of cases that run at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Only the cases whose name contains this; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Number of times that each case runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    times: u16,
    /// Only the cases that take a few seconds.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Result of all cases.
#[derive(Serialize)]
struct NodesReport {
    nodes: u8,
    messages: u64,
    cases: Vec<Row>,
    clean: bool,
}

/// Result of one case.
#[derive(Serialize)]
struct Row {
    case: &'static str,
    refused: usize,
    #[serde(flatten)]
    tally: Tally,
    /// Number of duplicates that `docs/architecture.md` names.
    twice_named: usize,
    /// Number of copies that each node sent.
    by_node: Vec<usize>,
    goal: &'static str,
    measured: String,
    is_met: bool,
    /// Whether the goal was met, or missed by no more than a busy machine explains.
    is_near: bool,
    /// Whether the goal is one that must be met.
    must_be_met: bool,
    seconds: f64,
    /// Failure of the case besides the counts.
    error: Option<String>,
}

impl Row {
    /// Whether nothing is worse than today.
    fn is_clean(&self) -> bool {
        let Self { tally, twice_named, .. } = self;
        self.error.is_none()
            && (tally.lost, tally.strangers) == (0, 0)
            && tally.duplicates <= *twice_named
            && (self.is_near || !self.must_be_met)
    }

    /// Returns whether the goal is met, in a word.
    fn met(&self) -> &'static str {
        match (self.is_met, self.must_be_met) {
            (true, true) => "yes",
            (true, false) => "yes, newly",
            (false, true) if self.is_near => "nearly",
            (false, true) => "NO MORE",
            (false, false) => "no",
        }
    }
}

/// Runs the campaign. Returns whether it is clean.
pub(crate) fn run(options: &NodesOptions) -> Result<bool> {
    let wanted = |case: &NodesCase| {
        let is_named =
            options.case.is_empty() || options.case.iter().any(|it| case.name.contains(it));
        is_named && (case.is_quick || !options.quick)
    };
    let wanted: Vec<NodesCase> = NodesCase::all().into_iter().filter(wanted).collect();
    if wanted.is_empty() {
        bail!("no case is called so");
    }
    let wanted = vec![wanted; options.times.into()].concat();
    require_namespaces()?;
    let cases = run_all(&wanted, options.jobs, |case| announced(case, options))?;
    let clean = cases.iter().all(Row::is_clean);
    let report = NodesReport { nodes: options.nodes, messages: options.messages, cases, clean };
    Output::new(options.json).print(&report, draw)?;
    Ok(clean)
}

/// Runs one case, and says at its end how it went.
fn announced(case: &NodesCase, options: &NodesOptions) -> Result<Row> {
    let row = try_case(case, options).with_context(|| format!("case {}", case.name));
    match &row {
        Ok(row) if row.is_clean() => eprintln!("faults: {}: clean, {} s", row.case, row.seconds),
        Ok(row) => eprintln!("faults: {}: FAILED after {} s", row.case, row.seconds),
        Err(error) => eprintln!("faults: {error:#}"),
    }
    row
}

/// Runs one case from its start to its account. A failure in between is part of the result.
fn try_case(case: &NodesCase, options: &NodesOptions) -> Result<Row> {
    let started = Instant::now();
    let mut scene = case.scene(options.nodes, options.messages)?;
    let measured = case.play(&mut scene);
    let finished = scene.finish();
    let account = scene.account();
    let (measured, failed) = match measured {
        Ok(measured) => (measured, None),
        Err(error) => (Measured::default(), Some(error)),
    };
    let error = failed.or(finished.err()).map(|error| format!("{error:#}"));
    let row = Row {
        case: case.name,
        refused: account.refused,
        twice_named: if case.names_twice { account.twice_of_struck } else { 0 },
        tally: account.tally,
        by_node: account.by_node,
        goal: case.goal,
        measured: measured.words,
        is_met: measured.is_met,
        is_near: measured.is_near,
        must_be_met: case.is_met_today,
        seconds: seconds(started.elapsed()),
        error,
    };
    if !row.is_clean() {
        let folder = scene.keep_evidence()?;
        let (tally, error) = (&row.tally, &row.error);
        eprintln!("faults: {}: {tally:?} {error:?}; logs in {}", row.case, folder.display());
    }
    Ok(row)
}

/// Most characters in a line of a column of words.
const COLUMN_WIDTH: u16 = 34;

const HEADS: [&str; 11] = [
    "fault",
    "submitted",
    "refused",
    "lost",
    "twice",
    "as named",
    "Postfix's own",
    "seconds",
    "goal",
    "measured",
    "met",
];

fn draw(report: &NodesReport) -> Table {
    let mut table = table(&HEADS);
    for column in table.column_iter_mut().filter(|it| [0, 8, 9].contains(&it.index)) {
        column.set_cell_alignment(CellAlignment::Left);
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(COLUMN_WIDTH)));
    }
    for row in &report.cases {
        let tally = &row.tally;
        let duplicates = tally.duplicates.saturating_sub(row.twice_named);
        let counts = [
            tally.submitted,
            row.refused,
            tally.lost,
            duplicates,
            row.twice_named,
            tally.postfix_duplicates,
        ];
        let mut cells = vec![row.case.to_owned()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format!("{:.1}", row.seconds));
        cells.extend([row.goal, &row.measured, row.met()].map(str::to_owned));
        cells.extend(row.error.clone());
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(duplicates: usize, twice_named: usize, (is_met, must_be_met): (bool, bool)) -> Row {
        Row {
            case: "",
            refused: 0,
            tally: Tally { submitted: 9, delivered: 9, duplicates, ..Tally::default() },
            twice_named,
            by_node: Vec::new(),
            goal: "",
            measured: String::new(),
            is_met,
            is_near: is_met,
            must_be_met,
            seconds: 0.0,
            error: None,
        }
    }

    #[test]
    fn a_goal_that_was_met_must_stay_met() {
        assert!(row(0, 0, (true, true)).is_clean());
        assert!(row(0, 0, (false, false)).is_clean());
        assert!(!row(0, 0, (false, true)).is_clean());
        let near = Row { is_near: true, ..row(0, 0, (false, true)) };
        assert!(near.is_clean() && near.met() == "nearly");
    }

    #[test]
    fn each_duplicate_must_be_named() {
        assert!(row(3, 3, (true, true)).is_clean());
        assert!(!row(3, 2, (true, true)).is_clean());
        let lost = Row { tally: Tally { lost: 1, ..Tally::default() }, ..row(0, 0, (true, true)) };
        assert!(!lost.is_clean());
    }
}
