//! What a queue knows of the node that it belongs to.
//!
//! All of it lies in `optimus/node/` in the queue directory, so it goes where the queue goes, and
//! scripts that remove stale sockets don't touch it. The folder belongs to mail_owner and is closed
//! to everybody else.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the node's name, made once |
//!
//! See `docs/decisions/0023-*`.

pub(crate) mod folder;
mod identity;
mod kept;

pub(crate) use identity::find as find_identity;
