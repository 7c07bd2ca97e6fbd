//! State and health of the platform, as `optimus status` finds them: to print, to judge, and to
//! read again from its JSON.
//!
//! This crate asks neither Redis nor pickup-rs: the command fills these types. [`Output`] is the
//! JSON object that the command prints, so a reader of that object has names and types in place of
//! keys.

mod health;

use std::collections::BTreeMap;

use handoff::protocol::{Handoff, Pause};
use serde::{Deserialize, Serialize};
use spool::{
    AgentKind, Domain, Inbox, LibraryState, NodeId, Quarantined, ReadyLot, SpoolId, Standing, Unfit,
};

pub use health::{Health, PluginState, performance, remedy};

/// The object that `optimus status --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// State and findings.
    #[serde(flatten)]
    pub health: Health,
    /// State of Redis.
    pub redis: RedisStatus,
    /// Everything else, as far as it could be read.
    #[serde(flatten)]
    pub seen: Seen,
}

/// State of Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisStatus {
    /// Address of the server.
    pub server: String,
    /// Whether the server answered.
    pub reachable: bool,
    /// Function library; none when the server didn't answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<LibraryState>,
    /// Reason why the server could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Part of the state that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seen {
    /// The whole state.
    All(Box<Status>),
    /// State without lots, agents and nodes, since Redis lacks the function library.
    Part(Part),
    /// State of this host alone, since Redis can't be asked.
    Host(Host),
}

/// State that can be read without the function library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of entries of the inbox.
    pub inbox: u64,
    /// State of this host's queue.
    pub queue: Queue,
    /// Lifetime counters by event name.
    pub counts: BTreeMap<String, u64>,
}

/// State of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// State of this host's queue.
    pub queue: Queue,
}

impl Seen {
    /// Returns the state of this host's queue.
    pub fn queue(&self) -> &Queue {
        match self {
            Self::All(status) => &status.queue,
            Self::Part(part) => &part.queue,
            Self::Host(host) => &host.queue,
        }
    }
}

/// State of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Time by Redis's clock, in Unix milliseconds.
    pub now_ms: u64,
    /// Identity of the spool in Redis; none before any agent has connected.
    pub spool: Option<SpoolId>,
    /// Reason why this host's pickup-rs is of no use to the spool, if there is one.
    pub mismatch: Option<String>,
    /// Lots by state.
    pub lots: Lots,
    /// Agents that are alive, and those that are known to be gone.
    pub agents: Vec<AgentStatus>,
    /// Nodes, with the mail in their hands.
    pub nodes: Vec<NodeStatus>,
    /// Copies of nodes' queue directories that were refused a moment ago.
    pub copies: Vec<NodeCopy>,
    /// Number of messages that wait for a node.
    pub backlog: u64,
    /// Time since the oldest waiting message was submitted, in seconds. Of messages in lots, only
    /// the first page counts.
    pub oldest_waiting_s: Option<u64>,
    /// Number of messages that wait until a node has room for their destination.
    pub parked: u64,
    /// Parked messages by destination.
    pub lanes: Vec<Parked>,
    /// Messages in deferred queues.
    pub deferred: Deferred,
    /// Holds in Redis, and orders of operators that wait.
    pub standing: Standing,
    /// Number of messages in Postfix's hold queues.
    pub on_hold: u64,
    /// Number of quarantined messages.
    pub quarantine_total: u64,
    /// Memory of all quarantined messages in Redis, in bytes.
    pub quarantine_bytes: u64,
    /// The oldest quarantined messages.
    pub quarantine: Vec<Quarantined>,
    /// Reasons why mail waits.
    pub waiting: Vec<String>,
    /// State of this host's queue.
    pub queue: Queue,
    /// Lifetime counters by event name.
    pub counts: BTreeMap<String, u64>,
}

/// Lots by state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lots {
    /// Mail that is in no lot yet.
    pub inbox: Inbox,
    /// Number of lots that wait for a node.
    pub ready_total: u64,
    /// The first of the lots that wait for a node.
    pub ready: Vec<ReadyLot>,
    /// Number of lots that nodes have.
    pub assigned_total: u64,
}

/// State of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Kind of the agent.
    pub kind: AgentKind,
    /// Name of the agent; a Mail Agent has its node's.
    pub agent: String,
    /// Host on which the agent runs.
    pub host: String,
    /// Rank among the live agents of this kind, from 0; none for an agent that is gone.
    pub number: Option<usize>,
    /// Time left of the agent's lease, in milliseconds; if negative, the time since the lease
    /// ended.
    pub lease_left_ms: i64,
    /// UDP address at which the agent answers other agents; empty if nowhere.
    #[serde(default)]
    pub address: String,
    /// Live Scheduler that looks after this Mail Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
}

/// State of a node, as the table in `docs/architecture.md` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// The node takes mail.
    Up,
    /// The node takes no mail, for the cause that is given.
    Suspect,
    /// An operator lets the node take no mail.
    Draining,
    /// The node's Mail Agent has no lease.
    Gone,
}

/// Facts about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the node.
    pub node: NodeId,
    /// State of the node.
    pub state: NodeState,
    /// Cause for which the node takes no mail.
    pub cause: Option<Unfit>,
    /// Time since which the node is in this state for this cause, in Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Most messages that the node takes at once; none without a live Mail Agent.
    pub window: Option<u32>,
    /// Number of messages that count against the window.
    pub load: u64,
    /// Number of messages that the node may be given now.
    pub credit: u64,
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

