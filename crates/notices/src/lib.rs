//! Notices between agents: "look now".
//!
//! A notice is never the truth. An agent that hears one looks in Redis. An agent that misses one
//! looks at the next renewal of its lease anyway. So a notice may be lost, doubled, late or false,
//! and no decision may rest on it. The notice of a small lot names its messages (decision 0036):
//! the Mail Agent feeds them at once, and Redis decides when it commits them. The transport is
//! behind [`NoticeBus`]; today it is Redis publish/subscribe.

mod over_redis;

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use spool::{AgentId, AgentKind, LotNumber, NodeId, SmallLot};

pub use over_redis::RedisNotices;

/// A notice; its text form is words separated by spaces: `fetch 01KA…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// New mail in the inbox: from submitters to Info Agents.
    Inbox,
    /// A lot cut from the inbox: from `cut` to Info Agents.
    Cut(LotNumber),
    /// A lot that is ready to be assigned: from `cut` and Schedulers to Info Agents.
    Ready(LotNumber),
    /// A lot assigned to this node, named if it is small and just cut: from `cut` and `assign`,
    /// which an Info Agent called, to Schedulers and the Mail Agent.
    Assigned(NodeId, Option<SmallLot>),
    /// Operators' orders for mail that this node has: from `operate` to the Mail Agent.
    Ordered(NodeId),
    /// Lots that this node should fetch: from a Scheduler to the Mail Agent.
    Fetch(NodeId),
    /// Room for more mail at this node: from the Mail Agent to Info Agents.
    Credit(NodeId),
    /// An agent that has begun to serve.
    Born(AgentKind, AgentId),
    /// An agent that has left of its own accord.
    Left(AgentKind, AgentId),
}

/// A line that is no notice. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("notice: not understood: {0:?}")]
pub struct NoticeError(String);

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox => f.write_str("inbox"),
            Self::Cut(lot) => write!(f, "cut {lot}"),
            Self::Ready(lot) => write!(f, "ready {lot}"),
            Self::Assigned(node, None) => write!(f, "assigned {node}"),
            Self::Assigned(node, Some(lot)) => write!(f, "assigned {node} {lot}"),
            Self::Ordered(node) => write!(f, "ordered {node}"),
            Self::Fetch(node) => write!(f, "fetch {node}"),
            Self::Credit(node) => write!(f, "credit {node}"),
            Self::Born(kind, name) => write!(f, "born {kind} {name}"),
            Self::Left(kind, name) => write!(f, "left {kind} {name}"),
        }
    }
}

impl FromStr for Notice {
    type Err = NoticeError;

    fn from_str(text: &str) -> Result<Self, NoticeError> {
        let words: Vec<&str> = text.split(' ').collect();
        parse(&words).ok_or_else(|| NoticeError(text.chars().take(80).collect()))
    }
}

fn parse(words: &[&str]) -> Option<Notice> {
    Some(match *words {
        ["inbox"] => Notice::Inbox,
        ["cut", lot] => Notice::Cut(lot.parse().ok()?),
        ["ready", lot] => Notice::Ready(lot.parse().ok()?),
        ["assigned", node] => Notice::Assigned(node.parse().ok()?, None),
        ["assigned", node, ref lot @ ..] => {
            Notice::Assigned(node.parse().ok()?, Some(SmallLot::from_words(lot)?))
        }
        ["ordered", node] => Notice::Ordered(node.parse().ok()?),
        ["fetch", node] => Notice::Fetch(node.parse().ok()?),
        ["credit", node] => Notice::Credit(node.parse().ok()?),
        ["born", kind, name] => Notice::Born(kind_of(kind)?, name.parse().ok()?),
        ["left", kind, name] => Notice::Left(kind_of(kind)?, name.parse().ok()?),
        _ => return None,
    })
}

fn kind_of(word: &str) -> Option<AgentKind> {
    [AgentKind::Info, AgentKind::Scheduler, AgentKind::Mail]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

/// Input from a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A notice.
    Notice(Notice),
    /// The start of hearing notices; earlier ones are lost. Comes again when the carrier has lost
    /// notices.
    Listening,
}

/// A carrier of notices between agents.
pub trait NoticeBus {
    /// Returns the next notice. The call may be abandoned and made again: nothing is lost by it,
    /// and nothing begins anew.
    fn next(&mut self) -> impl Future<Output = Heard>;
    /// Begins to send a notice to the agents concerned, and doesn't wait. The notice may get lost.
    fn tell(&mut self, notice: &Notice);
    /// Waits a moment until pending notices are sent. Must be called last: pending notices are lost
    /// afterwards.
    fn finish(&mut self) -> impl Future<Output = ()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool::MessageId;

    #[test]
    fn notices_are_read_as_they_were_written() {
        let node: NodeId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let agent: AgentId = "info-mx.example.org".parse().unwrap();
        for notice in [
            Notice::Inbox,
            Notice::Cut(LotNumber(7)),
            Notice::Ready(LotNumber(8)),
            Notice::Assigned(node.clone(), None),
            Notice::Assigned(
                node.clone(),
                Some(SmallLot { lot: LotNumber(9), ids: vec![MessageId::from_parts(1, 2)] }),
            ),
            Notice::Ordered(node.clone()),
            Notice::Fetch(node.clone()),
            Notice::Credit(node),
            Notice::Born(AgentKind::Info, agent.clone()),
            Notice::Left(AgentKind::Mail, agent),
        ] {
            let json = serde_json::to_string(&notice).unwrap();
            assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
            assert_eq!(notice.to_string().parse(), Ok(notice));
        }
    }

    #[test]
    fn other_words_are_no_notices() {
        for text in [
            "",
            "inbox 1",
            "cut",
            "cut x",
            "fetch a b",
            "assigned a 7",
            "assigned a 7 x",
            "born king x",
            "left mail",
            "fetch  ",
        ] {
            assert!(text.parse::<Notice>().is_err(), "{text:?}");
        }
    }
}
