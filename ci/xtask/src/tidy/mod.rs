//! `tidy`: the rules of `docs/style.md` that a program can check.
//!
//! Each rule is a module with one function from files to offences; it never reads a file itself, so
//! that a test can plant an offence. An offence is printed as `file:line: rule: remedy`.

mod cycles;
mod dates;
mod ignored;
mod keys;
mod layers;
mod length;
mod modules;
mod names;
mod openings;
mod references;
mod retired;
mod source;
mod tree;
mod types;
mod width;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use tree::File;

/// A rule's name and its function.
type Rule = (&'static str, fn(&[File]) -> Vec<Offence>);

/// All rules, in the order of their output.
const RULES: [Rule; 11] = [
    ("width", width::check),
    ("opening", openings::check),
    ("retired", retired::check),
    ("length", length::check),
    ("key", keys::check),
    ("cycle", cycles::check),
    ("layer", layers::check),
    ("ignored", ignored::check),
    ("name", names::check),
    ("date", dates::check),
    ("type-name", types::check),
];

/// Options of `tidy`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Check this rule only; may be repeated.
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Print only the number of offences of each rule.
    #[arg(long)]
    count: bool,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    path: String,
    /// Line number, from 1.
    line: usize,
    remedy: String,
}

impl Offence {
    fn new(file: &File, line: usize, remedy: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, remedy: remedy.into() }
    }
}

/// Checks the tree; fails if it has an offence.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(unknown) =
        arguments.rule.iter().find(|name| RULES.iter().all(|rule| rule.0 != *name))
    {
        let names = RULES.map(|rule| rule.0).join(", ");
        bail!("tidy: no rule is named {unknown}; the rules are {names}");
    }
    let files = tree::read(&workspace())?;
    let mut total = 0;
    for (name, check) in RULES {
        if !arguments.rule.is_empty() && !arguments.rule.iter().any(|wanted| wanted == name) {
            continue;
        }
        let offences = check(&files);
        total += offences.len();
        match arguments.count {
            true => println!("{name}: {}", offences.len()),
            false => print(name, &offences),
        }
    }
    match total {
        0 => Ok(()),
        _ => bail!("tidy: offences found: {total}; the rules are explained in docs/style.md"),
    }
}

fn print(rule: &str, offences: &[Offence]) {
    for Offence { path, line, remedy } in offences {
        println!("{path}:{line}: {rule}: {remedy}");
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Helpers of the rules' tests.
#[cfg(test)]
mod testing {
    use super::{File, Offence};

    /// Returns the lines at which a rule fires in one file.
    pub(super) fn fires_at(
        check: fn(&[File]) -> Vec<Offence>,
        path: &str,
        text: &str,
    ) -> Vec<usize> {
        check(&[File::new(path, text)]).into_iter().map(|offence| offence.line).collect()
    }

    /// A file that breaks no rule.
    pub(super) const CLEAN: &str = "\
//! Marks: what a disk knows of deliveries.

/// Returns the mark.
pub fn mark() -> u64 {
    // The mark is 0 before the first release.
    0
}
";

    #[test]
    fn a_clean_file_passes_every_rule() {
        let file = [File::new("crates/spool/src/mark.rs", CLEAN)];
        for (name, check) in super::RULES {
            assert_eq!(check(&file), [], "{name}");
        }
    }
}
