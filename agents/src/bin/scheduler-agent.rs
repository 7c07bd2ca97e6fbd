//! Looks after Mail Agents. See `agents::scheduler`.

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Looks after Mail Agents")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> anyhow::Result<()> {
    agents::daemon::run(&Cli::parse().options, agents::agents::scheduler)
}
