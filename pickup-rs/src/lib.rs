//! Hand-off of mail from Redis to stock Postfix cleanup.
//!
//! pickup-rs runs under Postfix's master in stock pickup's place, is told message ids by the Mail
//! Agent over a private socket ([`protocol`]), reads the messages from Redis and feeds them to
//! cleanup. It is the only part of OPTIMUS that touches Postfix's queue, and it decides nothing:
//! whether a message is this node's to send is Redis's decision, fetched by the Mail Agent.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`], [`client`] | what is said on the socket; the Mail Agent's end of it |
//! | `daemon` | from master's `exec` to the service |
//! | `service` | the one owner of everything, told of events |
//! | `session` | one connection |
//! | `feeder`, `message`, `cleanup` | one message from Redis into cleanup |
//! | `configuration`, `handoff` | the site's settings, and which hand-off they ask for |
//! | `queue` | find, release, discard |
//! | `watch`, `census`, `tracker` | what happens to files, which there are, what is news |
//! | [`limbo`], [`stranded`] | submissions in doubt; mail that no pickup service reads |
//! | `node` | whose queue this is |
//! | [`log`] | log lines where Postfix's go |

mod census;
mod cleanup;
pub mod client;
mod configuration;
pub mod daemon;
mod feeder;
mod handoff;
pub mod limbo;
mod lines;
pub mod log;
mod message;
mod node;
pub mod protocol;
mod queue;
mod readiness;
pub mod refusal;
mod service;
mod session;
pub mod stranded;
mod tracker;
mod trigger;
mod watch;

pub use configuration::redis;
pub use node::{MarkError, is_latest};
