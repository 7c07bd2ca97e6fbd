//! The queue of Postfix, as far as pickup-rs touches it: finding, preparing, releasing, discarding.
//!
//! ```text
//!          cleanup, HOLD      prepare             release           qmgr
//! incoming ────────────▶ hold ───────▶ prepared/ ────────▶ incoming ────▶ active ◀──▶ deferred
//!                                          │ discard                        │
//!                                          ▼                                ▼
//!                                        gone                             gone
//! ```
//!
//! A file in `prepared/` is undecided, or committed and about to be released. A file in one of
//! Postfix's queues was released, with one exception. Between cleanup's answer and the rename to
//! `prepared/`, an undecided file lies in hold. A mark in the file's mode, set before the release,
//! tells such a file from one that the administrator has put on hold. See `docs/decisions/0024-*`.
//!
//! Postfix moves files with `rename`, so a file is always in one folder. A look at one folder after
//! the other, in the direction of the arrows, meets it even if it moves on. Only a file that moves
//! back meanwhile could be missed. [`Queue::find`] looks twice, so a file would have to move back
//! twice, within microseconds.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use handoff::protocol::Handoff;
use postfix_wire::{QueueId, QueueLayout, QueueName};
use spool::MessageId;
use tracing::{info, warn};

use crate::file::{Whereabouts, is_left_of, is_unfinished_of, mark, open, remove, rename, whose};
use crate::folder::Folder;
use crate::origin::{Origin, Whose};

/// Most attempts to open a file that moves before it can be opened.
pub(crate) const EXAMINE_ATTEMPTS: usize = 10;

/// Folders through which a message passes, in this order.
const ON_ITS_WAY: [Folder; 5] = [
    Folder::Queue(QueueName::Hold),
    Folder::Prepared,
    Folder::Queue(QueueName::Incoming),
    Folder::Queue(QueueName::Active),
    Folder::Queue(QueueName::Deferred),
];

/// Queues that may have a file which `postsuper` took from hold before pickup-rs could prepare it.
const TAKEN_AWAY: [QueueName; 3] = [QueueName::Maildrop, QueueName::Deferred, QueueName::Incoming];

/// Queues to which cleanup writes a file, or `postsuper` may move it unfinished.
const WRITTEN_OR_MOVED_TO: [QueueName; 4] =
    [QueueName::Incoming, QueueName::Hold, QueueName::Deferred, QueueName::Maildrop];

/// Outcome of preparing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// The file lies in the folder for undecided mail.
    Prepared,
    /// The queue manager has the file: `postsuper -H` came before the rename.
    Out,
    /// The file is in no folder of the queue.
    Gone,
}

/// Outcome of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The file was moved to incoming, and the caller must wake the queue manager.
    Moved,
    /// The file was in incoming or further on, or the administrator has put it on hold since.
    AlreadyOut,
    /// The file is in no folder of the queue.
    Gone,
}

/// Outcome of a discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// No prepared file has this name.
    Gone,
    /// The prepared file of this name is not one of OPTIMUS and was left alone.
    NotOurs,
}

/// Result of examining a queue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// The file has left the queue, or cleanup hasn't finished it.
    Absent,
    /// The file is not one of OPTIMUS.
    Foreign,
    /// The file is one of OPTIMUS. Its origin may name another queue id.
    Ours(Origin, Whereabouts),
    /// The file exists but does not name its owner: damaged.
    Unclear,
}

impl Examined {
    fn of(whose: Whose, whereabouts: Whereabouts) -> Self {
        match whose {
            Whose::Ours(origin) => Self::Ours(origin, whereabouts),
            // In a file that Postfix found damaged, the attributes of OPTIMUS may be damaged, too.
            Whose::Foreign if whereabouts.folder == QueueName::Corrupt.into() => Self::Unclear,
            Whose::Foreign => Self::Foreign,
            Whose::Unclear => Self::Unclear,
        }
    }
}

/// Queues of Postfix in which a file of OPTIMUS can be, on its way or not.
pub const QUEUES: [QueueName; 5] = [
    QueueName::Hold,
    QueueName::Incoming,
    QueueName::Active,
    QueueName::Deferred,
    QueueName::Corrupt,
];

/// Returns all folders in which a file of OPTIMUS can be.
pub fn folders() -> impl Iterator<Item = Folder> {
    QUEUES.into_iter().map(Folder::Queue).chain([Folder::Prepared])
}

/// The queue directory of a Postfix instance.
#[derive(Debug, Clone)]
pub struct Queue {
    directory: PathBuf,
    layout: QueueLayout,
}

