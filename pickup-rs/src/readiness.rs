//! Waiting for file descriptors that tokio has no type for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Returns a handle that waits until `descriptor` is ready. Watches a duplicate, so the caller
/// keeps the original.
pub(crate) fn of(descriptor: impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let duplicate = descriptor.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open and the same from its making to its drop, and the `AsyncFd` owns
    // it.
    Ok(unsafe { AsyncFd::register_with_interest(duplicate, interest) }?)
}
