//! A request in the hands of the service.
//!
//! A request is *open* until it is replied to, cancelled, or abandoned. A service that fails half
//! way, by a panic or an early return, drops its request. Dropping the last clone of an open
//! request abandons it. So the caller learns of the failure at once, and needn't wait until its
//! limit.
//!
//! An open request has two parts. The server's table has it by its id, for replies, cancellations
//! and the limit; the request has a handle, for its drop. Table and handle share the request's
//! [`OpenRequest`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;
use super::open::OpenRequest;
use super::service::{Arrived, Service};
use crate::Identity;
use crate::server::{ReplyError, RequestId};

/// Request that its receiver must execute once. Clones share one request. Dropping the last clone
/// without a reply abandons the request, and the caller's call ends with
/// [`CallError::Abandoned`](crate::CallError::Abandoned).
#[derive(Clone, Debug)]
pub struct Request {
    /// Id that only [`Self::detach`] gives out: with a copy of the id a service could drop the
    /// request and still reply to it.
    id: RequestId,
    /// Client that made the request.
    pub client: Identity,
    /// Content of the request.
    pub body: Bytes,
    /// Longest wait of the client, since [`Self::received`].
    pub limit: Duration,
    /// Time when the request was complete.
    pub received: Instant,
    handle: Arc<Handle>,
}

/// Handle that abandons the request when it is dropped, unless it is settled.
#[derive(Debug)]
struct Handle {
    id: RequestId,
    open: Arc<OpenRequest>,
    endpoint: Arc<Endpoint<Service>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.open.is_settled() {
            self.endpoint.drive(|service, _now| service.abandon(self.id));
        }
    }
}

impl Arrived {
    pub(super) fn taken(self, endpoint: &Arc<Endpoint<Service>>) -> Request {
        let Self { id, client, body, limit, received, open } = self;
        let handle = Arc::new(Handle { id, open, endpoint: endpoint.clone() });
        Request { id, client, body, limit, received, handle }
    }
}

impl Request {
    /// Replies to the request.
    ///
    /// # Errors
    /// See [`ReplyError`]. A request whose reply is too long is abandoned. Where that may happen,
    /// use [`Server::reply`](super::Server::reply), after which a shorter reply is possible.
    pub fn reply(self, body: impl Into<Bytes>) -> Result<(), ReplyError> {
        self.handle.endpoint.drive(|service, now| service.reply(now, self.id, body.into()))
    }

    /// Returns id and content, for a service that keeps only these. From now on dropping the clones
    /// no longer abandons the request. The service must [reply](super::Server::reply) or
    /// [abandon](super::Server::abandon) by the id, or the caller waits until its limit.
    #[must_use]
    pub fn detach(self) -> (RequestId, Bytes) {
        self.handle.open.settle();
        (self.id, self.body)
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Returns the rest of the limit, after which the caller no longer awaits the reply.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.received.elapsed())
    }

    /// Waits until no caller awaits the reply any more: the client has cancelled, died or begun a
    /// new generation, the limit has passed, or the server was shut down.
    pub async fn cancelled(&self) {
        self.cancellation().cancelled().await;
    }

    /// Returns whether the request is cancelled: see [`Self::cancelled`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation().is_cancelled()
    }

    /// Returns the cancellation as a value that can be passed on.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.handle.open.token
    }
}

/// Writes the request's name, for logs.
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
