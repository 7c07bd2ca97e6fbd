//! News: hints that it is worth looking now.
//!
//! A feed never ends and never fails. When its connection breaks it makes another one, and then says
//! [`News::Resubscribed`], because anything may have happened meanwhile.

use std::time::Duration;

use futures_util::StreamExt;
use redis::Msg;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::SpoolError;
use super::connection::client;
use crate::library::SHARD;
use crate::{AgentId, LotNumber, NodeId, Server};

/// A connection over which nothing came for this long is asked whether it still lives.
const QUIET: Duration = Duration::from_secs(10);
const STEP_LIMIT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Something worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Listening again: look at everything.
    Resubscribed,
    /// A lot was opened: a first message is in it.
    Opened(LotNumber),
    /// A lot waits for a node.
    Ready(LotNumber),
    /// A node got a lot.
    Assigned(NodeId),
    /// Somebody told an agent something, by [`Spool::tell`](super::Spool::tell).
    Told(AgentId, String),
}

/// News as they come.
pub struct NewsFeed {
    server: Server,
    live: Option<(PubSubSink, PubSubStream)>,
    pause: Duration,
    quiet_until: Instant,
}

pub(super) fn channel() -> String {
    format!("{SHARD}news")
}

impl NewsFeed {
    pub(super) fn new(server: Server) -> Self {
        Self { server, live: None, pause: Duration::ZERO, quiet_until: Instant::now() }
    }

    /// The next news. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> News {
        loop {
            if self.live.is_none() && self.subscribe().await {
                return News::Resubscribed;
            }
            if let Some(news) = self.heard().await {
                return news;
            }
        }
    }

    /// One attempt, after the pause that the last one's failure asks for.
    async fn subscribe(&mut self) -> bool {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        match timeout(STEP_LIMIT, connect(&self.server)).await {
            Ok(Ok(live)) => {
                self.live = Some(live);
                self.pause = Duration::ZERO;
                self.quiet_until = Instant::now() + QUIET;
                true
            }
            Ok(Err(error)) => {
                debug!(%error, "no news");
                false
            }
            Err(_) => false,
        }
    }

    async fn heard(&mut self) -> Option<News> {
        let (sink, stream) = self.live.as_mut()?;
        match timeout_at(self.quiet_until, stream.next()).await {
            Ok(Some(message)) => {
                self.quiet_until = Instant::now() + QUIET;
                parse(&message)
            }
            Ok(None) => {
                self.live = None;
                None
            }
            Err(_) => {
                let alive =
                    timeout(STEP_LIMIT, sink.ping::<redis::Value>()).await.is_ok_and(|pong| pong.is_ok());
                self.quiet_until = Instant::now() + QUIET;
                if !alive {
                    self.live = None;
                }
                None
            }
        }
    }
}

async fn connect(server: &Server) -> Result<(PubSubSink, PubSubStream), SpoolError> {
    let (mut sink, stream) = client(server)?.get_async_pubsub().await?.split();
    sink.subscribe(channel()).await?;
    Ok((sink, stream))
}

fn parse(message: &Msg) -> Option<News> {
    let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
    let (what, rest) = text.split_once(' ')?;
    match what {
        "open" => rest.parse().ok().map(News::Opened),
        "ready" => rest.parse().ok().map(News::Ready),
        "assigned" => rest.parse().ok().map(News::Assigned),
        "told" => {
            let (to, text) = rest.split_once(' ')?;
            Some(News::Told(to.parse().ok()?, text.to_owned()))
        }
        _ => None,
    }
}
