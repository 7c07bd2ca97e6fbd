//! A small text, whole or absent.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::draft::Draft;

/// Limit of what is read, bytes: far more than a name, a password or a number.
const BYTES_MAX: u64 = 4_096;

/// A file with a small text that ends with a line break.
#[derive(Debug, Clone)]
pub struct TextFile {
    path: PathBuf,
    mode: u32,
}

impl TextFile {
    /// Returns the file at this path; a new one has this mode, less the process's umask.
    pub fn at(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), mode }
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text, without white space at its end, or `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// Those of [`host::file::read_text`]: a link, for example, isn't followed.
    pub fn read(&self) -> io::Result<Option<String>> {
        match host::file::read_text(&self.path, BYTES_MAX) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the file durably. An existing file stays as it is. Of two processes, the first to link
    /// its draft wins, with its whole text.
    ///
    /// # Errors
    ///
    /// The system's error, as for a full disk.
    pub fn make_once(&self, text: &str) -> io::Result<()> {
        Draft::new(&self.path, self.mode, text)?.make_once()
    }

    /// Makes or replaces the file durably. A crash leaves the old text or the new one.
    ///
    /// # Errors
    ///
    /// The system's error, as for a full disk.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        Draft::new(&self.path, self.mode, text)?.replace()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::thread;

    use super::*;
    use crate::step::FileStep::{Create, Link, Remove, Rename, Sync, SyncFolder, Write};
    use crate::step::testing;

    const MODE: u32 = 0o600;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        fs::read_dir(folder).unwrap().map(name).map(|it| it.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_made_once_and_replaced_at_will() {
        let folder = tempfile::tempdir().unwrap();
        let file = TextFile::at(folder.path().join("file"), MODE);
        assert_eq!(file.read().unwrap(), None);
        file.make_once("first").unwrap();
        file.make_once("second").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("first"));
        file.replace("third").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("third"));
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, MODE);
        assert_eq!(names(folder.path()), ["file"], "nothing else is left");
    }

    #[test]
    fn content_is_synced_before_it_has_its_name_and_the_folder_after() {
        let folder = tempfile::tempdir().unwrap();
        let file = TextFile::at(folder.path().join("file"), MODE);
        let made = testing::of(|| file.make_once("one").unwrap());
        assert_eq!(made, [Create, Write, Sync, Link, Remove, SyncFolder]);
        // Another process may have made it, and died before it synced the folder.
        let made_before = testing::of(|| file.make_once("two").unwrap());
        assert_eq!(made_before, [Create, Write, Sync, Remove, SyncFolder]);
        let replaced = testing::of(|| file.replace("two").unwrap());
        assert_eq!(replaced, [Create, Write, Sync, Rename, SyncFolder]);
    }

    #[test]
    fn of_several_threads_that_make_a_file_all_read_one_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let make = |text: String| {
            let file = TextFile::at(&path, MODE);
            file.make_once(&text).unwrap();
            file.read().unwrap().unwrap()
        };
        let read: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|number| scope.spawn(move || make(number.to_string()))).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(read.iter().all(|text| *text == read[0]), "{read:?}");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        // A folder can't be replaced by a file.
        fs::create_dir(folder.path().join("file")).unwrap();
        let file = TextFile::at(folder.path().join("file"), MODE);
        assert!(file.replace("text").is_err());
        assert!(file.path().is_dir());
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_link_is_replaced_and_its_target_stays() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        fs::write(of("secret"), "secret").unwrap();
        symlink(of("secret"), of("file")).unwrap();
        let file = TextFile::at(of("file"), MODE);
        file.replace("text").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("text"));
        assert_eq!(fs::read_to_string(of("secret")).unwrap(), "secret");
    }
}
