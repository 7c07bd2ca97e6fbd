//! A text that each process replaces by a later one, such as a number that only grows.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::draft::{Draft, beside};

/// Limit of what is read, bytes: no text is longer.
const BYTES_MAX: u64 = 4_096;
/// Mode of new files, less the process's umask.
const MODE: u32 = 0o666;

/// A file whose text is replaced by a later one, by one process at a time.
///
/// A lock (flock(2)) on a second file keeps processes that begin at once apart, so no two replace
/// the same text.
#[derive(Debug)]
pub struct Sequence(PathBuf);

impl Sequence {
    /// Returns the file at this path, in a folder that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Waits until no other process has the lock, and takes it until the result is dropped.
    ///
    /// # Errors
    ///
    /// The system's error; or a link or a FIFO has the lock's name.
    pub fn lock(&self) -> io::Result<Locked<'_>> {
        // Never unlinked: a waiter would lock the old inode, a newcomer a new file.
        let file = open(File::options().create(true).append(true), &beside(&self.0, ".lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        Ok(Locked { path: &self.0, _lock: lock })
    }
}

/// The file of a [`Sequence`], for this process alone.
#[derive(Debug)]
pub struct Locked<'a> {
    path: &'a Path,
    _lock: Flock<File>,
}

impl Locked<'_> {
    /// Returns the text with its line break, or `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// The system's error; or a link or a FIFO has the file's name.
    pub fn read(&self) -> io::Result<Option<String>> {
        let file = match open(File::options().read(true), self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Makes or replaces the file durably. A crash leaves the old text or the new one.
    ///
    /// # Errors
    ///
    /// The system's error, as for a full disk.
    pub fn store(&self, text: &str) -> io::Result<()> {
        Draft::only(self.path, MODE, text)?.replace()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::{fs, thread};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn next(sequence: &Sequence) -> io::Result<u64> {
        let locked = sequence.lock()?;
        let next = locked.read()?.map_or(0, |text| text.trim().parse::<u64>().unwrap()) + 1;
        locked.store(&next.to_string()).map(|()| next)
    }

    #[test]
    fn threads_that_count_at_once_get_different_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let count = || (0..50).map(|_| next(&Sequence::at(&path)).unwrap()).collect::<Vec<_>>();
        let mut numbers: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().flat_map(|it| it.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=200).collect::<Vec<u64>>());
    }

    #[test]
    fn a_foreign_file_in_its_place_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("generation"), folder.path().join("secret"));
        let sequence = Sequence::at(&path);
        for suffix in ["", ".lock", ".new"] {
            for is_link in [true, false] {
                fs::write(&secret, "7").unwrap();
                let trap = beside(&path, suffix);
                let _ = fs::remove_file(&trap);
                match is_link {
                    true => symlink(&secret, &trap).unwrap(),
                    false => mkfifo(&trap, Mode::from_bits_truncate(0o600)).unwrap(),
                }
                let counted = next(&sequence).ok();
                // A draft is removed; no other file is touched.
                assert_eq!(counted, (suffix == ".new").then_some(1), "{suffix} {is_link}");
                assert_eq!(fs::read_to_string(&secret).unwrap(), "7");
                let _ = fs::remove_file(&trap);
                let _ = fs::remove_file(&path);
            }
        }
        assert_eq!(next(&sequence).unwrap(), 1);
    }
}
