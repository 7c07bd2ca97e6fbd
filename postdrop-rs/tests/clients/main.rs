//! Programs that send people's mail, unchanged, with our `sendmail` where they look for it.
//!
//! Each runs in a mount namespace of its own, with our programs over those in `/usr/sbin`, and the
//! site's configuration over `/etc/postfix`. The machine's own are never touched.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test")]

mod cron;
mod delivery;
mod git;
mod logwatch;
mod machine;
mod mail_readers;
mod node;
mod perl;
mod php;
#[path = "../support/mod.rs"]
mod support;
mod symfony;
