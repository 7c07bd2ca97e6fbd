//! Folders in which a file of OPTIMUS can lie: one of its own, and Postfix's queues.
//!
//! Undecided mail lies in `optimus/prepared/` below the queue directory. No option of `postsuper`
//! reads that folder, and neither does any part of Postfix. See `docs/decisions/0024-*`.

use std::fmt;

use postfix_wire::QueueName;

/// Folder of undecided files, below the queue directory.
const PREPARED: &str = "optimus/prepared";

/// A folder in which a file of OPTIMUS can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Folder {
    /// Folder of OPTIMUS, for undecided files, and for committed ones until their release.
    Prepared,
    /// One of Postfix's queues.
    Queue(QueueName),
}

impl Folder {
    /// Returns the path below the queue directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepared => PREPARED,
            Self::Queue(queue) => queue.as_str(),
        }
    }
}

impl From<QueueName> for Folder {
    fn from(queue: QueueName) -> Self {
        Self::Queue(queue)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
