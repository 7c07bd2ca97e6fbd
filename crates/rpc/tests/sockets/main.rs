//! The driver on real sockets.
#![allow(clippy::unwrap_used, reason = "a test")]

mod calls;
mod closing;
mod crashes;
mod files;
mod hostile;
mod keys;
mod mishaps;
mod narrow;
mod nested;
mod network;
mod process;
mod resources;
mod services;
mod typed;
mod unix;
mod world;
