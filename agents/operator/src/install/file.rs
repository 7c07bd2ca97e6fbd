//! A file of OPTIMUS's in a place where somebody else's may be.
//!
//! ```text
//!                 path      aside                       path      aside
//!   at first      theirs    -           by a package    theirs    -         diversion registered
//!   kept          theirs ══ theirs      (one file, two names)
//!   installed     ours      theirs
//!   undone        theirs    -
//! ```
//!
//! Each line follows from the one before by one atomic change, and the disk tells which line holds.
//! So a look at the disk decides the next change, also after an interruption. Nothing is kept
//! twice: once `path` is OPTIMUS's, the file aside is theirs, and only the package manager replaces
//! it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::change::Change;
use super::dpkg;
use super::files::{self, FileContent, Rights};
use super::journal::FileRecord;

/// Text in all programs of OPTIMUS, which know their settings file, and in none of Postfix's.
const MARK: &str = settings::FILE_NAME;

/// A file that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) path: PathBuf,
    pub(super) content: FileContent,
    pub(super) rights: Rights,
    /// Name of the group, for display; root's otherwise.
    pub(super) group: Option<String>,
    /// Suffix under which a former file is kept.
    pub(super) suffix: &'static str,
    pub(super) is_program: bool,
    pub(super) is_unit: bool,
}

/// Kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    Nothing,
    Ours,
    Theirs,
}

pub(super) fn is_our_program(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|it| it == MARK.as_bytes())
}

impl Wanted {
    /// Returns the record for undoing the change, which describes the file before it. A file that
    /// was installed by hand counts as OPTIMUS's.
    pub(super) fn record(&self) -> Result<FileRecord> {
        let mut record = FileRecord {
            path: self.path.clone(),
            aside: with_suffix(&self.path, self.suffix),
            diverted: false,
            had: false,
            is_program: self.is_program,
            is_unit: self.is_unit,
            prints: BTreeSet::from([files::print(&self.content)]),
        };
        record.had = record.found()? == Occupant::Theirs;
        let is_aside = files::look(&record.aside)?.is_some();
        if !record.had && !is_aside {
            return Ok(record);
        }
        dpkg::refuse_foreign_diversion(&record.path, &record.aside)?;
        let is_diverted = dpkg::true_name(&record.path)? == record.aside;
        if record.had && is_aside && !is_diverted {
            bail!(
                "{}: in the way: {} must be kept under that name; rename the file in the way",
                record.aside.display(),
                record.path.display()
            );
        }
        record.diverted = is_diverted || record.had && dpkg::owns(&record.path);
        Ok(record)
    }

    /// Returns the changes that are left to make, according to the record.
    pub(super) fn changes(&self, record: &FileRecord) -> Result<Vec<Change>> {
        let FileRecord { path, aside, .. } = record;
        let named = || (path.clone(), aside.clone());
        let mut changes = Vec::new();
        if record.diverted && dpkg::true_name(path)? != *aside {
            let (path, aside) = named();
            changes.push(Change::Divert { path, aside });
        }
        let is_kept =
            files::is_same_file(path, aside)? || record.diverted && files::look(aside)?.is_some();
        if record.found()? == Occupant::Theirs && !is_kept {
            let (path, aside) = named();
            changes.push(Change::Keep { path, aside });
        }
        if !self.is_there()? {
            changes.push(Change::Put {
                path: path.clone(),
                content: self.content.clone(),
                rights: self.rights,
                group: self.group.clone(),
            });
        }
        Ok(changes)
    }

    fn is_there(&self) -> io::Result<bool> {
        let Some(metadata) = files::look(&self.path)? else { return Ok(false) };
        let has_rights = metadata.is_symlink() || Rights::of(&metadata) == self.rights;
        Ok(has_rights && files::read(&self.path)?.as_ref() == Some(&self.content))
    }
}

