//! One queue file: what its mode and its first bytes say.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use postfix_wire::{QueueId, QueueName};
use spool::MessageId;

use super::folder::Folder;
use crate::message::{Origin, READ_BYTES, Whose};
use crate::protocol::Place;

/// Mode of one that cleanup is at: `mail_queue_enter`. Such a file lies in incoming, or in hold if
/// it is to be held.
const UNFINISHED_MODE: u32 = 0o600;

/// The bit that cleanup sets last, and without which the queue manager leaves a file alone.
const FINISHED_BIT: u32 = 0o100;

/// The bit that a release sets: execute for others, which means nothing to Postfix.
const RELEASED_BIT: u32 = 0o001;

/// Mode of a file that a delivery agent found corrupt (`mark_corrupt.c`), and that the queue
/// manager therefore moves to `corrupt/`. It overwrites our mark.
const CORRUPT_MODE: u32 = 0o400;

/// Mode of the subdirectories of a hashed queue, as Postfix makes them.
const SUBDIRECTORY_MODE: u32 = 0o700;

/// Where a finished queue file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) folder: Folder,
    /// Whether a release has marked the file.
    pub(crate) released: bool,
    /// Whether cleanup has finished the file, wherever `postsuper` has moved it since.
    pub(crate) finished: bool,
    /// Time of the last change, or of the next attempt. Unix seconds.
    pub(crate) mtime_s: u64,
}

impl Whereabouts {
    /// What that means for a file of ours.
    pub(crate) fn place(&self) -> Place {
        match self.folder {
            Folder::Prepared => Place::Prepared,
            Folder::Queue(QueueName::Deferred) => Place::Deferred,
            Folder::Queue(QueueName::Hold) => Place::OnHold,
            // Nobody delivers a file in corrupt; but it is there, so its message is not settled.
            Folder::Queue(_) => Place::Queued,
        }
    }

    /// `None`: no file, or one that cleanup hasn't finished. One whose mode Postfix would never
    /// give it is a file nevertheless, and its message not gone, though nobody may be able to read
    /// it.
    pub(super) fn of(folder: Folder, metadata: &fs::Metadata) -> Option<Self> {
        let mode = metadata.mode() & 0o777;
        let is_written_here =
            folder == QueueName::Incoming.into() || folder == QueueName::Hold.into();
        if !metadata.is_file() || (is_written_here && mode == UNFINISHED_MODE) {
            return None;
        }
        // What is given up was tried, so it had been released.
        let given_up = folder == QueueName::Corrupt.into() || mode == CORRUPT_MODE;
        let mtime_s = u64::try_from(metadata.mtime()).unwrap_or_default();
        Some(Self {
            folder,
            released: given_up || mode & RELEASED_BIT != 0,
            finished: given_up || mode & FINISHED_BIT != 0,
            mtime_s,
        })
    }
}

/// Only mail_owner writes to these directories; still, a link is never followed and a FIFO never
/// waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Whose it is, as far as it says so.
pub(super) fn whose(file: &File) -> io::Result<Whose> {
    let mut start = Vec::with_capacity(READ_BYTES);
    file.take(READ_BYTES as u64).read_to_end(&mut start)?;
    Ok(Whose::find(&start))
}

/// Whether a file in one of the folders that cleanup writes to was left by a process that died over
/// this message. An unfinished file need not say yet whose it is; one that does is believed.
pub(super) fn is_left_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let unfinished = !is_finished(file)?;
    Ok(match whose(file)? {
        Whose::Ours(origin) => origin.id == message && origin.queue_id == *id,
        Whose::Foreign | Whose::Unclear => unfinished,
    })
}

/// Whether a file is an unfinished one of this message. `postsuper` may have moved it to any
/// folder.
pub(super) fn is_unfinished_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let is_it = |origin: &Origin| origin.id == message && origin.queue_id == *id;
    Ok(!is_finished(file)? && matches!(whose(file)?, Whose::Ours(origin) if is_it(&origin)))
}

fn is_finished(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.mode() & FINISHED_BIT != 0)
}

/// Marks a file as released. The caller makes sure that it is no link.
pub(super) fn mark(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | RELEASED_BIT))
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
