//! The driver: sockets, timers and callers for the cores.
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
//! The cores decide everything; the driver moves packets and time. A core is behind a lock, and the
//! task that has input for it also sends its output: see `endpoint`. An idle client or server has
//! two tasks, and both sleep. The core with its waiters is `caller` on a client, `service` on a
//! server. Programs hold the types of `client`, `server` and `request`.
//!
//! | | |
//! |---|---|
//! | a call | runs the core and sends its packet in the caller's own task; one oneshot channel brings the reply |
//! | packets | all that have arrived are taken before any is handled; on IP, fragments come and go joined |
//! | the kernel takes no more | the rest waits, by destination; above some MiB it is dropped, as if lost |
//! | a lookup | is a task; no packet and no other call waits for it |
//! | a datagram that can't be sent | counted and, once in a while, logged; for the core it was lost |
//!
//! # Local and not
//!
//! Without a key file a client or server uses loopback addresses and Unix sockets only. Other
//! addresses from a directory are refused: [`BindError::KeyNeeded`],
//! [`CallError::AddressRefused`](crate::CallError::AddressRefused). On loopback any user of the
//! machine can send packets. On a server's Unix socket only users with write permission can
//! ([`Local::Unix`]), and a client's socket takes packets from its server alone.
//!
//! A user who may write to a server's Unix socket may also mute it, by connecting a socket and
//! never reading. All answers from that socket share one send buffer of the kernel's. When it is
//! full of unread answers, the server can't send others. The socket's mode decides who may write,
//! so only callers should have that permission. The server's other sockets aren't affected.
//!
//! # Waiters always end
//!
//! A client or server closes when it can't go on: its runtime has ended, one of its tasks panicked,
//! or the kernel takes its socket away. Then calls end with
//! [`CallError::Cancelled`](crate::CallError::Cancelled), and [`Server::recv`] with `None`. A
//! directory that panics has failed, and is asked again.

mod caller;
mod client;
mod counters;
mod endpoint;
mod error;
mod inbox;
mod lookup;
mod open;
mod outbox;
mod readiness;
mod request;
mod search;
mod server;
mod service;
mod socket;
mod sockets;
mod task;
mod unix;

pub use client::{Client, Pending};
pub use counters::Datagrams;
pub use error::BindError;
pub use lookup::{Lookup, LookupError, PortDirectory, Table};
pub use request::Request;
pub use server::Server;
pub use sockets::Local;
