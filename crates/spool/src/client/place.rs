//! Places of messages in the spool, drawn at the head of `optimus.lua`.

use postfix_wire::QueueId;

use crate::{LotNumber, NodeId};

/// The one place of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessagePlace {
    /// The inbox: submitted, and not in a lot yet.
    Inbox,
    /// A lot that waits for a node.
    Ready(LotNumber),
    /// A lot that is assigned to this node; not committed.
    Assigned(NodeId, LotNumber),
    /// The queue file with this queue id, at this node.
    Committed(NodeId, QueueId),
    /// The messages on hold.
    Held,
    /// The quarantine, for this reason.
    Quarantine(String),
}
