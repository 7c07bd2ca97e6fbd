//! Numbers that only grow, kept in a file: the generations of servers and clients.
//!
//! The next number is on disk before its first use. A new file is written and renamed, so that a
//! crash leaves the old number or the new one. A lock (flock(2)) on a third file makes two programs
//! that begin at once get different numbers.
//!
//! Without a file a number begins at the microseconds since 1970, to be larger than the number in a
//! lost file. The number isn't larger if the clock was set back since, or if there was more than
//! one generation per microsecond. A server is protected even then: the secret of its tickets is
//! random in each generation.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg, OFlag};
use thiserror::Error;

/// Limit of the file, bytes: no line is longer.
const BYTES_MAX: u64 = 4_096;

/// Failure to keep the next generation's number. That generation must not begin.
#[derive(Debug, Error)]
pub enum GenerationFileError {
    /// The file, or those beside it, can't be read or written.
    #[error("{path}: not read or written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has other content. The program doesn't repair the file: a smaller number would
    /// repeat an earlier generation.
    #[error(
        "{path}: {content:?} is not {expected}; write a number larger than any so far, or remove \
            the file"
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
    #[error("{path}: no larger number is left; remove the file")]
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
pub(crate) struct GenerationFile(PathBuf);

impl GenerationFile {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Replaces the file's line, if there is one, by the result of `next`.
    pub(crate) fn replace<T: ToString>(
        &self,
        next: impl FnOnce(Option<String>) -> Result<T, GenerationFileError>,
    ) -> Result<T, GenerationFileError> {
        let _lock = self.lock().map_err(|source| self.failed(source))?;
        let before = self.read().map_err(|source| self.failed(source))?;
        let next = next(before)?;
        self.store(&next.to_string()).map_err(|source| self.failed(source))?;
        Ok(next)
    }

    pub(crate) fn malformed(&self, content: &str, expected: &'static str) -> GenerationFileError {
        GenerationFileError::Malformed {
            path: self.0.clone(),
            content: content.to_owned(),
            expected,
        }
    }

    /// Returns the number after `last`.
    pub(crate) fn after(&self, last: u64) -> Result<u64, GenerationFileError> {
        last.checked_add(1).ok_or_else(|| GenerationFileError::UsedUp { path: self.0.clone() })
    }

    /// Takes the lock until the returned value is dropped. The lock file is never unlinked: a
    /// waiter would lock the old inode, a newcomer a new file.
    fn lock(&self) -> io::Result<Flock<File>> {
        let file = open(File::options().create(true).append(true), &self.beside(".lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    fn read(&self) -> io::Result<Option<String>> {
        let file = match open(File::options().read(true), &self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut line = String::new();
        file.take(BYTES_MAX).read_to_string(&mut line)?;
        Ok(Some(line))
    }

    fn store(&self, line: &str) -> io::Result<()> {
        let beside = self.beside(".new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let mut file = open(File::options().write(true).create_new(true), &beside)?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Appends to the whole name, so that `echo.7` and `echo.8` differ.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.0);
        name.push(suffix);
        name.into()
    }

    fn failed(&self, source: io::Error) -> GenerationFileError {
        GenerationFileError::Io { path: self.0.clone(), source }
    }
}

/// Opens a regular file without following a link at its end, and without waiting: other users may
/// be able to write to its folder.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file; remove it"))
    }
}

pub(crate) fn since_1970_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn next(file: &GenerationFile) -> Result<u64, GenerationFileError> {
        file.replace(|_| Ok(1))
    }

    #[test]
    fn a_foreign_file_in_its_place_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("generation"), folder.path().join("secret"));
        let file = GenerationFile::at(path.clone());
        for suffix in ["", ".lock", ".new"] {
            for is_link in [true, false] {
                fs::write(&secret, "secret").unwrap();
                let trap = file.beside(suffix);
                let _ = fs::remove_file(&trap);
                match is_link {
                    true => symlink(&secret, &trap).unwrap(),
                    false => mkfifo(&trap, Mode::from_bits_truncate(0o600)).unwrap(),
                }
                let told = next(&file).map_err(|error| error.to_string());
                // A draft is removed; no other file is touched.
                match suffix {
                    ".new" => assert_eq!(told, Ok(1)),
                    _ => assert!(told.unwrap_err().starts_with(path.to_str().unwrap())),
                }
                assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
                let _ = fs::remove_file(&trap);
            }
        }
        assert_eq!(next(&file).unwrap(), 1);
    }
}
