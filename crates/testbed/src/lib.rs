//! For tests only: a real redis-server, a real Postfix, an SMTP sink and a bad network as values
//! that stop when dropped.
//!
//! Everything of one test lives in one [`Scratch`] folder: configuration, queue, logs, and the
//! working directory of every process. So the kernel tells which processes belong to the test:
//! those whose working directory lies in the folder. Dropping the folder ends those processes and
//! removes it. If the test program itself is killed, a small guard process outside does the same.
//!
//! Tests use only the installed programs of the machine's own Postfix and Redis. So several tests
//! can run at once, beside the machine's own Postfix and Redis.

mod bins;
mod link;
mod moving;
mod namespace;
mod network;
mod postfix;
mod processes;
mod redis;
mod scratch;
mod sink;
mod star;
mod tally;
mod unread;
mod wait;
mod wire;

pub use bins::bin;
pub use link::{LinkConditions, MTU};
pub use moving::MovingAddress;
pub use namespace::Namespace;
pub use network::{Delayed, Network};
pub use postfix::{Postfix, PostfixBuilder};
pub use processes::{Process, kill_9, processes_under};
pub use redis::Redis;
pub use scratch::Scratch;
pub use sink::{Delivery, Sink, SinkAnswer, SinkBuilder};
pub use star::Star;
pub use tally::Tally;
pub use unread::{fill_socket, full_pipe};
pub use wait::{until, until_some};
