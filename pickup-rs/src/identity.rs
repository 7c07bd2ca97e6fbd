//! The name of this Postfix queue, by which Redis knows the node.
//!
//! The file lies in the queue directory, so the name goes where the queue goes: a restarted machine has the same name and
//! still has the mail committed to it; a reinstalled one has neither. Made once, by the first pickup-rs, and whole or
//! not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use spool::{Incarnation, NodeId};

/// Why there is no name. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The file can't be read or made.
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    /// There is something else in it. Remove it if the queue is empty; else restore it.
    #[error("{path}: {source}")]
    Content { path: String, source: spool::IdError },
    /// No random numbers.
    #[error("random numbers: {0}")]
    Random(String),
}

/// The queue's name, from its file or made now.
pub(crate) fn load_or_make(path: &Path) -> Result<NodeId, IdentityError> {
    let failed = |source| IdentityError::File { path: path.display().to_string(), source };
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // An incarnation is a ULID, which is what we need a new one of.
            let new = Incarnation::new().map_err(|error| IdentityError::Random(error.to_string()))?;
            write_new(path, &format!("{new}\n")).map_err(failed)?;
            parse(path, &fs::read_to_string(path).map_err(failed)?)
        }
        Err(source) => Err(failed(source)),
    }
}

fn parse(path: &Path, text: &str) -> Result<NodeId, IdentityError> {
    let content = |source| IdentityError::Content { path: path.display().to_string(), source };
    text.trim_end().parse().map_err(content)
}

/// Durable before it has its name; a name that was there first stays.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        let made = load_or_make(&path).unwrap();
        assert_eq!(load_or_make(&path).unwrap(), made);
        assert_eq!(made.as_str().len(), 26);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn whoever_was_first_named_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        write_new(&path, "FIRST\n").unwrap();
        write_new(&path, "SECOND\n").unwrap();
        assert_eq!(load_or_make(&path).unwrap().as_str(), "FIRST");
    }

    #[test]
    fn garbage_is_not_a_name_and_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        fs::write(&path, "no name\n").unwrap();
        assert!(load_or_make(&path).unwrap_err().to_string().contains("no name"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "no name\n");
    }
}
