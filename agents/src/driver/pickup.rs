//! The Mail Agent's link as a real connection, to a pickup-rs that serves the same spool.
//!
//! The Mail Agent pings pickup-rs on connecting and again and again after that. Each pong says
//! which spool pickup-rs reads from. A pickup-rs that reads from another spool, or finds the wrong
//! Redis, is as good as none: it would find no message, and its files were committed elsewhere. So
//! is a pickup-rs whose queue directory is a copy of one that is served elsewhere. The link is down
//! for that time, and the reason is logged.

use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use handoff::client::{self, ClientError, Replies, Requests};
use handoff::protocol::{Reply, Request, Served};
use sansio::Throttle;
use spool::{Spool, SpoolId};
use tokio::sync::mpsc;

use super::Wire;
use crate::mail::{LinkEvent, LinkOrder};

/// Time for which a lasting reason is not logged again.
const QUIET: Duration = Duration::from_secs(60);

/// The link to a pickup-rs; see the module.
pub struct PickupWire {
    socket: PathBuf,
    spool: Spool,
    state: ConnectionState,
    events: VecDeque<LinkEvent>,
    /// Throttle of the reasons why nothing is fed.
    logged: Throttle<String>,
}

enum ConnectionState {
    Down,
    /// Holds the attempt, so that a caller who stops waiting doesn't begin it anew.
    Connecting(LocalBoxFuture<'static, Result<(Requests, Replies), ClientError>>),
    Up {
        replies: Replies,
        requests: mpsc::UnboundedSender<Request>,
    },
}

impl PickupWire {
    /// Makes a link to the pickup-rs behind this socket. Doesn't connect yet.
    pub fn new(socket: PathBuf, spool: Spool) -> Self {
        let (state, events, logged) =
            (ConnectionState::Down, VecDeque::new(), Throttle::new(QUIET));
        Self { socket, spool, state, events, logged }
    }

    fn connected(&mut self, outcome: Result<(Requests, Replies), ClientError>) -> LinkEvent {
        match outcome {
            Ok((requests, replies)) => {
                // A task of its own writes, so that both sides writing at once can't block each
                // other. The machine bounds the queue by its limits for requests under way.
                let (sender, receiver) = mpsc::unbounded_channel();
                tokio::task::spawn_local(write(requests, receiver));
                self.state = ConnectionState::Up { replies, requests: sender };
                LinkEvent::Connected
            }
            Err(error) => self.broken(&error),
        }
    }

    fn heard(&mut self, reply: Reply) -> LinkEvent {
        let Reply::Pong { spool, trouble, served, .. } = &reply else {
            return LinkEvent::Reply(reply);
        };
        let wrong = mismatch(self.spool.served(), *spool, trouble.as_deref());
        match (wrong, served) {
            (None, Served::Here) => return LinkEvent::Reply(reply),
            (Some(why), _) => self.tell(&why),
            // No reason to log: pickup-rs has just started, or Redis is away.
            (None, _) => (),
        }
        self.state = ConnectionState::Down;
        if *served == Served::Elsewhere { LinkEvent::Refused } else { LinkEvent::Unserving }
    }

    fn tell(&mut self, why: &str) {
        if self.logged.admits(Instant::now(), why) {
            tracing::error!(reason = why, "feeding stopped");
        }
    }

    fn broken(&mut self, error: &ClientError) -> LinkEvent {
        tracing::debug!(%error, "connection to pickup-rs failed");
        self.state = ConnectionState::Down;
        LinkEvent::Disconnected
    }
}

impl Wire for PickupWire {
    type Event = LinkEvent;
    type Order = LinkOrder;

    async fn next(&mut self) -> LinkEvent {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match &mut self.state {
            ConnectionState::Down => pending().await,
            ConnectionState::Connecting(attempt) => {
                let outcome = attempt.await;
                self.connected(outcome)
            }
            ConnectionState::Up { replies, .. } => match replies.next().await {
                Ok(Some(reply)) => self.heard(reply),
                Ok(None) => {
                    self.state = ConnectionState::Down;
                    LinkEvent::Disconnected
                }
                Err(error) => self.broken(&error),
            },
        }
    }

    fn order(&mut self, order: LinkOrder) {
        match order {
            LinkOrder::Connect => {
                let socket = self.socket.clone();
                let attempt = async move { client::connect(&socket).await };
                self.state = ConnectionState::Connecting(attempt.boxed_local());
            }
            LinkOrder::Send(request) => {
                let ConnectionState::Up { requests, .. } = &self.state else {
                    return tracing::trace!(?request, "request dropped: pickup-rs disconnected");
                };
                if requests.send(request).is_err() {
                    self.state = ConnectionState::Down;
                    self.events.push_back(LinkEvent::Disconnected);
                }
            }
        }
    }
}

/// Returns the reason why a pickup-rs is of no use to a Mail Agent: object, cause, remedy.
pub fn mismatch(
    ours: Option<SpoolId>,
    theirs: Option<SpoolId>,
    trouble: Option<&str>,
) -> Option<String> {
    if let Some(trouble) = trouble {
        return Some(format!("pickup-rs: {trouble}"));
    }
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Some(format!(
            "pickup-rs: reads from spool {theirs}, and the Mail Agent from {ours}; after a change \
                of redis.url run `postfix reload` and start the agents again"
        )),
        _ => None,
    }
}

/// Sends requests until the link drops its sender or the connection breaks. The reading half also
/// notices a broken connection.
async fn write(mut requests: Requests, mut queue: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = queue.recv().await {
        if let Err(error) = requests.send(&request).await {
            tracing::debug!(%error, "request to pickup-rs not sent");
            return;
        }
    }
}
