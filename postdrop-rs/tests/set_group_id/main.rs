//! The programs as they are installed: set-group-id postdrop, run by an ordinary user with whatever
//! surroundings that user likes.
//!
//! `/etc/postfix` must be the default configuration for this, and the machine's own must not be
//! touched, so each command runs in a mount namespace in which the site's configuration lies over
//! it.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test")]

mod bare;
mod limits;
mod memory;
mod queue;
mod rights;
mod secrets;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
mod surroundings;

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";
