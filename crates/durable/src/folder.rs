//! Names in folders, which are safe once the folder is synced.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::step::{FileStep, take};

/// Renames a file whose content is synced, over whatever has the name `to`.
///
/// # Errors
///
/// The system's error. The file may already have its new name, which is then not yet safe.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    take(FileStep::Rename, || fs::rename(from, to))?;
    sync_folder_of(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_folder_of(from) }
}

/// Removes a file; a missing one is no error.
///
/// # Errors
///
/// The system's error. The file may be gone already, but not yet for good.
pub fn remove(path: &Path) -> io::Result<()> {
    match take(FileStep::Remove, || fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder_of(path),
    }
}

/// Makes all names in a file's folder safe.
///
/// # Errors
///
/// The system's error. The folder must be readable by the caller.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    take(FileStep::SyncFolder, || File::open(folder.unwrap_or(Path::new(".")))?.sync_all())
}
