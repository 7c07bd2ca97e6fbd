//! Chores of the project as commands.

mod constants;

use clap::Parser;

/// Chores of the project.
#[derive(Parser)]
enum Chore {
    /// Generate Postfix's constants again, from Debian's source package.
    Constants(constants::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Constants(arguments) => constants::run(&arguments),
    }
}
