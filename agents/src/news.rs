//! What agents tell each other: "look now", and nothing else.
//!
//! News is never the truth. Whoever hears it looks in Redis; whoever misses it looks at the next renewal of its lease
//! anyway. So it may be lost, doubled and late, and no decision may rest on it. The transport is behind [`Messenger`];
//! today that is Redis publish/subscribe, and request/reply between agents will take its place.

use std::fmt;
use std::str::FromStr;

use spool::{AgentId, LotNumber, NodeId};

use crate::lease::Kind;

/// One piece of news. As text, words separated by spaces: `fetch 01KA…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A lot has been opened: mail has come. Said by `submit`, to Info Agents.
    Open(LotNumber),
    /// A lot is ready to be assigned. Said by `submit` and by Schedulers, to Info Agents.
    Ready(LotNumber),
    /// A lot has been assigned to this node. Said by `assign` for the Info Agent that called it, to Schedulers.
    Assigned(NodeId),
    /// There are lots of yours to fetch. Said by a Scheduler, to the Mail Agent.
    Fetch(NodeId),
    /// This node can take more. Said by its Mail Agent, to Info Agents.
    Credit(NodeId),
    /// An agent has begun to serve.
    Born(Kind, AgentId),
    /// An agent has left of its own accord.
    Left(Kind, AgentId),
}

/// A line that isn't news. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not news: {0:?}")]
pub struct NewsError(String);

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(lot) => write!(f, "open {lot}"),
            Self::Ready(lot) => write!(f, "ready {lot}"),
            Self::Assigned(node) => write!(f, "assigned {node}"),
            Self::Fetch(node) => write!(f, "fetch {node}"),
            Self::Credit(node) => write!(f, "credit {node}"),
            Self::Born(kind, name) => write!(f, "born {kind} {name}"),
            Self::Left(kind, name) => write!(f, "left {kind} {name}"),
        }
    }
}

impl FromStr for News {
    type Err = NewsError;

    fn from_str(text: &str) -> Result<Self, NewsError> {
        let words: Vec<&str> = text.split(' ').collect();
        parse(&words).ok_or_else(|| NewsError(text.chars().take(80).collect()))
    }
}

fn parse(words: &[&str]) -> Option<News> {
    Some(match *words {
        ["open", lot] => News::Open(lot.parse().ok()?),
        ["ready", lot] => News::Ready(lot.parse().ok()?),
        ["assigned", node] => News::Assigned(node.parse().ok()?),
        ["fetch", node] => News::Fetch(node.parse().ok()?),
        ["credit", node] => News::Credit(node.parse().ok()?),
        ["born", kind, name] => News::Born(kind.parse().ok()?, name.parse().ok()?),
        ["left", kind, name] => News::Left(kind.parse().ok()?, name.parse().ok()?),
        _ => return None,
    })
}
