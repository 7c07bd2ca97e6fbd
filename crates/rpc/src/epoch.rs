//! A server's epoch, kept in a file.

use std::path::PathBuf;

use crate::Epoch;
use crate::generation_file::{GenerationFile, GenerationFileError, since_1970_us};

/// File that holds the last epoch. The next epoch is written and fsynced before its first use.
///
/// Two servers that begin at once get different epochs; the caller decides which of them serves.
/// Without a file the epoch begins at the microseconds since 1970. So the epoch grows even after
/// the loss of the file, unless the clock was set back. Then an epoch may come twice. Earlier
/// requests are kept out even so, because each generation makes its tickets with a new random
/// secret ([`server::Config::secret`](crate::server::Config::secret)).
#[derive(Debug)]
pub struct EpochFile(GenerationFile);

impl EpochFile {
    /// Returns the file at `path`, in a directory that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(GenerationFile::at(path.into()))
    }

    /// Begins a new generation: the last epoch plus one is on disk when this returns.
    ///
    /// # Errors
    /// See [`GenerationFileError`]. The server must not start.
    pub fn begin(&self) -> Result<Epoch, GenerationFileError> {
        self.0.replace(|last| match last {
            None => Ok(Epoch(since_1970_us())),
            Some(last) => self.0.after(self.parse(&last)?).map(Epoch),
        })
    }

    fn parse(&self, content: &str) -> Result<u64, GenerationFileError> {
        content.trim().parse().map_err(|_| self.0.malformed(content, "a number"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn an_epoch_grows_at_each_start_and_after_the_loss_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = EpochFile::at(folder.path().join("epoch"));
        let first = file.begin().unwrap();
        assert_eq!(file.begin().unwrap(), Epoch(first.0 + 1));
        // The clock must move on by more than the number of generations.
        while since_1970_us() <= first.0 + 1 {}
        fs::remove_file(folder.path().join("epoch")).unwrap();
        assert!(file.begin().unwrap() > Epoch(first.0 + 1));
    }

    #[test]
    fn two_servers_that_begin_at_once_get_different_epochs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        let begin_100 =
            || (0..100).map(|_| EpochFile::at(&path).begin().unwrap()).collect::<Vec<_>>();
        let begun = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin_100)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
        });
        assert_eq!(begun.len(), 400);
    }

    #[test]
    fn files_that_differ_in_their_extension_share_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["echo.7", "echo.8"].map(|name| EpochFile::at(folder.path().join(name)));
        for file in &files {
            file.begin().unwrap();
        }
        let mut beside: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["echo.7", "echo.7.lock", "echo.8", "echo.8.lock"]);
        // A draft that a dead server left doesn't stop another server.
        fs::create_dir(folder.path().join("echo.new")).unwrap();
        files[1].begin().unwrap();
    }

    #[test]
    fn the_largest_number_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        fs::write(&path, u64::MAX.to_string()).unwrap();
        let error = EpochFile::at(&path).begin().unwrap_err();
        assert!(matches!(error, GenerationFileError::UsedUp { .. }), "{error}");
    }

    #[test]
    fn foreign_content_of_the_file_is_not_overwritten() {
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
