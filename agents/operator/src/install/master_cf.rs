//! The entry for pickup-rs in `master.cf`, made and removed by stock postconf.
//!
//! postconf works on a copy, which is then renamed into place with the mode and owner of the
//! original. So the file changes in one step, and its new content is known, and written down,
//! before. When an unchanged file is undone, it becomes the former one, to the byte and the second.
//! From a file that somebody has edited since, postconf takes the one entry.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use postfix_wire::MasterCf;
use postfix_wire::master_cf::FILE_NAME;

use super::files::{self, FileContent, Rights};
use super::journal::EntryRecord;
use super::{command, interrupt};
use crate::check::services;

/// Name of the entry, as postconf has it.
const SERVICE: &str = "optimus/unix";

/// The new content of a `master.cf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    path: PathBuf,
    words: [&'static str; 2],
    /// New content; not known in a dry run.
    pub(super) content: Option<Vec<u8>>,
    /// Copy of the original, with its time, where the edit restores the original.
    original: Option<PathBuf>,
}

/// An instance's `master.cf`.
pub(super) struct File<'a> {
    /// Configuration directory of Postfix.
    pub(super) config_directory: &'a Path,
    pub(super) postconf: &'a Path,
    /// Folder in which copies are edited.
    pub(super) scratch: PathBuf,
}

impl File<'_> {
    /// Returns the path of the file itself, which is replaced: links are followed.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let path = self.config_directory.join(FILE_NAME);
        path.canonicalize().with_context(|| path.display().to_string())
    }

    /// Whether the entry is there. Fails if another entry has its name.
    pub(super) fn has_entry(&self) -> Result<bool> {
        let path = self.config_directory.join(FILE_NAME).display().to_string();
        let master_cf = MasterCf::load(self.config_directory)?;
        if !master_cf.services().iter().any(|it| it.name == services::SERVICE) {
            return Ok(false);
        }
        let problems = services::entry(&master_cf, &path);
        if problems.is_empty() {
            return Ok(true);
        }
        let problems: Vec<String> = problems.iter().map(|it| it.text().to_owned()).collect();
        bail!("{}; mend or remove that entry first", problems.join("; "))
    }

    pub(super) fn record(&self, saved: &Path) -> Result<EntryRecord> {
        let path = self.path()?;
        let saved = saved.join(saved_name(&path));
        Ok(EntryRecord { path, saved, prints: BTreeSet::new() })
    }

    /// Returns the edit that adds the entry, if it is missing.
    pub(super) fn adding(&self) -> Result<Option<Edit>> {
        let words = ["-Me", services::ENTRY];
        Ok((!self.has_entry()?).then_some(Edit {
            path: self.path()?,
            words,
            content: None,
            original: None,
        }))
    }

    /// Keeps a copy of the file, and makes the edit on another one, whose content is then known.
    pub(super) fn prepare(&self, edit: &mut Edit, record: &mut EntryRecord) -> Result<()> {
        copy(&record.path, &record.saved)?;
        let content = self.edited(edit.words)?;
        record.prints.insert(files::print(&FileContent::Bytes(content.clone())));
        edit.content = Some(content);
        Ok(())
    }

    /// Returns the edit that removes the entry, if it is there.
    pub(super) fn undo(&self, record: &EntryRecord) -> Result<Option<Edit>> {
        if !MasterCf::load(self.config_directory)?
            .services()
            .iter()
            .any(|it| it.name == services::SERVICE)
        {
            return Ok(None);
        }
        let words = ["-MX", SERVICE];
        let mut edit = Edit { path: record.path.clone(), words, content: None, original: None };
        let is_as_we_left_it =
            files::print_of(&record.path)?.is_some_and(|print| record.prints.contains(&print));
        let is_saved = files::look(&record.saved)?.is_some();
        if is_as_we_left_it && is_saved {
            edit.original = Some(record.saved.clone());
        }
        Ok(Some(edit))
    }

    /// Prepares the edit of [`File::undo`]. If the file without the entry equals the original, the
    /// original is restored.
    pub(super) fn prepare_undo(&self, edit: &mut Edit, record: &EntryRecord) -> Result<()> {
        if edit.original.is_some() {
            return Ok(());
        }
        let content = self.edited(edit.words)?;
        if fs::read(&record.saved).is_ok_and(|saved| saved == content) {
            edit.original = Some(record.saved.clone());
        }
        edit.content = Some(content);
        Ok(())
    }

    /// Returns the file's content after an edit by postconf, which needs a main.cf beside the file.
    fn edited(&self, words: [&str; 2]) -> Result<Vec<u8>> {
        fs::create_dir_all(&self.scratch)?;
        for name in ["main.cf", FILE_NAME] {
            let bytes = fs::read(self.config_directory.join(name))?;
            fs::write(self.scratch.join(name), bytes)?;
        }
        let [what, entry] = words;
        let entry = if what == "-Me" { format!("{SERVICE}={entry}") } else { entry.to_owned() };
        let words = ["-c".as_ref(), self.scratch.as_os_str(), what.as_ref(), entry.as_ref()];
        command::text(self.postconf, words)?;
        Ok(fs::read(self.scratch.join(FILE_NAME))?)
    }
}

impl Edit {
    pub(super) fn make(&self) -> Result<()> {
        interrupt::here();
        if let Some(original) = &self.original {
            return copy(original, &self.path);
        }
        let content = self.content.clone().context("master.cf: change not prepared")?;
        let rights = Rights::of(&self.path.metadata()?);
        Ok(files::put(&self.path, &FileContent::Bytes(content), rights, None)?)
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.words {
            ["-Me", entry] => write!(f, "add to {path}: {entry} (postconf -Me)"),
            _ if self.original.is_some() => write!(f, "put {path} back as it was"),
            _ => write!(f, "take the entry {SERVICE} out of {path} (postconf -MX)"),
        }
    }
}

/// Copies a file with its mode, owner and time.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let metadata = from.metadata()?;
    let content = FileContent::Bytes(fs::read(from)?);
    Ok(files::put(to, &content, Rights::of(&metadata), Some(files::time_of(&metadata)))?)
}

/// Returns the name of an instance's saved copy.
fn saved_name(path: &Path) -> String {
    format!("master.cf-{:08x}", crc32c::crc32c(path.as_os_str().as_bytes()))
}
