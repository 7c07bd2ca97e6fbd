//! `optimus drain`, `undrain` and `lost`: an operator's will about a whole node.
//!
//! A drained node takes no mail, also after it was away, until `undrain`. Its Mail Agent hands the
//! lots back; mail that its Postfix has taken stays there. A node is declared lost only while its
//! pickup-rs doesn't attend. Otherwise its Postfix would send what others send as well.

use std::time::{Duration, Instant};

use agents::daemon::Instance;
use anyhow::{Context, Result, bail};
use clap::Args;
use spool::{AgentKind, Directory, Drained, Lost, NodeId, NodeLoad, Overview, Spool, Taken};

use crate::say;

/// Time for which an attendance counts, and one second: a node that has died attends no more.
const ATTENDANCE: Duration = Duration::from_secs(11);
/// Least time to wait for a node's lots to move.
const MOVE_MIN: Duration = Duration::from_secs(5);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// The node of a command.
#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// Name of the node, or of its host, as `optimus status` shows them
    node: String,
}

/// A node, as the directory and the overview have it.
struct LocatedNode {
    directory: Directory,
    overview: Overview,
    node: NodeId,
}

impl LocatedNode {
    async fn of(spool: &Spool, name: &str) -> Result<Self> {
        let (directory, overview) = tokio::try_join!(spool.directory(), spool.overview(0))?;
        let mails = directory.leases.iter().chain(&directory.gone);
        let mails: Vec<_> = mails.filter(|it| it.kind == AgentKind::Mail).collect();
        let mut named: Vec<NodeId> = mails
            .iter()
            .filter(|it| it.agent.as_str() == name)
            .map(|it| it.agent.clone().into())
            .chain(overview.nodes.iter().map(|it| it.node.clone()).filter(|it| it.as_str() == name))
            .chain(directory.drained.keys().filter(|it| it.as_str() == name).cloned())
            .collect();
        if named.is_empty() {
            named = mails
                .iter()
                .filter(|it| it.name == name)
                .map(|it| it.agent.clone().into())
                .collect();
        }
        named.sort();
        named.dedup();
        let node = match &named[..] {
            [node] => node.clone(),
            [] => bail!("node {name}: not known; `optimus status` lists all nodes"),
            _ => bail!("host {name}: has several nodes; name one as `optimus status` does"),
        };
        Ok(Self { directory, overview, node })
    }

    fn load(&self) -> Option<&NodeLoad> {
        self.overview.nodes.iter().find(|it| it.node == self.node)
    }

    fn lots(&self) -> u64 {
        self.load().map_or(0, |it| it.lots)
    }

    /// Whether the node can be given lots: a live Mail Agent has declared so.
    fn takes_lots(&self) -> bool {
        let alive = self.directory.alive(AgentKind::Mail);
        alive.iter().any(|it| it.agent == self.node.clone().into() && it.capacity > 0)
    }
}

/// Has a node take no more mail, and waits for its lots to move.
pub(crate) async fn drain(instance: Instance, which: NodeName) -> Result<()> {
    let spool = instance.spool();
    let node = LocatedNode::of(&spool, &which.node).await?.node;
    let before = match spool.drain(&node).await? {
        Drained::Done => "drained",
        Drained::Already => "drained before",
    };
    let until = Instant::now() + MOVE_MIN.max(4 * instance.term());
    loop {
        let found = LocatedNode::of(&spool, node.as_str()).await?;
        if found.lots() == 0 && !found.takes_lots() {
            let stays = found.load().map_or(0, |it| it.committed);
            say(format!("node {node}: {before}; {stays} messages stay with its Postfix"));
            return Ok(());
        }
        if Instant::now() >= until {
            bail!(
                "node {node}: {before}, and not yet relieved: {} lots are with its Mail Agent; see \
                 its log: the order stands",
                found.lots()
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets a drained node take mail again.
pub(crate) async fn undrain(instance: Instance, which: NodeName) -> Result<()> {
    let spool = instance.spool();
    let node = LocatedNode::of(&spool, &which.node).await?.node;
    match spool.undrain(&node).await? {
        Drained::Done => say(format!("node {node}: takes mail again")),
        Drained::Already => say(format!("node {node}: was not drained")),
    }
    Ok(())
}

/// Gives up a node at once, in place of after `agents.node_loss_grace_s`.
pub(crate) async fn lost(instance: Instance, which: NodeName) -> Result<()> {
    let spool = instance.spool();
    let node = LocatedNode::of(&spool, &which.node).await?.node;
    let taken = given_up(&spool, &node).await?;
    let lots = spool.reassign(&node).await.with_context(|| format!("node {node}: lots"))?;
    let Taken { resent, held, deleted } = taken;
    say(format!(
        "node {node}: lost: {lots} lots go to other nodes; of its committed mail, {resent} \
         messages are sent again, {held} are on hold and {deleted} deleted"
    ));
    Ok(())
}

/// Takes a node's committed mail from it. Waits until the last attendance counts no more.
async fn given_up(spool: &Spool, node: &NodeId) -> Result<Taken> {
    let until = Instant::now() + ATTENDANCE;
    loop {
        match spool.lose(node, Duration::ZERO, false).await? {
            Lost::Lost(taken) => return Ok(taken),
            Lost::Alive if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            Lost::Alive => bail!(
                "node {node}: not lost: its pickup-rs attends, so its Postfix runs and sends its \
                 mail; stop Postfix there, or give `optimus drain`"
            ),
        }
    }
}
