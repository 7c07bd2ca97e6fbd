//! Standing of this queue directory in Redis, and its consequences.

use std::time::Duration;

use handoff::protocol::Served;
use spool::{CommitNumber, NodeId};
use tokio::time::Instant;

use super::identity::Carried;

/// Time after a call for which Redis counts the node as served. A busy Redis answers far sooner.
pub(super) const LIVE: Duration = Duration::from_secs(10);

/// Standing of a queue directory: the last answer of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Redis has not answered yet.
    Unknown,
    /// The node is served here.
    Here {
        generation: u64,
        /// Number of the last request to attend that came before the call.
        ring: u64,
        /// Number of the last commit before the disk was put back.
        floor: CommitNumber,
        /// Time at which Redis was asked.
        asked: Instant,
    },
    /// The node is, or was last, served by `host`. This directory has copies of the node's mail.
    /// Until `is_certain`, `host` may be this host itself, where a former process died after its
    /// last call.
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

    /// Whether the node was served here and may be served elsewhere by now: Redis has not answered
    /// for [`LIVE`].
    pub(crate) fn is_lapsed(&self) -> bool {
        matches!(self, Self::Here { asked, .. } if asked.elapsed() >= LIVE)
    }

    /// Returns the reason for which this directory does not serve its node for some seconds.
    pub(crate) fn waits(&self, node: &NodeId) -> Option<String> {
        let Self::Refused { host, is_certain: false, .. } = self else { return None };
        Some(format!(
            "queue directory: not served yet: node {node} was served at another place less than \
             10 s ago, by {host}; it is served here once that place has been silent for 10 s"
        ))
    }

    /// Whether a Mail Agent that began with the standing `before` may go on.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Here { generation, .. }, Self::Here { generation: earlier, .. }) => {
                generation == earlier
            }
            _ => !before.is_here(),
        }
    }

    /// Returns the error of a refused directory: object, failure, cause, remedy.
    pub(crate) fn refusal(&self, node: &NodeId) -> Option<String> {
        let Self::Refused { host, is_live, is_certain: true, carried } = self else { return None };
        let other = if *is_live { "is served by" } else { "was last served by" };
        let remedy = match carried.ours + carried.unclear {
            0 => "this server takes another name by itself within seconds".to_owned(),
            files => format!(
                "this Postfix sends the {files} messages in its queue as well: stop Postfix here; \
                    or delete them with `postsuper -d -`, and it takes a name of its own; or have \
                    them sent twice with `optimus node new --even-with-mail`"
            ),
        };
        Some(format!("queue directory: not served: a copy, node {node} {other} {host}; {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(is_live: bool, is_certain: bool) -> Standing {
        let carried = Carried { ours: 20, unclear: 0 };
        Standing::Refused { host: "this".to_owned(), is_live, is_certain, carried }
    }

    /// After an unclean restart at another place, the host that Redis names may be this one.
    #[test]
    fn a_refused_directory_only_waits_until_its_refusal_is_certain() {
        let node: NodeId = "NODE".parse().unwrap();
        let (waits, copy) = (refused(true, false), refused(true, true));
        assert_eq!((waits.served(), copy.served()), (Served::Unknown, Served::Elsewhere));
        assert!(waits.refusal(&node).is_none() && copy.waits(&node).is_none());
        assert!(waits.waits(&node).unwrap().contains("not served yet"));
        assert!(copy.refusal(&node).unwrap().contains("sends the 20 messages"));
    }

    #[test]
    fn an_answer_lapses_when_it_lapses_in_redis() {
        let here = |asked| Standing::Here { generation: 1, ring: 0, floor: CommitNumber(0), asked };
        let now = Instant::now();
        assert!(!here(now).is_lapsed() && here(now.checked_sub(LIVE).unwrap()).is_lapsed());
        assert!(!Standing::Unknown.is_lapsed());
    }
}
