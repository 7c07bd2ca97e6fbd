//! A server's epoch, kept in a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::Epoch;

/// A file that holds the last epoch. The next life's is written and fsynced before it is used.
///
/// A file that isn't there yet begins at the seconds since 1970, so that a file that was lost is no earlier life again.
/// One process at a time: a directory of its own, or a lock of the caller's, keeps a second one out.
#[derive(Debug)]
pub struct EpochFile(PathBuf);

/// The epoch could not be kept; the server must not start.
#[derive(Debug, Error)]
pub enum EpochError {
    /// The file can't be read or written.
    #[error("epoch file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file holds something else than a number. Not mended by itself: a smaller epoch would let an earlier life's requests in.
    #[error(
        "epoch file {path}: not a number: {content:?}; write one larger than any epoch so far, or remove it"
    )]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// What is in it.
        content: String,
    },
}

impl EpochFile {
    /// Kept at `path`, in a directory that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Begins a new life: the epoch before, plus one, is on disk when this returns.
    ///
    /// # Errors
    /// See [`EpochError`].
    pub fn begin(&self) -> Result<Epoch, EpochError> {
        let next = Epoch(self.last()?.map_or_else(since_1970_s, |last| last.0.saturating_add(1)));
        self.store(next).map_err(|source| self.failed(source))?;
        Ok(next)
    }

    fn last(&self) -> Result<Option<Epoch>, EpochError> {
        match fs::read_to_string(&self.0) {
            Ok(content) => self.parse(content).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn parse(&self, content: String) -> Result<Epoch, EpochError> {
        let number = content.trim().parse().map(Epoch);
        number.map_err(|_| EpochError::NotANumber { path: self.0.clone(), content })
    }

    /// Beside it and renamed, so that a crash leaves the old one or the new one.
    fn store(&self, epoch: Epoch) -> io::Result<()> {
        let beside = self.0.with_extension("new");
        let mut file = File::create(&beside)?;
        writeln!(file, "{epoch}")?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn failed(&self, source: io::Error) -> EpochError {
        EpochError::Io { path: self.0.clone(), source }
    }
}

fn since_1970_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_at_each_start_and_after_the_file_was_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = EpochFile::at(folder.path().join("epoch"));
        let first = file.begin().unwrap();
        assert_eq!(file.begin().unwrap(), Epoch(first.0 + 1));
        fs::remove_file(folder.path().join("epoch")).unwrap();
        assert!(file.begin().unwrap() >= first);
    }

    #[test]
    fn something_else_in_the_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        fs::write(&path, "twelve").unwrap();
        let error = EpochFile::at(&path).begin().unwrap_err().to_string();
        assert!(error.contains("twelve") && error.contains("epoch"), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "twelve");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = EpochFile::at("/nowhere/epoch").begin().unwrap_err().to_string();
        assert!(error.contains("/nowhere/epoch"), "{error}");
    }
}
