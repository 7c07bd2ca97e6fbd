//! The driver on real sockets.

mod calls;
mod world;
