//! Chores of the project as commands.

mod constants;
mod tidy;

use clap::Parser;

/// Chores of the project.
#[derive(Parser)]
enum Chore {
    /// Generate Postfix's constants again, from Debian's source package.
    Constants(constants::Arguments),
    /// Check the rules of docs/style.md.
    Tidy(tidy::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Constants(arguments) => constants::run(&arguments),
        Chore::Tidy(arguments) => tidy::run(&arguments),
    }
}
