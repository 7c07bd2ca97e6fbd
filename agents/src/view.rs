//! The view of an Info Agent or a Scheduler: the directory and the spool's overview, read together.
//!
//! A view shows one moment. The spool's functions check each decision again, so an old view costs
//! time only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::peer::Peer;
use spool::{AgentId, AgentKind, Directory, LotNumber, NodeId, NodeLoad, Overview, Start};

/// The directory and the overview at one moment; see the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Live Info Agents, in the order of their start.
    pub infos: Vec<Fellow>,
    /// Live Schedulers, in the order of their start.
    pub schedulers: Vec<AgentId>,
    /// Nodes that have a Mail Agent, a lot, or committed mail.
    pub nodes: Vec<Node>,
    /// Time for which Schedulers have watched without a long pause, at one run of Redis.
    pub watched: Duration,
    /// Mail that is in no lot yet.
    pub inbox: Inbox,
    /// Lots that wait for a node, lowest number first; not always all of them.
    pub ready: Vec<ReadyLot>,
}

/// A live Info Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fellow {
    /// Name in the directory.
    pub agent: AgentId,
    /// End of the agent's lease, in Unix milliseconds. Another time means that the lease has been
    /// renewed.
    pub lease_ends_ms: u64,
}

/// State of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name of the node.
    pub node: NodeId,
    /// State of its Mail Agent.
    pub agent: MailAgentState,
    /// The Mail Agent for calls, if it answers any.
    pub peer: Option<Peer>,
    /// Number under which the Mail Agent holds its lease, if the directory knows it.
    pub start: Option<Start>,
    /// Last Scheduler that looked after the Mail Agent; perhaps a dead one.
    pub scheduler: Option<AgentId>,
    /// Number of lots assigned to the node.
    pub lots: usize,
    /// Number of uncommitted messages in the node's lots.
    pub pending: u64,
    /// Number of messages committed to the node and not settled.
    pub committed: u64,
    /// Number of committed messages in the node's deferred queue.
    pub deferred: u64,
    /// Number of committed messages in the node's hold queue.
    pub on_hold: u64,
}

/// State of a node's Mail Agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailAgentState {
    /// The agent has a lease.
    Alive {
        /// Most messages that the agent takes at once.
        capacity: u32,
        /// Time left of the agent's lease.
        lease_left: Duration,
    },
    /// Time since the agent's lease ended.
    Ended(Duration),
    /// The directory doesn't know the agent.
    Unknown,
}

/// Mail that was submitted and is in no lot yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Number of entries.
    pub count: u64,
    /// Time for which the first entry has waited, as far as its submitter's clock is right.
    pub age: Duration,
    /// Number that the next lot will have.
    pub next_lot: LotNumber,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { count: 0, age: Duration::ZERO, next_lot: LotNumber(1) }
    }
}

/// A ready lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLot {
    /// Number of the lot.
    pub lot: LotNumber,
    /// Number of messages in the lot.
    pub count: u64,
}

impl Node {
    /// Makes a node without lots and mail.
    pub(crate) fn idle(node: NodeId) -> Self {
        Self {
            node,
            agent: MailAgentState::Unknown,
            peer: None,
            start: None,
            scheduler: None,
            lots: 0,
            pending: 0,
            committed: 0,
            deferred: 0,
            on_hold: 0,
        }
    }

    /// Returns the number of messages that the node may be given now. Deferred mail and mail on
    /// hold don't count.
    pub fn credit(&self) -> u64 {
        match self.agent {
            MailAgentState::Alive { capacity, .. } => {
                u64::from(capacity).saturating_sub(self.load())
            }
            MailAgentState::Ended(_) | MailAgentState::Unknown => 0,
        }
    }

    /// Returns the number of messages that the node has to deal with.
    pub fn load(&self) -> u64 {
        self.pending + self.committed.saturating_sub(self.deferred + self.on_hold)
    }

    /// Whether the node has a live Mail Agent.
    pub fn is_alive(&self) -> bool {
        matches!(self.agent, MailAgentState::Alive { .. })
    }
}

