//! The server on sockets.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::counters::{Datagrams, LogThrottle};
use super::error::BindError;
use super::hub::{Bounded, Hub, Machine};
use super::open::Open;
use super::request::{Arrived, Life, Request};
use super::sockets::Local;
use crate::server::{self, Config, Event, ReplyError, RequestId};
use crate::{Address, Epoch, Identity, Key, Port, Time, Transmit};

/// Server that receives requests and replies to them. A clone is the same server. When the last one
/// is dropped, its sockets close.
#[derive(Clone, Debug)]
pub struct Server(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Hub<Service>>);

/// The core, the requests that no receiver has taken yet, and all that haven't been replied to.
#[derive(Debug)]
pub(super) struct Service {
    core: server::Server,
    arrived: VecDeque<Arrived>,
    open: Open,
    wake: Arc<Notify>,
    /// Notified when no request is open any more.
    finished: Arc<Notify>,
    stage: Stage,
    /// Last time that the core was given.
    now: Time,
    /// Number of packets so far that were no questions.
    invalid: u64,
    warned: LogThrottle,
}

/// Stages of a server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// New requests are abandoned.
    Draining,
    Closed,
}

/// Work outside the lock.
pub(super) enum Effect {
    Arrived(Arc<Notify>),
    Cancelled(Arc<Life>),
}

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
        let hub = Hub::begin(locals, config)?;
        info!(%port, %epoch, at = ?hub.sockets.addresses(), "serving");
        Ok(Self(Arc::new(Owner(hub))))
    }

    /// Returns the next request; `None` after a shutdown. Several tasks may wait at once, and each
    /// request goes to one of them.
    pub async fn recv(&self) -> Option<Request> {
        let wake = self.hub().with(|service| service.wake.clone());
        loop {
            let mut woken = pin!(wake.notified());
            // The wait counts from here: of two requests after this, each wakes another receiver.
            woken.as_mut().enable();
            let (next, stage) = self.hub().with(|service| (service.next(), service.stage));
            match next {
                Some(arrived) => return Some(arrived.taken(self.hub())),
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
        self.hub().drive(|service, now| service.reply(now, request, body))
    }

    /// Gives a request up without a reply: its call ends with
    /// [`CallError::Abandoned`](crate::CallError::Abandoned). Dropping the request does the same.
    /// Nothing happens if it has ended.
    pub fn abandon(&self, request: RequestId) {
        self.hub().drive(|service, _now| service.abandon(request));
    }

    /// Stops taking requests, waits for the open ones until `limit`, and shuts down. Returns the
    /// number still open at the end.
    ///
    /// [`Self::recv`] still returns requests that had arrived. Later requests are abandoned without
    /// being executed. Their callers can't know that, and get
    /// [`CallError::Abandoned`](crate::CallError::Abandoned). A reply that is lost on its way after
    /// the shutdown isn't repeated.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.hub().with(Service::drain);
        // Reaching the limit ends the wait, too.
        let _ = self.hub().within(limit, self.finished()).await;
        let open = self.hub().with(|service| service.open.len());
        self.shutdown();
        open
    }

    async fn finished(&self) {
        let finished = self.hub().with(|service| service.finished.clone());
        loop {
            let mut told = pin!(finished.notified());
            told.as_mut().enable();
            if self.hub().with(|service| service.open.is_empty()) {
                return;
            }
            told.await;
        }
    }

    /// Abandons all requests, removes the socket file, and receives nothing more. Dropping the last
    /// clone does the same, and closes the sockets.
    pub fn shutdown(&self) {
        self.hub().close();
    }

    /// Returns the bound addresses, in the order of the `locals`.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.hub().sockets.addresses()
    }

    /// Returns the core's counters.
    #[must_use]
    pub fn counters(&self) -> server::Counters {
        self.hub().with(|service| service.core.counters())
    }

    /// Returns the number of things that the core holds at this moment.
    #[must_use]
    pub fn usage(&self) -> server::Usage {
        self.hub().with(|service| service.core.usage())
    }

    /// Returns the counters of datagrams on the server's sockets.
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
    /// Returns the next request. A cancelled one is skipped.
    fn next(&mut self) -> Option<Arrived> {
        std::iter::from_fn(|| self.arrived.pop_front())
            .find(|request| !request.life.token.is_cancelled())
    }

    /// Adds a request that has arrived; abandons it if the server drains.
    fn arrive(
        &mut self,
        id: RequestId,
        client: Identity,
        body: Bytes,
        limit: Duration,
    ) -> Option<Effect> {
        if self.stage != Stage::Serving {
            self.abandon(id);
            return None;
        }
        let life = self.open.insert(id, self.now + limit);
        self.arrived.push_back(Arrived { id, client, body, limit, received: Instant::now(), life });
        Some(Effect::Arrived(self.wake.clone()))
    }

    pub(super) fn reply(
        &mut self,
        now: Time,
        id: RequestId,
        body: Bytes,
    ) -> Result<(), ReplyError> {
        self.core.reply(now, id, body)?;
        self.settle(id);
        Ok(())
    }

    pub(super) fn abandon(&mut self, id: RequestId) {
        // The request may have been cancelled meanwhile, which its service may not know yet.
        let _ = self.core.abandon(id);
        self.settle(id);
    }

    fn settle(&mut self, id: RequestId) -> Option<Arc<Life>> {
        let life = self.open.remove(id)?;
        life.settle();
        if self.stage == Stage::Draining && self.open.is_empty() {
            self.finished.notify_waiters();
        }
        Some(life)
    }

    fn close_one(&mut self, id: RequestId) {
        let _ = self.core.abandon(id);
        if let Some(life) = self.settle(id) {
            life.token.cancel();
        }
    }

    fn drain(&mut self) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Draining;
        }
    }
}

