//! Hand-off of mail from Redis to stock Postfix cleanup

mod census;
mod cleanup;
pub mod client;
mod configuration;
mod handoff;
mod identity;
mod lines;
mod local_time;
pub mod log;
mod message;
pub mod protocol;
mod queue;
mod trigger;
mod watch;
