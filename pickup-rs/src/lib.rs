//! Hand-off of mail from Redis to stock Postfix cleanup.
//!
//! pickup-rs runs under Postfix's master in stock pickup's place. The Mail Agent names message ids
//! over a private socket ([`protocol`]). pickup-rs reads these messages from Redis and feeds them
//! to cleanup. No other part of OPTIMUS touches Postfix's queue. pickup-rs decides nothing: Redis
//! decides whether a message is this node's to send, and the Mail Agent fetches that decision.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`], [`client`] | messages on the socket; the Mail Agent's end of it |
//! | `daemon` | from master's `exec` to the service |
//! | `service` | the one owner of all state, driven by events |
//! | `session` | one connection |
//! | `feeder`, `message`, `cleanup` | one message from Redis into cleanup |
//! | `configuration`, `handoff` | the site's settings, and the hand-off they need |
//! | `queue` | find, release, discard |
//! | `watch`, `scan`, `tracker` | file events, scans of the queue, changes since the last report |
//! | [`maildrop`], [`in_doubt`], [`stranded`] | its files; submissions in doubt; mail that no service reads |
//! | `node` | the node that this queue directory belongs to |
//! | [`log`] | log lines beside Postfix's own |

mod cleanup;
pub mod client;
mod configuration;
pub mod daemon;
mod feeder;
mod handoff;
pub mod in_doubt;
mod lines;
pub mod log;
pub mod maildrop;
mod message;
mod node;
pub mod protocol;
mod queue;
mod readiness;
pub mod refusal;
mod scan;
mod service;
mod session;
pub mod stranded;
mod tracker;
mod trigger;
mod watch;

pub use configuration::redis;
pub use node::{MarkError, is_latest};
