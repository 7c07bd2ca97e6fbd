//! What an Info Agent or a Scheduler sees when it looks: the directory and the spool's overview,
//! taken together.
//!
//! A view is a moment's truth. Whatever is decided by it is carried out by spool functions that
//! look again, so an old view costs time only.

use std::collections::BTreeMap;
use std::time::Duration;

use spool::{AgentId, AgentKind, Directory, LotNumber, NodeId, NodeLoad, Overview};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Live Info Agents, the one that started first first.
    pub infos: Vec<AgentId>,
    /// Live Schedulers, the one that started first first.
    pub schedulers: Vec<AgentId>,
    /// Everything that has a Mail Agent, a lot, or committed mail.
    pub nodes: Vec<Node>,
    /// What is in no lot yet.
    pub inbox: Inbox,
    /// Lots that wait for a node, lowest number first; not necessarily all of them.
    pub ready: Vec<ReadyLot>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub node: NodeId,
    /// Whether somebody speaks for it.
    pub agent: Agent,
    /// Lots assigned to it.
    pub lots: usize,
    /// Messages in these lots, not committed.
    pub pending: u64,
    /// Messages committed to it and not settled.
    pub committed: u64,
    /// Of these, those in its deferred queue.
    pub deferred: u64,
    /// Of the committed ones, those in its hold queue.
    pub on_hold: u64,
}

/// A node's Mail Agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// It has a lease.
    Alive {
        /// The most messages it takes at once.
        capacity: u32,
        /// What is left of its lease.
        lease_left: Duration,
    },
    /// Its lease ended this long ago.
    Ended(Duration),
    /// The directory doesn't know it.
    Unknown,
}

/// What was submitted and is in no lot yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Entries in it.
    pub count: u64,
    /// How long the first has waited, as far as its submitter's clock can be believed.
    pub age: Duration,
    /// The number that the next lot will have.
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
    /// Its number.
    pub lot: LotNumber,
    /// Messages in it.
    pub count: u64,
}

impl Node {
    /// One that has nothing.
    fn idle(node: NodeId) -> Self {
        Self {
            node,
            agent: Agent::Unknown,
            lots: 0,
            pending: 0,
            committed: 0,
            deferred: 0,
            on_hold: 0,
        }
    }

    /// How many messages it may be given now. Deferred mail and mail on hold rest in its Postfix
    /// and don't count.
    pub fn credit(&self) -> u64 {
        match self.agent {
            Agent::Alive { capacity, .. } => u64::from(capacity).saturating_sub(self.load()),
            Agent::Ended(_) | Agent::Unknown => 0,
        }
    }

    /// What it has to do.
    pub fn load(&self) -> u64 {
        self.pending + self.committed.saturating_sub(self.deferred + self.on_hold)
    }

    /// Whether somebody speaks for it.
    pub fn is_alive(&self) -> bool {
        matches!(self.agent, Agent::Alive { .. })
    }
}

impl View {
    /// From what was read together. While several nodes are alive, each takes at most
    /// `window_shared` messages at once.
    pub fn of(directory: &Directory, overview: &Overview, window_shared: u32) -> Self {
        let named = |kind| directory.alive(kind).into_iter().map(|it| it.agent.clone()).collect();
        Self {
            infos: named(AgentKind::Info),
            schedulers: named(AgentKind::Scheduler),
            nodes: shared(nodes(directory, &overview.nodes), window_shared),
            inbox: inbox(overview),
            ready: overview
                .ready
                .iter()
                .map(|it| ReadyLot { lot: it.lot, count: it.messages })
                .collect(),
        }
    }

    /// The Scheduler that looks after a node. Everyone who sees the same view names the same one;
    /// which one it is matters only for who speaks first.
    pub fn scheduler_of(&self, node: &NodeId) -> Option<&AgentId> {
        let alive = self.nodes.iter().filter(|it| it.is_alive() && it.node < *node).count();
        self.schedulers.get(alive.checked_rem(self.schedulers.len())?)
    }
}

fn inbox(Overview { now_ms, inbox, .. }: &Overview) -> Inbox {
    let age_ms = inbox.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
    Inbox { count: inbox.entries, age: Duration::from_millis(age_ms), next_lot: inbox.next_lot }
}

fn nodes(directory: &Directory, loads: &[NodeLoad]) -> Vec<Node> {
    let mut nodes: BTreeMap<NodeId, Node> =
        loads.iter().map(|load| (load.node.clone(), loaded(load))).collect();
    // A lease that is over may be listed twice, among the leases and as gone: the living come last
    // and count.
    let ended = directory.leases.iter().filter(|it| it.lease_ends_ms <= directory.now_ms);
    let alive = directory.leases.iter().filter(|it| it.lease_ends_ms > directory.now_ms);
    for it in
        directory.gone.iter().chain(ended).chain(alive).filter(|it| it.kind == AgentKind::Mail)
    {
        let node: NodeId = it.agent.clone().into();
        nodes.entry(node.clone()).or_insert_with(|| Node::idle(node)).agent =
            agent(it, directory.now_ms);
    }
    nodes.into_values().collect()
}

/// A lone node takes all that its window holds. One of several leaves for the others what it can't
/// send soon.
fn shared(mut nodes: Vec<Node>, window_shared: u32) -> Vec<Node> {
    if nodes.iter().filter(|it| it.is_alive()).count() > 1 {
        for node in &mut nodes {
            if let Agent::Alive { capacity, .. } = &mut node.agent {
                *capacity = (*capacity).min(window_shared);
            }
        }
    }
    nodes
}

fn agent(it: &spool::Agent, now_ms: u64) -> Agent {
    match it.lease_ends_ms.checked_sub(now_ms) {
        Some(left) if left > 0 => {
            Agent::Alive { capacity: it.capacity, lease_left: Duration::from_millis(left) }
        }
        _ => Agent::Ended(Duration::from_millis(now_ms.saturating_sub(it.lease_ends_ms))),
    }
}

fn loaded(load: &NodeLoad) -> Node {
    let &NodeLoad { ref node, lots, pending, committed, deferred, on_hold } = load;
    let (node, lots) = (node.clone(), lots as usize);
    Node { node, agent: Agent::Unknown, lots, pending, committed, deferred, on_hold }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(name: &str, capacity: u32) -> Node {
        let agent = Agent::Alive { capacity, lease_left: Duration::from_secs(1) };
        Node { agent, ..Node::idle(name.parse().unwrap()) }
    }

    #[test]
    fn a_lone_node_has_its_whole_window_and_one_of_several_its_share() {
        let gone = Node { agent: Agent::Ended(Duration::from_secs(1)), ..alive("gone", 0) };
        let credits = |nodes| shared(nodes, 20).iter().map(Node::credit).collect::<Vec<_>>();
        assert_eq!(credits(vec![alive("a", 100), gone.clone()]), [100, 0]);
        assert_eq!(credits(vec![alive("a", 100), alive("b", 5), gone]), [20, 5, 0]);
    }
}
