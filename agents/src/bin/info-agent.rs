//! Shares lots of mail out over Postfix servers. See `agents::info`.

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Shares lots of mail out over Postfix servers")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
}

fn main() -> anyhow::Result<()> {
    agents::daemon::run(&Cli::parse().options, agents::agents::info)
}
