//! Answers of the functions, as types.

use std::fmt;
use std::str::FromStr;

use redis::{FromRedisValue, ParsingError, RedisWrite, ToRedisArgs, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use crate::{
    AgentId, CommitNumber, Domain, Epoch, Generation, LotNumber, MessageId, NodeId, SpoolId, Start,
};

/// Defines an answer that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$about])* $variant,)+
        }

        impl $name {
            /// Returns the word in Redis.
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
    /// Outcome for a submission in doubt.
    Disowned {
        /// Redis has or had the message, and sends it or has sent it.
        Known = "known",
        /// Redis never had the message and now never will.
        Disowned = "disowned",
        /// The id is older than a day: Redis may have had the message and forgotten it. The
        /// administrator must decide.
        TooLate = "too_late",
    }
}

words! {
    /// Outcome of a commit.
    Committed {
        /// The message is now the node's, under the given queue id.
        Committed = "committed",
        /// The message was committed so before.
        Already = "already",
        /// The message was committed so before, and an operator's order stops it. The file must not
        /// be released.
        Ordered = "ordered",
        /// Refused: another message is committed under this queue id. The caller must settle or
        /// uncommit that message, then commit again.
        Occupied = "occupied",
        /// Refused: the lot was taken from the node, or the message is committed elsewhere. Delete
        /// the file.
        Fenced = "fenced",
        /// Refused: the message was settled before. Delete the file.
        Settled = "settled",
        /// Redis never had the message, or forgot it long ago. Keep the file where it is.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of parking a message.
    Parked {
        /// The message waits in its destination's lane.
        Parked = "parked",
        /// Refused: the lot was taken from the node, or the message is parked or committed.
        Fenced = "fenced",
        /// Refused: the message was settled before.
        Settled = "settled",
        /// Redis never had the message, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of a settlement.
    Settled {
        /// The message has left Redis now.
        Settled = "settled",
        /// The message had left Redis before.
        Already = "already",
        /// The message is not committed to the node under this queue id.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of taking a commit back.
    Uncommitted {
        /// The message waits in a new lot.
        Uncommitted = "uncommitted",
        /// The message is held in Redis: an operator has ordered so, or it was on hold at the node.
        Held = "held",
        /// The message is deleted, as an operator has ordered.
        Deleted = "deleted",
        /// The message is not committed to the node under this queue id.
        Already = "already",
    }
}

words! {
    /// Outcome for a committed message whose file is absent.
    Absent {
        /// Postfix is done with the message, which has left Redis now.
        Settled = "settled",
        /// A delivery is not proved: the message waits in a new lot.
        Resent = "resent",
        /// A delivery is not proved, and the message is held in Redis: an operator has ordered so,
        /// or it was on hold at the node.
        Held = "held",
        /// A delivery is not proved, and the message is deleted, as an operator has ordered.
        Deleted = "deleted",
        /// The message is not committed to the node under this queue id.
        Already = "already",
    }
}

words! {
    /// Outcome of giving a committed file another name.
    Renamed {
        /// The new name is noted.
        Renamed = "renamed",
        /// The new name was noted before.
        Already = "already",
        /// Refused: another message is committed under the new name.
        Occupied = "occupied",
        /// The message is not committed to the node under the old name.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of a deferral.
    Deferred {
        /// The deferral is noted.
        Deferred = "deferred",
        /// The deferral was noted before.
        Already = "already",
        /// The message is not committed to the node under this queue id.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of refusing a message.
    Refused {
        /// The message is in quarantine now.
        Refused = "refused",
        /// The call changed nothing: the message was reported missing, and Redis has it. The caller
        /// must feed the message again later.
        Present = "present",
        /// The message was in quarantine before.
        Already = "already",
        /// The call changed nothing: the lot was taken from the node, or the message is committed.
        Fenced = "fenced",
        /// The call changed nothing: the message was settled before.
        Settled = "settled",
        /// Redis never had the message.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of sending a message from quarantine.
    Retried {
        /// The message waits in a lot.
        Retried = "retried",
        /// The call changed nothing: the message isn't in quarantine but on its way.
        Already = "already",
        /// The quarantine has the id without a message, which can only be dropped.
        Missing = "missing",
        /// The message was sent, dropped or disowned before.
        Settled = "settled",
        /// Redis never had the message, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of dropping a message from quarantine.
    Dropped {
        /// The message has left Redis now.
        Dropped = "dropped",
        /// The message had left Redis before: dropped, sent or disowned.
        Already = "already",
        /// The call changed nothing: the message isn't in quarantine but on its way.
        Kept = "kept",
        /// Redis never had the message, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of a Mail Agent's arrival.
    Arrived {
        /// The arrival is noted.
        Arrived = "arrived",
        /// The arrival was noted before, for this moment or a later one.
        Already = "already",
        /// The arrival was not noted: a later Mail Agent of the node has arrived. The caller must
        /// end.
        Superseded = "superseded",
    }
}

/// Outcome of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// The lot is the node's now, under this epoch.
    Assigned(Epoch),
    /// The lot was the node's before, under this epoch.
    Already(Epoch),
    /// The lot is another node's.
    Taken,
    /// The lot is gone: everything in it has been committed.
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

/// Outcome of an attempt to cut a lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The lot has been made.
    Cut {
        /// Number of messages in the lot.
        messages: u64,
        /// Number of entries left in the inbox.
        left: u64,
    },
    /// The inbox had no message for a lot. The given number is still the next one.
    Nothing {
        /// Number of entries left in the inbox.
        left: u64,
    },
    /// The given number was used before, by an earlier attempt or by another caller.
    Already,
    /// The given number is not the next one yet.
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

/// One lot that is assigned to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedLot {
    /// Number of the lot.
    pub lot: LotNumber,
    /// Epoch of the node's tenure, which each commit must name.
    pub epoch: Epoch,
    /// Ids of the messages that are not committed, in the order of arrival.
    pub ids: Vec<MessageId>,
}

/// Overview of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Time of the overview by Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// Messages that are in no lot yet.
    pub inbox: Inbox,
    /// Number of ready lots.
    pub ready_lots: u64,
    /// The first ready lots, lowest number first.
    pub ready: Vec<ReadyLot>,
    /// Number of messages in quarantine.
    pub quarantine: u64,
    /// Nodes that have lots or committed messages.
    pub nodes: Vec<NodeLoad>,
}

impl Overview {
    /// Returns the number of messages that wait for a node. The number is exact if `ready` has all
    /// ready lots and no message is in the inbox twice.
    pub fn backlog(&self) -> u64 {
        let ready: u64 = self.ready.iter().map(|lot| lot.messages).sum();
        ready + self.inbox.entries
    }

    /// Returns a node's load; 0 for a node that has nothing.
    pub fn load(&self, node: &NodeId) -> u64 {
        self.nodes.iter().find(|it| it.node == *node).map_or(0, NodeLoad::load)
    }
}

/// The inbox: messages that were submitted and are in no lot yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// Number of entries: messages, copies of messages, disowned messages, malformed entries.
    pub entries: u64,
    /// Time at which the first entry was submitted, Unix milliseconds by the submitting machine's
    /// clock.
    pub oldest_ms: Option<u64>,
    /// Number of malformed entries so far. Redis keeps the latest in a list of their own.
    pub malformed: u64,
    /// Number of the next lot.
    pub next_lot: LotNumber,
}

/// A lot that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyLot {
    /// Number of the lot.
    pub lot: LotNumber,
    /// Number of messages in the lot.
    pub messages: u64,
}

/// Messages to one destination that wait until a node has room for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// The destination; [`Domain::others`] stands for all destinations without a lane of their own.
    pub to: Domain,
    /// Number of parked lots.
    pub lots_total: u64,
    /// The first parked lots, lowest number first.
    pub lots: Vec<ReadyLot>,
}

impl Lane {
    /// Returns the number of messages in the first lots.
    pub fn messages(&self) -> u64 {
        self.lots.iter().map(|it| it.messages).sum()
    }
}

/// Lots and messages of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    /// Name of the node.
    pub node: NodeId,
    /// Number of lots assigned to the node.
    pub lots: u64,
    /// Number of messages in these lots.
    pub pending: u64,
    /// Number of messages committed to the node and not settled.
    pub committed: u64,
    /// Number of the committed messages that wait in the node's deferred queue.
    pub deferred: u64,
    /// Number of the committed messages that lie in the node's hold queue.
    pub on_hold: u64,
}

impl NodeLoad {
    /// Returns the number of messages that count against the node's window. The number is derived
    /// from Redis's own counts, so it can't drift.
    pub fn load(&self) -> u64 {
        (self.pending + self.committed).saturating_sub(self.deferred + self.on_hold)
    }
}

/// A message in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Id of the message.
    pub id: MessageId,
    /// Time at which the message came into quarantine, Unix milliseconds by Redis's clock.
    pub since_ms: u64,
    /// Reason for the quarantine.
    pub reason: String,
    /// Size of the message in Redis, bytes; 0 when the message itself is missing.
    pub bytes: u64,
}

/// One page of a node's lots: an answer of `fetch`.
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

/// Implements the reading of a struct from an array whose items are the fields, in this order.
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

from_array!(AssignedLot { lot, epoch, ids });
from_array!(Overview { now_ms, inbox, ready_lots, ready, quarantine, nodes });
from_array!(Inbox { entries, oldest_ms, malformed, next_lot });
from_array!(ReadyLot { lot, messages });
from_array!(Lane { to, lots_total, lots });
from_array!(NodeLoad { node, lots, pending, committed, deferred, on_hold });
from_array!(Quarantined { id, since_ms, reason, bytes });

fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, ParsingError> {
    text.parse().map_err(|error: T::Err| error.to_string().into())
}

/// Implements the reading and writing of names as their text.
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

as_text!(CommitNumber Domain MessageId SpoolId LotNumber Epoch Start NodeId AgentId Generation);
