//! Postfix's queue, as far as we touch it: where a file is, release it, discard it.
//!
//! ```text
//!            cleanup, HOLD            release                 qmgr
//! incoming ──────────────▶ hold ───────────────▶ incoming ────────▶ active ◀──────▶ deferred
//!                           │ discard                                 │
//!                           ▼                                         ▼
//!                          gone                                      gone
//! ```
//!
//! Postfix moves files with `rename`, so a file is always in one place, and looking at one place after the other in the
//! direction of the arrows can't miss it: where it was not any more it has moved on to where we look next. It could be missed
//! only by moving back meanwhile; [`Queue::find`] looks twice, and would have to be passed twice, within microseconds,
//! in opposite directions.
//!
//! A released file carries a mark in its mode, see `docs/decisions/0001-*`.

mod file;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use postfix_wire::{QueueId, QueueLayout, QueueName};
use spool::MessageId;
use tracing::warn;

pub(crate) use self::file::Whereabouts;
use self::file::{is_left_of, is_released, mark, mode, open, remove, rename, whose};
use crate::message::{Origin, Whose};
use crate::protocol::Handoff;

/// How often a file is looked for that moves while we try to open it.
const EXAMINE_ATTEMPTS: usize = 10;

/// The queues in which a message on its way can be, in the order it passes through them.
pub(crate) const ON_ITS_WAY: [QueueName; 4] =
    [QueueName::Hold, QueueName::Incoming, QueueName::Active, QueueName::Deferred];

/// What came of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Moved to incoming: the queue manager wants to know.
    Moved,
    /// It was there or further on, or the administrator has put it on hold since.
    AlreadyOut,
    /// There is no such file.
    Gone,
}

/// What came of a discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discard {
    /// It is not in hold any more.
    Gone,
    /// What lies in hold under that name is not an undecided file of ours. It was left alone.
    NotOurs,
}

/// What a queue file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Examined {
    /// It has left the queue, or cleanup hasn't finished it.
    Absent,
    /// Somebody else's.
    Foreign,
    /// It came from us, under the name that its origin says.
    Ours(Origin, Whereabouts),
    /// It is there and does not say whose it is: damaged.
    Unclear,
}

impl Examined {
    fn of(whose: Whose, whereabouts: Whereabouts) -> Self {
        match whose {
            Whose::Ours(origin) => Self::Ours(origin, whereabouts),
            // Of damage that Postfix has found, we don't know that it spared our attributes.
            Whose::Foreign if whereabouts.queue == QueueName::Corrupt => Self::Unclear,
            Whose::Foreign => Self::Foreign,
            Whose::Unclear => Self::Unclear,
        }
    }
}

/// The queues in which a file of ours can be, on its way or not.
pub(crate) const WHEREVER: [QueueName; 5] =
    [QueueName::Hold, QueueName::Incoming, QueueName::Active, QueueName::Deferred, QueueName::Corrupt];

/// The queue directory of a Postfix instance.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    directory: PathBuf,
    layout: QueueLayout,
}

impl Queue {
    pub(crate) fn new(directory: &Path, layout: QueueLayout) -> Self {
        Self { directory: directory.to_owned(), layout }
    }

    /// A queue's directory.
    pub(crate) fn directory(&self, queue: QueueName) -> PathBuf {
        self.directory.join(queue.as_str())
    }

    /// How many levels of subdirectories it has.
    pub(crate) fn depth(&self, queue: QueueName) -> usize {
        self.layout.depth(queue)
    }

    fn path(&self, queue: QueueName, id: &QueueId) -> PathBuf {
        self.directory.join(self.layout.path(queue, id))
    }

    /// Where a message on its way is. `None`: it has left the queue, or cleanup hasn't finished it.
    pub(crate) fn find(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        for queue in ON_ITS_WAY.into_iter().chain(ON_ITS_WAY) {
            if let Some(whereabouts) = self.look(queue, id)? {
                return Ok(Some(whereabouts));
            }
        }
        Ok(None)
    }

