//! A small file that is complete or absent, even after a power failure.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MODE: u32 = 0o600;
/// Length of the longest line that is read, in bytes.
const BYTES_MAX: u64 = 4_096;

/// A file of one line.
#[derive(Debug, Clone)]
pub(crate) struct Kept(PathBuf);

impl Kept {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the line, or `None` if there is no such file. A link is not followed.
    pub(crate) fn read(&self) -> io::Result<Option<String>> {
        match host::file::read_text(&self.0, BYTES_MAX) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the file durably. An existing file stays as it is.
    pub(crate) fn make_once(&self, line: &str) -> io::Result<()> {
        let draft = self.draft(line)?;
        let linked = fs::hard_link(&draft, &self.0);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync_folder(),
        }
    }

    /// Makes or replaces the file durably. A crash leaves the old line or the new one.
    pub(crate) fn replace(&self, line: &str) -> io::Result<()> {
        fs::rename(self.draft(line)?, &self.0)?;
        self.sync_folder()
    }

    fn draft(&self, line: &str) -> io::Result<PathBuf> {
        let path = self.0.with_extension(format!("new.{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path)?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        Ok(path)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.0.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_made_once_and_replaced_at_will() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::at(folder.path().join("file"));
        assert_eq!(kept.read().unwrap(), None);
        kept.make_once("first").unwrap();
        kept.make_once("second").unwrap();
        assert_eq!(kept.read().unwrap().as_deref(), Some("first"));
        kept.replace("third").unwrap();
        assert_eq!(kept.read().unwrap().as_deref(), Some("third"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}
