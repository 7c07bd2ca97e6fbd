//! The node that a queue directory belongs to.
//!
//! All files about the node lie in `optimus/node/` in the queue directory. So they move with the
//! queue, and scripts that remove stale sockets don't touch them. The folder belongs to mail_owner
//! and is closed to all other users.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the node's name, made once |
//! | `mark` | the number up to which all commits are released, the last nonces, and the node |
//! | `spool` | the spool that this instance serves |
//!
//! See `docs/decisions/0023-*`.

mod attendance;
mod attending;
pub(crate) mod folder;
mod identity;
mod place;
mod standing;

pub(crate) use attendance::Attendance;
#[cfg(test)]
pub(crate) use attendance::unwritable;
pub(crate) use attending::{Attending, Farewell};
#[cfg(test)]
pub(crate) use identity::Carried;
pub(crate) use identity::find as find_identity;
pub(crate) use standing::Standing;

/// Mode of the files: mail_owner's alone.
const FILE_MODE: u32 = 0o600;
