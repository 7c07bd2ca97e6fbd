//! What agents tell each other: "look now", and nothing else.
//!
//! News is never the truth. Whoever hears it looks in Redis; whoever misses it looks at the next
//! renewal of its lease anyway. So it may be lost, doubled and late, and no decision may rest on
//! it. The transport is behind [`Messenger`]; today that is Redis publish/subscribe, and
//! request/reply between agents will take its place.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use spool::{AgentId, AgentKind, LotNumber, NewsFeed, NodeId, Spool};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// One piece of news. As text, words separated by spaces: `fetch 01KA…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Mail has come. Said by submitters, to Info Agents.
    Inbox,
    /// A lot has been cut from the inbox. Said by `cut`, to Info Agents.
    Cut(LotNumber),
    /// A lot is ready to be assigned. Said by `cut` and by Schedulers, to Info Agents.
    Ready(LotNumber),
    /// A lot has been assigned to this node. Said by `cut` and `assign` for the Info Agent that
    /// called it, to Schedulers.
    Assigned(NodeId),
    /// Operators have ordered something for mail that this node has. Said by `operate`, to the Mail
    /// Agent.
    Ordered(NodeId),
    /// There are lots of yours to fetch. Said by a Scheduler, to the Mail Agent.
    Fetch(NodeId),
    /// This node can take more. Said by its Mail Agent, to Info Agents.
    Credit(NodeId),
    /// An agent has begun to serve.
    Born(AgentKind, AgentId),
    /// An agent has left of its own accord.
    Left(AgentKind, AgentId),
}

/// A line that isn't news. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not news: {0:?}")]
pub struct NewsError(String);

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox => f.write_str("inbox"),
            Self::Cut(lot) => write!(f, "cut {lot}"),
            Self::Ready(lot) => write!(f, "ready {lot}"),
            Self::Assigned(node) => write!(f, "assigned {node}"),
            Self::Ordered(node) => write!(f, "ordered {node}"),
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
        ["inbox"] => News::Inbox,
        ["cut", lot] => News::Cut(lot.parse().ok()?),
        ["ready", lot] => News::Ready(lot.parse().ok()?),
        ["assigned", node] => News::Assigned(node.parse().ok()?),
        ["ordered", node] => News::Ordered(node.parse().ok()?),
        ["fetch", node] => News::Fetch(node.parse().ok()?),
        ["credit", node] => News::Credit(node.parse().ok()?),
        ["born", kind, name] => News::Born(kind_of(kind)?, name.parse().ok()?),
        ["left", kind, name] => News::Left(kind_of(kind)?, name.parse().ok()?),
        _ => return None,
    })
}

fn kind_of(word: &str) -> Option<AgentKind> {
    [AgentKind::Info, AgentKind::Scheduler, AgentKind::Mail]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

/// What a messenger brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// News.
    News(News),
    /// News can be heard from now on; what was said before is lost. Also when more was said than
    /// could be kept.
    Listening,
}

/// Carries news between agents. The seam where request/reply will go.
pub trait Messenger {
    /// The next news. May be abandoned and called again: nothing is lost by it, and nothing begins
    /// anew.
    fn next(&mut self) -> impl Future<Output = Heard>;
    /// Tells whoever it concerns, if they can be reached; doesn't wait.
    fn tell(&mut self, news: &News);
    /// Waits a moment for what is still being told. For the end: nobody tells it afterwards.
    fn finish(&mut self) -> impl Future<Output = ()>;
}

/// By Redis's publish/subscribe. What submitters, `cut` and `assign` publish comes the same way.
pub struct RedisNews {
    feed: NewsFeed,
    spool: Spool,
    everyone: AgentId,
    telling: JoinSet<()>,
}

/// How long an agent that ends waits until its last news are told.
const LAST_NEWS: Duration = Duration::from_secs(1);

impl RedisNews {
    /// Through this Redis. To be used in a `LocalSet`.
    pub fn new(spool: Spool) -> Self {
        let everyone =
            "everyone".parse().unwrap_or_else(|_| unreachable!("a plain word is a name"));
        Self { feed: spool.news(), spool, everyone, telling: JoinSet::new() }
    }
}

impl Messenger for RedisNews {
    async fn next(&mut self) -> Heard {
        loop {
            match self.feed.next().await {
                spool::News::Resubscribed => return Heard::Listening,
                spool::News::Inbox => return Heard::News(News::Inbox),
                spool::News::Cut(lot) => return Heard::News(News::Cut(lot)),
                spool::News::Ready(lot) => return Heard::News(News::Ready(lot)),
                spool::News::Assigned(node) => return Heard::News(News::Assigned(node)),
                spool::News::Ordered(node) => return Heard::News(News::Ordered(node)),
                spool::News::Told(_, text) => match text.parse() {
                    Ok(news) => return Heard::News(news),
                    Err(error) => tracing::debug!(%error, "heard"),
                },
            }
        }
    }

    fn tell(&mut self, news: &News) {
        while self.telling.try_join_next().is_some() {}
        let (spool, text) = (self.spool.clone(), news.to_string());
        let to = match news {
            News::Fetch(node) => node.clone().into(),
            News::Inbox
            | News::Cut(_)
            | News::Ready(_)
            | News::Assigned(_)
            | News::Ordered(_)
            | News::Credit(_)
            | News::Born(..)
            | News::Left(..) => self.everyone.clone(),
        };
        self.telling.spawn_local(async move {
            if let Err(error) = spool.tell(&to, &text).await {
                tracing::debug!(%error, text, "not told");
            }
        });
    }

    async fn finish(&mut self) {
        let all = async { while self.telling.join_next().await.is_some() {} };
        let _ = timeout(LAST_NEWS, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_back_as_they_were_told() {
        let node: NodeId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let agent: AgentId = "info-mx.example.org".parse().unwrap();
        for news in [
            News::Inbox,
            News::Cut(LotNumber(7)),
            News::Ready(LotNumber(8)),
            News::Assigned(node.clone()),
            News::Ordered(node.clone()),
            News::Fetch(node.clone()),
            News::Credit(node),
            News::Born(AgentKind::Info, agent.clone()),
            News::Left(AgentKind::Mail, agent),
        ] {
            assert_eq!(news.to_string().parse(), Ok(news));
        }
    }

    #[test]
    fn other_words_are_not_news() {
        for text in
            ["", "inbox 1", "cut", "cut x", "fetch a b", "born king x", "left mail", "fetch  "]
        {
            assert!(text.parse::<News>().is_err(), "{text:?}");
        }
    }
}
