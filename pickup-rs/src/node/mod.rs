//! What a queue knows of the node that it belongs to.
//!
//! All of it lies in `optimus/node/` in the queue directory, so it goes where the queue goes, and
//! scripts that remove stale sockets don't touch it. The folder belongs to mail_owner and is closed
//! to everybody else.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the node's name, made once |
//! | `mark` | up to which commit all are released, the last nonces, and of which node |
//! | `spool` | the spool that this instance serves |
//!
//! See `docs/decisions/0023-*`.

mod attendance;
pub(crate) mod folder;
mod identity;
mod kept;
mod mark;
mod place;
mod standing;

pub(crate) use attendance::Attendance;
pub(crate) use identity::find as find_identity;
pub use mark::{MarkError, is_latest};
pub(crate) use standing::Standing;
