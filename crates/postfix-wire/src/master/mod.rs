//! Services that master(8) starts.
//!
//! master runs a service's program when a client connects and no process of the service is idle.
//! The child gets these descriptors:
//!
//! | descriptor | what |
//! |---|---|
//! | 3, 4 | the flow control pipe: read a token to take in mail, write one when mail has left |
//! | 5 | status: written to tell master "taken" or "available"; readable (end of file) when master is gone |
//! | 6… | the listening sockets, `-s` of them, shared with all processes of the service |
//!
//! The child also gets `GENERATION`, octal, in its environment. A status message repeats this
//! number, so that master ignores messages of an earlier process with the same pid. master counts
//! the idle processes by status messages.
//!
//! Two rules follow.
//!
//! - master throttles a service for a minute ("bad command startup") when an unused process of it
//!   exits with another code than 0. A process is used when master has read "taken" and then
//!   "available" from it: "taken" alone does not count. So a process that keeps its clients for
//!   long says both as soon as it has a client ([`MasterLink::count_use`]).
//! - A process must not outlive master: on end of file it exits.
//!
//! Source: `master_proto.h`, `master_spawn.c`, `master_status.c`, `multi_server.c`, `mail_flow.c`.

mod args;
mod fds;
mod link;

pub use args::{MasterArgs, MasterArgsError};
pub use link::{Availability, FlowPipe, Inherited, MAX_SOCKETS, MasterLink, MasterLinkError};
