//! Being a service that master(8) starts.
//!
//! master runs a service's program when somebody connects and no process of it is idle. The child gets:
//!
//! | descriptor | what |
//! |---|---|
//! | 3, 4 | the flow control pipe: read a token to take in mail, write one when mail has left |
//! | 5 | status: written to tell master "taken" or "available"; readable (end of file) when master is gone |
//! | 6… | the listening sockets, `-s` of them, shared with all processes of the service |
//!
//! and `GENERATION`, octal, in its environment, which a status message repeats so that one from an earlier process
//! with the same pid is ignored. Status messages are gossip: master counts with them which processes are idle.
//!
//! Two rules follow. A process that never said "taken" and exits otherwise than with 0 makes master throttle the
//! service for a minute ("bad command startup"), so [`MasterLink::notify`] `Taken` comes first for each client, also
//! when the process serves many at once. And a process outlives master by nothing: on end of file it exits.
//!
//! Source: `master_proto.h`, `master_spawn.c`, `master_status.c`, `multi_server.c`, `mail_flow.c`.

mod args;
mod fds;
mod link;

pub use args::{MasterArgs, MasterArgsError};
pub use link::{Availability, FlowPipe, Inherited, MAX_SOCKETS, MasterLink, MasterLinkError};
