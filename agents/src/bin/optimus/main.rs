//! The operator's command.

use clap::{Parser, Subcommand};

mod config;
mod run;

#[derive(Parser)]
#[command(version, about = "One queue for many Postfix servers")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all three agents in one process, and a Redis of their own when none is configured
    Run,
    /// Print the settings in force
    Config,
}

fn main() -> anyhow::Result<()> {
    let Cli { options, command } = Cli::parse();
    match command {
        Command::Run => agents::daemon::run(&options, run::run),
        Command::Config => config::print(&options),
    }
}
