//! Errors of beginning a client or server.

use std::io;

use thiserror::Error;

use crate::Address;

/// Reason for which a client or server could not begin. No socket is bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// Without a key file any program could talk to the address.
    #[error(
        "{0}: not bound: without a key file any program could send packets there; use a key file, \
            or an address of this machine's own"
    )]
    KeyNeeded(Address),
    /// The socket can't be bound: the address is in use, is another machine's or not permitted, or
    /// the folder doesn't exist.
    #[error("{address}: not bound: {source}")]
    Socket {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// A client or server has at most one socket of each kind (IPv4, IPv6, Unix).
    #[error("{0}: not bound: another address of the same kind is given; give one of each kind")]
    Twice(Address),
    /// A client has a socket for each server on a Unix socket, which the kernel names.
    #[error("{0}: not bound: only a server may have a path; give a client a UDP address")]
    ServersOnly(Address),
    /// A server needs an address.
    #[error("server: not bound: no address is given; give at least one")]
    Nowhere,
    /// Sockets belong to a runtime.
    #[error("sockets: not bound: no tokio runtime with I/O and time; call inside of one")]
    NoRuntime,
    /// The kernel gave no random bytes.
    #[error("random bytes: not given by the kernel: {0}")]
    Random(#[from] getrandom::Error),
}