impl Queue {
    /// Returns the queue in this directory.
    pub fn new(directory: &Path, layout: QueueLayout) -> Self {
        Self { directory: directory.to_owned(), layout }
    }

    /// Returns a folder's path.
    pub fn directory(&self, folder: impl Into<Folder>) -> PathBuf {
        self.directory.join(folder.into().name())
    }

    /// Returns the number of levels of subdirectories in a folder.
    pub fn depth(&self, folder: impl Into<Folder>) -> usize {
        match folder.into() {
            Folder::Prepared => 0,
            Folder::Queue(queue) => self.layout.depth(queue),
        }
    }

    pub(crate) fn path(&self, folder: impl Into<Folder>, id: &QueueId) -> PathBuf {
        match folder.into() {
            Folder::Prepared => self.directory(Folder::Prepared).join(id.as_str()),
            Folder::Queue(queue) => self.directory.join(self.layout.path(queue, id)),
        }
    }

    /// Checks that files in hold can be renamed to the folder for undecided mail.
    pub fn check_file_system(&self) -> io::Result<()> {
        let device = |folder| {
            let path = self.directory(folder);
            let failed =
                |error| io::Error::other(format!("{}: can't be examined: {error}", path.display()));
            path.symlink_metadata().map(|it| it.dev()).map_err(failed)
        };
        if device(Folder::Prepared)? == device(QueueName::Hold.into())? {
            return Ok(());
        }
        let path = self.directory(Folder::Prepared);
        Err(io::Error::other(format!(
            "{}: can't be used: not in the file system of hold; move the folder there",
            path.display()
        )))
    }

    /// Finds a message on its way. Returns `None` if it has left the queue, or cleanup hasn't
    /// finished it.
    pub fn find(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        for folder in ON_ITS_WAY.into_iter().chain(ON_ITS_WAY) {
            if let Some(whereabouts) = self.look(folder, id)? {
                return Ok(Some(whereabouts));
            }
        }
        Ok(None)
    }

    /// Finds a file that Postfix has moved to `corrupt/`. Such a file is neither on its way nor
    /// gone, until an administrator has decided.
    pub fn find_corrupt(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        self.look(QueueName::Corrupt, id)
    }

    /// Finds a file on its way or corrupt.
    pub fn find_anywhere(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        Ok(self.find(id)?.or(self.find_corrupt(id)?))
    }

    /// Returns the whereabouts of a finished file, if `folder` has one of this name.
    pub fn look(&self, folder: impl Into<Folder>, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        let folder = folder.into();
        match fs::symlink_metadata(self.path(folder, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) => Ok(Whereabouts::of(folder, &metadata)),
        }
    }

    /// Moves a file that cleanup has just finished out of hold, so that `postsuper` can't touch it.
    /// Returns false if the file is no longer in hold, or the folder for undecided mail is gone.
    pub fn prepare(&self, id: &QueueId) -> io::Result<bool> {
        match fs::rename(self.path(QueueName::Hold, id), self.path(Folder::Prepared, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Prepares a file that may no longer be in hold, because `postsuper` may have moved it.
    pub fn retrieve(&self, id: &QueueId, message: MessageId) -> io::Result<Preparation> {
        let prepared = self.path(Folder::Prepared, id);
        if prepared.symlink_metadata().is_ok() {
            return Ok(Preparation::Prepared);
        }
        for queue in [QueueName::Hold].into_iter().chain(TAKEN_AWAY) {
            if self.is_untouched(queue, id, message)? {
                match rename(&self.path(queue, id), &prepared) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => return result.map(|()| Preparation::Prepared),
                }
            }
        }
        Ok(if self.find(id)?.is_some() { Preparation::Out } else { Preparation::Gone })
    }

    /// Whether the file in that queue is the given message and was never tried. After an attempt,
    /// the file's mtime is the time of the next attempt.
    fn is_untouched(&self, queue: QueueName, id: &QueueId, message: MessageId) -> io::Result<bool> {
        let Some(whereabouts) = self.look(queue, id)?.filter(|it| it.finished) else {
            return Ok(false);
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if whereabouts.mtime_s > now_s && queue == QueueName::Deferred {
            return Ok(false);
        }
        match open(&self.path(queue, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            opened => {
                let is_it = |origin: &Origin| origin.id == message && origin.queue_id == *id;
                Ok(matches!(whose(&opened?)?, Whose::Ours(origin) if is_it(&origin)))
            }
        }
    }

    /// Gives a committed file to the queue manager. After `Moved`, the caller must wake the queue
    /// manager.
    ///
    /// The mark comes first. So after a crash or a power failure, every file that Postfix has is
    /// marked.
    pub fn release(&self, id: &QueueId) -> io::Result<Release> {
        let (prepared, incoming) =
            (self.path(Folder::Prepared, id), self.path(QueueName::Incoming, id));
        let metadata = match fs::symlink_metadata(&prepared) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.released_before(id);
            }
            metadata => metadata?,
        };
        // The queue manager ignores an unfinished file for ever.
        if !Whereabouts::of(Folder::Prepared, &metadata).is_some_and(|it| it.finished) {
            return Err(io::Error::other("not finished by cleanup"));
        }
        match mark(&prepared, metadata.mode()).and_then(|()| rename(&prepared, &incoming)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.released_before(id),
            result => result.map(|()| Release::Moved),
        }
    }

    fn released_before(&self, id: &QueueId) -> io::Result<Release> {
        Ok(match self.examine(id)? {
            Examined::Ours(..) | Examined::Unclear => Release::AlreadyOut,
            // Postfix uses short queue ids again.
            Examined::Absent | Examined::Foreign => Release::Gone,
        })
    }

    /// Deletes an undecided file of OPTIMUS.
    pub fn discard(&self, id: &QueueId) -> io::Result<Discard> {
        let prepared = self.path(Folder::Prepared, id);
        let file = match open(&prepared) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Discard::Gone),
            opened => opened?,
        };
        if !matches!(whose(&file)?, Whose::Ours(origin) if origin.queue_id == *id) {
            return Ok(Discard::NotOurs);
        }
        remove(&prepared).map(|()| Discard::Gone)
    }

