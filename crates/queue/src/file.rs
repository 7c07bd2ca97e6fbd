//! A queue file: its mode and its first bytes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use handoff::protocol::FolderKind;
use postfix_wire::{QueueId, QueueName};
use spool::MessageId;

use crate::folder::Folder;
use crate::origin::{Origin, READ_BYTES, Whose};

/// Mode of a file that cleanup is writing (`mail_queue_enter`). Such a file lies in incoming, or in
/// hold if the hold flag is set.
const UNFINISHED_MODE: u32 = 0o600;

/// Mode bit that cleanup sets last. The queue manager leaves a file without it alone.
const FINISHED_BIT: u32 = 0o100;

/// Mode bit that a release sets: execute for others, which means nothing to Postfix.
const RELEASED_BIT: u32 = 0o001;

/// Mode of a file that a delivery agent found corrupt (`mark_corrupt.c`), which the queue manager
/// moves to `corrupt/`. This mode overwrites [`RELEASED_BIT`].
const CORRUPT_MODE: u32 = 0o400;

/// Mode of the subdirectories of a hashed queue, as Postfix makes them.
const SUBDIRECTORY_MODE: u32 = 0o700;

/// Folder and state of a finished queue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// Folder of the file.
    pub folder: Folder,
    /// Whether a release has marked the file.
    pub released: bool,
    /// Whether cleanup has finished the file, wherever `postsuper` has moved it since.
    pub finished: bool,
    /// Time of the last change or of the next attempt, in Unix seconds.
    pub mtime_s: u64,
}

impl Whereabouts {
    /// Returns the place that the protocol names for this folder.
    pub fn place(&self) -> FolderKind {
        match self.folder {
            Folder::Prepared => FolderKind::Prepared,
            Folder::Queue(QueueName::Deferred) => FolderKind::Deferred,
            Folder::Queue(QueueName::Hold) => FolderKind::OnHold,
            // A file in corrupt is never delivered. The file still exists, so its message is not
            // settled.
            Folder::Queue(_) => FolderKind::Queued,
        }
    }

    /// Returns `None` if there is no file, or cleanup hasn't finished it. A file with a mode that
    /// Postfix never gives still counts, even if it can't be read: its message is not gone.
    pub(crate) fn of(folder: Folder, metadata: &fs::Metadata) -> Option<Self> {
        let mode = metadata.mode() & 0o777;
        let is_written_here =
            folder == QueueName::Incoming.into() || folder == QueueName::Hold.into();
        if !metadata.is_file() || (is_written_here && mode == UNFINISHED_MODE) {
            return None;
        }
        // A file in corrupt was tried, so it had been released before.
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

/// Opens a file. Only mail_owner writes to these directories. Nevertheless a link is never
/// followed, and a FIFO never blocks.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Reads the owner from the file's first bytes.
pub(crate) fn whose(file: &File) -> io::Result<Whose> {
    let mut start = Vec::with_capacity(READ_BYTES);
    file.take(READ_BYTES as u64).read_to_end(&mut start)?;
    Ok(Whose::find(&start))
}

/// Whether a dead cleanup process left this file of the message, in a folder that cleanup writes
/// to. An unfinished file may not name its owner yet, and then counts as left.
pub(crate) fn is_left_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let unfinished = !is_finished(file)?;
    Ok(match whose(file)? {
        Whose::Ours(origin) => origin.id == message && origin.queue_id == *id,
        Whose::Foreign | Whose::Unclear => unfinished,
    })
}

/// Whether a file is an unfinished one of this message, in any folder that `postsuper` can move it
/// to.
pub(crate) fn is_unfinished_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let is_it = |origin: &Origin| origin.id == message && origin.queue_id == *id;
    Ok(!is_finished(file)? && matches!(whose(file)?, Whose::Ours(origin) if is_it(&origin)))
}

fn is_finished(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.mode() & FINISHED_BIT != 0)
}

/// Marks a file as released. The caller must make sure that the path is no link.
pub(crate) fn mark(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | RELEASED_BIT))
}

/// Removes a file; a missing one is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Renames a file, and makes missing subdirectories of a hashed queue.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with_directory(to, || fs::rename(from, to))
}

/// Links a file to another name, and makes missing subdirectories of a hashed queue.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::symlink_metadata(from)?;
    with_directory(to, || fs::hard_link(from, to))
}

fn with_directory(to: &Path, act: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match act() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = to.parent() {
                fs::DirBuilder::new().recursive(true).mode(SUBDIRECTORY_MODE).create(parent)?;
            }
            act()
        }
        result => result,
    }
}
