//! `ci/bench NAME`: stock Postfix against OPTIMUS, side by side.
//!
//! The benchmarks are fair because one run measures both, in rounds in which each goes first in
//! turn. Both have the same disk, messages and durability: Postfix fsyncs each file, and Redis
//! fsyncs each write before it answers. The figures are medians of rounds and their ratio; absolute
//! times are this machine's, and noise. Every run checks in the end that all messages are where
//! they belong, so a fast failure can't look like speed. [`rpc`] explains for itself why it is fair
//! to TCP.

mod fair;
mod inject;
mod insert;
mod latency;
mod rounds;
mod rpc;
mod send;
mod smtp;

use anyhow::Result;
use clap::{Parser, Subcommand};
use trials::{Output, require_root};

/// Measures stock Postfix and OPTIMUS side by side.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// N runs of sendmail, by one and by several at once, with Postfix's daemons stopped; and N
    /// submissions by SMTP.
    Insert(insert::Arguments),
    /// N messages of a mailbox by `optimus inject`, and by a loop that runs sendmail for each.
    Inject(inject::Arguments),
    /// N queued messages, until the last is delivered.
    Send(send::Arguments),
    /// One message a second, beside thousands to a black hole: from sendmail's start and exit to
    /// its delivery.
    Fair(fair::Arguments),
    /// One message: from sendmail's start and exit to its delivery.
    Latency(latency::Arguments),
    /// Requests with replies: rpc against TCP.
    Rpc(rpc::Arguments),
    /// Server or client of `rpc`.
    #[command(hide = true)]
    RpcPeer(rpc::PeerArguments),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    require_root()?;
    let output = Output::new(arguments.json);
    match arguments.what {
        What::Insert(arguments) => output.print(&insert::run(&arguments)?, insert::draw),
        What::Inject(arguments) => output.print(&inject::run(&arguments)?, inject::draw),
        What::Send(arguments) => output.print(&send::run(&arguments)?, send::draw),
        What::Fair(arguments) => output.print(&fair::run(&arguments)?, fair::draw),
        What::Latency(arguments) => output.print(&latency::run(&arguments)?, latency::draw),
        What::Rpc(arguments) => output.print(&rpc::run(&arguments)?, rpc::draw),
        What::RpcPeer(arguments) => rpc::run_peer(&arguments),
    }
}
