//! Everything that knows a Redis key: the schema, its function library, and two clients.
//!
//! What is stored, who may change it and what always holds is told once, at the head of
//! `optimus.lua`. This side has the names ([`MessageId`], [`LotNumber`], [`Epoch`], [`NodeId`]),
//! the stored form of a message ([`Message`]), and
//!
//! - [`sync::Submitter`] for the set-group-id programs: one call, one deadline, and an outcome that
//!   says whether the message is certainly stored, certainly not, or in doubt;
//! - `Spool` (feature `async`) for the daemons: every other function, reconnecting, with errors
//!   that say whether to retry.
//!
//! The daemons' loads the function library when Redis has lost it, and repeats calls freely,
//! because every function is idempotent: the second call changes nothing and says so. Submitting
//! takes no function: RPUSH and PUBLISH do, so that is all that a submitter's Redis user may do
//! (module `acl`). Whoever submits a message twice under one id submits it once.

#[cfg(feature = "async")]
pub mod acl;
mod checksum;
#[cfg(feature = "async")]
mod client;
mod content;
#[cfg(feature = "async")]
mod envelope;
mod ids;
mod library;
mod message;
mod server;
pub mod sync;

/// How long Redis keeps a connection over which nothing comes, seconds: its setting `timeout`.
///
/// A stopped `sendmail` holds its connection no longer than this, so that its user can't use up
/// `maxclients`. Longer than the daemons' clients are ever silent (10 s, and 2 s for the answer),
/// and than `submit.timeout_ms` by default.
pub const SILENCE_LIMIT_S: u64 = 20;

#[cfg(feature = "async")]
pub use client::*;
pub use content::{Content, InFile};
#[cfg(feature = "async")]
pub use envelope::{END_BYTES, Ends, Envelope, Told};
pub use ids::{
    AgentId, CommitNumber, Domain, Epoch, Generation, IdError, LotNumber, MessageId, NodeId,
    SpoolId, Start,
};
pub use library::{library, library_version};
pub use message::{Damage, Message, Submission, records_of};
pub use server::{Address, Server, ServerError};