impl Bounded for Config {
    fn key(&self) -> &Key {
        &self.key
    }

    fn window_bytes(&mut self) -> &mut u32 {
        &mut self.limits.window_bytes
    }

    fn idle(&self) -> Duration {
        Duration::MAX
    }
}

impl Machine for Service {
    type Config = Config;
    type Effect = Effect;

    fn new(config: Config) -> Self {
        Self {
            core: server::Server::new(config),
            arrived: VecDeque::new(),
            open: Open::default(),
            wake: Arc::default(),
            finished: Arc::default(),
            stage: Stage::Serving,
            now: Time(0),
            invalid: 0,
            warned: LogThrottle::default(),
        }
    }

    fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.now = now;
        self.core.handle_packet(now, from, packet);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        self.core.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.core.poll_transmit()
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        while let Some(event) = self.core.poll_event() {
            let effect = match event {
                Event::Request { id, client, body, limit } => self.arrive(id, client, body, limit),
                Event::Cancelled { id, why } => {
                    debug!(request = %id, ?why, "request cancelled");
                    self.settle(id).map(Effect::Cancelled)
                }
            };
            if effect.is_some() {
                return effect;
            }
        }
        self.open.pop(self.now).map(Effect::Cancelled)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout().into_iter().chain(self.open.next()).min()
    }

    fn observe(&mut self) {
        let server::Counters { foreign, unauthentic, malformed, misdirected, replayed, .. } =
            self.core.counters();
        let invalid = foreign + unauthentic + malformed + misdirected + replayed;
        if invalid > self.invalid && self.warned.now() {
            warn!(
                foreign,
                unauthentic, malformed, misdirected, replayed, "invalid packets received"
            );
        }
        self.invalid = invalid;
    }

    fn close(&mut self, _now: Time) {
        self.stage = Stage::Closed;
        self.arrived.clear();
        for id in self.open.ids() {
            self.close_one(id);
        }
        self.finished.notify_waiters();
        self.wake.notify_one();
    }

    fn let_go(&mut self) {
        self.stage = Stage::Closed;
        self.arrived.clear();
        for life in self.open.ids().into_iter().filter_map(|id| self.open.remove(id)) {
            life.settle();
            life.token.cancel();
        }
        self.finished.notify_waiters();
        self.wake.notify_one();
    }

    fn perform(_hub: &Arc<Hub<Self>>, effect: Effect) {
        match effect {
            Effect::Arrived(wake) => wake.notify_one(),
            Effect::Cancelled(life) => life.token.cancel(),
        }
    }
}
