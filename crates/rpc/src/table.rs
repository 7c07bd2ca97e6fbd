//! Tests of the tables in the documentation against the code.
//!
//! A table of phases has rows of phases, inputs, the phase that follows, and the outputs. A test
//! leads a machine to each phase, gives it each input, and compares the result with the row. A
//! phase and an input without a row must change nothing and put nothing out.

use std::collections::BTreeMap;

/// Checks the table of a module's documentation, whose text is `page`. `outcome` returns the phase
/// after an input, and the outputs.
pub(crate) fn check(
    page: &str,
    phases: &[&str],
    inputs: &[&str],
    outcome: impl Fn(&str, &str) -> (String, String),
) {
    let mut rows = rows(page, phases);
    let mut wrong = Vec::new();
    for phase in phases {
        for input in inputs {
            let (found, outputs) = outcome(phase, input);
            let row = rows.remove(&((*phase).to_owned(), (*input).to_owned()));
            let (then, expected) = row.unwrap_or_else(|| ("same".to_owned(), String::new()));
            let is_same = then == found || (then == "same" && found == *phase);
            if !is_same || expected != outputs {
                wrong.push(format!("| {phase} | {input} | {found} | {outputs} |"));
            }
        }
    }
    assert!(wrong.is_empty(), "the code does otherwise:\n{}", wrong.join("\n"));
    assert!(rows.is_empty(), "rows of no phase or input here: {rows:#?}");
}

type Rows = BTreeMap<(String, String), (String, String)>;

fn rows(page: &str, phases: &[&str]) -> Rows {
    let lines = page.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut rows = Rows::new();
    for line in lines.skip_while(|line| !line.starts_with("phase | input |")).skip(1) {
        let cells: Vec<&str> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [of, inputs, then, outputs] = cells[..] else { panic!("not four cells: {line}") };
        for phase in named(of, phases) {
            for input in inputs.split("; ") {
                let (row, outcome) =
                    ((phase.to_owned(), input.to_owned()), (then.to_owned(), outputs.to_owned()));
                assert_eq!(rows.insert(row, outcome), None, "two rows: {phase}, {input}");
            }
        }
    }
    rows
}

/// Returns the phases of a cell. The cell has their names, or `any` or `any but` with the
/// beginnings of their names.
fn named<'a>(cell: &'a str, phases: &[&'a str]) -> Vec<&'a str> {
    let (beginnings, is_in) = match (cell.strip_prefix("any but "), cell.strip_prefix("any ")) {
        (Some(but), _) => (but, false),
        (None, Some(beginnings)) => (beginnings, true),
        (None, None) => return cell.split("; ").collect(),
    };
    let begins = |phase: &&str| beginnings.split("; ").any(|it| phase.starts_with(it));
    phases.iter().copied().filter(|phase| begins(phase) == is_in).collect()
}

#[test]
fn each_function_that_a_call_passes_exists() {
    let lines = include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    let mut files = 0;
    for line in lines {
        let [file, functions, _] = line.split(" | ").collect::<Vec<_>>()[..] else { continue };
        let path = format!("{}/src/{}", env!("CARGO_MANIFEST_DIR"), file.trim_end_matches('`'));
        let code = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        for function in functions.split(", ").map(|name| name.trim_matches('`')) {
            let is_there =
                ["(", "<"].iter().any(|end| code.contains(&format!("fn {function}{end}")));
            assert!(is_there, "{path} has no function {function}");
        }
        files += 1;
    }
    assert_eq!(files, 31, "rows of the table");
}