    /// Deletes the file that a dead cleanup process left of a message with the hold flag. Such a
    /// file is unfinished, or names this message. Queue ids are used again, and the name may belong
    /// to another message by now.
    ///
    /// The administrator may have moved an unfinished file, and may move it again meanwhile. So all
    /// folders are looked through twice.
    pub fn sweep(&self, id: &QueueId, message: MessageId) -> io::Result<()> {
        for queue in WRITTEN_OR_MOVED_TO.into_iter().chain(WRITTEN_OR_MOVED_TO) {
            let path = self.path(queue, id);
            let file = match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let is_left = match queue {
                QueueName::Incoming | QueueName::Hold => is_left_of(&file, id, message)?,
                _ => is_unfinished_of(&file, id, message)?,
            };
            match is_left {
                true => remove(&path)?,
                false => {
                    warn!("{id}: not removed from {queue}: the file is another message's");
                }
            }
        }
        Ok(())
    }

    /// Syncs a finished file, for a cleanup process that died before it said that the file is
    /// durable.
    pub fn sync(&self, folder: Folder, id: &QueueId) -> io::Result<()> {
        open(&self.path(folder, id))?.sync_all()
    }

    /// Reads the owner of a finished file that is on its way or corrupt.
    pub fn examine(&self, id: &QueueId) -> io::Result<Examined> {
        // The file may move between being found and being opened, but not again and again.
        for _ in 0..EXAMINE_ATTEMPTS {
            let Some(whereabouts) = self.find_anywhere(id)? else { return Ok(Examined::Absent) };
            match open(&self.path(whereabouts.folder, id)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return Ok(Examined::of(whose(&opened?)?, whereabouts)),
            }
        }
        Err(never_at_rest(id))
    }

    /// Examines a file, and prepares it first if a dead pickup-rs left it in hold.
    pub fn examine_prepared(&self, id: &QueueId) -> io::Result<Examined> {
        for _ in 0..EXAMINE_ATTEMPTS {
            match self.examine(id)? {
                Examined::Ours(origin, whereabouts)
                    if is_left_in_hold(id, &origin, &whereabouts) =>
                {
                    if self.prepare(id)? {
                        info!("{id}: moved from hold to prepared: undecided when pickup-rs died");
                    }
                }
                found => return Ok(found),
            }
        }
        Err(never_at_rest(id))
    }

    /// Marks a file that the administrator released before it was prepared.
    pub fn mark(&self, folder: Folder, id: &QueueId) -> io::Result<()> {
        let path = self.path(folder, id);
        match fs::symlink_metadata(&path).and_then(|metadata| mark(&path, metadata.mode())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// Whether a file in hold is undecided. Files that the administrator put on hold are marked, and
/// those that content rules put there were handed over directly.
fn is_left_in_hold(id: &QueueId, origin: &Origin, whereabouts: &Whereabouts) -> bool {
    let is_in_hold = whereabouts.folder == QueueName::Hold.into() && !whereabouts.released;
    is_in_hold && origin.handoff == Handoff::Hold && origin.queue_id == *id
}

pub(crate) fn never_at_rest(id: &QueueId) -> io::Error {
    io::Error::other(format!("{id}: not opened: moved at each attempt"))
}
