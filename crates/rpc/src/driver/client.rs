//! The client on sockets.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{debug, warn};

use super::counters::{Datagrams, LogThrottle};
use super::error::BindError;
use super::hub::{Bounded, Hub, Machine};
use super::lookup::Directory;
use super::request::Request;
use super::search::{Search, Searches};
use super::sockets::Local;
use crate::client::{self, CallId, Config, Event};
use crate::{Address, CallError, Identity, Key, Port, Progress, Time, Transmit};

/// Client that calls servers. A clone is the same client. When the last one is dropped, its calls
/// end with [`CallError::Cancelled`].
#[derive(Clone, Debug)]
pub struct Client(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    hub: Arc<Hub<Caller>>,
    /// Permits for open calls.
    room: Arc<Semaphore>,
}

/// A call that was sent. Awaiting it, in any task, gives the reply. Dropping it cancels the call,
/// and tells the server.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Pending {
    hub: Arc<Hub<Caller>>,
    call: CallId,
    reply: oneshot::Receiver<Ended>,
    /// Ends when the request that the call serves is cancelled.
    cause: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    done: bool,
}

type Ended = Result<Bytes, CallError>;

/// The core, and the waiters for its results.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) core: client::Client,
    calls: HashMap<CallId, Waiting>,
    pub(super) search: Search,
    /// Number of packets so far that were no answers.
    invalid: u64,
    warned: LogThrottle,
    warned_of_servers: LogThrottle,
}

#[derive(Debug)]
struct Waiting {
    port: Port,
    caller: oneshot::Sender<Ended>,
    /// Permit that is free again when the call has ended.
    place: OwnedSemaphorePermit,
}

/// Work outside the lock.
pub(super) enum Effect {
    End(oneshot::Sender<Ended>, Ended, OwnedSemaphorePermit),
    Find(Port),
}

impl Client {
    /// Returns a configuration for [`Self::bind`], with the default limits and a name of its own.
    /// Such a client has no earlier or later generations.
    ///
    /// # Errors
    /// The kernel gave no randomness.
    pub fn config(key: Key) -> Result<Config, BindError> {
        Self::config_of(Identity::ephemeral()?, key)
    }

    /// Returns a configuration for one generation of a client whose name is kept: see
    /// [`IdentityFile`](crate::IdentityFile).
    ///
    /// # Errors
    /// The kernel gave no randomness.
    pub fn config_of(identity: Identity, key: Key) -> Result<Config, BindError> {
        // Too large to be guessed, and small enough that counting never ends.
        let first_number = getrandom::u64()? >> 1;
        Ok(Config::new(identity, key, first_number))
    }

    /// Begins a client that sends from `locals`, at most one of IPv4 and one of IPv6. Servers on
    /// Unix sockets need none.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        config: Config,
        locals: &[Local],
        directory: impl Directory,
    ) -> Result<Self, BindError> {
        if let Some(Local::Unix(path, _)) =
            locals.iter().find(|local| matches!(local, Local::Unix(..)))
        {
            return Err(BindError::ServersOnly(Address::Unix(path.clone())));
        }
        let room = Arc::new(Semaphore::new(config.limits.calls.min(Semaphore::MAX_PERMITS)));
        let directory: Arc<dyn Directory> = Arc::new(directory);
        let hub = Hub::begin(locals, (config, directory))?;
        Ok(Self(Arc::new(Owner { hub, room })))
    }

    /// Calls the server of `port`, and waits for the reply until `limit`, the wait for a permit
    /// included.
    ///
    /// # Errors
    /// See [`CallError`], whose [`execution`](CallError::execution) says whether the request may
    /// have been executed.
    pub async fn call(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        self.send(port, body, limit).await?.await
    }

    /// Calls on behalf of a request that this process executes: within the rest of the request's
    /// limit. When the request is cancelled, so is the call, and with it the servers' work.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn call_for(
        &self,
        request: &Request,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        self.send_for(request, port, body, limit).await?.await
    }

    /// Sends a call as [`Self::call_for`], for a reply that is awaited elsewhere. The waiter
    /// cancels the call when the request is cancelled.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn send_for(
        &self,
        request: &Request,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let mut pending = tokio::select! {
            biased;
            () = request.cancelled() => return Err(CallError::Cancelled(Progress::Unsent)),
            pending = self.send(port, body, limit.min(request.left())) => pending?,
        };
        pending.cause = Some(Box::pin(request.cancellation().clone().cancelled_owned()));
        Ok(pending)
    }

    /// Sends a call whose reply is awaited elsewhere. Waits only for a permit.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn send(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        if let Ok(place) = self.0.room.clone().try_acquire_owned() {
            return self.begin(place, port, body.into(), limit);
        }
        let began = Instant::now();
        match self.0.hub.within(limit, self.0.room.clone().acquire_owned()).await {
            Some(Ok(place)) => {
                self.begin(place, port, body.into(), limit.saturating_sub(began.elapsed()))
            }
            None if !self.0.hub.is_closed() => Err(CallError::TimedOut(Progress::Unsent)),
            Some(Err(_)) | None => Err(CallError::Cancelled(Progress::Unsent)),
        }
    }

    /// Sends a call as [`Self::send`], but fails when no permit is free.
    ///
    /// # Errors
    /// [`CallError::TooManyCalls`], [`CallError::TooLong`].
    pub fn try_send(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let Ok(place) = self.0.room.clone().try_acquire_owned() else {
            return Err(CallError::TooManyCalls {
                open: self.0.hub.with(|caller| caller.calls.len()),
            });
        };
        self.begin(place, port, body.into(), limit)
    }

    fn begin(
        &self,
        place: OwnedSemaphorePermit,
        port: Port,
        body: Bytes,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let (sender, reply) = oneshot::channel();
        let waiting = Waiting { port, caller: sender, place };
        let call = self.0.hub.drive(|caller, now| caller.call(now, body, limit, waiting))?;
        Ok(Pending { hub: self.0.hub.clone(), call, reply, cause: None, done: false })
    }

    /// Ends all calls with [`CallError::Cancelled`], and tells their servers. Dropping the last
    /// clone does the same, and closes the sockets.
    pub fn shutdown(&self) {
        self.0.hub.close();
    }

    /// Returns the bound addresses, in the order of the `locals`.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.0.hub.sockets.addresses()
    }

    /// Returns the core's counters.
    #[must_use]
    pub fn counters(&self) -> client::Counters {
        self.0.hub.with(|caller| caller.core.counters())
    }

    /// Returns the number of things that the core holds at this moment.
    #[must_use]
    pub fn usage(&self) -> client::Usage {
        self.0.hub.with(|caller| caller.core.usage())
    }

    /// Returns the counters of datagrams on the client's sockets.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.0.hub.datagrams()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl Pending {
    /// Ends the call with [`CallError::Cancelled`] unless it has ended already, and tells the
    /// server.
    pub fn cancel(&self) {
        self.hub.drive(|caller, now| caller.core.cancel(now, self.call));
    }
}

