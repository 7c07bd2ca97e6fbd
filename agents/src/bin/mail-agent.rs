//! Hands lots of mail to one Postfix. See `agents::mail`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Hands lots of mail to one Postfix")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> ExitCode {
    agents::daemon::main("mail-agent", &Cli::parse().options, agents::agents::mail)
}
