//! Shares lots of mail out over Postfix servers. See `agents::info`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Shares lots of mail out over Postfix servers")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> ExitCode {
    agents::daemon::main("info-agent", &Cli::parse().options, agents::agents::info)
}
