//! Drafts: files that get their content before they get their name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::folder::sync_folder_of;
use crate::step::{FileStep, take};

/// Random names that are tried before writing fails.
const NAMES_MAX: u32 = 16;

/// A synced file with the content of another, beside it. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    file: &'a Path,
    path: PathBuf,
}

impl<'a> Draft<'a> {
    /// Writes a draft of `file`, of which there may be several at once.
    pub(crate) fn new(file: &'a Path, mode: u32, text: &str) -> io::Result<Self> {
        for _ in 1..NAMES_MAX {
            match Self::named(&random_suffix(), file, mode, text) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
                written => return written,
            }
        }
        Self::named(&random_suffix(), file, mode, text)
    }

    /// Writes the only draft of `file`, in place of one that was left. The caller keeps other
    /// processes out.
    pub(crate) fn only(file: &'a Path, mode: u32, text: &str) -> io::Result<Self> {
        const SUFFIX: &str = ".new";
        match fs::remove_file(beside(file, SUFFIX)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Self::named(SUFFIX, file, mode, text),
        }
    }

    fn named(suffix: &str, file: &'a Path, mode: u32, text: &str) -> io::Result<Self> {
        let path = beside(file, suffix);
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(mode);
        let mut out = take(FileStep::Create, || options.open(&path))?;
        let draft = Self { file, path };
        take(FileStep::Write, || out.write_all(format!("{text}\n").as_bytes()))?;
        take(FileStep::Sync, || out.sync_all())?;
        Ok(draft)
    }

    /// Gives the draft its file's name, over an earlier file.
    pub(crate) fn replace(self) -> io::Result<()> {
        crate::rename(&self.path, self.file)
    }

    /// Gives the draft its file's name, unless there is such a file. The file is safe afterwards,
    /// whoever made it.
    pub(crate) fn make_once(self) -> io::Result<()> {
        match take(FileStep::Link, || fs::hard_link(&self.path, self.file)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => (),
        }
        take(FileStep::Remove, || fs::remove_file(&self.path))?;
        sync_folder_of(self.file)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Appends to the whole name, so that `echo.7` and `echo.8` differ.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Returns another suffix each time. It keeps nobody out, so a hash with std's random keys will do.
fn random_suffix() -> String {
    format!(".new.{:016x}", RandomState::new().hash_one(0))
}
