//! State of a server behind its lock: the core, and requests on their way to the service.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::counters::LogThrottle;
use super::endpoint::{Bounded, Endpoint, Machine};
use super::open::{OpenRequest, OpenRequests};
use crate::server::{self, Config, Event, ReplyError, RequestId};
use crate::{Address, Identity, Key, Time, Transmit};

/// The core, the requests that no receiver has taken yet, and all that haven't been replied to.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) core: server::Server,
    arrived: VecDeque<Arrived>,
    pub(super) open: OpenRequests,
    pub(super) wake: Arc<Notify>,
    /// Notifier of waiters, which fires when no request is open any more.
    pub(super) finished: Arc<Notify>,
    pub(super) stage: Stage,
    /// Last time that the core was given. `poll_effect` gets no time, and counts the limits of
    /// arriving requests from this one.
    now: Time,
    /// Number of packets so far that were no questions.
    invalid: u64,
    warned: LogThrottle,
}

/// Stage of a server on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// New requests are abandoned.
    Draining,
    Closed,
}

/// Work outside the lock.
pub(super) enum ServiceEffect {
    Arrived(Arc<Notify>),
    Cancelled(Arc<OpenRequest>),
}

/// A request that no receiver has taken yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) id: RequestId,
    pub(super) client: Identity,
    pub(super) body: Bytes,
    pub(super) limit: Duration,
    pub(super) received: Instant,
    pub(super) open: Arc<OpenRequest>,
}

impl Service {
    /// Returns the next request. A cancelled one is skipped.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        std::iter::from_fn(|| self.arrived.pop_front())
            .find(|request| !request.open.token.is_cancelled())
    }

    /// Adds a request that has arrived; abandons it if the server drains.
    fn arrive(
        &mut self,
        id: RequestId,
        client: Identity,
        body: Bytes,
        limit: Duration,
    ) -> Option<ServiceEffect> {
        if self.stage != Stage::Serving {
            self.abandon(id);
            return None;
        }
        let open = self.open.insert(id, self.now + limit);
        self.arrived.push_back(Arrived { id, client, body, limit, received: Instant::now(), open });
        Some(ServiceEffect::Arrived(self.wake.clone()))
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
        // The request may have been cancelled before the service knew.
        let _ = self.core.abandon(id);
        self.settle(id);
    }

    fn settle(&mut self, id: RequestId) -> Option<Arc<OpenRequest>> {
        let request = self.open.remove(id)?;
        request.settle();
        if self.stage == Stage::Draining && self.open.is_empty() {
            self.finished.notify_waiters();
        }
        Some(request)
    }

    fn close_one(&mut self, id: RequestId) {
        let _ = self.core.abandon(id);
        if let Some(request) = self.settle(id) {
            request.token.cancel();
        }
    }

    pub(super) fn drain(&mut self) {
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
    type Effect = ServiceEffect;

    fn new(config: Config) -> Self {
        Self {
            core: server::Server::new(config),
            arrived: VecDeque::new(),
            open: OpenRequests::default(),
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

    fn poll_effect(&mut self) -> Option<ServiceEffect> {
        while let Some(event) = self.core.poll_event() {
            let effect = match event {
                Event::Request { id, client, body, limit } => self.arrive(id, client, body, limit),
                Event::Cancelled { id, why } => {
                    debug!(request = %id, reason = ?why, "request cancelled");
                    self.settle(id).map(ServiceEffect::Cancelled)
                }
            };
            if effect.is_some() {
                return effect;
            }
        }
        self.open.pop(self.now).map(ServiceEffect::Cancelled)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout().into_iter().chain(self.open.next()).min()
    }

    fn observe(&mut self) {
        let server::Counters { foreign, unauthentic, malformed, misdirected, replayed, .. } =
            self.core.counters();
        let invalid = foreign + unauthentic + malformed + misdirected + replayed;
        if invalid > self.invalid && self.warned.admits() {
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

    fn abort_waiters(&mut self) {
        self.stage = Stage::Closed;
        self.arrived.clear();
        for request in self.open.ids().into_iter().filter_map(|id| self.open.remove(id)) {
            request.settle();
            request.token.cancel();
        }
        self.finished.notify_waiters();
        self.wake.notify_one();
    }

    fn perform(_endpoint: &Arc<Endpoint<Self>>, effect: ServiceEffect) {
        match effect {
            ServiceEffect::Arrived(wake) => wake.notify_one(),
            ServiceEffect::Cancelled(request) => request.token.cancel(),
        }
    }
}
