//! Lookup of servers by the program that uses the client.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use crate::{Address, Port};

/// Error of a lookup. The lookup is tried again while calls wait for its answer.
pub type LookupError = Box<dyn Error + Send + Sync>;

/// Future answer of a lookup.
pub type Lookup<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Address>, LookupError>> + Send + 'a>>;

/// Directory of servers' present addresses. The client asks the directory before the first packet,
/// and when a server doesn't answer.
///
/// A lookup runs in a task of its own, and only the calls that need it wait. The answer `None`
/// means that the port has no server. Then calls that were never sent end with
/// [`CallError::NoSuchPort`](crate::CallError::NoSuchPort). An error is no answer. A closure
/// `Fn(Port) -> impl Future` is a directory, too.
pub trait PortDirectory: Send + Sync + 'static {
    /// Finds the address at which `port` is served.
    fn find(&self, port: Port) -> Lookup<'_>;
}

impl<F, A> PortDirectory for F
where
    F: Fn(Port) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Option<Address>, LookupError>> + Send + 'static,
{
    fn find(&self, port: Port) -> Lookup<'_> {
        Box::pin(self(port))
    }
}

/// A directory in memory. The next lookup sees a change.
#[derive(Default)]
pub struct Table(Mutex<HashMap<Port, Address>>);

impl Table {
    /// Sets the address at which `port` is served from now on.
    pub fn set(&self, port: Port, address: impl Into<Address>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(port, address.into());
    }

    /// Removes `port`, which has no server from now on.
    pub fn remove(&self, port: Port) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }

    fn get(&self, port: Port) -> Option<Address> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&port).cloned()
    }
}

impl<A: Into<Address>> FromIterator<(Port, A)> for Table {
    fn from_iter<I: IntoIterator<Item = (Port, A)>>(entries: I) -> Self {
        let entries = entries.into_iter().map(|(port, address)| (port, address.into()));
        Self(Mutex::new(entries.collect()))
    }
}

impl PortDirectory for Table {
    fn find(&self, port: Port) -> Lookup<'_> {
        Box::pin(ready(Ok(self.get(port))))
    }
}

impl<D: PortDirectory> PortDirectory for std::sync::Arc<D> {
    fn find(&self, port: Port) -> Lookup<'_> {
        D::find(self, port)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.lock().unwrap_or_else(PoisonError::into_inner).iter()).finish()
    }
}
