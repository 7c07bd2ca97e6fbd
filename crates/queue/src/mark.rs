//! The mark: the number up to which all commits are released, kept on the disk of the queue files.
//!
//! The file also has the node's name and the last two nonces. The nonces tell this disk from its
//! copies and its earlier states.
//!
//! When a disk is put back to an earlier state, its mark is put back with it. So a committed file
//! that is absent may never have been on this disk, unless the mark covers its commit.
//!
//! The file has one line of fixed length. pickup-rs writes the line in place before each batch of
//! releases, without waiting for the disk. Redis hears only of marks that have been synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use durable::TextFile;
use nix::fcntl::{Flock, FlockArg};
use spool::{CommitNumber, Generation, NodeId};
use tracing::warn;

/// Mode of the file: mail_owner's alone.
const FILE_MODE: u32 = 0o600;

/// Failure to open the mark. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "fields are named as what they hold")]
pub enum MarkError {
    /// The file can't be read or made.
    #[error("{path}: mark not read or made: {source}; see to the file and the disk")]
    File { path: PathBuf, source: io::Error },
    /// The file's content is no mark.
    #[error(
        "{path}: mark not understood: {text:?}; remove the file (committed mail whose queue files \
            are gone is then sent again)"
    )]
    Content { path: PathBuf, text: String },
}

/// Content of the file, except for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Number up to which all commits are released.
    pub mark: CommitNumber,
    /// Nonce before the last one.
    pub last: Generation,
    /// Last nonce. Redis may not have it yet.
    pub nonce: Generation,
}

/// The mark of one node, open for writing.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    node: NodeId,
    file: File,
    written: Mutex<Line>,
    /// Whether the last sync failed. The line may then be lost from the kernel's memory as well.
    is_lost: AtomicBool,
}

/// Returns the node that the mark names. A mark of the first version names none.
pub fn node_of(path: &Path) -> Result<Option<NodeId>, MarkError> {
    Ok(read(path)?.and_then(|(_, node)| node))
}

/// Whether `nonce`, which Redis has, belongs to this state of the disk or an earlier one. Otherwise
/// Redis has heard of a later state or of a copy. Fails if the file can't be read or is no mark.
pub fn is_latest(path: &Path, nonce: Generation) -> Result<bool, MarkError> {
    let line = read(path)?.map_or(Line::NONE, |(line, _)| line);
    Ok(nonce == line.nonce || nonce <= line.last)
}

fn read(path: &Path) -> Result<Option<(Line, Option<NodeId>)>, MarkError> {
    let failed = |source| MarkError::File { path: path.to_owned(), source };
    let Some(text) = TextFile::at(path, FILE_MODE).read().map_err(failed)? else { return Ok(None) };
    match Line::parse(&text) {
        Some(it) => Ok(Some(it)),
        None => Err(MarkError::Content { path: path.to_owned(), text }),
    }
}

