//! Tests of installed programs: set-group-id postdrop, run by an ordinary user in any surroundings.
//!
//! For these tests, `/etc/postfix` must be the default configuration, and the machine's own must
//! stay untouched. So each command runs in a mount namespace with the site's configuration over
//! `/etc/postfix`.

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
