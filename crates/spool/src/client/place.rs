//! Places of messages in the spool; `optimus.lua` has the picture.

use postfix_wire::QueueId;

use crate::{LotNumber, NodeId};

/// The one place of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Submitted, and not in a lot yet.
    Inbox,
    /// In a lot that waits for a node.
    Ready(LotNumber),
    /// In a lot that a node has, not committed.
    Assigned(NodeId, LotNumber),
    /// In this queue file of this node.
    Committed(NodeId, QueueId),
    /// On hold.
    Held,
    /// Kept aside, for this reason.
    Corrupt(String),
}
