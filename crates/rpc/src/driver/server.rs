//! The server's core on sockets and tokio's timers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::info;

use super::counters::Datagrams;
use super::endpoint::Endpoint;
use super::error::BindError;
use super::request::Request;
use super::service::{Service, Stage};
use super::sockets::Local;
use crate::server::{self, Config, ReplyError, RequestId};
use crate::{Address, Epoch, Key, Port};

/// Server that receives requests and replies to them. Clones share one server. When the last clone
/// is dropped, the server's sockets close.
#[derive(Clone, Debug)]
pub struct Server(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Endpoint<Service>>);

impl Server {
    /// Returns a configuration for [`Self::bind`], with the default limits.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn config(port: Port, epoch: Epoch, key: Key) -> Result<Config, BindError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Config::new(port, epoch, key, secret))
    }

    /// Begins a server at `locals`: at most one IPv4, one IPv6 and one Unix address.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(config: Config, locals: &[Local]) -> Result<Self, BindError> {
        if locals.is_empty() {
            return Err(BindError::Nowhere);
        }
        let (port, epoch) = (config.port, config.epoch);
        let endpoint = Endpoint::open(locals, config)?;
        info!(%port, %epoch, at = ?endpoint.sockets.addresses(), "server bound");
        Ok(Self(Arc::new(Owner(endpoint))))
    }

    /// Returns the next request; `None` after a shutdown. Several tasks may wait at once, and each
    /// request goes to one of them.
    pub async fn recv(&self) -> Option<Request> {
        let wake = self.endpoint().with(|service| service.wake.clone());
        loop {
            let mut woken = pin!(wake.notified());
            // The wait begins here: of two requests that come later, each wakes another receiver.
            woken.as_mut().enable();
            let (next, stage) = self.endpoint().with(|service| (service.next(), service.stage));
            match next {
                Some(arrived) => return Some(arrived.taken(self.endpoint())),
                None if stage == Stage::Closed => return self.pass_on(&wake),
                None => woken.await,
            }
        }
    }

    /// Wakes the next receiver, because the server is closed. Returns `None`.
    fn pass_on(&self, wake: &Notify) -> Option<Request> {
        wake.notify_one();
        None
    }

    /// Replies to a request, from any task.
    ///
    /// # Errors
    /// See [`ReplyError`]: the request was cancelled, abandoned or replied to before, or the reply
    /// is too long.
    pub fn reply(&self, request: RequestId, body: impl Into<Bytes>) -> Result<(), ReplyError> {
        let body = body.into();
        self.endpoint().drive(|service, now| service.reply(now, request, body))
    }

    /// Gives a request up without a reply: its call ends with
    /// [`CallError::Abandoned`](crate::CallError::Abandoned). Dropping the request does the same. A
    /// request that has ended stays as it is.
    pub fn abandon(&self, request: RequestId) {
        self.endpoint().drive(|service, _now| service.abandon(request));
    }

    /// Stops taking requests, waits for the open ones until `limit`, and shuts down. Returns the
    /// number still open at the end.
    ///
    /// [`Self::recv`] still returns requests that had arrived. Later requests are abandoned without
    /// being executed. Their callers can't know that, and get
    /// [`CallError::Abandoned`](crate::CallError::Abandoned). A reply that is lost on its way after
    /// the shutdown isn't repeated.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.endpoint().with(Service::drain);
        // At the limit the wait ends, and the open requests are counted below.
        let _ = self.endpoint().within(limit, self.finished()).await;
        let open = self.endpoint().with(|service| service.open.len());
        self.shutdown();
        open
    }

    async fn finished(&self) {
        let finished = self.endpoint().with(|service| service.finished.clone());
        loop {
            let mut told = pin!(finished.notified());
            told.as_mut().enable();
            if self.endpoint().with(|service| service.open.is_empty()) {
                return;
            }
            told.await;
        }
    }

    /// Abandons all requests, removes the socket file, and stops receiving. Dropping the last clone
    /// does the same, and closes the sockets.
    pub fn shutdown(&self) {
        self.endpoint().close();
    }

    /// Returns the bound addresses, in the order of the `locals`.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.endpoint().sockets.addresses()
    }

    /// Returns the core's counters.
    #[must_use]
    pub fn counters(&self) -> server::Counters {
        self.endpoint().with(|service| service.core.counters())
    }

    /// Returns the numbers of objects that the core holds at this moment.
    #[must_use]
    pub fn usage(&self) -> server::Usage {
        self.endpoint().with(|service| service.core.usage())
    }

    /// Returns the counters of datagrams on the server's sockets.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.endpoint().datagrams()
    }

    fn endpoint(&self) -> &Arc<Endpoint<Service>> {
        &self.0.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}
