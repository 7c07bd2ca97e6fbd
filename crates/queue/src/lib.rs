//! Postfix's queue as far as OPTIMUS touches it: find, release, discard, scan.
//!
//! pickup-rs serves the queue, and an operator's command acts on it while no Mail Agent is there.
//! Neither decides anything here: Redis does (decision 0024).
//!
//! | module | what |
//! |---|---|
//! | `queue`, `file`, `folder`, `operating` | one file: find, prepare, release, discard, an operator's act |
//! | `origin` | the attributes by which a file names its owner |
//! | [`scan`] | all files, and their folders |
//! | [`inotify`] | watches of the queue's directories |
//! | [`held`] | release of mail on hold, for operators' commands |
//! | [`mark`] | the number up to which all commits are released, on the disk of the files |

mod file;
mod folder;
pub mod held;
pub mod inotify;
pub mod mark;
mod operating;
mod origin;
mod queue;
pub mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use crate::file::Whereabouts;
pub use crate::folder::Folder;
pub use crate::operating::{OnHold, Operation};
pub use crate::origin::{Origin, PREFIX, READ_BYTES, Whose};
pub use crate::queue::{Discard, Examined, Preparation, QUEUES, Queue, Release, folders};
