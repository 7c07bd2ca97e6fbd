//! Numbers that only grow, kept in a file: the lives of servers and clients.
//!
//! The next one is on disk before it is used. It is written beside the file and renamed, so that a crash leaves the old
//! one or the new one; and under a lock (flock(2)) on a third file, so that two that begin at once get different ones.
//!
//! A number that has no file yet begins at the microseconds since 1970, to be larger than one whose file was lost. That
//! fails when the clock was set back since, or when lives were begun faster than one per microsecond; what protects a
//! server even then is the secret that its tickets are made with, which is random in each life.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// The next life could not be kept; it must not begin.
#[derive(Debug, Error)]
pub enum KeptError {
    /// The file, or those beside it, can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file holds something else. Not mended by itself: a smaller number would be an earlier life again.
    #[error("{path}: {content:?} is not {expected}; write one larger than any so far, or remove the file")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is in it.
        content: String,
        /// What should be.
        expected: &'static str,
    },
    /// The largest number there is was used. Somebody wrote it: nobody counts so far.
    #[error("{path}: no larger number is left; remove the file")]
    UsedUp {
        /// The file.
        path: PathBuf,
    },
    /// The kernel gave no randomness.
    #[error("randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// A file whose one line is replaced by a later one at each start.
#[derive(Debug)]
pub(crate) struct Kept(PathBuf);

impl Kept {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Replaces what is in the file, if there is one, by what `next` says to it.
    pub(crate) fn replace<T: ToString>(
        &self,
        next: impl FnOnce(Option<String>) -> Result<T, KeptError>,
    ) -> Result<T, KeptError> {
        let _lock = self.lock().map_err(|source| self.failed(source))?;
        let before = self.read().map_err(|source| self.failed(source))?;
        let next = next(before)?;
        self.store(&next.to_string()).map_err(|source| self.failed(source))?;
        Ok(next)
    }

    pub(crate) fn malformed(&self, content: &str, expected: &'static str) -> KeptError {
        KeptError::Malformed { path: self.0.clone(), content: content.to_owned(), expected }
    }

    /// The one after `last`.
    pub(crate) fn after(&self, last: u64) -> Result<u64, KeptError> {
        last.checked_add(1).ok_or_else(|| KeptError::UsedUp { path: self.0.clone() })
    }

    /// Held until dropped. Never removed: who waits for it would have another than who comes then.
    fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::options().create(true).append(true).open(self.beside(".lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    fn read(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn store(&self, line: &str) -> io::Result<()> {
        let beside = self.beside(".new");
        let mut file = File::create(&beside)?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Behind the whole name: `echo.7` and `echo.8` are two.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.0);
        name.push(suffix);
        name.into()
    }

    fn failed(&self, source: io::Error) -> KeptError {
        KeptError::Io { path: self.0.clone(), source }
    }
}

pub(crate) fn since_1970_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(1).max(1)
}
