//! Notices: hints that it is worth looking now.
//!
//! A feed of notices never ends and never fails. A task of its own listens. When its connection
//! breaks, the task makes another one, and then gives [`Publication::Resubscribed`], because
//! anything may have happened meanwhile. A queue of [`PLACES`] notices, the shelf, lies between
//! this task and the reader. A notice that waits already is not added again. When the shelf is
//! full, one `Resubscribed` replaces all notices. So a slow reader costs no memory and misses
//! nothing. A reader may drop the future of [`Publications::next`], as a branch of `select!` does:
//! the task goes on.
//!
//! The feed listens to the server to which the calls go, and changes the server with them. A
//! subscription can't ask for the server's role, and a master that became a replica sends no more
//! notices.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{ConnectionAddr, Msg};
use sansio::Backoff;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::SpoolError;
use super::connection::Connection;
use super::opening::{RECONNECT, client, connect_expected};
use crate::keys::NOTICES;
use crate::library::NOTICE_OF_INBOX;
use crate::{AgentId, Epoch, LotNumber, MessageId, NodeId};

/// Time without a notice after which the server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(10);
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// Number of notices on the shelf. A reader that is further behind looks at everything once.
const PLACES: usize = 64;

/// A lot of a few messages, just cut. All are uncommitted, and the lot is in its first tenure.
///
/// The text form is words separated by spaces: the number, and each id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallLot {
    /// Number of the lot.
    pub lot: LotNumber,
    /// Messages of the lot.
    pub ids: Vec<MessageId>,
}

impl SmallLot {
    /// Tenure of a lot that was just cut.
    pub const EPOCH: Epoch = Epoch(1);
    /// Most messages of a lot whose notice names them.
    pub const MESSAGES_MAX: usize = 8;

    /// Reads words as they were published. Returns `None` for any others.
    pub fn from_words(words: &[&str]) -> Option<Self> {
        let (lot, ids) = words.split_first()?;
        if ids.is_empty() || ids.len() > Self::MESSAGES_MAX {
            return None;
        }
        let ids: Vec<MessageId> = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>().ok()?;
        Some(Self { lot: lot.parse().ok()?, ids })
    }
}

impl fmt::Display for SmallLot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lot)?;
        self.ids.iter().try_for_each(|id| write!(f, " {id}"))
    }
}

/// A notice: a hint that a look at the spool is worthwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// The feed listens again, or has dropped notices of a full shelf: the reader must look at
    /// everything.
    Resubscribed,
    /// Mail has come to the inbox.
    Inbox,
    /// A lot was cut from the inbox.
    Cut(LotNumber),
    /// A lot waits for a node.
    Ready(LotNumber),
    /// A lot was assigned to this node. A small lot that was just cut is named.
    Assigned(NodeId, Option<SmallLot>),
    /// An operator ordered something for mail at this node.
    Ordered(NodeId),
    /// An agent was sent this text, by [`Spool::tell`](super::Spool::tell).
    Told(AgentId, String),
}

/// Feed of notices. Dropping the feed ends its task.
#[derive(Debug)]
pub struct Publications {
    shelf: Arc<watch::Sender<Shelf>>,
    changes: watch::Receiver<Shelf>,
    listener: AbortHandle,
}

impl Publications {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let (shelf, changes) = watch::channel(Shelf::default());
        let shelf = Arc::new(shelf);
        let listener = tokio::spawn(listen(connection, shelf.clone())).abort_handle();
        Self { shelf, changes, listener }
    }

    /// Returns the next notice. Cancel safe: dropping the future loses nothing and restarts
    /// nothing.
    pub async fn next(&mut self) -> Publication {
        loop {
            let mut next = None;
            self.shelf.send_if_modified(|shelf| {
                next = shelf.take();
                false
            });
            if let Some(notice) = next {
                return notice;
            }
            // The sender is a field of `self`, so it can't be gone.
            let _ = self.changes.changed().await;
        }
    }
}

impl Drop for Publications {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Notices that wait for the reader.
#[derive(Debug, Default)]
struct Shelf {
    /// Whether the reader must look at everything, before the other notices.
    everything: bool,
    waiting: VecDeque<Publication>,
}

impl Shelf {
    fn put(&mut self, notice: Publication) {
        if notice == Publication::Resubscribed || self.waiting.len() == PLACES {
            self.waiting.clear();
            self.everything = true;
        } else if !self.everything && !self.waiting.contains(&notice) {
            self.waiting.push_back(notice);
        }
    }

