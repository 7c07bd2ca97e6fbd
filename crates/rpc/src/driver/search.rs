//! Lookups that are under way. Each is a task of its own; packets and other calls don't wait for
//! it.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::client::Caller;
use super::hub::{Hub, Watch};
use super::lookup::{Directory, LookupError};
use super::sockets::Reach;
use crate::{Address, CallError, Port, Time};

/// A lookup that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Between a lookup that failed and the next: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Knowledge of lookups.
pub(super) struct Search {
    directory: Arc<dyn Directory>,
    /// Whether packets may leave this machine.
    has_key: bool,
    running: HashSet<Port>,
    /// The last find, if it isn't used. The calls that end for it are ended, and told why, before
    /// the next answer.
    refused: Option<(Port, Address, &'static str)>,
    closed: bool,
}

impl Search {
    pub(super) fn new(directory: Arc<dyn Directory>, has_key: bool) -> Self {
        Self { directory, has_key, running: HashSet::new(), refused: None, closed: false }
    }

    /// Begins a lookup, unless one for that port is under way: then its answer is the answer to
    /// both.
    pub(super) fn begin(hub: &Arc<Hub<Caller>>, port: Port) {
        let directory = hub.with(|caller| {
            let search = &mut caller.search;
            (!search.closed && search.running.insert(port)).then(|| search.directory.clone())
        });
        if let Some(directory) = directory {
            hub.runtime.spawn(Watch::against_panics(hub).over(look_up(
                hub.clone(),
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

    /// Nobody serves the port, as far as the core knows; or somebody does where this client doesn't
    /// send.
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
                "it is not local to this machine, and this client has no key file"
            }
            Reach::NoSocket => "this client has no socket of its kind",
            Reach::NoPath => {
                "no Unix socket can have this path: it is empty, too long, or has a NUL inside"
            }
            Reach::NoRoom => {
                "this client is in touch with as many servers on Unix sockets as it can be"
            }
            Reach::Yes => return Some(address),
        };
        warn!(%port, %address, why, "address refused");
        self.refused = Some((port, address, why));
        None
    }
}

async fn look_up(hub: Arc<Hub<Caller>>, directory: Arc<dyn Directory>, port: Port) {
    tokio::select! {
        () = hub.closed() => {}
        answer = find(&hub, &*directory, port) => if let Answer::Known(found) = answer {
            found_at(&hub, port, found);
        },
    }
}

fn found_at(hub: &Arc<Hub<Caller>>, port: Port, found: Option<Address>) {
    let reach = found.as_ref().map_or(Reach::Yes, |address| hub.sockets.can_reach(address));
    if let Some(address) = &found {
        hub.sockets.connect_again(address);
    }
    debug!(%port, address = found.as_ref().map(tracing::field::display), "looked up");
    hub.drive(|caller, now| caller.found(now, port, found, reach));
}

/// The end of a lookup.
enum Answer {
    /// The directory's: somebody serves the port, or nobody does.
    Known(Option<Address>),
    /// The directory only failed, and no call waits any more.
    GivenUp,
}

/// Asks until there is an answer, or nobody wants it any more.
async fn find(hub: &Arc<Hub<Caller>>, directory: &dyn Directory, port: Port) -> Answer {
    let (mut pause, longest) = PAUSE;
    loop {
        match timeout(LIMIT, ask(directory, port)).await {
            Ok(Ok(found)) => return Answer::Known(found),
            Ok(Err(error)) => failed(port, &error),
            Err(late) => failed(port, &late.into()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
        if hub.drive(|caller, now| caller.gives_up(now, port)) {
            return Answer::GivenUp;
        }
    }
}

/// A directory is somebody else's: one that panics has failed, and is asked again like any that
/// has.
async fn ask(directory: &dyn Directory, port: Port) -> Result<Option<Address>, LookupError> {
    let mut answer = None;
    poll_fn(|cx| {
        let poll = || answer.get_or_insert_with(|| directory.find(port)).as_mut().poll(cx);
        let polled = catch_unwind(AssertUnwindSafe(poll));
        polled.unwrap_or_else(|_| Poll::Ready(Err("it panicked".into())))
    })
    .await
}

fn failed(port: Port, error: &LookupError) {
    warn!(%port, %error, "lookup failed, trying again");
}

impl Caller {
    fn found(&mut self, now: Time, port: Port, found: Option<Address>, reach: Reach) {
        self.search.running.remove(&port);
        let address = self.search.check(port, found, reach);
        self.core.handle_found(now, port, address);
    }

    /// Ends a lookup unless calls wait. The core is told that there was no address, or it would
    /// never ask again; this ends no call, since there is none, and one that comes later begins
    /// another lookup.
    fn gives_up(&mut self, now: Time, port: Port) -> bool {
        let nobody_waits = !self.waits_for(port);
        if nobody_waits {
            self.found(now, port, None, Reach::Yes);
        }
        nobody_waits
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("running", &self.running)
            .field("refused", &self.refused)
            .finish()
    }
}
