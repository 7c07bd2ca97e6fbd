//! Small files that a crash leaves whole: made once, replaced, or counted up.
//!
//! A name, a password or a generation must survive a power failure, or two nodes would bear one
//! name, and a server would use one number twice. But a file that is written in place can be found
//! empty or half written. And a new name in a folder is lost in a power failure, even when the
//! content of its file isn't, until the folder is synced as well.
//!
//! So each file here gets its content under another name, the *draft*, and its own name by one
//! atomic step of the file system:
//!
//! ```text
//!  step                         a process that dies before it leaves   after a power failure
//!  ──────────────────────────────────────────────────────────────────────────────────────────
//!  create the draft             the old file                           the old file
//!  write it                     the old file, an empty draft           the old file
//!  sync it                      the old file, a draft                  the old file
//!  rename it, or link it        the old file, a draft                  the old file
//!  remove the draft (of a link) the new file, a draft                  the old file or the new one
//!  sync the folder              the new file                           the old file or the new one
//!  return                       the new file                           the new file
//! ```
//!
//! "The old file" is none where there was none. A draft may also be left by a power failure.
//!
//! | type or function | for |
//! |---|---|
//! | [`TextFile::make_once`] | a name or a password: of several processes, one decides |
//! | [`TextFile::replace`] | a text where the last writer is right |
//! | [`Sequence`] | a number that no two processes may use: a lock keeps them apart |
//! | [`rename`], [`remove`], [`sync_folder_of`] | files that are written elsewhere |
//!
//! Invariants:
//!
//! - When a function returns without an error, its change survives a power failure.
//! - Content is synced before it has the file's name, so no reader ever sees half of it.
//! - When a function fails, the file is the old one, or the new one that is not yet safe; the draft
//!   is removed. The same call may be made again.
//! - A reader may see a text before it is safe. [`TextFile::make_once`] syncs the folder for a file
//!   that another process made as well.
//! - A draft that was left is never read. A [`TextFile`] has drafts with random names, because
//!   several processes may write at once; so each death within a write can leave one. A
//!   [`Sequence`] has one name for its draft, and the next process removes it.
//!
//! A draft is never opened through a link: it must be new. Files are read as [`host::file`] does,
//! except those of a [`Sequence`], which may lie in a folder of another user's.
//!
//! Source: `rename(2)`, `link(2)`, `fsync(2)`; Pillai and others, "All File Systems Are Not Created
//! Equal", OSDI 2014.

#[cfg(test)]
mod deaths;
mod draft;
mod folder;
mod sequence;
mod step;
mod text_file;

pub use folder::{remove, rename, sync_folder_of};
pub use sequence::{Locked, Sequence};
pub use text_file::TextFile;
