//! Hands lots of mail to one Postfix. See `agents::mail`.

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Hands lots of mail to one Postfix")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> anyhow::Result<()> {
    agents::daemon::run(&Cli::parse().options, agents::agents::mail)
}
