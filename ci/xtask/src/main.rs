//! Chores of the project as commands.

mod constants;
mod dependencies;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// Chores of the project.
#[derive(Parser)]
enum Chore {
    /// Generate Postfix's constants again, from Debian's source package.
    Constants(constants::Arguments),
    /// Check the sources and licences of other people's packages.
    Dependencies(dependencies::Arguments),
    /// Check the rules of docs/style.md.
    Tidy(tidy::Arguments),
}

/// Runs a chore. An error is printed in one line, without a backtrace.
fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Constants(arguments) => constants::run(&arguments),
        Chore::Dependencies(arguments) => dependencies::run(&arguments),
        Chore::Tidy(arguments) => tidy::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
