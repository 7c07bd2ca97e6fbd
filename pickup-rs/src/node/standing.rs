//! What Redis says of this queue directory, and what follows from it.

use spool::{CommitNumber, NodeId};
use tokio::time::Instant;

use super::attendance::LIVE;
use super::identity::Carried;
use crate::protocol::Served;

/// Redis's word on this queue directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing yet.
    Unknown,
    /// The node is served here.
    Here {
        generation: u64,
        /// The last ring before that was asked.
        ring: u64,
        /// The last commit before the disk was put back.
        floor: CommitNumber,
        /// When Redis was asked.
        asked: Instant,
    },
    /// The node is, or was last, served by this host. Copies of its mail are here. Until it is
    /// certain, this host may be this one, and its word that of a process that has died.
    Refused { host: String, is_live: bool, is_certain: bool, carried: Carried },
}

impl Standing {
    pub(crate) fn served(&self) -> Served {
        match self {
            Self::Unknown => Served::Unknown,
            Self::Here { .. } => Served::Here,
            Self::Refused { is_certain: false, .. } => Served::Unknown,
            Self::Refused { .. } => Served::Elsewhere,
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Self::Here { .. })
    }

    /// Whether the node was served here, and by now may be served elsewhere: nothing was heard of
    /// Redis for as long as its last word counts.
    pub(crate) fn is_lapsed(&self) -> bool {
        matches!(self, Self::Here { asked, .. } if asked.elapsed() >= LIVE)
    }

    /// Why nothing is served for a moment.
    pub(crate) fn waits(&self, node: &NodeId) -> Option<String> {
        let Self::Refused { host, is_certain: false, .. } = self else { return None };
        Some(format!(
            "queue directory: not served yet: node {node} was served at another place less than \
             10 s ago, by {host}; it is served here as soon as that one's last word is old enough, \
             unless that one lives"
        ))
    }

    /// Whether a Mail Agent that began with `before` may go on.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Here { generation, .. }, Self::Here { generation: earlier, .. }) => {
                generation == earlier
            }
            _ => !before.is_here(),
        }
    }

    /// Object, failure, cause, remedy.
    pub(crate) fn refusal(&self, node: &NodeId) -> Option<String> {
        let Self::Refused { host, is_live, is_certain: true, carried } = self else { return None };
        let other = if *is_live { "is served by" } else { "was last served by" };
        let remedy = match carried.ours + carried.unclear {
            0 => "this server takes another name by itself within seconds".to_owned(),
            files => format!(
                "this Postfix sends the {files} messages in its queue as well: stop Postfix here, \
                    or make this server a node of its own with `optimus node new`"
            ),
        };
        Some(format!("queue directory: not served: a copy, node {node} {other} {host}; {remedy}"))
    }
}
