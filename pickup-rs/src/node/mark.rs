//! The mark: up to which commit all are released, noted on the disk that the queue files are on.
//!
//! A disk that was put back to an earlier state has a mark that is put back with it. So a committed
//! file that this disk has not may never have been on it, unless the mark covers its commit.
//!
//! The file has one line of fixed length, and is written in place before each batch of releases,
//! without waiting for the disk. Redis is told only what has been synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use spool::CommitNumber;

use super::kept::Kept;

/// Why there is no mark. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkError {
    #[error("{path}: the mark can't be read or made: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path}: not a mark: {text:?}; remove the file: then committed mail whose files are gone is \
         sent again"
    )]
    Content { path: PathBuf, text: String },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    written: Mutex<CommitNumber>,
}

impl Mark {
    /// Opens the file. A missing one is made: nothing is released, as far as this disk knows.
    pub(crate) fn open(path: PathBuf) -> Result<Self, MarkError> {
        let failed = |source| MarkError::File { path: path.clone(), source };
        let kept = Kept::at(path.clone());
        kept.make_once(&line(CommitNumber(0))).map_err(failed)?;
        let text = kept.read().map_err(failed)?.unwrap_or_default();
        let Ok(written) = text.parse() else { return Err(MarkError::Content { path, text }) };
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_NOFOLLOW).open(&path).map_err(failed)?;
        Ok(Self { file, written: Mutex::new(written) })
    }

    /// What the disk says, or will say after a sync.
    pub(crate) fn get(&self) -> CommitNumber {
        *self.locked()
    }

    /// Notes a higher mark.
    pub(crate) fn raise(&self, mark: CommitNumber) -> io::Result<()> {
        let mut written = self.locked();
        if mark > *written {
            self.file.write_all_at(line(mark).as_bytes(), 0)?;
            *written = mark;
        }
        Ok(())
    }

    /// Gives the mark that the disk has safely. Blocks.
    pub(crate) fn sync(&self) -> io::Result<CommitNumber> {
        let mark = self.get();
        self.file.sync_data()?;
        Ok(mark)
    }

    fn locked(&self) -> MutexGuard<'_, CommitNumber> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long for each number, so that it can be written in place.
fn line(mark: CommitNumber) -> String {
    format!("{:020}", mark.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_only_rises_and_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Mark::open(folder.path().join("mark")).unwrap();
        let mark = open();
        assert_eq!(mark.get(), CommitNumber(0));
        for number in [7, 10, 9] {
            mark.raise(CommitNumber(number)).unwrap();
        }
        assert_eq!(mark.sync().unwrap(), CommitNumber(10));
        assert_eq!(open().get(), CommitNumber(10));
    }

    #[test]
    fn garbage_is_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mark"), "x\n").unwrap();
        let error = Mark::open(folder.path().join("mark")).unwrap_err();
        assert!(error.to_string().contains("not a mark: \"x\"; remove"), "{error}");
    }
}
