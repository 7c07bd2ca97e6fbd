//! Everything that knows a Redis key: the schema, its function library, and two clients.
//!
//! The head of `optimus.lua` lists the keys, the callers that may change them, and the invariants.
//! The Rust side has the names ([`MessageId`], [`LotNumber`], [`Epoch`], [`NodeId`]), the stored
//! form of a message ([`Message`]), and two clients:
//!
//! - [`sync::Submitter`] for the set-group-id programs has one call with one deadline. Its outcome
//!   says whether the message is certainly stored, certainly not, or in doubt.
//! - `Spool` (feature `async`) for the daemons has every other function, reconnects, and has errors
//!   that say whether to retry.
//!
//! `Spool` loads the function library when Redis has lost it. `Spool` may repeat any call, because
//! every function is idempotent: the second call changes nothing and says so. A submission needs no
//! function, only RPUSH and PUBLISH, so a submitter's Redis user may do nothing else (module
//! `acl`). A message that is submitted twice under one id is sent once.

#[cfg(feature = "async")]
pub mod acl;
mod checksum;
#[cfg(feature = "async")]
mod client;
mod content;
#[cfg(feature = "async")]
mod envelope;
mod ids;
pub mod keys;
mod library;
#[cfg(feature = "async")]
mod login;
mod message;
#[cfg(feature = "model")]
pub mod model;
mod server;
pub mod sync;

/// Time after which Redis closes a silent connection, seconds: its setting `timeout`.
///
/// A stopped `sendmail` holds its connection no longer than this time, so its user can't use up
/// `maxclients`. The daemons' clients are silent for 12 s at most: 10 s, and 2 s for the answer. A
/// `sendmail` under the default `submit.timeout_ms` is never silent for so long either.
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
#[cfg(feature = "async")]
pub use login::LoginError;
pub use message::{Damage, Message, Submission, records_of};
pub use server::{Address, Server, ServerError};
