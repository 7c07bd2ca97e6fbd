//! Being a service that master(8) starts.
//!
//! master runs a service's program when somebody connects and no process of it is idle. The child
//! gets:
//!
//! | descriptor | what |
//! |---|---|
//! | 3, 4 | the flow control pipe: read a token to take in mail, write one when mail has left |
//! | 5 | status: written to tell master "taken" or "available"; readable (end of file) when master is gone |
//! | 6… | the listening sockets, `-s` of them, shared with all processes of the service |
//!
//! and `GENERATION`, octal, in its environment, which a status message repeats so that one from an
//! earlier process with the same pid is ignored. Status messages are gossip: master counts with
//! them which processes are idle.
//!
//! Two rules follow.
//!
//! - master throttles a service for a minute ("bad command startup") when a process of it exits
//!   otherwise than with 0 and was never used. Used means that master has read "taken" and then
//!   "available" from it: "taken" alone does not count. A process that keeps its clients for long
//!   therefore says both as soon as it has one ([`MasterLink::count_use`]).
//! - A process outlives master by nothing: on end of file it exits.
//!
//! Source: `master_proto.h`, `master_spawn.c`, `master_status.c`, `multi_server.c`, `mail_flow.c`.

mod args;
mod fds;
mod link;

pub use args::{MasterArgs, MasterArgsError};
pub use link::{Availability, FlowPipe, Inherited, MAX_SOCKETS, MasterLink, MasterLinkError};
