//! The server.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::counters::{Datagrams, Seldom};
use super::error::BindError;
use super::hub::{Bounded, Hub, Machine};
use super::sockets::Local;
use crate::server::{self, Config, Event, ReplyError, RequestId};
use crate::{Address, Epoch, Identity, Key, Port, Time, Transmit};

/// Receives requests and replies to them. A clone is the same server; when the last is dropped, its sockets close.
#[derive(Clone, Debug)]
pub struct Server(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Hub<Service>>);

/// A request to execute: once, by whoever received it.
#[derive(Clone, Debug)]
pub struct Request {
    /// To reply with.
    pub id: RequestId,
    /// Whose it is.
    pub client: Identity,
    /// What it says.
    pub body: Bytes,
    /// What the client waits at most, since [`Self::received`].
    pub limit: Duration,
    /// When it was complete.
    pub received: Instant,
    token: CancellationToken,
}

/// The core, the requests that nobody has taken yet, and all that haven't been replied to.
#[derive(Debug)]
pub(super) struct Service {
    core: server::Server,
    arrived: VecDeque<Request>,
    open: HashMap<RequestId, CancellationToken>,
    wake: Arc<Notify>,
    closed: bool,
    /// Packets so far that were no questions.
    strange: u64,
    warned: Seldom,
}

/// What is done outside the lock.
pub(super) enum Effect {
    Arrived(Arc<Notify>),
    Cancelled(CancellationToken),
}

impl Request {
    /// What is left of the limit. After it nobody waits for the reply.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.received.elapsed())
    }

    /// Ends when the client has cancelled the request, or died, or begun a new life, or its limit has passed; or the server was shut
    /// down. A reply leads nowhere then.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Whether [`Self::cancelled`] has ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The same as a value, to hand on.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.token
    }
}

impl Server {
    /// What [`Self::bind`] wants to know, with the default limits.
    ///
    /// # Errors
    /// The kernel gave no randomness.
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
        let hub = Hub::begin(locals, config)?;
        info!(%port, %epoch, at = ?hub.sockets.addresses(), "serving");
        Ok(Self(Arc::new(Owner(hub))))
    }

    /// The next request; none after a shutdown.
    pub async fn recv(&self) -> Option<Request> {
        let wake = self.hub().with(|service| service.wake.clone());
        loop {
            let notified = wake.notified();
            let (next, closed) = self.hub().with(|service| (service.next(), service.closed));
            match next {
                None if closed => return self.pass_on(&wake),
                None => notified.await,
                next => return next,
            }
        }
    }

    /// Others wait in [`Self::recv`], too.
    fn pass_on(&self, wake: &Notify) -> Option<Request> {
        wake.notify_one();
        None
    }

    /// Replies to a request, from any task.
    ///
    /// # Errors
    /// It was cancelled or replied to already, or the reply is too long: see [`ReplyError`].
    pub fn reply(&self, request: RequestId, body: impl Into<Bytes>) -> Result<(), ReplyError> {
        let body = body.into();
        self.hub().drive(|service, now| {
            service.core.reply(now, request, body)?;
            service.open.remove(&request);
            Ok(())
        })
    }

    /// Cancels all requests, removes the socket file, and receives nothing more. So does dropping the last clone, with which the sockets close.
    pub fn shutdown(&self) {
        self.hub().close();
    }

    /// Where it is bound, in the order of the `locals`.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.hub().sockets.addresses()
    }

    /// The core's counters.
    #[must_use]
    pub fn counters(&self) -> server::Counters {
        self.hub().with(|service| service.core.counters())
    }

    /// What the core holds at this moment.
    #[must_use]
    pub fn usage(&self) -> server::Usage {
        self.hub().with(|service| service.core.usage())
    }

    /// Datagrams that its sockets have seen.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.hub().datagrams()
    }

    fn hub(&self) -> &Arc<Hub<Service>> {
        &self.0.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Service {
    /// What was cancelled before anybody took it is executed by nobody.
    fn next(&mut self) -> Option<Request> {
        std::iter::from_fn(|| self.arrived.pop_front()).find(|request| !request.is_cancelled())
    }

    fn arrive(&mut self, id: RequestId, client: Identity, body: Bytes, limit: Duration) -> Effect {
        let token = CancellationToken::new();
        self.open.insert(id, token.clone());
        self.arrived.push_back(Request { id, client, body, limit, received: Instant::now(), token });
        Effect::Arrived(self.wake.clone())
    }
}

impl Bounded for Config {
    fn key(&self) -> &Key {
        &self.key
    }

    fn window_bytes(&mut self) -> &mut u32 {
        &mut self.limits.window_bytes
    }
}

impl Machine for Service {
    type Config = Config;
    type Effect = Effect;

    fn new(config: Config) -> Self {
        Self {
            core: server::Server::new(config),
            arrived: VecDeque::new(),
            open: HashMap::new(),
            wake: Arc::default(),
            closed: false,
            strange: 0,
            warned: Seldom::default(),
        }
    }

    fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.core.handle_packet(now, from, packet);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.core.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.core.poll_transmit()
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            match self.core.poll_event()? {
                Event::Request { id, client, body, limit } => {
                    return Some(self.arrive(id, client, body, limit));
                }
                Event::Cancelled { id, why } => {
                    debug!(request = %id, ?why, "request cancelled");
                    if let Some(token) = self.open.remove(&id) {
                        return Some(Effect::Cancelled(token));
                    }
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout()
    }

    fn observe(&mut self) {
        let server::Counters { foreign, unauthentic, malformed, misdirected, replayed, .. } =
            self.core.counters();
        let strange = foreign + unauthentic + malformed + misdirected + replayed;
        if strange > self.strange && self.warned.now() {
            warn!(
                foreign,
                unauthentic, malformed, misdirected, replayed, "packets that are no questions to this server"
            );
        }
        self.strange = strange;
    }

    fn close(&mut self, _now: Time) {
        self.closed = true;
        self.arrived.clear();
        for token in std::mem::take(&mut self.open).into_values() {
            token.cancel();
        }
        self.wake.notify_one();
    }

    fn perform(_hub: &Arc<Hub<Self>>, effect: Effect) {
        match effect {
            Effect::Arrived(wake) => wake.notify_one(),
            Effect::Cancelled(token) => token.cancel(),
        }
    }
}