impl View {
    /// Makes a view of a directory and an overview. While several nodes are alive, each takes at
    /// most `window_shared` messages at once.
    pub fn of(directory: &Directory, overview: &Overview, window_shared: u32) -> Self {
        let alive = |kind| directory.alive(kind).into_iter();
        let fellow =
            |it: &spool::Agent| Fellow { agent: it.agent.clone(), lease_ends_ms: it.lease_ends_ms };
        let watched_ms = directory.now_ms.saturating_sub(directory.watching_since_ms);
        Self {
            watched: Duration::from_millis(watched_ms),
            infos: alive(AgentKind::Info).map(fellow).collect(),
            schedulers: alive(AgentKind::Scheduler).map(|it| it.agent.clone()).collect(),
            nodes: shared(nodes(directory, &overview.nodes), window_shared),
            inbox: inbox(overview),
            ready: overview
                .ready
                .iter()
                .map(|it| ReadyLot { lot: it.lot, count: it.messages })
                .collect(),
        }
    }

    /// Returns the live Scheduler that looks after a node's Mail Agent, as the directory says.
    pub fn scheduler_of(&self, node: &NodeId) -> Option<&AgentId> {
        let node = self.nodes.iter().find(|it| it.node == *node)?;
        self.schedulers.iter().find(|it| node.scheduler.as_ref() == Some(*it))
    }
}

fn inbox(Overview { now_ms, inbox, .. }: &Overview) -> Inbox {
    let age_ms = inbox.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
    Inbox { count: inbox.entries, age: Duration::from_millis(age_ms), next_lot: inbox.next_lot }
}

fn nodes(directory: &Directory, loads: &[NodeLoad]) -> Vec<Node> {
    let mut nodes: BTreeMap<NodeId, Node> =
        loads.iter().map(|load| (load.node.clone(), loaded(load))).collect();
    // A lease that is over may be listed twice, among the leases and as gone. Live leases come last
    // and win.
    let ended = directory.leases.iter().filter(|it| it.lease_ends_ms <= directory.now_ms);
    let alive = directory.leases.iter().filter(|it| it.lease_ends_ms > directory.now_ms);
    for it in
        directory.gone.iter().chain(ended).chain(alive).filter(|it| it.kind == AgentKind::Mail)
    {
        let node: NodeId = it.agent.clone().into();
        let node = nodes.entry(node.clone()).or_insert_with(|| Node::idle(node));
        (node.agent, node.peer) = (agent(it, directory.now_ms), Peer::of(it));
        (node.start, node.scheduler) = (Some(it.start), it.scheduler.clone());
    }
    // A drained node's Mail Agent may not have heard of that yet.
    for (node, it) in nodes.iter_mut().filter(|(node, _)| directory.drained.contains_key(node)) {
        if let MailAgentState::Alive { capacity, .. } = &mut it.agent {
            tracing::trace!(%node, "drained");
            *capacity = 0;
        }
    }
    nodes.into_values().collect()
}

/// Limits the window of each of several live nodes, so that no node holds mail which another could
/// send sooner. A lone node keeps its whole window.
fn shared(mut nodes: Vec<Node>, window_shared: u32) -> Vec<Node> {
    if nodes.iter().filter(|it| it.is_alive()).count() > 1 {
        for node in &mut nodes {
            if let MailAgentState::Alive { capacity, .. } = &mut node.agent {
                *capacity = (*capacity).min(window_shared);
            }
        }
    }
    nodes
}

fn agent(it: &spool::Agent, now_ms: u64) -> MailAgentState {
    match it.lease_ends_ms.checked_sub(now_ms) {
        Some(left) if left > 0 => {
            MailAgentState::Alive { capacity: it.capacity, lease_left: Duration::from_millis(left) }
        }
        _ => MailAgentState::Ended(Duration::from_millis(now_ms.saturating_sub(it.lease_ends_ms))),
    }
}

fn loaded(load: &NodeLoad) -> Node {
    let &NodeLoad { ref node, lots, pending, committed, deferred, on_hold } = load;
    let (node, lots) = (node.clone(), lots as usize);
    Node { lots, pending, committed, deferred, on_hold, ..Node::idle(node) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(name: &str, capacity: u32) -> Node {
        let agent = MailAgentState::Alive { capacity, lease_left: Duration::from_secs(1) };
        Node { agent, ..Node::idle(name.parse().unwrap()) }
    }

    #[test]
    fn a_lone_node_has_its_whole_window_and_one_of_several_its_share() {
        let gone =
            Node { agent: MailAgentState::Ended(Duration::from_secs(1)), ..alive("gone", 0) };
        let credits = |nodes| shared(nodes, 20).iter().map(Node::credit).collect::<Vec<_>>();
        assert_eq!(credits(vec![alive("a", 100), gone.clone()]), [100, 0]);
        assert_eq!(credits(vec![alive("a", 100), alive("b", 5), gone]), [20, 5, 0]);
    }
}
