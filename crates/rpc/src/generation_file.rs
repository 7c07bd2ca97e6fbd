//! Numbers that only grow, kept in a file: the generations of servers and clients.
//!
//! The next number is on disk before its first use. A crash leaves the old number or the new one,
//! and two programs that begin at once get different numbers: see [`durable::Sequence`].
//!
//! Without a file a number begins at the microseconds since 1970, to be larger than the number in a
//! lost file. The number isn't larger if the clock was set back since, or if there was more than
//! one generation per microsecond. A server is protected even then: the secret of its tickets is
//! random in each generation.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use durable::Sequence;
use thiserror::Error;

/// Failure to keep the next generation's number. That generation must not begin.
#[derive(Debug, Error)]
pub enum GenerationFileError {
    /// The file, or those beside it, can't be read or written.
    #[error("{path}: not read or written: {source}; mend the file or its folder")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has other content. The program doesn't repair the file: a smaller number would
    /// repeat an earlier generation.
    #[error(
        "{path}: not used: {content:?} is not {expected}; write a number larger than any so far, \
            or remove the file"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The file's content.
        content: String,
        /// The form that it should have.
        expected: &'static str,
    },
    /// The largest possible number was used. Somebody wrote that number: no count goes so far.
    #[error("{path}: not counted up: no larger number is left; remove the file")]
    UsedUp {
        /// The file.
        path: PathBuf,
    },
    /// The kernel gave no random bytes.
    #[error("random bytes: not given by the kernel: {0}")]
    Random(#[from] getrandom::Error),
}

/// File whose only line is replaced at each start.
#[derive(Debug)]
pub(crate) struct GenerationFile(Sequence);

impl GenerationFile {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(Sequence::at(path))
    }

    /// Replaces the file's line, if there is one, by the result of `next`.
    pub(crate) fn replace<T: ToString>(
        &self,
        next: impl FnOnce(Option<String>) -> Result<T, GenerationFileError>,
    ) -> Result<T, GenerationFileError> {
        let locked = self.0.lock().map_err(|source| self.failed(source))?;
        let before = locked.read().map_err(|source| self.failed(source))?;
        let next = next(before)?;
        locked.store(&next.to_string()).map_err(|source| self.failed(source))?;
        Ok(next)
    }

    pub(crate) fn malformed(&self, content: &str, expected: &'static str) -> GenerationFileError {
        GenerationFileError::Malformed { path: self.path(), content: content.to_owned(), expected }
    }

    /// Returns the number after `last`.
    pub(crate) fn after(&self, last: u64) -> Result<u64, GenerationFileError> {
        last.checked_add(1).ok_or_else(|| GenerationFileError::UsedUp { path: self.path() })
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn failed(&self, source: io::Error) -> GenerationFileError {
        GenerationFileError::Io { path: self.path(), source }
    }
}

pub(crate) fn since_1970_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(1).max(1)
}
