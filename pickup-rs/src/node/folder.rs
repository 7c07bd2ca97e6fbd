//! The folder, made while this process is still root.
//!
//! The folder above it may be there already, with the socket of postdropd(8), and everybody may
//! enter it. So nothing is followed: a folder that is not what it should be is an error, not
//! mended.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

/// Everybody may pass: postdropd's socket lies there.
const ABOVE_MODE: u32 = 0o755;
const MODE: u32 = 0o700;

/// The folder can't be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("{path}: can't be made or read: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: is not a directory that belongs to user {owner}; move it away or change its owner")]
    Foreign { path: PathBuf, owner: Uid },
}

/// Makes the folder and the one above it, unless they are there.
pub(crate) fn make(path: &Path, owner: Uid, group: Gid) -> Result<(), FolderError> {
    let failed = |source| FolderError::File { path: path.to_owned(), source };
    if let Some(above) = path.parent() {
        make_one(above, ABOVE_MODE).map_err(failed)?;
    }
    if make_one(path, MODE).map_err(failed)? {
        lchown(path, Some(owner.as_raw()), Some(group.as_raw())).map_err(failed)?;
    }
    let is = fs::symlink_metadata(path).map_err(failed)?;
    if is.is_dir() && is.uid() == owner.as_raw() {
        return Ok(());
    }
    Err(FolderError::Foreign { path: path.to_owned(), owner })
}

/// Whether it was missing. Its mode is set apart from its making, because Postfix's daemons run
/// with a umask of 077.
fn make_one(path: &Path, mode: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getegid, geteuid};

    #[test]
    fn a_folder_is_made_once_and_a_link_in_its_place_is_refused() {
        let queue = tempfile::tempdir().unwrap();
        let path = queue.path().join("optimus/node");
        for _ in 0..2 {
            make(&path, geteuid(), getegid()).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(queue.path(), &path).unwrap();
        assert!(make(&path, geteuid(), getegid()).unwrap_err().to_string().contains("not a directory"));
    }
}
