//! A request as the service has it.
//!
//! It is *open* until it is replied to, cancelled, or abandoned, and somebody must answer for it: a
//! service that fails half way, by a panic or an early return, drops it, and dropping the last
//! clone of an open request abandons it. Its caller learns that at once, instead of waiting until
//! its limit.
//!
//! What is open is in two places. The server's table has it by its id, for replies, cancellations
//! and the limit; the request has a handle, for its drop. They share its [`Life`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::server::Service;
use crate::Identity;
use crate::server::{ReplyError, RequestId};

/// A request to execute: once, by whoever received it. Clones are the same request; dropping the
/// last of them without a reply abandons it, and its caller's call ends with
/// [`CallError::Abandoned`](crate::CallError::Abandoned).
#[derive(Clone, Debug)]
pub struct Request {
    /// Got only by [`Self::detach`]: who had a copy beside could drop the request, and reply to
    /// what is abandoned.
    id: RequestId,
    /// The client that asks.
    pub client: Identity,
    /// The request's content.
    pub body: Bytes,
    /// The client's longest wait, since [`Self::received`].
    pub limit: Duration,
    /// The time when the request was complete.
    pub received: Instant,
    handle: Arc<Handle>,
}

/// A request that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) id: RequestId,
    pub(super) client: Identity,
    pub(super) body: Bytes,
    pub(super) limit: Duration,
    pub(super) received: Instant,
    pub(super) life: Arc<Life>,
}

/// State of a request that the server and the service share.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Ends when nobody waits for a reply any more.
    pub(super) token: CancellationToken,
    /// Nothing is to be done when it is dropped.
    settled: AtomicBool,
}

/// Abandons the request when it is dropped, unless it is settled.
#[derive(Debug)]
struct Handle {
    id: RequestId,
    life: Arc<Life>,
    hub: Arc<Hub<Service>>,
}

impl Life {
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.life.is_settled() {
            self.hub.drive(|service, _now| service.abandon(self.id));
        }
    }
}

impl Arrived {
    pub(super) fn taken(self, hub: &Arc<Hub<Service>>) -> Request {
        let Self { id, client, body, limit, received, life } = self;
        let handle = Arc::new(Handle { id, life, hub: hub.clone() });
        Request { id, client, body, limit, received, handle }
    }
}

impl Request {
    /// Replies to it.
    ///
    /// # Errors
    /// See [`ReplyError`]. A request whose reply was too long is abandoned: reply by
    /// [`Server::reply`](super::Server::reply) where that may happen and something shorter can be
    /// said.
    pub fn reply(self, body: impl Into<Bytes>) -> Result<(), ReplyError> {
        self.handle.hub.drive(|service, now| service.reply(now, self.id, body.into()))
    }

    /// Returns name and content, for a service that keeps no more. From now on dropping its clones
    /// means nothing: it is [replied to](super::Server::reply) or
    /// [abandoned](super::Server::abandon) by its name, or its caller waits until its limit.
    #[must_use]
    pub fn detach(self) -> (RequestId, Bytes) {
        self.handle.life.settle();
        (self.id, self.body)
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Returns the rest of the limit. After it nobody waits for the reply.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.received.elapsed())
    }

    /// Ends when the client has cancelled the request, or died, or begun a new life, or its limit
    /// has passed; or the server was shut down. A reply leads nowhere then.
    pub async fn cancelled(&self) {
        self.cancellation().cancelled().await;
    }

    /// Whether [`Self::cancelled`] has ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation().is_cancelled()
    }

    /// Returns the cancellation as a value, to hand on.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.handle.life.token
    }
}

/// The request's name, for logs.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl AsRef<Self> for Request {
    fn as_ref(&self) -> &Self {
        self
    }
}
