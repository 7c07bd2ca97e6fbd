//! The operator's command.

use std::process::ExitCode;

use agents::daemon::Instance;
use clap::{Parser, Subcommand};

mod check;
mod config;
mod run;
mod status;

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
    /// Say how things stand: lots, agents, backlog; what is deferred, corrupt or waiting, and why
    Status {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say what is wrong with the configuration; exit status 1 if something is
    Check,
    /// Print the settings in force
    Config,
}

fn main() -> ExitCode {
    agents::daemon::end("optimus", run(Cli::parse()))
}

fn run(Cli { options, command }: Cli) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run => agents::daemon::run(&options, run::run)?,
        Command::Status { json } => {
            let instance = Instance::open(&options)?;
            instance.drop_privileges()?;
            agents::daemon::block_on(status::print(instance, json))??;
        }
        Command::Check => return check::run(&options),
        Command::Config => config::print(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}
