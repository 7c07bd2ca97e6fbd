//! Undoing an installation. The journal alone decides: it has the things that are installed now,
//! not those that this version would install.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::change::Change;
use super::journal::{EntryRecord, FileRecord, Journal, Record, What};
use super::site::Site;
use super::{Changes, files, master_cf, units};

impl Changes {
    /// Undoes this instance's records, the last one first. A thing that another instance needs
    /// stays. The records go when all is undone, since undoing a thing twice does no harm.
    pub(super) fn undo(&mut self, site: &Site, is_wanted: impl Fn(&Record) -> bool) -> Result<()> {
        let is_ours = |it: &Record| it.users.contains(&site.config_directory) && is_wanted(it);
        let records: Vec<Record> =
            self.journal.records.iter().rev().filter(|it| is_ours(it)).cloned().collect();
        let is_new = !records.is_empty();
        records.into_iter().try_for_each(|record| self.undo_one(site, record))?;
        if is_new && !self.dry_run { self.journal.save() } else { Ok(()) }
    }

    /// Removes unwanted things that an older version has installed, or this one with other options.
    pub(super) fn remove_unwanted(
        &mut self,
        site: &Site,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<()> {
        self.undo(site, |it| {
            !wanted.contains(it.what.path()) && !matches!(it.what, What::Folder(_))
        })
    }

    fn undo_one(&mut self, site: &Site, mut record: Record) -> Result<()> {
        record.users.remove(&site.config_directory);
        let path = record.what.path().to_owned();
        if !record.users.is_empty() {
            if let Some(it) = self.journal.records.iter_mut().find(|it| it.what.path() == path) {
                it.users = record.users;
            }
            return Ok(());
        }
        let changes = match &record.what {
            What::Folder(path) if path.is_dir() => vec![Change::RemoveFolder(path.clone())],
            What::Folder(_) => Vec::new(),
            What::File(file) => {
                if !self.dry_run {
                    file.clean_up()?;
                }
                undo_file(file)?
            }
            What::Entry(entry) => self.undo_entry(site, entry)?,
        };
        self.make(&changes, record.due)?;
        self.journal.forget(&path);
        Ok(())
    }

    fn undo_entry(&self, site: &Site, entry: &EntryRecord) -> Result<Vec<Change>> {
        let file = master_cf(site, &self.journal);
        if !self.dry_run {
            // The temporary file may be there though the entry never was.
            files::remove_temporary(&entry.path)?;
        }
        let Some(mut edit) = file.undo(entry)? else { return Ok(Vec::new()) };
        if !self.dry_run {
            file.prepare_undo(&mut edit, entry)?;
        }
        Ok(vec![Change::Edit(edit)])
    }
}

fn undo_file(file: &FileRecord) -> Result<Vec<Change>> {
    let mut changes = file.undo()?;
    if file.is_unit && !changes.is_empty() && units::systemd_is_running() {
        let unit = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        changes.insert(0, Change::Stop(unit));
    }
    Ok(changes)
}

pub(super) fn master_cf<'a>(site: &'a Site, journal: &Journal) -> master_cf::File<'a> {
    master_cf::File {
        config_directory: &site.config_directory,
        postconf: &site.postconf,
        scratch: journal.scratch_folder(),
    }
}