impl FileRecord {
    /// Returns the changes that bring back the former file. Somebody else's file in the place of
    /// OPTIMUS's stays, and so does the former one. But a package's former file is always put back.
    pub(super) fn undo(&self) -> Result<Vec<Change>> {
        let (path, aside) = (self.path.clone(), self.aside.clone());
        let is_aside = files::look(&aside)?.is_some();
        let mut changes = match self.found()? {
            _ if files::is_same_file(&path, &aside)? => vec![Change::Remove(aside)],
            Occupant::Theirs if is_aside && !self.diverted => vec![Change::Leave { aside, path }],
            _ if is_aside => vec![Change::Restore { aside, path }],
            Occupant::Ours if self.had => {
                bail!(
                    "{}: missing, so nothing can be put back as {}; restore the former file there",
                    aside.display(),
                    path.display()
                )
            }
            Occupant::Ours => vec![Change::Remove(path)],
            Occupant::Theirs | Occupant::Nothing => Vec::new(),
        };
        let (path, aside) = (self.path.clone(), self.aside.clone());
        if self.diverted && dpkg::true_name(&path)? == aside {
            changes.push(Change::EndDiversion { path, aside });
        }
        Ok(changes)
    }

    /// Removes the files that an interrupted run has left beside this one.
    pub(super) fn clean_up(&self) -> io::Result<()> {
        files::remove_temporary(&self.path)?;
        files::remove_temporary(&self.aside)
    }

    fn found(&self) -> Result<Occupant> {
        let content = files::read(&self.path).with_context(|| self.path.display().to_string())?;
        Ok(match content {
            None => Occupant::Nothing,
            Some(it) if self.prints.contains(&files::print(&it)) => Occupant::Ours,
            Some(FileContent::Bytes(bytes)) if self.is_program && is_our_program(&bytes) => {
                Occupant::Ours
            }
            Some(_) => Occupant::Theirs,
        })
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn wanted(path: &Path, text: &str) -> Wanted {
        Wanted {
            path: path.to_owned(),
            content: FileContent::Bytes(text.as_bytes().to_vec()),
            rights: Rights {
                mode: 0o640,
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
            },
            group: None,
            suffix: ".stock",
            is_program: true,
            is_unit: false,
        }
    }

    fn make(changes: &[Change]) -> usize {
        changes.iter().for_each(|it| it.make().unwrap());
        changes.len()
    }

    /// Installs OPTIMUS's file in the place of one that says "theirs".
    fn installed_over_theirs(path: &Path) -> FileRecord {
        std::fs::write(path, "theirs").unwrap();
        let wanted = wanted(path, "optimus.toml");
        let record = wanted.record().unwrap();
        make(&wanted.changes(&record).unwrap());
        record
    }

    #[test]
    fn the_former_file_is_the_same_file_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "theirs").unwrap();
        let before = path.metadata().unwrap();
        let wanted = wanted(&path, "optimus.toml 1");
        let record = wanted.record().unwrap();
        assert_eq!(make(&wanted.changes(&record).unwrap()), 2);
        assert_eq!(std::fs::read(&path).unwrap(), b"optimus.toml 1");
        assert_eq!(wanted.changes(&record).unwrap(), []);
        assert_eq!(make(&record.undo().unwrap()), 1);
        let after = path.metadata().unwrap();
        assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
        assert_eq!(record.undo().unwrap(), []);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_upgrade_keeps_no_older_file_of_optimus() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let old = wanted(&path, "optimus.toml 1");
        make(&old.changes(&old.record().unwrap()).unwrap());
        // The journal has been lost, as after an installation by hand.
        let new = wanted(&path, "optimus.toml 2");
        let record = new.record().unwrap();
        assert!(!record.had);
        assert_eq!(make(&new.changes(&record).unwrap()), 1);
        assert_eq!(make(&record.undo().unwrap()), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_foreign_file_in_the_place_of_optimus_s_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let record = installed_over_theirs(&path);
        std::fs::write(&path, "newer").unwrap();
        make(&record.undo().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        assert_eq!(
            std::fs::read(&record.aside).unwrap(),
            b"theirs",
            "the administrator must choose one of the two files"
        );
    }

    #[test]
    fn a_file_is_not_removed_when_the_former_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let record = installed_over_theirs(&path);
        std::fs::remove_file(&record.aside).unwrap();
        assert!(record.undo().unwrap_err().to_string().contains("nothing can be put back"));
    }

    #[test]
    fn a_foreign_file_under_the_name_for_the_former_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "theirs").unwrap();
        std::fs::write(folder.path().join("x.stock"), "whose?").unwrap();
        let error = wanted(&path, "optimus.toml").record().unwrap_err().to_string();
        assert!(error.contains("x.stock: in the way"), "{error}");
    }
}