    fn take(&mut self) -> Option<Publication> {
        if std::mem::take(&mut self.everything) {
            return Some(Publication::Resubscribed);
        }
        self.waiting.pop_front()
    }
}

/// Listens for as long as the task runs; never returns.
async fn listen(connection: Arc<Connection>, shelf: Arc<watch::Sender<Shelf>>) {
    let put = |notice| shelf.send_modify(|shelf| shelf.put(notice));
    let mut backoff = Backoff::new(RECONNECT);
    loop {
        match connect(&connection).await {
            Ok((number, sink, stream)) => {
                backoff.succeeded();
                put(Publication::Resubscribed);
                tokio::select! {
                    () = relay(sink, stream, put) => connection.broke(number).await,
                    () = connection.ended(number) => (),
                }
            }
            Err(error) => {
                debug!(%error, "subscription to notices failed");
                sleep(backoff.lengthen()).await;
            }
        }
    }
}

/// Passes notices on until the connection breaks.
async fn relay(mut sink: PubSubSink, mut stream: PubSubStream, put: impl Fn(Publication)) {
    loop {
        match timeout_at(Instant::now() + QUIET, stream.next()).await {
            Ok(Some(message)) => parse(&message).into_iter().for_each(&put),
            Ok(None) => return,
            Err(_) => match timeout(STEP_LIMIT, sink.ping::<redis::Value>()).await {
                Ok(Ok(_)) => (),
                Ok(Err(_)) | Err(_) => return,
            },
        }
    }
}

/// Connects to the server to which calls go now. Returns the number of the calls' connection, too.
async fn connect(
    connection: &Arc<Connection>,
) -> Result<(u64, PubSubSink, PubSubStream), SpoolError> {
    let live = connection.live().await?;
    let client = client(connection.server(), &live.target)?;
    let subscribe = async {
        let pubsub = match &live.target {
            ConnectionAddr::Unix(path) if connection.server().expects_owner => {
                let login = client.get_connection_info().redis_settings();
                PubSub::new(login, connect_expected(path).await?).await?
            }
            _ => client.get_async_pubsub().await?,
        };
        let (mut sink, stream) = pubsub.split();
        sink.subscribe(NOTICES).await?;
        Ok((live.number, sink, stream))
    };
    let silent = |_| Err(SpoolError::Unavailable("no answer in time".to_owned()));
    let subscribed = timeout(STEP_LIMIT, subscribe).await.unwrap_or_else(silent);
    if subscribed.is_err() {
        connection.broke(live.number).await;
    }
    subscribed
}

fn parse(message: &Msg) -> Option<Publication> {
    let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
    if text == NOTICE_OF_INBOX {
        return Some(Publication::Inbox);
    }
    let (what, rest) = text.split_once(' ')?;
    match what {
        "cut" => rest.parse().ok().map(Publication::Cut),
        "ready" => rest.parse().ok().map(Publication::Ready),
        "assigned" => {
            let words: Vec<&str> = rest.split(' ').collect();
            let (node, lot) = words.split_first()?;
            Some(Publication::Assigned(node.parse().ok()?, SmallLot::from_words(lot)))
        }
        "ordered" => rest.parse().ok().map(Publication::Ordered),
        "told" => {
            let (to, text) = rest.split_once(' ')?;
            Some(Publication::Told(to.parse().ok()?, text.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(shelf: &mut Shelf) -> Vec<Publication> {
        std::iter::from_fn(|| shelf.take()).collect()
    }

    #[test]
    fn a_notice_names_as_many_messages_as_redis_publishes_and_no_more() {
        let text = format!("local SMALL_LOT = {} ", SmallLot::MESSAGES_MAX);
        assert!(crate::library().contains(&text), "optimus.lua has another SMALL_LOT");
        let read = |count: u128| {
            let ids = (0..count).map(|n| MessageId::from_parts(1, n)).collect();
            let small = SmallLot { lot: LotNumber(7), ids };
            let text = small.to_string();
            SmallLot::from_words(&text.split(' ').collect::<Vec<_>>()) == Some(small)
        };
        assert_eq!([0, 1, 8, 9].map(read), [false, true, true, false]);
    }

    #[test]
    fn a_notice_that_waits_already_is_given_once() {
        let (mut shelf, one, two) =
            (Shelf::default(), Publication::Ready(LotNumber(1)), Publication::Ready(LotNumber(2)));
        [&one, &two, &one].into_iter().for_each(|notice| shelf.put(notice.clone()));
        assert_eq!(taken(&mut shelf), [one.clone(), two]);
        shelf.put(one.clone());
        assert_eq!(taken(&mut shelf), [one]);
    }

    #[test]
    fn a_full_shelf_becomes_a_look_at_everything() {
        let mut shelf = Shelf::default();
        let news = |n: usize| Publication::Ready(LotNumber(n as u64));
        (0..3 * PLACES).for_each(|n| shelf.put(news(n)));
        assert_eq!(taken(&mut shelf), [Publication::Resubscribed]);
        // The reader's look sees an earlier change; a later change has a notice of its own.
        shelf.put(news(1));
        assert_eq!(taken(&mut shelf), [news(1)]);
    }
}
