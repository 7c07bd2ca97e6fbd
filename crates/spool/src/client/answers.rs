//! What the functions answer, as types.

use std::fmt;
use std::str::FromStr;

use redis::{FromRedisValue, ParsingError, RedisWrite, ToRedisArgs, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use crate::{
    AgentId, CommitNumber, Domain, Epoch, Incarnation, LotNumber, MessageId, NodeId, SpoolId, Start,
};

/// An answer that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$about])* $variant,)+
        }

        impl $name {
            /// The word in Redis.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromRedisValue for $name {
            fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
                match from_redis_value::<String>(value)?.as_str() {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("{other:?} is not a {}", stringify!($name)).into()),
                }
            }
        }
    };
}
pub(super) use words;

words! {
    /// What became of a submission in doubt.
    Disowned {
        /// Redis has or had the message: it will be, or was, sent from there.
        Known = "known",
        /// Redis never had it and now never will.
        Disowned = "disowned",
        /// The id is older than a day, so Redis may have had it and forgotten: nobody can tell.
        /// Keep it aside.
        TooLate = "too_late",
    }
}

words! {
    /// What a commit came to.
    Committed {
        /// Yes: this message is this node's, under this queue id.
        Committed = "committed",
        /// It was that already.
        Already = "already",
        /// It was that already, and an operator has ordered something since. Don't release it.
        Ordered = "ordered",
        /// No: another message is committed under this queue id. Settle or uncommit that one, then
        /// commit again.
        Occupied = "occupied",
        /// No: the lot was taken from the node, or the message is committed elsewhere. Delete the
        /// file.
        Fenced = "fenced",
        /// No: it was sent and forgotten before. Delete the file.
        Settled = "settled",
        /// Redis never heard of it, or forgot it long ago. Keep the file aside.
        Unknown = "unknown",
    }
}

words! {
    /// What parking a message came to.
    Parked {
        /// It waits in its destination's lane.
        Parked = "parked",
        /// No: the lot was taken from the node, or the message is parked or committed.
        Fenced = "fenced",
        /// No: it was sent and forgotten before.
        Settled = "settled",
        /// Redis never heard of it, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// What a settlement came to.
    Settled {
        /// Gone from Redis now.
        Settled = "settled",
        /// It was gone already.
        Already = "already",
        /// This message is not committed to this node under this queue id.
        Unknown = "unknown",
    }
}

words! {
    /// What taking a commit back came to.
    Uncommitted {
        /// The message waits in a new lot.
        Uncommitted = "uncommitted",
        /// This message is not committed to this node under this queue id.
        Already = "already",
    }
}

words! {
    /// What became of a committed message whose file is absent.
    Absent {
        /// Postfix was done with it: gone from Redis now.
        Settled = "settled",
        /// Nothing proves that: the message waits in a new lot.
        Resent = "resent",
        /// This message is not committed to this node under this queue id.
        Already = "already",
    }
}

words! {
    /// What another name for a committed file came to.
    Renamed {
        /// Noted.
        Renamed = "renamed",
        /// It was noted already.
        Already = "already",
        /// No: another message is committed under the new name.
        Occupied = "occupied",
        /// This message is not committed to this node under the old name.
        Unknown = "unknown",
    }
}

words! {
    /// What a deferral came to.
    Deferred {
        /// Noted.
        Deferred = "deferred",
        /// Noted before, for the same time.
        Already = "already",
        /// This message is not committed to this node under this queue id.
        Unknown = "unknown",
    }
}

words! {
    /// What a refusal came to.
    Refused {
        /// Kept aside now.
        Refused = "refused",
        /// No: it was said to be missing, and is there. Nothing was changed; feed it again later.
        Present = "present",
        /// It was kept aside already.
        Already = "already",
        /// The lot was taken from the node, or the message is committed.
        Fenced = "fenced",
        /// It was sent and forgotten before.
        Settled = "settled",
        /// Redis never heard of it.
        Unknown = "unknown",
    }
}

words! {
    /// What sending a message after all, which was kept aside, came to.
    Retried {
        /// It waits in a lot.
        Retried = "retried",
        /// It isn't kept aside: it is on its way.
        Already = "already",
        /// It is kept aside, and there is no message any more: it can only be dropped.
        Missing = "missing",
        /// It was sent, dropped or disowned before.
        Settled = "settled",
        /// Redis never heard of it, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// What giving up a message that was kept aside came to.
    Dropped {
        /// Gone from Redis now.
        Dropped = "dropped",
        /// It was gone already: dropped, sent or disowned.
        Already = "already",
        /// It isn't kept aside: it is on its way. Nothing was changed.
        Kept = "kept",
        /// Redis never heard of it, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// What an arrival came to.
    Arrived {
        /// Noted.
        Arrived = "arrived",
        /// Noted before, for this moment or a later one.
        Already = "already",
        /// A later Mail Agent of the node has arrived; nothing was noted. This one is to end.
        Superseded = "superseded",
    }
}

/// What giving up a node came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// So many of its messages will be sent again.
    Resent(u64),
    /// Nothing: it is back.
    Alive,
}

/// One call of a function that moves a limited number.
pub(super) enum Slice {
    /// So many, and whether there is more.
    Moved(u64, bool),
    Alive,
}

impl FromRedisValue for Slice {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        if let Value::Array(_) = value {
            let (moved, more) = from_redis_value(value)?;
            return Ok(Self::Moved(moved, more));
        }
        match from_redis_value::<String>(value)?.as_str() {
            "alive" => Ok(Self::Alive),
            other => Err(format!("{other:?} is not a number moved").into()),
        }
    }
}

/// What an assignment came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// The node's now, under this epoch.
    Assigned(Epoch),
    /// The node's already, under this epoch.
    Already(Epoch),
    /// Another node's.
    Taken,
    /// Not there any more: everything in it has been committed.
    Gone,
}

