//! State of a client behind its lock: the core, and the callers that wait for its results.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{debug, warn};

use super::counters::LogThrottle;
use super::endpoint::{Bounded, Endpoint, Machine};
use super::lookup::PortDirectory;
use super::search::{Search, Searches};
use crate::client::{self, CallId, Config, Event};
use crate::{Address, CallError, Key, Port, Progress, Time, Transmit};

pub(super) type CallResult = Result<Bytes, CallError>;

/// The core, and the waiters for its results.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) core: client::Client,
    pub(super) calls: HashMap<CallId, Waiter>,
    pub(super) search: Search,
    /// Number of packets so far that were not answers.
    invalid: u64,
    warned: LogThrottle,
    warned_of_servers: LogThrottle,
}

/// A caller that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) port: Port,
    pub(super) caller: oneshot::Sender<CallResult>,
    /// Permit that is free again when the call has ended.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Work outside the lock.
pub(super) enum CallerEffect {
    End(oneshot::Sender<CallResult>, CallResult, OwnedSemaphorePermit),
    Find(Port),
}

impl Caller {
    pub(super) fn call(
        &mut self,
        now: Time,
        body: Bytes,
        limit: Duration,
        waiter: Waiter,
    ) -> Result<CallId, CallError> {
        if self.search.is_closed() {
            return Err(CallError::Cancelled(Progress::Unsent));
        }
        let call = self.core.call(now, waiter.port, body, limit)?;
        self.calls.insert(call, waiter);
        Ok(call)
    }

    /// Logs a call's failure, as a warning once in a while: all calls to a dead server fail.
    fn log_failure(&self, port: Port, error: &CallError) {
        match self.warned_of_servers.admits() {
            true => warn!(%port, %error, "call failed"),
            false => debug!(%port, %error, "call failed"),
        }
    }

    fn ended(&mut self, call: CallId, result: CallResult) -> Option<CallerEffect> {
        let waiter = self.calls.remove(&call)?;
        let result = result.map_err(|error| self.search.explain(waiter.port, error));
        if let Err(error @ (CallError::ServerDown { .. } | CallError::ServerRestarted { .. })) =
            &result
        {
            self.log_failure(waiter.port, error);
        }
        Some(CallerEffect::End(waiter.caller, result, waiter.permit))
    }
}

impl Bounded for (Config, Arc<dyn PortDirectory>) {
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
        self.calls.values().any(|waiter| waiter.port == port)
    }
}

impl Machine for Caller {
    type Config = (Config, Arc<dyn PortDirectory>);
    type Effect = CallerEffect;

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

    fn poll_effect(&mut self) -> Option<CallerEffect> {
        loop {
            match self.core.poll_event()? {
                Event::Lookup { port } => return Some(CallerEffect::Find(port)),
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
        if invalid > self.invalid && self.warned.admits() {
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

    fn abort_waiters(&mut self) {
        self.search.close();
        // Dropping the senders ends the waiters with `Cancelled`.
        self.calls.clear();
    }

    fn perform(endpoint: &Arc<Endpoint<Self>>, effect: CallerEffect) {
        match effect {
            // The permit is dropped first, so that the caller, whom the reply wakes, finds a
            // permit. The send fails if the caller is gone.
            CallerEffect::End(caller, result, permit) => {
                drop(permit);
                let _ = caller.send(result);
            }
            CallerEffect::Find(port) => Search::start(endpoint, port),
        }
    }
}