/// A copy of a node's queue directory, which serves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCopy {
    /// Node of the original.
    pub node: NodeId,
    /// Host of the original.
    pub served_by: String,
    /// Host of the copy.
    pub host: String,
}

/// Parked mail of one destination. Of very many lots, only the first count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Destination; `*` for all others.
    pub to: Domain,
    /// Number of messages.
    pub messages: u64,
    /// Number of lots.
    pub lots: u64,
}

/// Deferred mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Number of messages.
    pub total: u64,
    /// Time of Postfix's next attempt, in Unix milliseconds.
    pub next_attempt_ms: Option<u64>,
}

/// State of this host's queue, as pickup-rs reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Reason why pickup-rs could not be asked.
    pub error: Option<String>,
    /// Node that the queue belongs to.
    pub node: Option<String>,
    /// Spool that pickup-rs reads from.
    pub spool: Option<SpoolId>,
    /// Reason why pickup-rs serves nothing now.
    pub trouble: Option<String>,
    /// Reason why pickup-rs serves nothing for some seconds.
    pub waits: Option<String>,
    /// The pause of feeding, if there is one.
    pub pause: Option<Pause>,
    /// Way in which messages reach the queue manager.
    pub handoff: Option<Handoff>,
    /// Undecided prepared files. Redis lacks the message of any that is more than a moment old.
    pub undecided: Vec<String>,
    /// Destinations of the mail that Postfix is at work on, each with its number of messages, the
    /// most first. Deferred mail and mail on hold don't count.
    pub destinations: Vec<(Domain, usize)>,
    /// Number of files in `optimus/prepared`, decided or not; 0 when the folder can't be read.
    pub prepared: usize,
    /// Number of submissions that are in doubt.
    pub in_doubt: usize,
    /// Number of messages in a maildrop that no pickup service reads.
    pub stranded: usize,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn queue() -> Value {
        json!({
            "error": null, "node": "n", "spool": ID, "trouble": null, "waits": null,
            "pause": { "cause": "room", "reason": "disk full", "for_s": 3 }, "handoff": "hold",
            "undecided": ["4C1B21A0 x"], "destinations": [["a.example", 2], ["*", 1]],
            "prepared": 1, "in_doubt": 2, "stranded": 3,
        })
    }

    fn all() -> Value {
        let agent = json!({
            "kind": "mail", "agent": "n", "host": "mx", "number": null, "lease_left_ms": -7,
            "address": "",
        });
        let node = json!({
            "node": "n", "state": "suspect", "cause": "room", "since_ms": 6, "window": 9, "load": 1,
            "credit": 8, "lots": 1, "pending": 1, "committed": 2, "deferred": 1, "on_hold": 1,
        });
        let inbox = json!({ "entries": 1, "oldest_ms": 5, "malformed": 0, "next_lot": 7 });
        let standing = json!({
            "held": 1, "held_since_ms": 4, "ordered": 1, "ordered_since_ms": null,
            "ordered_at_nodes": 1,
            "at_nodes": [{ "node": "n", "orders": 1, "since_ms": 3 }],
        });
        let quarantined = json!({ "id": ID, "since_ms": 2, "reason": "bad", "bytes": 10 });
        json!({
            "state": "warning", "reasons": ["a"],
            "redis": { "server": "mx:6379", "reachable": true, "library": { "state": "ours" } },
            "now_ms": 1_700_000_000_000_u64, "spool": ID, "mismatch": null,
            "lots": {
                "inbox": inbox, "ready_total": 1, "ready": [{ "lot": 3, "messages": 5 }],
                "assigned_total": 1,
            },
            "agents": [agent], "nodes": [node],
            "copies": [{ "node": "n", "served_by": "mx", "host": "copy" }],
            "backlog": 6, "oldest_waiting_s": 1, "parked": 2,
            "lanes": [{ "to": "*", "messages": 2, "lots": 1 }],
            "deferred": { "total": 1, "next_attempt_ms": 8 }, "standing": standing, "on_hold": 1,
            "quarantine_total": 1, "quarantine_bytes": 10, "quarantine": [quarantined],
            "waiting": ["b"], "queue": queue(), "counts": { "submitted": 12 },
        })
    }

    fn read(printed: &Value) -> Output {
        let output: Output = serde_json::from_value(printed.clone()).unwrap();
        assert_eq!(serde_json::to_value(&output).unwrap(), *printed);
        output
    }

    #[test]
    fn each_part_of_the_output_is_read_as_it_was_printed() {
        assert!(matches!(read(&all()).seen, Seen::All(_)));
        let other = json!({ "state": "other", "loaded": "1", "ours": "2" });
        let redis = json!({ "server": "x", "reachable": true, "library": other });
        let part = json!({
            "state": "unknown", "reasons": [], "redis": redis, "inbox": 3, "queue": queue(),
            "counts": {},
        });
        assert!(matches!(read(&part).seen, Seen::Part(_)));
        let redis = json!({ "server": "x", "reachable": false, "error": "gone" });
        let host =
            json!({ "state": "critical", "reasons": ["c"], "redis": redis, "queue": queue() });
        assert!(matches!(read(&host).seen, Seen::Host(_)));
    }
}