impl FromRedisValue for Assigned {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let words: Vec<String> = from_redis_value(value)?;
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["assigned", epoch] => parsed(epoch).map(Self::Assigned),
            ["already", epoch] => parsed(epoch).map(Self::Already),
            ["taken"] => Ok(Self::Taken),
            ["gone"] => Ok(Self::Gone),
            _ => Err(format!("{words:?} is not an assignment").into()),
        }
    }
}

/// What an attempt to cut a lot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The lot is there.
    Cut {
        /// Messages in it.
        messages: u64,
        /// Entries left in the inbox.
        left: u64,
    },
    /// There was nothing to make a lot of; the number is still the next one.
    Nothing {
        /// Entries left in the inbox.
        left: u64,
    },
    /// This number has been given out, to this attempt earlier or to another.
    Already,
    /// This number is not the next one yet.
    Early,
}

impl FromRedisValue for Cut {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let words: Vec<String> = from_redis_value(value)?;
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["cut", messages, left] => {
                Ok(Self::Cut { messages: parsed(messages)?, left: parsed(left)? })
            }
            ["nothing", _, left] => Ok(Self::Nothing { left: parsed(left)? }),
            ["already"] => Ok(Self::Already),
            ["early"] => Ok(Self::Early),
            _ => Err(format!("{words:?} is not an answer to a cut").into()),
        }
    }
}

/// One lot in a node's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedLot {
    /// Which.
    pub lot: LotNumber,
    /// The node's tenure of it: what commits have to name.
    pub epoch: Epoch,
    /// What is not committed of it, in the order of arrival.
    pub ids: Vec<MessageId>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// By Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// What is in no lot yet.
    pub inbox: Inbox,
    /// How many lots are ready.
    pub ready_lots: u64,
    /// The first of them, lowest number first.
    pub ready: Vec<ReadyLot>,
    /// How many messages are kept aside.
    pub corrupt: u64,
    /// Every node that has something.
    pub nodes: Vec<NodeLoad>,
}

impl Overview {
    /// Messages that wait for a node. Exact when `ready` has all ready lots and the inbox no entry
    /// twice.
    pub fn backlog(&self) -> u64 {
        let ready: u64 = self.ready.iter().map(|lot| lot.messages).sum();
        ready + self.inbox.entries
    }

