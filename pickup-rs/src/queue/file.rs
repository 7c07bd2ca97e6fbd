//! One queue file: what its mode and its first bytes say.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use postfix_wire::{QueueId, QueueName};
use spool::MessageId;

use crate::message::{READ_BYTES, Whose};
use crate::protocol::{Handoff, Place};

/// Mode of a finished queue file: `MAIL_QUEUE_STAT_READY`.
const READY_MODE: u32 = 0o700;

/// Mode of one that cleanup is at: `mail_queue_enter`. Such a file lies in incoming, or in hold if it is to be held.
const UNFINISHED_MODE: u32 = 0o600;

/// The bit that a release sets: execute for others, which means nothing to Postfix.
const RELEASED_BIT: u32 = 0o001;

/// Mode of a file that a delivery agent found corrupt (`mark_corrupt.c`), and that the queue manager therefore moves to
/// `corrupt/`. It overwrites our mark.
const CORRUPT_MODE: u32 = 0o400;

/// Mode of the subdirectories of a hashed queue, as Postfix makes them.
const SUBDIRECTORY_MODE: u32 = 0o700;

/// Where a finished queue file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) queue: QueueName,
    /// A release has marked it.
    pub(crate) released: bool,
    /// When it was changed last, or is to be tried next. Unix seconds.
    pub(crate) mtime_s: u64,
}

impl Whereabouts {
    /// What that means for a file that came from us.
    pub(crate) fn place(&self, handoff: Handoff) -> Place {
        match (self.queue, handoff, self.released) {
            (QueueName::Hold, Handoff::Hold, false) => Place::Prepared,
            (QueueName::Deferred, ..) => Place::Deferred,
            // One in corrupt is nobody's to deliver; but its file is there, so it is not settled.
            _ => Place::Queued,
        }
    }

    /// `None`: no file, or one that cleanup hasn't finished. One whose mode Postfix would never give it is a file
    /// nevertheless, and its message not gone, though nobody may be able to read it.
    pub(super) fn of(queue: QueueName, metadata: &fs::Metadata) -> Option<Self> {
        let mode = metadata.mode() & 0o777;
        let unfinished = mode == UNFINISHED_MODE && matches!(queue, QueueName::Incoming | QueueName::Hold);
        if !metadata.is_file() || unfinished {
            return None;
        }
        // What is given up was tried, so it had been released.
        let given_up = queue == QueueName::Corrupt || mode == CORRUPT_MODE;
        let mtime_s = u64::try_from(metadata.mtime()).unwrap_or_default();
        Some(Self { queue, released: given_up || is_released(mode), mtime_s })
    }
}

/// Has a release marked a file of this mode?
pub(super) fn is_released(mode: u32) -> bool {
    mode & RELEASED_BIT != 0
}

/// Only mail_owner writes to these directories; still, a link is never followed and a FIFO never waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Whose it is, as far as it says so.
pub(super) fn whose(file: &File) -> io::Result<Whose> {
    let mut start = Vec::with_capacity(READ_BYTES);
    file.take(READ_BYTES as u64).read_to_end(&mut start)?;
    Ok(Whose::find(&start))
}

/// An unfinished file need not say yet whose it is; one that does is believed.
pub(super) fn is_left_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let unfinished = mode(file)? & READY_MODE != READY_MODE;
    Ok(match whose(file)? {
        Whose::Ours(origin) => origin.id == message && origin.queue_id == *id,
        Whose::Foreign | Whose::Unclear => unfinished,
    })
}

/// Its permissions.
pub(super) fn mode(file: &File) -> io::Result<u32> {
    Ok(file.metadata()?.mode() & 0o777)
}

/// Marks it as released.
pub(super) fn mark(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode | RELEASED_BIT))
}

/// Removes it; that it isn't there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Renames, making missing subdirectories of a hashed queue.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = to.parent() {
                fs::DirBuilder::new().recursive(true).mode(SUBDIRECTORY_MODE).create(parent)?;
            }
            fs::rename(from, to)
        }
        result => result,
    }
}
