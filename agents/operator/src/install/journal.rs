//! The journal: the changes to this system, written down before they are made.
//!
//! Uninstalling reads the journal, and so does the run after an interrupted one. A record has what
//! is needed to undo a step from whatever state the step was left in. The disk tells what has
//! really happened, so the journal need be neither exact nor complete about that. It lies in a
//! folder that only root can write to: a user who could change it could have root rename any file.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::files::{self, FileContent, Rights};
use super::interrupt;

const NAME: &str = "install.json";
const VERSION: u32 = 1;
const WRITABLE_BY_OTHERS: u32 = 0o022;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// Records, in the order in which they were made.
    pub(super) records: Vec<Record>,
    /// Programs that must still be told of a change.
    pub(super) due: BTreeSet<Due>,
    #[serde(skip)]
    folder: PathBuf,
    #[serde(skip)]
    lock: Option<Flock<File>>,
}

/// One change, and how to undo it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Configuration directories of the Postfix instances that need the change. The last of them
    /// undoes it.
    pub(super) users: BTreeSet<PathBuf>,
    /// Whether mail comes in through the changed file; such records are undone first.
    pub(super) submits: bool,
    pub(super) due: Option<Due>,
    pub(super) what: What,
}

/// A program that must be told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Due {
    Postfix,
    Systemd,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// A folder that wasn't there.
    Folder(PathBuf),
    File(FileRecord),
    Entry(EntryRecord),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) path: PathBuf,
    /// Path under which somebody else's file of that path is kept.
    pub(super) aside: PathBuf,
    /// Whether dpkg has a diversion for the path.
    pub(super) diverted: bool,
    /// Whether somebody else's file was at the path.
    pub(super) had: bool,
    /// Whether the file is a program, which is recognized by its content.
    pub(super) is_program: bool,
    /// Whether the file is a systemd unit, which is ended before it is removed.
    pub(super) is_unit: bool,
    /// Checksums of all contents that OPTIMUS has put at the path.
    pub(super) prints: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    /// Path of the `master.cf`.
    pub(super) path: PathBuf,
    /// Copy of the former file, if that was changed.
    pub(super) saved: PathBuf,
    /// Checksums of all contents that OPTIMUS has given the file.
    pub(super) prints: BTreeSet<String>,
}

impl What {
    /// Returns the path that the record is about. There is one record for each path.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::File(file) => &file.path,
            Self::Entry(entry) => &entry.path,
        }
    }

    /// Whether the record is a systemd unit's; undoing that ends the unit.
    pub(super) fn is_unit(&self) -> bool {
        matches!(self, Self::File(file) if file.is_unit)
    }
}

impl Journal {
    /// Reads the journal, and changes nothing.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let empty = Self { version: VERSION, folder: folder.to_owned(), ..Self::default() };
        let path = folder.join(NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty),
            other => other.with_context(|| path.display().to_string())?,
        };
        [folder, &path].into_iter().try_for_each(refuse_unless_root_s)?;
        let journal: Self =
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        if journal.version != VERSION {
            bail!("{}: unknown version {}; use a newer optimus", path.display(), journal.version);
        }
        Ok(Self { folder: folder.to_owned(), ..journal })
    }

    /// Opens the journal for changes, which one process makes at a time.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| folder.display().to_string())?;
        refuse_unless_root_s(folder)?;
        let lock = Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|_| {
            anyhow::anyhow!(
                "{}: locked by another install or uninstall; wait for its end",
                folder.display()
            )
        })?;
        Ok(Self { lock: Some(lock), ..Self::read(folder)? })
    }

    /// Makes the journal durable, before the changes that it describes are made.
    pub(super) fn save(&self) -> Result<()> {
        let path = self.folder.join(NAME);
        interrupt::here();
        let text = serde_json::to_vec_pretty(self)?;
        let saved = files::put(&path, &FileContent::Bytes(text), Rights::of_root(0o600), None);
        interrupt::here();
        saved.with_context(|| path.display().to_string())
    }

    /// Removes the journal, once nothing is left to undo.
    pub(super) fn end(self) -> Result<()> {
        let path = self.folder.join(NAME);
        durable::remove(&path)?;
        files::remove_temporary(&path)?;
        interrupt::here();
        for folder in [self.scratch_folder(), self.saved_folder()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| folder.display().to_string());
                }
                _ => interrupt::here(),
            }
        }
        // Other files in the folder are not OPTIMUS's to remove.
        let _ = fs::remove_dir(&self.folder);
        drop(self.lock);
        Ok(())
    }

    /// Returns the folder in which new files are made.
    pub(super) fn scratch_folder(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// Returns the folder for copies of former files.
    pub(super) fn saved_folder(&self) -> PathBuf {
        self.folder.join("saved")
    }

    pub(super) fn is_unused(&self) -> bool {
        self.records.is_empty() && self.due.is_empty()
    }

    pub(super) fn find(&self, path: &Path) -> Option<&Record> {
        self.records.iter().find(|it| it.what.path() == path)
    }

    /// Adds a record, unless its path has one. Returns the record of the path.
    pub(super) fn enter(&mut self, record: Record) -> &mut Record {
        let same = |it: &Record| it.what.path() == record.what.path();
        let index = self.records.iter().position(same).unwrap_or_else(|| {
            self.records.push(record.clone());
            self.records.len() - 1
        });
        let found = &mut self.records[index];
        found.users.extend(record.users);
        found
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.records.retain(|it| it.what.path() != path);
    }
}

fn refuse_unless_root_s(path: &Path) -> Result<()> {
    let it = path.symlink_metadata().with_context(|| path.display().to_string())?;
    if it.is_symlink() || it.uid() != 0 || it.mode() & WRITABLE_BY_OTHERS != 0 {
        bail!("{}: writable by non-root users; refusing to use it", path.display());
    }
    Ok(())
}