    /// A node's load; 0 for one that has nothing.
    pub fn load(&self, node: &NodeId) -> u64 {
        self.nodes.iter().find(|it| it.node == *node).map_or(0, NodeLoad::load)
    }
}

/// What was submitted and is in no lot yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inbox {
    /// How many entries; each is a message, or was submitted before, or was disowned, or is nothing
    /// of ours.
    pub entries: u64,
    /// When the first was submitted, Unix milliseconds by the submitting machine's clock.
    pub oldest_ms: Option<u64>,
    /// Entries that were nothing of ours, so far: they are kept in a list of their own.
    pub strange: u64,
    /// The number that the next lot will have.
    pub next_lot: LotNumber,
}

/// A lot that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadyLot {
    /// Which.
    pub lot: LotNumber,
    /// How many messages are in it.
    pub messages: u64,
}

/// Messages to one destination that wait until a node has room for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// The destination; [`Domain::others`] for all those that have no lane of their own.
    pub to: Domain,
    /// How many lots are parked.
    pub lots_total: u64,
    /// The first of them, lowest number first.
    pub lots: Vec<ReadyLot>,
}

impl Lane {
    /// Messages in the first lots.
    pub fn messages(&self) -> u64 {
        self.lots.iter().map(|it| it.messages).sum()
    }
}

/// What a node has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    /// Which.
    pub node: NodeId,
    /// Lots assigned to it.
    pub lots: u64,
    /// Messages in these lots.
    pub pending: u64,
    /// Messages committed to it and not settled.
    pub committed: u64,
    /// How many of the committed ones wait in its deferred queue.
    pub deferred: u64,
    /// How many of the committed ones lie in its hold queue.
    pub on_hold: u64,
}

impl NodeLoad {
    /// What counts against its window: derived here from what is there, so that it can't drift.
    pub fn load(&self) -> u64 {
        (self.pending + self.committed).saturating_sub(self.deferred + self.on_hold)
    }
}

/// A message that is kept aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Corrupt {
    /// Which.
    pub id: MessageId,
    /// Since when, Unix milliseconds by Redis's clock.
    pub since_ms: u64,
    /// Why.
    pub reason: String,
    /// What Redis has of it, bytes; 0 when the message itself is missing.
    pub bytes: u64,
}

/// One answer of `fetch`.
pub(super) struct LotsPage {
    pub(super) more: bool,
    pub(super) lots: Vec<AssignedLot>,
}

impl FromRedisValue for LotsPage {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut items: Vec<Value> = from_redis_value(value)?;
        if items.is_empty() {
            return Err("an empty answer of fetch".into());
        }
        let more = from_redis_value(items.remove(0))?;
        let lots = items.into_iter().map(from_redis_value).collect::<Result<_, _>>()?;
        Ok(Self { more, lots })
    }
}

/// A struct whose fields are an array's items, in this order.
macro_rules! from_array {
    ($name:ident { $($field:ident),+ }) => {
        impl FromRedisValue for $name {
            fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
                let ($($field,)+) = from_redis_value(value)?;
                Ok(Self { $($field),+ })
            }
        }
    };
}
pub(super) use from_array;

from_array!(AssignedLot { lot, epoch, ids });
from_array!(Overview { now_ms, inbox, ready_lots, ready, corrupt, nodes });
from_array!(Inbox { entries, oldest_ms, strange, next_lot });
from_array!(ReadyLot { lot, messages });
from_array!(Lane { to, lots_total, lots });
from_array!(NodeLoad { node, lots, pending, committed, deferred, on_hold });
from_array!(Corrupt { id, since_ms, reason, bytes });

fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, ParsingError> {
    text.parse().map_err(|error: T::Err| error.to_string().into())
}

/// Names travel as their text.
macro_rules! as_text {
    ($($name:ident)+) => {$(
        impl FromRedisValue for $name {
            fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
                parsed(&from_redis_value::<String>(value)?)
            }
        }

        impl ToRedisArgs for $name {
            fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
                out.write_arg_fmt(self);
            }
        }

        impl redis::ToSingleRedisArg for $name {}
    )+};
}

as_text!(CommitNumber Domain MessageId SpoolId LotNumber Epoch Start NodeId AgentId Incarnation);
