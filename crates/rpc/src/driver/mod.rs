//! Sockets, timers and callers for the cores: the driver.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use rpc::driver::{Client, Local, Server, Table};
//! use rpc::{Address, EpochFile, Key, Port};
//!
//! let port = Port(7);
//! let epoch = EpochFile::at("/var/lib/optimus/echo.epoch").begin()?;
//! let config = Server::config(port, epoch, Key::none())?;
//! let server = Server::bind(config, &[Local::Udp("127.0.0.1:0".parse()?)])?;
//!
//! let table: Table = [(port, server.addresses()[0].clone())].into_iter().collect();
//! let local = [Local::Udp("127.0.0.1:0".parse()?)];
//! let client = Client::bind(Client::config(Key::none())?, &local, table)?;
//!
//! tokio::spawn(async move {
//!     while let Some(request) = server.recv().await {
//!         let body = request.body.clone();
//!         let _ = request.reply(body);
//!     }
//! });
//! let reply = client.call(port, "hello", Duration::from_secs(5)).await?;
//! assert_eq!(reply, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Theory of operation
//!
//! The cores decide everything; this moves packets and time. A core is behind a lock, and whoever
//! has something for it runs it and sends what it wants sent: see `hub`. Two tasks belong to an
//! idle client or server, and both sleep.
//!
//! | | |
//! |---|---|
//! | a call | runs the core and sends its packet in the caller's own task; one oneshot channel brings the reply |
//! | packets | all that have arrived are taken from the kernel before any is handled; fragments come joined (UDP_GRO) and leave joined (UDP_SEGMENT), where the network is IP |
//! | the kernel takes no more | the rest waits until it does, each destination for itself; more than some MiB are dropped, which is a loss like any |
//! | a lookup | is a task; no packet and no other call waits for it |
//! | a datagram that can't be sent | is counted and, seldom, logged; for the core it was lost |
//!
//! # Local and not
//!
//! Without a key file a client or server is bound to loopback addresses and Unix sockets alone, and
//! a directory's answer that isn't one of these is refused: [`BindError::KeyNeeded`],
//! [`CallError::AddressRefused`](crate::CallError::AddressRefused). On loopback any user of the
//! machine can send packets; on a Unix socket those who may write to it ([`Local::Unix`]), and a
//! client's socket takes packets from its server alone.
//!
//! Who may write to a server's Unix socket may also mute it: he connects a socket to it and never
//! reads. All that the server sends by that socket shares one send buffer of the kernel's, and what
//! isn't read stays in it; full of answers to him, it takes none to anybody else. The socket's mode
//! decides who may, so it should be given to no more than the callers; the server's other sockets
//! aren't touched.
//!
//! # Whoever waits is told
//!
//! When a client or server can't go on, because its runtime has ended, or a task of its panicked,
//! or the kernel takes its socket away, it closes: calls end with
//! [`CallError::Cancelled`](crate::CallError::Cancelled), and [`Server::recv`] with `None`. A
//! directory that panics has failed, and is asked again.

mod client;
mod counters;
mod error;
mod hub;
mod inbox;
mod lookup;
mod open;
mod outbox;
mod readiness;
mod request;
mod search;
mod server;
mod socket;
mod sockets;
mod task;
mod unix;

pub use client::{Client, Pending};
pub use counters::Datagrams;
pub use error::BindError;
pub use lookup::{Directory, Lookup, LookupError, Table};
pub use request::Request;
pub use server::Server;
pub use sockets::Local;
