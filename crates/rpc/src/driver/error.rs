//! Errors of beginning a client or server.

use std::io;

use thiserror::Error;

use crate::Address;

/// Nothing was bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// Without a key file anybody could talk to it.
    #[error(
        "{0} is not local to this machine, and there is no key file: packets could come from \
            anybody"
    )]
    KeyNeeded(Address),
    /// A socket could not be had: the address is in use, or isn't this machine's, or may not be
    /// used, or the folder isn't there.
    #[error("{address}: {source}")]
    Socket {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// One socket of each kind (IPv4, IPv6, Unix) is what a client or server has.
    #[error("{0}: there is another address of the same kind already")]
    Twice(Address),
    /// Clients have a socket for each server on a Unix socket, which the kernel names.
    #[error("{0}: only servers are bound to a path")]
    ServersOnly(Address),
    /// A server without an address.
    #[error("no address to serve at")]
    Nowhere,
    /// Sockets belong to a runtime.
    #[error("not inside a tokio runtime with I/O and time enabled")]
    NoRuntime,
    /// The kernel gave no randomness.
    #[error("randomness: {0}")]
    Random(#[from] getrandom::Error),
}
