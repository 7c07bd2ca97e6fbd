//! `optimus check`: finds what is wrong with the configuration, and prints one line for each
//! problem, in postconf's manner.
//!
//! An *error* keeps mail from going through OPTIMUS or voids a guarantee. A *warning* is something
//! that an operator should know. The exit status is 1 if there is an error. The command looks and
//! connects, and changes nothing.
//!
//! As root, the command reads root's files: configuration, programs, password files. Child
//! processes try as each role. Then the command gives up root's rights, before it touches a file or
//! a socket of `mail_owner`'s (decision 0020).

mod platform;
mod programs;
mod redis;
pub(crate) mod services;
pub(crate) mod trying;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use agents::daemon::{Instance, Options};
use anyhow::Result;
use postfix_wire::{MainCf, MasterCf};
use settings::Settings;

use crate::say;

/// A problem, printed as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    severity: FindingSeverity,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FindingSeverity {
    Error,
    Warning,
}

impl Problem {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn error(text: impl Into<String>) -> Self {
        Self { severity: FindingSeverity::Error, text: text.into() }
    }

    fn warning(text: impl Into<String>) -> Self {
        Self { severity: FindingSeverity::Warning, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            FindingSeverity::Error => "error",
            FindingSeverity::Warning => "warning",
        };
        write!(f, "optimus: {severity}: {}", self.text)
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (mut problems, main_cf) = files(&options.config_directory);
    if let Some(main_cf) = main_cf {
        problems.extend(programs::check(&main_cf));
        problems.extend(services::check(&options.config_directory, &main_cf));
        problems.extend(of_instance(options)?);
    }
    problems.iter().for_each(say);
    let has_error = problems.iter().any(|it| it.severity == FindingSeverity::Error);
    Ok(if has_error { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns the problems of the running parts. The process has lost root's rights afterwards.
fn of_instance(options: &Options) -> Result<Vec<Problem>> {
    let instance = match Instance::open(options) {
        Ok(instance) => instance,
        // `files` reports that problem.
        Err(_) if Settings::load(&options.config_directory).is_err() => return Ok(Vec::new()),
        Err(error) => return Ok(vec![Problem::error(settings::told(error.as_ref()))]),
    };
    let mut problems = redis::configured(&instance);
    let tried = trying::check(options);
    if let Err(error) = instance.drop_privileges() {
        problems.push(Problem::error(settings::told(error.as_ref())));
        return Ok(problems);
    }
    problems.extend(agents::daemon::block_on(async {
        [platform::check(&instance).await, redis::check(&instance).await].concat()
    })?);
    problems.extend(tried);
    Ok(problems)
}

/// Checks the three files, each by itself, so that all their problems show at once.
fn files(config_directory: &Path) -> (Vec<Problem>, Option<MainCf>) {
    let mut problems = Vec::new();
    let main_cf = MainCf::load(config_directory)
        .map_err(|error| problems.push(Problem::error(error.to_string())))
        .ok();
    if let Err(error) = MasterCf::load(config_directory) {
        problems.push(Problem::error(error.to_string()));
    }
    if let Err(error) = Settings::load(config_directory) {
        problems.push(Problem::error(error.to_string()));
    }
    (problems, main_cf)
}