impl Mark {
    /// Opens the file. Makes a missing one with mark 0: this disk knows of no release.
    pub fn open(path: PathBuf, node: NodeId) -> Result<Self, MarkError> {
        let failed = |source| MarkError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        let file = match options.open(&path) {
            // An existing file is opened as it is, because a full disk has no room for a draft.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let none = Line::NONE.text(&node);
                TextFile::at(&path, FILE_MODE).make_once(none.trim_end()).map_err(failed)?;
                options.open(&path)
            }
            opened => opened,
        };
        let file = file.map_err(failed)?;
        let (written, is_lost) = (Mutex::new(Line::NONE), AtomicBool::new(false));
        let this = Self { path, node, file, written, is_lost };
        this.read_again()?;
        Ok(this)
    }

    /// Locks the file for this process until the lock is dropped. Returns `None` while another
    /// process has it.
    pub fn lock(&self) -> Result<Option<Flock<File>>, MarkError> {
        let failed = |source| MarkError::File { path: self.path.clone(), source };
        // The lock has a descriptor of its own, which no child inherits.
        let file = File::open(&self.path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.read_again().map(|()| Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Reads the file again. Another node's mark counts as none.
    fn read_again(&self) -> Result<(), MarkError> {
        let line = match read(&self.path)? {
            Some((_, Some(other))) if other != self.node => {
                let path = self.path.display();
                warn!(%path, mark_of = %other, node = %self.node, "mark of another node ignored");
                Line::NONE
            }
            Some((line, _)) => line,
            None => Line::NONE,
        };
        *self.locked() = line;
        Ok(())
    }

    /// Returns the mark that the disk has, or will have after a sync.
    pub fn get(&self) -> CommitNumber {
        self.line().mark
    }

    /// Returns the line that the disk has, or will have after a sync.
    pub fn line(&self) -> Line {
        *self.locked()
    }

    /// Writes a higher mark.
    pub fn raise(&self, mark: CommitNumber) -> io::Result<()> {
        let mut written = self.locked();
        if mark > written.mark {
            self.write(Line { mark, ..*written })?;
            written.mark = mark;
        }
        Ok(())
    }

    /// Writes a new nonce. The nonce before becomes [`Line::last`].
    pub fn turn(&self, nonce: Generation) -> io::Result<()> {
        let mut written = self.locked();
        let line = Line { last: written.nonce, nonce, ..*written };
        self.write(line)?;
        *written = line;
        Ok(())
    }

    fn write(&self, line: Line) -> io::Result<()> {
        self.file.write_all_at(line.text(&self.node).as_bytes(), 0)
    }

    /// Syncs the file, and returns the line that the disk has safely. Blocks.
    pub fn sync(&self) -> io::Result<Line> {
        let written = self.locked();
        let line = *written;
        if self.is_lost.load(Ordering::Relaxed) {
            self.write(line)?;
        }
        drop(written);
        let synced = self.file.sync_data();
        self.is_lost.store(synced.is_err(), Ordering::Relaxed);
        synced.map(|()| line)
    }

    fn locked(&self) -> MutexGuard<'_, Line> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Line of a disk that knows of no release.
    pub const NONE: Self =
        Self { mark: CommitNumber(0), last: Generation::NONE, nonce: Generation::NONE };

    /// Formats the line, with the same length for all lines of a node, so that it can be written in
    /// place.
    fn text(self, node: &NodeId) -> String {
        format!("{:020} {} {} {node}\n", self.mark.0, self.last, self.nonce)
    }

    /// Parses a file. The first version wrote the mark only. Text after the first line is left over
    /// from a longer line.
    fn parse(text: &str) -> Option<(Self, Option<NodeId>)> {
        let words: Vec<&str> = text.lines().next()?.split_ascii_whitespace().collect();
        match words[..] {
            [mark] => Some((Self { mark: mark.parse().ok()?, ..Self::NONE }, None)),
            [mark, last, nonce, node] => {
                let (mark, last, nonce) =
                    (mark.parse().ok()?, last.parse().ok()?, nonce.parse().ok()?);
                Some((Self { mark, last, nonce }, Some(node.parse().ok()?)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        "NODE".parse().unwrap()
    }

    #[test]
    fn a_mark_only_rises_and_is_read_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Mark::open(folder.path().join("mark"), node()).unwrap();
        let mark = open();
        assert_eq!(mark.get(), CommitNumber(0));
        for number in [7, 10, 9] {
            mark.raise(CommitNumber(number)).unwrap();
        }
        let nonces = [1, 2].map(|n| Generation::from_parts(n, 0));
        nonces.iter().for_each(|nonce| mark.turn(*nonce).unwrap());
        let line = Line { mark: CommitNumber(10), last: nonces[0], nonce: nonces[1] };
        assert_eq!(mark.sync().unwrap(), line);
        assert_eq!(open().line(), line);
    }

    /// A disk may be full. A draft would change the time of the folder.
    #[test]
    fn an_existing_mark_opens_on_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let changed = || folder.path().metadata().unwrap().modified().unwrap();
        Mark::open(path.clone(), node()).unwrap();
        File::open(folder.path()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        Mark::open(path, node()).unwrap();
        assert_eq!(changed(), std::time::UNIX_EPOCH);
        let missing = folder.path().join("none/mark");
        assert!(matches!(Mark::open(missing, node()), Err(MarkError::File { .. })));
    }

    #[test]
    fn after_a_sync_that_failed_the_line_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mark = Mark::open(path.clone(), node()).unwrap();
        mark.raise(CommitNumber(7)).unwrap();
        mark.is_lost.store(true, Ordering::Relaxed);
        std::fs::write(&path, Line::NONE.text(&node())).unwrap();
        assert_eq!(mark.sync().unwrap().mark, CommitNumber(7));
        assert_eq!(read(&path).unwrap().unwrap().0.mark, CommitNumber(7));
    }

    #[test]
    fn two_processes_don_t_have_the_lock_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] =
            [(); 2].map(|()| Mark::open(folder.path().join("mark"), node()).unwrap());
        let lock = one.lock().unwrap().unwrap();
        one.raise(CommitNumber(7)).unwrap();
        assert!(other.lock().unwrap().is_none());
        drop(lock);
        let _lock = other.lock().unwrap().unwrap();
        assert_eq!(other.get(), CommitNumber(7), "read again");
    }

    #[test]
    fn garbage_is_refused_and_a_mark_of_the_first_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        std::fs::write(&path, "x\n").unwrap();
        let error = Mark::open(path.clone(), node()).unwrap_err();
        assert!(error.to_string().contains("mark not understood: \"x\"; remove"), "{error}");
        std::fs::write(&path, "00000000000000000012\n").unwrap();
        assert_eq!(Mark::open(path, node()).unwrap().get(), CommitNumber(12));
    }
    #[test]
    fn a_mark_names_its_node_and_says_nothing_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        assert_eq!(node_of(&path).unwrap(), None);
        Mark::open(path.clone(), "LONGER".parse().unwrap())
            .unwrap()
            .raise(CommitNumber(9))
            .unwrap();
        assert_eq!(node_of(&path).unwrap().unwrap().as_str(), "LONGER");
        let mark = Mark::open(path.clone(), node()).unwrap();
        assert_eq!(mark.get(), CommitNumber(0));
        mark.raise(CommitNumber(3)).unwrap();
        assert_eq!(node_of(&path).unwrap(), Some(node()));
        assert_eq!(Mark::open(path, node()).unwrap().get(), CommitNumber(3));
    }
}
