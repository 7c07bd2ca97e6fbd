//! Lookups that are under way. Each lookup is a task of its own, for which packets and other calls
//! don't wait.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sansio::{Backoff, Policy};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::endpoint::{Endpoint, Machine, Watch};
use super::lookup::{LookupError, PortDirectory};
use super::sockets::Reach;
use crate::{Address, CallError, Port, Time};

/// Time limit of a lookup.
const LIMIT: Duration = Duration::from_secs(10);
/// Pauses between a failed lookup and the next one.
const LOOKUP: Policy = Policy::from_millis(50, 2_000);

/// State of the lookups.
pub(super) struct Search {
    directory: Arc<dyn PortDirectory>,
    /// Whether packets may leave this machine.
    has_key: bool,
    running: HashSet<Port>,
    /// Last address that was refused, with the reason for the waiting calls, which the core ends
    /// before the next answer.
    refused: Option<(Port, Address, &'static str)>,
    closed: bool,
}

/// A machine that needs lookups.
pub(super) trait Searches: Machine {
    fn search(&mut self) -> &mut Search;
    /// Takes the address of a port; `None` if the port has no server.
    fn found(&mut self, now: Time, port: Port, address: Option<Address>);
    /// Returns whether calls to that port are open.
    fn waits_for(&self, port: Port) -> bool;
}

impl Search {
    pub(super) fn new(directory: Arc<dyn PortDirectory>, has_key: bool) -> Self {
        Self { directory, has_key, running: HashSet::new(), refused: None, closed: false }
    }

    /// Begins a lookup, unless one for the port is under way, whose answer serves both.
    pub(super) fn start(endpoint: &Arc<Endpoint<impl Searches>>, port: Port) {
        let directory = endpoint.with(|caller| {
            let search = caller.search();
            (!search.closed && search.running.insert(port)).then(|| search.directory.clone())
        });
        if let Some(directory) = directory {
            endpoint.runtime.spawn(Watch::against_panics(endpoint).over(look_up(
                endpoint.clone(),
                directory,
                port,
            )));
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the error for a call to a port that has no server for the core. The port may have a
    /// server at an address that this client refuses.
    pub(super) fn explain(&self, port: Port, error: CallError) -> CallError {
        match (error, &self.refused) {
            (CallError::NoSuchPort(_), Some((refused, address, why))) if *refused == port => {
                CallError::AddressRefused { address: address.clone(), why }
            }
            (error, _) => error,
        }
    }

    fn check(&mut self, port: Port, found: Option<Address>, reach: Reach) -> Option<Address> {
        self.refused = None;
        let address = found?;
        let why = match reach {
            _ if !self.has_key && !address.is_local() => {
                "not local to this machine, and the client has no key file"
            }
            Reach::NoSocket => "the client has no socket of this kind",
            Reach::NoPath => {
                "no Unix socket can have this path: empty, too long, or with a NUL inside"
            }
            Reach::NoRoom => "the client is connected to its maximum of servers on Unix sockets",
            Reach::Yes => return Some(address),
        };
        warn!(%port, %address, reason = why, "address from the directory refused");
        self.refused = Some((port, address, why));
        None
    }
}

async fn look_up(
    endpoint: Arc<Endpoint<impl Searches>>,
    directory: Arc<dyn PortDirectory>,
    port: Port,
) {
    tokio::select! {
        () = endpoint.closed() => {}
        answer = find(&endpoint, &*directory, port) => if let LookupEnd::Known(found) = answer {
            found_at(&endpoint, port, found);
        },
    }
}

fn found_at(endpoint: &Arc<Endpoint<impl Searches>>, port: Port, found: Option<Address>) {
    let reach = found.as_ref().map_or(Reach::Yes, |address| endpoint.sockets.can_reach(address));
    if let Some(address) = &found {
        endpoint.sockets.connect_again(address);
    }
    debug!(%port, address = found.as_ref().map(tracing::field::display), "port looked up");
    endpoint.drive(|caller, now| end(caller, now, port, found, reach));
}

/// End of a lookup.
enum LookupEnd {
    /// The directory's answer: an address, or none.
    Known(Option<Address>),
    /// Every attempt failed, and no call waits any more.
    GivenUp,
}

/// Asks the directory until there is an answer, or no call waits for one any more.
async fn find(
    endpoint: &Arc<Endpoint<impl Searches>>,
    directory: &dyn PortDirectory,
    port: Port,
) -> LookupEnd {
    let mut backoff = Backoff::new(LOOKUP);
    loop {
        match timeout(LIMIT, ask(directory, port)).await {
            Ok(Ok(found)) => return LookupEnd::Known(found),
            Ok(Err(error)) => failed(port, &error),
            Err(late) => failed(port, &late.into()),
        }
        sleep(backoff.lengthen()).await;
        if endpoint.drive(|caller, now| gives_up(caller, now, port)) {
            return LookupEnd::GivenUp;
        }
    }
}

/// Asks the directory once. A panic of the directory's code counts as a failed lookup.
async fn ask(directory: &dyn PortDirectory, port: Port) -> Result<Option<Address>, LookupError> {
    let mut answer = None;
    poll_fn(|cx| {
        let poll = || answer.get_or_insert_with(|| directory.find(port)).as_mut().poll(cx);
        let polled = catch_unwind(AssertUnwindSafe(poll));
        polled.unwrap_or_else(|_| Poll::Ready(Err("the directory panicked".into())))
    })
    .await
}

fn failed(port: Port, error: &LookupError) {
    warn!(%port, %error, "lookup of a port failed");
}

fn end(caller: &mut impl Searches, now: Time, port: Port, found: Option<Address>, reach: Reach) {
    let search = caller.search();
    search.running.remove(&port);
    let address = search.check(port, found, reach);
    caller.found(now, port, address);
}

/// Ends a lookup unless calls wait. The core gets no address, which ends no call, since none is
/// open. So a later call begins another lookup.
fn gives_up(caller: &mut impl Searches, now: Time, port: Port) -> bool {
    let nobody_waits = !caller.waits_for(port);
    if nobody_waits {
        end(caller, now, port, None, Reach::Yes);
    }
    nobody_waits
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("running", &self.running)
            .field("refused", &self.refused)
            .finish()
    }
}
