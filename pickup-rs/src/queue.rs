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

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use postfix_wire::{QueueId, QueueLayout, QueueName};
use spool::MessageId;
use tracing::warn;

use crate::message::{Origin, READ_BYTES};
use crate::protocol::{Handoff, Place};

/// Mode of a finished queue file: `MAIL_QUEUE_STAT_READY`.
const READY_MODE: u32 = 0o700;

/// The bit that a release sets: execute for others, which means nothing to Postfix.
const RELEASED_BIT: u32 = 0o001;

/// Mode of the subdirectories of a hashed queue, as Postfix makes them.
const SUBDIRECTORY_MODE: u32 = 0o700;

/// How often a file is looked for that moves while we try to open it.
const EXAMINE_ATTEMPTS: usize = 10;

/// Mode of a file that a delivery agent found corrupt (`mark_corrupt.c`), and that the queue manager therefore moves to
/// `corrupt/`. It overwrites our mark.
const CORRUPT_MODE: u32 = 0o400;

/// The queues in which a message on its way can be, in the order it passes through them.
pub(crate) const ON_ITS_WAY: [QueueName; 4] =
    [QueueName::Hold, QueueName::Incoming, QueueName::Active, QueueName::Deferred];

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
}

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
            Ok(metadata) => Ok(metadata.is_file().then(|| given_up(QueueName::Corrupt, &metadata))),
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
            Ok(metadata) => Ok(whereabouts(queue, &metadata)),
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
        if mode & RELEASED_BIT != 0 {
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
        let ours = read_origin(&file)?
            .is_some_and(|origin| origin.queue_id == *id && origin.handoff == Handoff::Hold);
        if !ours || mode(&file)? & RELEASED_BIT != 0 {
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
                opened => {
                    let origin = read_origin(&opened?)?;
                    return Ok(origin.map_or(Examined::Foreign, |origin| Examined::Ours(origin, whereabouts)));
                }
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

fn whereabouts(queue: QueueName, metadata: &fs::Metadata) -> Option<Whereabouts> {
    if metadata.is_file() && metadata.mode() & 0o777 == CORRUPT_MODE {
        return Some(given_up(queue, metadata));
    }
    let finished = metadata.is_file() && metadata.mode() & READY_MODE == READY_MODE;
    finished.then(|| Whereabouts {
        queue,
        released: metadata.mode() & RELEASED_BIT != 0,
        mtime_s: u64::try_from(metadata.mtime()).unwrap_or_default(),
    })
}

/// Delivery was tried, so it had been released.
fn given_up(queue: QueueName, metadata: &fs::Metadata) -> Whereabouts {
    Whereabouts { queue, released: true, mtime_s: u64::try_from(metadata.mtime()).unwrap_or_default() }
}

/// Only mail_owner writes to these directories; still, a link is never followed and a FIFO never waited for.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn read_origin(file: &File) -> io::Result<Option<Origin>> {
    let mut start = Vec::with_capacity(READ_BYTES);
    file.take(READ_BYTES as u64).read_to_end(&mut start)?;
    Ok(Origin::find(&start))
}

/// An unfinished file need not say yet whose it is; one that does is believed.
fn is_left_of(file: &File, id: &QueueId, message: MessageId) -> io::Result<bool> {
    let unfinished = mode(file)? & READY_MODE != READY_MODE;
    Ok(match read_origin(file)? {
        Some(origin) => origin.id == message && origin.queue_id == *id,
        None => unfinished,
    })
}

fn mode(file: &File) -> io::Result<u32> {
    Ok(file.metadata()?.mode() & 0o777)
}

fn mark(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode | RELEASED_BIT))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Renames, making missing subdirectories of a hashed queue.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = to.parent() {
                use std::os::unix::fs::DirBuilderExt;
                fs::DirBuilder::new().recursive(true).mode(SUBDIRECTORY_MODE).create(parent)?;
            }
            fs::rename(from, to)
        }
        result => result,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use postfix_wire::RecordType;
    use postfix_wire::record::put;
    use tempfile::TempDir;

    pub(crate) struct Sample {
        pub(crate) queue: Queue,
        _directory: TempDir,
    }

    pub(crate) fn sample(layout: QueueLayout) -> Sample {
        let directory = tempfile::tempdir().unwrap();
        for queue in QueueName::ALL {
            fs::create_dir(directory.path().join(queue.as_str())).unwrap();
        }
        Sample { queue: Queue::new(directory.path(), layout), _directory: directory }
    }

    pub(crate) fn plain() -> Sample {
        sample(QueueLayout::new([QueueName::Deferred], 1))
    }

    pub(crate) fn id() -> QueueId {
        "4C1B21A0".parse().unwrap()
    }

    impl Sample {
        pub(crate) fn write(&self, queue: QueueName, mode: u32, written_as: &str) {
            let path = self.queue.path(queue, &id());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = Vec::new();
            let attributes = [
                "optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
                "optimus_lot=1.1".to_owned(),
                "optimus_handoff=hold".to_owned(),
                format!("optimus_queue_id={written_as}"),
            ];
            for attribute in attributes {
                put(&mut bytes, RecordType::Attr, attribute.as_bytes());
            }
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }

        pub(crate) fn mode(&self, queue: QueueName) -> u32 {
            fs::metadata(self.queue.path(queue, &id())).unwrap().mode() & 0o777
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{id, plain, sample};
    use super::*;

    #[test]
    fn a_release_moves_and_marks_once() {
        let sample = plain();
        sample.write(QueueName::Hold, 0o700, "4C1B21A0");
        assert_eq!(sample.queue.release(&id()).unwrap(), Release::Moved);
        assert_eq!(sample.mode(QueueName::Incoming), 0o701);
        assert_eq!(sample.queue.release(&id()).unwrap(), Release::AlreadyOut);
        assert!(sample.queue.look(QueueName::Hold, &id()).unwrap().is_none());
    }

    #[test]
    fn a_hashed_incoming_queue_gets_its_subdirectory() {
        let sample = sample(QueueLayout::new([QueueName::Incoming, QueueName::Hold], 2));
        sample.write(QueueName::Hold, 0o700, "4C1B21A0");
        assert_eq!(sample.queue.release(&id()).unwrap(), Release::Moved);
        assert!(sample.queue.directory(QueueName::Incoming).join("4/C/4C1B21A0").exists());
    }

    #[test]
    fn what_the_administrator_holds_stays() {
        let sample = plain();
        sample.write(QueueName::Hold, 0o701, "4C1B21A0");
        assert_eq!(sample.queue.release(&id()).unwrap(), Release::AlreadyOut);
        assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::NotOurs);
        let whereabouts = sample.queue.find(&id()).unwrap().unwrap();
        assert_eq!((whereabouts.queue, whereabouts.place(Handoff::Hold)), (QueueName::Hold, Place::Queued));
    }

    #[test]
    fn only_an_undecided_file_of_ours_is_discarded() {
        let sample = plain();
        assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::Gone);
        sample.write(QueueName::Hold, 0o700, "4C1B21A1");
        assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::NotOurs);
        sample.write(QueueName::Hold, 0o700, "4C1B21A0");
        assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::Gone);
        assert_eq!(sample.queue.find(&id()).unwrap(), None);
    }

    #[test]
    fn a_file_is_found_wherever_it_is_once_it_is_finished() {
        for queue in ON_ITS_WAY {
            let sample = plain();
            sample.write(queue, 0o600, "4C1B21A0");
            assert_eq!(sample.queue.find(&id()).unwrap(), None, "{queue}, unfinished");
            sample.write(queue, 0o700, "4C1B21A0");
            assert_eq!(sample.queue.find(&id()).unwrap().unwrap().queue, queue);
            assert!(matches!(sample.queue.examine(&id()).unwrap(), Examined::Ours(..)));
        }
    }

    #[test]
    fn what_a_dead_cleanup_left_is_swept_and_nothing_else() {
        let (this, another) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), MessageId::new().unwrap());
        for (queue, mode) in
            [(QueueName::Incoming, 0o600), (QueueName::Hold, 0o600), (QueueName::Hold, 0o700)]
        {
            let sample = plain();
            sample.write(queue, mode, "4C1B21A0");
            sample.queue.sweep(&id(), another).unwrap();
            assert!(sample.queue.path(queue, &id()).exists(), "{queue} {mode:o}: another message's");
            sample.queue.sweep(&id(), this).unwrap();
            assert!(!sample.queue.path(queue, &id()).exists(), "{queue} {mode:o}");
        }
        let sample = plain();
        let path = sample.queue.path(QueueName::Hold, &id());
        fs::write(&path, "somebody else's").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        sample.queue.sweep(&id(), this).unwrap();
        assert!(path.exists());
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        sample.queue.sweep(&id(), this).unwrap();
        assert!(!path.exists(), "nothing was written yet");
    }

    #[test]
    fn a_corrupt_file_is_not_on_its_way_and_not_gone() {
        let sample = plain();
        sample.write(QueueName::Active, 0o400, "4C1B21A0");
        assert_eq!(sample.queue.find(&id()).unwrap().unwrap().queue, QueueName::Active);
        let corrupt = sample.queue.path(QueueName::Corrupt, &id());
        fs::rename(sample.queue.path(QueueName::Active, &id()), &corrupt).unwrap();
        assert_eq!(sample.queue.find(&id()).unwrap(), None);
        let whereabouts = sample.queue.find_anywhere(&id()).unwrap().unwrap();
        assert_eq!(
            (whereabouts.queue, whereabouts.place(Handoff::Hold)),
            (QueueName::Corrupt, Place::Queued)
        );
        assert!(matches!(sample.queue.examine(&id()).unwrap(), Examined::Ours(..)));
        assert_eq!(sample.mode(QueueName::Corrupt), 0o400);
    }

    #[test]
    fn a_release_of_nothing_says_so() {
        assert_eq!(plain().queue.release(&id()).unwrap(), Release::Gone);
    }

    #[test]
    fn a_link_is_not_followed() {
        let sample = plain();
        std::os::unix::fs::symlink("/etc/passwd", sample.queue.path(QueueName::Hold, &id())).unwrap();
        assert!(sample.queue.release(&id()).is_err());
        assert_eq!(sample.queue.find(&id()).unwrap(), None);
    }
}
