//! Looks after Mail Agents. See `agents::scheduler`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Looks after Mail Agents")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> ExitCode {
    agents::daemon::main("scheduler-agent", &Cli::parse().options, agents::agents::scheduler)
}
