//! The folder `optimus/node/`, made while this process is still root.
//!
//! The folder above may exist already, with the socket of postdropd(8), and every user may enter
//! that folder. So no link is followed. An entry of another kind or owner is an error and stays as
//! it is.

use std::io;
use std::path::{Path, PathBuf};

use host::folder::Folder;
use nix::unistd::{Gid, Uid};

/// Mode of the folder above, which every user may enter, because postdropd's socket lies there.
const ABOVE_MODE: u32 = 0o755;
const MODE: u32 = 0o700;

/// Failure to make or use the folder. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("{path}: can't be made or read: {source}; see to the folder and its disk")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: not a directory of user {owner}; move {path} away or change its owner")]
    Foreign { path: PathBuf, owner: Uid },
}

/// Makes the folder and its parent, unless they exist. Sets the modes afterwards, because Postfix's
/// daemons run with a umask of 077.
pub(crate) fn make(path: &Path, owner: Uid, group: Gid) -> Result<(), FolderError> {
    let failed = |source| FolderError::File { path: path.to_owned(), source };
    let is_missing = |path: &Path| path.symlink_metadata().is_err();
    if let Some(above) = path.parent().filter(|it| is_missing(it)) {
        Folder::make(above, ABOVE_MODE, None).map_err(failed)?;
    }
    if is_missing(path) {
        Folder::make(path, MODE, Some((owner, group))).map_err(failed)?;
    }
    if Folder::owner_of(path).map_err(failed)? == Some(owner) {
        return Ok(());
    }
    Err(FolderError::Foreign { path: path.to_owned(), owner })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use nix::unistd::{getegid, geteuid};

    use super::*;

    #[test]
    fn a_folder_is_made_once_and_a_link_in_its_place_is_refused() {
        let queue = tempfile::tempdir().unwrap();
        let path = queue.path().join("optimus/node");
        for _ in 0..2 {
            make(&path, geteuid(), getegid()).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        fs::remove_dir(&path).unwrap();
        symlink(queue.path(), &path).unwrap();
        assert!(
            make(&path, geteuid(), getegid()).unwrap_err().to_string().contains("not a directory")
        );
    }

    /// Another user who owns the folder above could put a link in place of the new folder.
    #[test]
    fn nothing_is_made_in_a_folder_of_another_user() {
        let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        let queue = tempfile::tempdir().unwrap();
        let path = queue.path().join("optimus/node");
        fs::create_dir(queue.path().join("optimus")).unwrap();
        chown(queue.path().join("optimus"), Some(user.as_raw()), None).unwrap();
        let error = make(&path, user, group).unwrap_err().to_string();
        assert!(error.contains("the folder belongs to user 65534"), "{error}");
        assert!(path.symlink_metadata().is_err());
        let secret = queue.path().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o750)).unwrap();
        symlink(&secret, &path).unwrap();
        let error = make(&path, user, group).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
        let is = fs::metadata(&secret).unwrap();
        assert_eq!((is.uid(), is.mode() & 0o777), (0, 0o750));
    }
}