    /// A file that Postfix has moved to `corrupt/`: neither on its way nor gone, until an administrator has decided.
    pub(crate) fn find_corrupt(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        match fs::symlink_metadata(self.path(QueueName::Corrupt, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) => Ok(Whereabouts::of(QueueName::Corrupt, &metadata)),
        }
    }

    /// Where the file is, on its way or corrupt.
    pub(crate) fn find_anywhere(&self, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        Ok(self.find(id)?.or(self.find_corrupt(id)?))
    }

    /// The finished file of that name in one queue.
    pub(crate) fn look(&self, queue: QueueName, id: &QueueId) -> io::Result<Option<Whereabouts>> {
        match fs::symlink_metadata(self.path(queue, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) => Ok(Whereabouts::of(queue, &metadata)),
        }
    }

    /// Makes an undecided file the queue manager's. It has to be told when this is `Moved`.
    pub(crate) fn release(&self, id: &QueueId) -> io::Result<Release> {
        let (hold, incoming) = (self.path(QueueName::Hold, id), self.path(QueueName::Incoming, id));
        let file = match open(&hold) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.released_before(id),
            opened => opened?,
        };
        let mode = mode(&file)?;
        if is_released(mode) {
            return Ok(Release::AlreadyOut);
        }
        match rename(&hold, &incoming) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.released_before(id),
            Err(error) => Err(error),
            // Through the descriptor: the queue manager may have moved the file on, or removed it. Marked or not, it is out.
            Ok(()) => {
                if let Err(error) = mark(&file, mode) {
                    warn!("{id}: released, but can't be marked as such: {error}");
                }
                Ok(Release::Moved)
            }
        }
    }

    fn released_before(&self, id: &QueueId) -> io::Result<Release> {
        Ok(if self.find(id)?.is_some() { Release::AlreadyOut } else { Release::Gone })
    }

    /// Deletes an undecided file of ours from hold.
    pub(crate) fn discard(&self, id: &QueueId) -> io::Result<Discard> {
        let hold = self.path(QueueName::Hold, id);
        let file = match open(&hold) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Discard::Gone),
            opened => opened?,
        };
        let is_ours = |origin: &Origin| origin.queue_id == *id && origin.handoff == Handoff::Hold;
        if !matches!(whose(&file)?, Whose::Ours(origin) if is_ours(&origin)) || is_released(mode(&file)?) {
            return Ok(Discard::NotOurs);
        }
        remove(&hold).map(|()| Discard::Gone)
    }

    /// Deletes what a cleanup process that died left of a message that it was to put on hold: an unfinished file, or one
    /// that says it is this message. Queue ids are used again, and the name may be another's by now.
    pub(crate) fn sweep(&self, id: &QueueId, message: MessageId) -> io::Result<()> {
        for queue in [QueueName::Incoming, QueueName::Hold] {
            let path = self.path(queue, id);
            match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(file) if is_left_of(&file, id, message)? => remove(&path)?,
                Ok(_) => warn!("{id}: in {queue} there is another message of that name, left alone"),
            }
        }
        Ok(())
    }

    /// Makes sure that a finished file is on disk, for a cleanup process that died before it said so.
    pub(crate) fn sync(&self, queue: QueueName, id: &QueueId) -> io::Result<()> {
        open(&self.path(queue, id))?.sync_all()
    }

    /// Whether a finished file on its way is ours, and where it is.
    pub(crate) fn examine(&self, id: &QueueId) -> io::Result<Examined> {
        // Between looking and opening it may move on; it can't keep doing that.
        for _ in 0..EXAMINE_ATTEMPTS {
            let Some(whereabouts) = self.find_anywhere(id)? else { return Ok(Examined::Absent) };
            match open(&self.path(whereabouts.queue, id)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return Ok(Examined::of(whose(&opened?)?, whereabouts)),
            }
        }
        Err(io::Error::other(format!("{id} is never where it was")))
    }

    /// Marks a file of ours that was released by a process that died before it could.
    pub(crate) fn mark(&self, queue: QueueName, id: &QueueId) -> io::Result<()> {
        match open(&self.path(queue, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => {
                let file = opened?;
                mark(&file, mode(&file)?)
            }
        }
    }
}
