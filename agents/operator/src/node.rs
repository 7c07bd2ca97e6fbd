//! `optimus node new`: makes a server a node of its own, where its queue directory is a copy of
//! another node's.
//!
//! pickup-rs decides, since only it knows whether the directory is a copy. A node that is served
//! here is left alone: otherwise its Mail Agent would lose its committed mail, and other
//! nodes would send that mail again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use handoff::client;
use handoff::protocol::{Reply, Request};

use crate::say;

/// Time in which pickup-rs must answer: it scans the queue first, and master may have to start it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct NodeCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make this server a node of its own, when its queue directory is refused as a copy of another
    /// node's. A copy without mail of that node becomes a node of its own by itself
    New {
        /// Also while the queue has mail of the other node, which both servers then send
        #[arg(long)]
        even_with_mail: bool,
    },
}

pub(crate) async fn run(instance: agents::daemon::Instance, node: NodeCommand) -> Result<()> {
    let Action::New { even_with_mail } = node.action;
    let socket = instance.places.pickup_socket();
    let asked = tokio::time::timeout(PATIENCE, ask(&socket, even_with_mail));
    let node = asked.await.with_context(|| {
        format!(
            "pickup-rs at {}: no answer in {PATIENCE:?}; a new node may still be made; see \
                `optimus check`",
            socket.display()
        )
    })??;
    say(format!("this server is node {node} from now on"));
    Ok(())
}

async fn ask(socket: &Path, even_with_mail: bool) -> Result<String> {
    let place = || format!("pickup-rs at {}", socket.display());
    let (mut requests, mut replies) = client::connect(socket)
        .await
        .map_err(|error| anyhow::anyhow!("{error}; check that Postfix runs"))?;
    requests.send(&Request::NewNode { even_with_mail }).await.with_context(place)?;
    while let Some(reply) = replies.next().await.with_context(place)? {
        match reply {
            Reply::NewNode { node: Some(node), .. } => return Ok(node),
            Reply::NewNode { node: None, reason } | Reply::Error { reason } => bail!(reason),
            _ => (),
        }
    }
    bail!("{}: closed the connection; see Postfix's log", place())
}
