//! A client's identity, kept in a file over its generations.

use std::fmt;
use std::path::PathBuf;

use crate::generation_file::{GenerationFile, GenerationFileError};
use crate::{ClientGeneration, ClientId, Identity};

/// File that holds a client's name and the number of its last generation. The next number is
/// fsynced before its first use.
///
/// Servers recognize a client that died and came back. At its first request they cancel the
/// requests of its earlier generations, instead of after a long silence. Only one process may use
/// the file at a time: a second one would cancel the first one's requests, and servers would no
/// longer hear the first. Without its file, a client is another client to all servers.
#[derive(Debug)]
pub struct IdentityFile(GenerationFile);

/// Identity as a line of the file.
struct IdentityLine(Identity);

impl fmt::Display for IdentityLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.id, self.0.generation)
    }
}

impl IdentityFile {
    /// Returns the file at `path`, in a directory that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(GenerationFile::at(path.into()))
    }

    /// Begins a new generation, and returns when its number is on disk. The name stays, or is new
    /// if there was none.
    ///
    /// # Errors
    /// See [`GenerationFileError`]. The client must not begin.
    pub fn begin(&self) -> Result<Identity, GenerationFileError> {
        let next = self.0.replace(|last| match last {
            None => Ok(IdentityLine(Identity::ephemeral()?)),
            Some(last) => self.after(&last).map(IdentityLine),
        })?;
        Ok(next.0)
    }

    fn after(&self, content: &str) -> Result<Identity, GenerationFileError> {
        let numbers = || {
            let (id, epoch) = content.trim().split_once(' ')?;
            Some((id.parse().ok()?, epoch.parse().ok()?))
        };
        let (id, last) =
            numbers().ok_or_else(|| self.0.malformed(content, "a name and a number"))?;
        Ok(Identity { id: ClientId(id), generation: ClientGeneration(self.0.after(last)?) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_name_stays_and_the_generation_grows() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::at(folder.path().join("identity"));
        let identities = [(); 3].map(|()| file.begin().unwrap());
        assert!(identities.iter().all(|it| it.id == identities[0].id));
        assert!(
            identities.is_sorted_by_key(|it| it.generation.0)
                && identities[0].generation < identities[2].generation
        );
        let other = IdentityFile::at(folder.path().join("other")).begin().unwrap();
        assert_ne!(other.id, identities[0].id);
    }

    #[test]
    fn foreign_content_of_the_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        for content in ["", "7", "7 x", "x 7", "1 2 3"] {
            fs::write(&path, content).unwrap();
            let error = IdentityFile::at(&path).begin().unwrap_err();
            assert!(matches!(error, GenerationFileError::Malformed { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
