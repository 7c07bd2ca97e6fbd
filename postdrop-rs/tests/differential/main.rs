//! Comparison with stock: its `sendmail` and `postdrop` and those of OPTIMUS get the same input,
//! and must do the same.
//!
//! A case is a command line, a standard input, a user and a configuration. The suite compares exit
//! code, standard output, standard error, and the submitted records without time and ids. A case
//! names each intended difference. The outcomes must then differ in all aspects of that difference
//! and in no other. Without this check, a list of differences would become a list of excuses.
//! `docs/differences.md` has the same list with reasons.
//!
//! Cases run in several threads, because stock sleeps for a second before it ends in failure.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test")]

mod arguments;
mod bench;
mod case;
mod configuration;
mod content;
mod delegates;
mod differences;
mod postdrop;
mod random;
mod recipients;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod users;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

use bench::{Bench, Outcome, Programs};
use case::Case;

/// Fewest cases that this suite may have.
const CASES_MIN: usize = 300;
/// Number of cases that one installation serves. Each thread has one installation at a time.
const CASES_PER_BENCH: usize = 16;
/// Number of threads, which mostly sleep.
const THREADS: usize = 24;

/// Characters of an input that a complaint shows.
const SHOWN_INPUT: usize = 500;

const DOCUMENT: &str = include_str!("../../../docs/differences.md");

fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(arguments::cases());
    cases.extend(recipients::cases());
    cases.extend(content::cases());
    cases.extend(configuration::cases());
    cases.extend(users::cases());
    cases.extend(postdrop::cases());
    cases
}

#[test]
fn our_programs_do_what_stock_s_do() {
    let cases = all_cases();
    let complaints = complaints(&cases);
    let differing = cases.iter().filter(|case| case.difference.is_some()).count();
    // The count is written directly, because the test harness hides the output of a test that
    // passes.
    let count = cases.len();
    let _ = writeln!(
        std::io::stderr(),
        "differential: {count} cases, {differing} with a listed difference"
    );
    assert!(complaints.is_empty(), "{}\n{} cases", complaints.join("\n"), complaints.len());
    assert!(cases.len() >= CASES_MIN);
}

/// Checks that `differences.rs` and `docs/differences.md` list the same differences, and that a
/// case shows each.
#[test]
fn differences_are_documented_and_shown() {
    let listed: BTreeSet<&str> =
        differences::ALL.iter().map(|difference| difference.name).collect();
    let documented: BTreeSet<&str> =
        DOCUMENT.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    let cases = all_cases();
    let shown: BTreeSet<&str> =
        cases.iter().filter_map(|case| Some(case.difference?.name)).collect();
    assert_eq!(documented, listed);
    assert_eq!(shown, listed);
}

fn complaints(cases: &[Case]) -> Vec<String> {
    let programs = Programs::install();
    let jobs = Mutex::new(jobs(cases));
    let complaints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(job) = jobs.lock().unwrap().pop() else { return };
                    let found = work(&programs, &job);
                    complaints.lock().unwrap().extend(found);
                }
            });
        }
    });
    complaints.into_inner().unwrap()
}

/// Groups cases that can share an installation.
fn jobs(cases: &[Case]) -> Vec<Vec<&Case>> {
    let mut by_configuration: Vec<Vec<&Case>> = Vec::new();
    for case in cases {
        let same =
            |group: &&mut Vec<&Case>| std::ptr::eq(group[0].configuration, case.configuration);
        match by_configuration.iter_mut().find(same) {
            Some(group) => group.push(case),
            None => by_configuration.push(vec![case]),
        }
    }
    by_configuration
        .iter()
        .flat_map(|group| group.chunks(CASES_PER_BENCH).map(<[_]>::to_vec))
        .collect()
}

fn work(programs: &Programs, cases: &[&Case]) -> Vec<String> {
    let mut bench = Bench::new(programs, cases[0].configuration);
    cases.iter().filter_map(|case| complaint(&mut bench, case)).collect()
}

/// Runs a case, and returns a complaint if the outcome is wrong.
fn complaint(bench: &mut Bench<'_>, case: &Case) -> Option<String> {
    let (stock, ours) = (bench.stock(case), bench.ours(case));
    verdict(case, &stock, &ours)
}

fn verdict(case: &Case, stock: &Outcome, ours: &Outcome) -> Option<String> {
    let found = ours.differs_in(stock);
    let expected = case.difference.map_or(&[][..], |difference| difference.aspects);
    if found == expected {
        return None;
    }
    let arguments: Vec<_> =
        case.arguments.iter().map(|argument| argument.escape_ascii().to_string()).collect();
    let input: String = case.input.escape_ascii().to_string().chars().take(SHOWN_INPUT).collect();
    Some(format!(
        "== {:?} {arguments:?} < {input}\n   by {} under {:?}\n   differs in {found:?}, expected: \
            {expected:?}\n   stock {stock:?}\n   ours  {ours:?}",
        case.program, case.user.uid, case.configuration.main
    ))
}
