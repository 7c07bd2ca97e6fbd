//! A client's identity, kept in a file over its lives.

use std::fmt;
use std::path::PathBuf;

use crate::kept::{Kept, KeptError};
use crate::{ClientGeneration, ClientId, Identity};

/// A file that holds a client's name and the number of its last life. The next one's is fsynced
/// before it is used.
///
/// So servers recognize a client that died and came back: they cancel at its first request what
/// they still execute for its earlier lives, instead of after a long silence. One process at a
/// time: the later of two cancels the earlier's requests, and servers hear no more of the earlier.
/// A client whose file was lost is another client to all servers.
#[derive(Debug)]
pub struct IdentityFile(Kept);

/// The identity as a line of the file.
struct Line(Identity);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.id, self.0.epoch)
    }
}

impl IdentityFile {
    /// Kept at `path`, in a directory that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Kept::at(path.into()))
    }

    /// Begins a new life: the name is the same, or new if there was none, and the life's number is
    /// on disk when this returns.
    ///
    /// # Errors
    /// See [`KeptError`]. The client must not begin.
    pub fn begin(&self) -> Result<Identity, KeptError> {
        let next = self.0.replace(|last| match last {
            None => Ok(Line(Identity::ephemeral()?)),
            Some(last) => self.after(&last).map(Line),
        })?;
        Ok(next.0)
    }

    fn after(&self, content: &str) -> Result<Identity, KeptError> {
        let numbers = || {
            let (id, epoch) = content.trim().split_once(' ')?;
            Some((id.parse().ok()?, epoch.parse().ok()?))
        };
        let (id, last) =
            numbers().ok_or_else(|| self.0.malformed(content, "a name and a number"))?;
        Ok(Identity { id: ClientId(id), epoch: ClientGeneration(self.0.after(last)?) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_name_stays_and_the_life_grows() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::at(folder.path().join("identity"));
        let lives = [(); 3].map(|()| file.begin().unwrap());
        assert!(lives.iter().all(|life| life.id == lives[0].id));
        assert!(lives.is_sorted_by_key(|life| life.epoch.0) && lives[0].epoch < lives[2].epoch);
        let other = IdentityFile::at(folder.path().join("other")).begin().unwrap();
        assert_ne!(other.id, lives[0].id);
    }

    #[test]
    fn something_else_in_the_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        for content in ["", "7", "7 x", "x 7", "1 2 3"] {
            fs::write(&path, content).unwrap();
            let error = IdentityFile::at(&path).begin().unwrap_err();
            assert!(matches!(error, KeptError::Malformed { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
