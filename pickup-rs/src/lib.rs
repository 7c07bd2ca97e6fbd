//! Hand-off of mail from Redis to stock Postfix cleanup.
//!
//! pickup-rs runs under Postfix's master in stock pickup's place. The Mail Agent names message ids
//! over a private socket ([`handoff::protocol`]). pickup-rs reads these messages from Redis and
//! feeds them to cleanup. No other part of OPTIMUS touches Postfix's queue. pickup-rs decides
//! nothing: Redis decides whether a message is this node's to send, and the Mail Agent fetches that
//! decision.
//!
//! | module | what |
//! |---|---|
//! | `daemon` | from master's `exec` to the service |
//! | `service` | the one owner of all state, driven by events |
//! | `session` | one connection |
//! | `feeder`, `message`, `cleanup` | one message from Redis into cleanup |
//! | `configuration`, `handoff` | the site's settings, and the hand-off they need |
//! | `watch`, `tracker` | file events, changes since the last report |
//! | `node` | the node that this queue directory belongs to |
//! | [`log`] | log lines beside Postfix's own |

mod cleanup;
mod configuration;
pub mod daemon;
mod feeder;
mod handoff;
pub mod log;
mod message;
mod node;
mod readiness;
mod service;
mod session;
mod tracker;
mod watch;
