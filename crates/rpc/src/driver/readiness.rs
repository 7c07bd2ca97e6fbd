//! Being told by tokio when a descriptor is ready.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a nonblocking descriptor with the runtime that this is called in.
pub(super) fn of(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same from its making to its drop, and the `AsyncFd` owns
    // it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
