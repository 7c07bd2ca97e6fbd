//! A model of the functions of `optimus.lua`: the same behaviour in memory, without Redis.
//!
//! ```text
//! tests/machine (this crate)                 tests/simulation (agents)
//! random calls ─┬──▶ Redis ──────┐ equal?    the three machines ──▶ this model
//!               └──▶ this model ─┘
//! ```
//!
//! The agents' simulation proves only as much as its Redis is true. So both tests share one model.
//! After every random call `tests/machine` compares Redis with the model: the answer, all data, the
//! notices, and the answers of the reading functions.
//!
//! The model's methods are those of the client, `Spool`, with the same arguments and answers, but
//! not async. The present is [`Model::now_ms`]. A batch is one call here, even a long one.
//!
//! The model leaves out limits of size and number (`LOT_MAX`, `CUT_BYTES`, `LANES_MAX`,
//! `BATCH_MAX`), the end of remembering after a day, lifetime counters and message texts. Disputes
//! between copies of a queue directory are left to `tests/attending.rs`.

mod directory;
mod lines;
mod lots;
mod mail;
mod operators;
mod reading;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postfix_wire::QueueId;

use crate::{
    Act, AgentId, CommitNumber, Domain, FencingToken, LotNumber, MessageId, MessagePlace, NodeId,
    Rest, SpoolError, Start,
};
use directory::Entry;

/// Place of a lot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LotState {
    Ready,
    Assigned(NodeId),
    /// The lot waits in the lane of this destination.
    Parked(Domain),
}

#[derive(Debug, Clone)]
struct Lot {
    state: LotState,
    epoch: u64,
    /// Messages, in the order of arrival.
    ids: Vec<MessageId>,
}

/// A committed message.
#[derive(Debug, Clone, Copy)]
struct Owned {
    id: MessageId,
    number: CommitNumber,
}

/// Numbers of a node's commits.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    last: CommitNumber,
    mark: CommitNumber,
    floor: CommitNumber,
}

/// Reason for which an id is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Settled, or dropped from quarantine.
    Settled,
    /// Deleted by an operator's act or order.
    Deleted,
    Disowned,
}

/// Fate of a message that an operator may have stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    Held,
    Deleted,
}

/// Model of the data that Redis holds: see [the module](self).
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The present, Unix milliseconds, which must not go back.
    pub now_ms: u64,
    /// Entries of the inbox; `None` is a malformed one.
    inbox: VecDeque<Option<MessageId>>,
    malformed: usize,
    taken: usize,
    lots: BTreeMap<u64, Lot>,
    lots_made: u64,
    /// Lanes by the time (ms) of their beginning.
    lanes: BTreeMap<Domain, u64>,
    mail: BTreeMap<NodeId, BTreeMap<QueueId, Owned>>,
    numbers: BTreeMap<NodeId, Numbers>,
    /// The Mail Agent that arrived last at each node, and the time (ms).
    arrived: BTreeMap<NodeId, (Start, u64)>,
    /// The time (ms) at which each node's pickup-rs attended last.
    attended_ms: BTreeMap<NodeId, u64>,
    /// Committed messages that rest in Postfix.
    deferred: BTreeMap<MessageId, Rest>,
    /// Messages in quarantine, with the reasons.
    quarantine: BTreeMap<MessageId, String>,
    held: BTreeSet<MessageId>,
    inbox_orders: BTreeMap<MessageId, Act>,
    node_orders: BTreeMap<MessageId, Act>,
    done: BTreeMap<MessageId, Done>,
    agents: BTreeMap<AgentId, Entry>,
    /// Ends of leases (ms): of agents that may be alive, and of Mail Agents that were.
    leases: BTreeMap<AgentId, u64>,
    gone: BTreeMap<AgentId, u64>,
    /// Drained nodes, each with the time (ms) of the order.
    drained: BTreeMap<NodeId, u64>,
    /// Time of the last reap by a Scheduler, Unix milliseconds.
    watched_ms: u64,
    /// Time (ms) since which Schedulers have looked without a long pause.
    watching_since_ms: u64,
    starts: u64,
    /// Texts of the notices that were published and not taken yet.
    published: Vec<String>,
}

impl Model {
    /// Returns an empty spool at the time `now_ms`, Unix milliseconds.
    pub fn at(now_ms: u64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// Takes the texts of the notices published since the last call, in their order.
    pub fn take_published(&mut self) -> Vec<String> {
        std::mem::take(&mut self.published)
    }

    fn publish(&mut self, text: String) {
        self.published.push(text);
    }

    /// Returns the lot of a message that is not committed.
    fn lot_of(&self, id: MessageId) -> Option<u64> {
        self.lots.iter().find(|(_, lot)| lot.ids.contains(&id)).map(|(&n, _)| n)
    }

    /// Returns the node and the queue id of a committed message.
    fn file_of(&self, id: MessageId) -> Option<(&NodeId, &QueueId)> {
        self.mail.iter().find_map(|(node, mail)| {
            let (queue_id, _) = mail.iter().find(|(_, it)| it.id == id)?;
            Some((node, queue_id))
        })
    }

    /// Returns the place of a message; `None` if Redis doesn't have it.
    pub fn place_of(&self, id: MessageId) -> Option<MessagePlace> {
        if let Some(n) = self.lot_of(id) {
            return Some(match &self.lots[&n].state {
                LotState::Assigned(node) => MessagePlace::Assigned(node.clone(), LotNumber(n)),
                LotState::Ready | LotState::Parked(_) => MessagePlace::Ready(LotNumber(n)),
            });
        }
        if let Some((node, queue_id)) = self.file_of(id) {
            return Some(MessagePlace::Committed(node.clone(), queue_id.clone()));
        }
        if let Some(reason) = self.quarantine.get(&id) {
            return Some(MessagePlace::Quarantine(reason.clone()));
        }
        if self.held.contains(&id) {
            return Some(MessagePlace::Held);
        }
        let waits = self.inbox.contains(&Some(id)) && !self.is_remembered(id);
        waits.then_some(MessagePlace::Inbox)
    }

    /// Returns whether `m:<id>` exists.
    fn is_stored(&self, id: MessageId) -> bool {
        !matches!(self.place_of(id), None | Some(MessagePlace::Inbox))
    }

    fn is_remembered(&self, id: MessageId) -> bool {
        self.done.contains_key(&id)
    }

    fn is_committed_as(&self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> bool {
        self.owned(node, queue_id).is_some_and(|it| it.id == id)
    }

    fn owned(&self, node: &NodeId, queue_id: &QueueId) -> Option<Owned> {
        self.mail.get(node)?.get(queue_id).copied()
    }

    /// Fails when a later Mail Agent of the node has arrived. Starts begin at 1.
    fn expect_latest(&self, token: &FencingToken) -> Result<(), SpoolError> {
        let last = self.last_start(&token.node);
        if last > token.start || token.start == Start(0) {
            return Err(SpoolError::Superseded);
        }
        Ok(())
    }

    /// Returns the start of the Mail Agent that arrived last at a node; 0 if none did.
    pub fn last_start(&self, node: &NodeId) -> Start {
        self.arrived.get(node).map_or(Start(0), |(start, _)| *start)
    }
}
