//! Tests with unchanged programs that send mail, and with OPTIMUS's `sendmail` in the place where
//! they look for `sendmail`.
//!
//! Each client runs in a mount namespace of its own, with OPTIMUS's programs over those in
//! `/usr/sbin`, and the site's configuration over `/etc/postfix`. The machine's own files are never
//! touched.

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