impl Future for Pending {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let cancelled = self.cause.as_mut().is_some_and(|cause| cause.as_mut().poll(cx).is_ready());
        if cancelled {
            // The reply may have come at the same moment; then it counts.
            self.cause = None;
            self.cancel();
        }
        let ended = ready!(Pin::new(&mut self.reply).poll(cx));
        self.done = true;
        // The sender is dropped unused only with the whole client.
        Poll::Ready(ended.unwrap_or(Err(CallError::Cancelled(Progress::Sent))))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            self.cancel();
        }
    }
}

impl Caller {
    fn call(
        &mut self,
        now: Time,
        body: Bytes,
        limit: Duration,
        waiting: Waiting,
    ) -> Result<CallId, CallError> {
        if self.search.is_closed() {
            return Err(CallError::Cancelled(Progress::Unsent));
        }
        let call = self.core.call(now, waiting.port, body, limit)?;
        self.calls.insert(call, waiting);
        Ok(call)
    }

    /// Logs a call's failure, as a warning once in a while: all calls to a dead server fail.
    fn tell(&self, port: Port, error: &CallError) {
        match self.warned_of_servers.now() {
            true => warn!(%port, %error, "call failed"),
            false => debug!(%port, %error, "call failed"),
        }
    }

    fn ended(&mut self, call: CallId, result: Ended) -> Option<Effect> {
        let waiting = self.calls.remove(&call)?;
        let result = result.map_err(|error| self.search.explain(waiting.port, error));
        if let Err(error @ (CallError::ServerDown { .. } | CallError::ServerRestarted { .. })) =
            &result
        {
            self.tell(waiting.port, error);
        }
        Some(Effect::End(waiting.caller, result, waiting.place))
    }
}

impl Bounded for (Config, Arc<dyn Directory>) {
    fn key(&self) -> &Key {
        &self.0.key
    }

    fn window_bytes(&mut self) -> &mut u32 {
        &mut self.0.limits.window_bytes
    }

    fn idle(&self) -> Duration {
        self.0.limits.idle
    }
}

impl Searches for Caller {
    fn search(&mut self) -> &mut Search {
        &mut self.search
    }

    fn found(&mut self, now: Time, port: Port, address: Option<Address>) {
        self.core.handle_found(now, port, address);
    }

    fn waits_for(&self, port: Port) -> bool {
        self.calls.values().any(|waiting| waiting.port == port)
    }
}

impl Machine for Caller {
    type Config = (Config, Arc<dyn Directory>);
    type Effect = Effect;

    fn new((config, directory): Self::Config) -> Self {
        Self {
            search: Search::new(directory, config.key.is_secret()),
            core: client::Client::new(config),
            calls: HashMap::new(),
            invalid: 0,
            warned: LogThrottle::default(),
            warned_of_servers: LogThrottle::default(),
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
                Event::Lookup { port } => return Some(Effect::Find(port)),
                Event::Ended { call, result } => match self.ended(call, result) {
                    None => {}
                    effect => return effect,
                },
            }
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout()
    }

    fn observe(&mut self) {
        let client::Counters { foreign, unauthentic, malformed, .. } = self.core.counters();
        let invalid = foreign + unauthentic + malformed;
        if invalid > self.invalid && self.warned.now() {
            warn!(foreign, unauthentic, malformed, "invalid packets received");
        }
        self.invalid = invalid;
    }

    fn close(&mut self, now: Time) {
        self.search.close();
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            self.core.cancel(now, call);
        }
    }

    fn let_go(&mut self) {
        self.search.close();
        // Each waiter finds its sender dropped.
        self.calls.clear();
    }

    fn perform(hub: &Arc<Hub<Self>>, effect: Effect) {
        match effect {
            // The permit comes first: the caller that the reply wakes finds it free. The caller may
            // have gone.
            Effect::End(caller, result, place) => {
                drop(place);
                let _ = caller.send(result);
            }
            Effect::Find(port) => Search::begin(hub, port),
        }
    }
}
