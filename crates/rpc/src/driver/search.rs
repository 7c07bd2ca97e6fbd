//! Lookups that are under way. Each is a task of its own; packets and other calls don't wait for it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::client::Caller;
use super::hub::Hub;
use super::lookup::{Directory, LookupError};
use crate::{Address, CallError, Port, Time};

/// A lookup that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Between a lookup that failed and the next: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is known of lookups.
pub(super) struct Search {
    directory: Arc<dyn Directory>,
    /// Whether packets may leave this machine.
    has_key: bool,
    running: HashSet<Port>,
    /// Addresses that were found and aren't used.
    refused: HashMap<Port, (Address, &'static str)>,
    closed: bool,
}

impl Search {
    pub(super) fn new(directory: Arc<dyn Directory>, has_key: bool) -> Self {
        Self { directory, has_key, running: HashSet::new(), refused: HashMap::new(), closed: false }
    }

    /// Begins a lookup, unless one for that port is under way: then its answer is the answer to both.
    pub(super) fn begin(hub: &Arc<Hub<Caller>>, port: Port) {
        let directory = hub.with(|caller| {
            let search = &mut caller.search;
            (!search.closed && search.running.insert(port)).then(|| search.directory.clone())
        });
        if let Some(directory) = directory {
            let hub = hub.clone();
            hub.runtime.clone().spawn(async move {
                tokio::select! {
                    () = hub.closed() => {}
                    found = find(&hub, &*directory, port) => found_at(&hub, port, found),
                }
            });
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nobody serves the port, as far as the core knows; or somebody does where this client doesn't send.
    pub(super) fn explain(&self, port: Port, error: CallError) -> CallError {
        match (error, self.refused.get(&port)) {
            (CallError::NoSuchPort(_), Some((address, why))) => {
                CallError::Refused { address: address.clone(), why }
            }
            (error, _) => error,
        }
    }

    fn check(&mut self, port: Port, found: Option<Address>, reachable: bool) -> Option<Address> {
        let address = found?;
        let why = match () {
            () if !self.has_key && !address.is_local() => {
                "it is not local to this machine, and this client has no key file"
            }
            () if !reachable => "this client has no socket of its kind",
            () => {
                self.refused.remove(&port);
                return Some(address);
            }
        };
        warn!(%port, %address, why, "address refused");
        self.refused.insert(port, (address, why));
        None
    }
}

fn found_at(hub: &Arc<Hub<Caller>>, port: Port, found: Option<Address>) {
    let reachable = found.as_ref().is_none_or(|address| hub.sockets.can_reach(address));
    if let Some(address) = &found {
        hub.sockets.connect_again(address);
    }
    debug!(%port, address = found.as_ref().map(tracing::field::display), "looked up");
    hub.drive(|caller, now| caller.found(now, port, found, reachable));
}

/// Asks until there is an answer, or nobody wants it any more.
async fn find(hub: &Arc<Hub<Caller>>, directory: &dyn Directory, port: Port) -> Option<Address> {
    let (mut pause, longest) = PAUSE;
    loop {
        match timeout(LIMIT, directory.find(port)).await {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => failed(port, &error),
            Err(late) => failed(port, &late.into()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
        if !hub.with(|caller| caller.waits_for(port)) {
            return None;
        }
    }
}

fn failed(port: Port, error: &LookupError) {
    warn!(%port, %error, "lookup failed, trying again");
}

impl Caller {
    fn found(&mut self, now: Time, port: Port, found: Option<Address>, reachable: bool) {
        self.search.running.remove(&port);
        let address = self.search.check(port, found, reachable);
        self.core.handle_found(now, port, address);
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("running", &self.running).field("refused", &self.refused).finish()
    }
}
