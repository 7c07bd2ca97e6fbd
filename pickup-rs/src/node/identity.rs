//! Identity of the node: the name by which Redis knows this queue.
//!
//! A restarted machine still has its identity and the mail committed to that node. A reinstalled
//! machine has neither. So an identity is made only for a queue without mail of OPTIMUS and without
//! a mark. Where the file is gone, the mark names the node. If the mark is gone as well, the queue
//! files name the node.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use durable::TextFile;
use queue::mark::{self, MarkError};
use queue::{Queue, scan};
use settings::Places;
use spool::{Generation, NodeId};
use tracing::{info, warn};

use super::FILE_MODE;

/// Reason for which the node has no identity. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The file can't be read or made.
    #[error(
        "{path}: the node's identity can't be read or made: {source}; see to the file and its disk"
    )]
    File { path: PathBuf, source: io::Error },
    /// The file's content is no identity.
    #[error(
        "{path}: not a node's identity: {source}; restore the file, or remove it to look in the \
            queue files"
    )]
    Content { path: PathBuf, source: spool::IdError },
    /// The queue carries files of several nodes.
    #[error(
        "{path}: missing, and the queue carries mail of several nodes: {nodes}; \
         write the name of this queue's node into the file"
    )]
    Several { path: PathBuf, nodes: String },
    /// The queue carries files of an earlier version, which name no node.
    #[error(
        "{path}: missing, and {files} queue files were committed to a node whose name is lost; \
         write the node's identity (see `optimus status`) into the file"
    )]
    Unnamed { path: PathBuf, files: usize },
    /// The queue can't be read.
    #[error("queue: not searched for the node's identity: {0}; see to the disk")]
    Queue(io::Error),
    /// The system gave no random numbers.
    #[error("node's identity: not made: no random numbers from the kernel: {0}")]
    Random(String),
    /// The mark can't be read.
    #[error(transparent)]
    Mark(#[from] MarkError),
}

/// Queue files that a node would leave behind if it took another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Carried {
    /// Number of files of OPTIMUS.
    pub(crate) ours: usize,
    /// Number of files whose owner is unclear.
    pub(crate) unclear: usize,
}

/// Returns the queue's identity: from the identity file, the file's former place, the mark, or the
/// queue files. Makes a new identity if none of them names a node.
pub(crate) fn find(places: &Places, queue: &Queue) -> Result<NodeId, IdentityError> {
    let kept = file_at(places.identity_file());
    if let Some(node) = read(&kept)? {
        return Ok(node);
    }
    let former = file_at(places.former_identity_file());
    let node = match read(&former)? {
        Some(node) => node,
        None => match mark::node_of(&places.mark_file())? {
            Some(node) => {
                let path = kept.path().display();
                warn!(%path, %node, "missing identity taken from the mark");
                node
            }
            None => take_back(&kept, queue)?.map_or_else(new, Ok)?,
        },
    };
    let failed = |source| IdentityError::File { path: kept.path().to_owned(), source };
    kept.make_once(node.as_str()).map_err(failed)?;
    // The old place is emptied, since a copy there would only become stale.
    if let Err(error) = fs::remove_file(former.path())
        && error.kind() != io::ErrorKind::NotFound
    {
        let path = former.path().display();
        warn!(%path, %error, "former file of the node's identity not removed");
    }
    read(&kept)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Gives the queue another identity. Removes the mark first. After a crash in between, the queue
/// has its old name without a mark, and Redis still refuses it.
pub(super) fn renew(places: &Places) -> Result<NodeId, IdentityError> {
    let (kept, new) = (file_at(places.identity_file()), new()?);
    let failed = |source| IdentityError::File { path: kept.path().to_owned(), source };
    fs::remove_file(places.mark_file()).map_err(failed)?;
    kept.replace(new.as_str()).map_err(failed)?;
    Ok(new)
}

/// Counts the files of OPTIMUS in the queue. Blocks while it reads.
pub(super) fn carried(queue: &Queue) -> Result<Carried, IdentityError> {
    let (owners, unclear) = scan::owners(queue).map_err(IdentityError::Queue)?;
    Ok(Carried { ours: owners.values().sum(), unclear })
}

fn read(kept: &TextFile) -> Result<Option<NodeId>, IdentityError> {
    let path = || kept.path().to_owned();
    let text = kept.read().map_err(|source| IdentityError::File { path: path(), source })?;
    let content = |source| IdentityError::Content { path: path(), source };
    text.map(|text| text.parse().map_err(content)).transpose()
}

fn file_at(path: PathBuf) -> TextFile {
    TextFile::at(path, FILE_MODE)
}

fn new() -> Result<NodeId, IdentityError> {
    // A generation is a ULID, as an identity is.
    let random = |error: &dyn std::fmt::Display| IdentityError::Random(error.to_string());
    let new = Generation::new().map_err(|error| random(&error))?;
    new.to_string().parse().map_err(|error| random(&error))
}

/// Returns the one node whose mail is in the queue, or `None` without mail of OPTIMUS.
fn take_back(kept: &TextFile, queue: &Queue) -> Result<Option<NodeId>, IdentityError> {
    let (owners, _) = scan::owners(queue).map_err(IdentityError::Queue)?;
    let path = kept.path().to_owned();
    let named: BTreeMap<&NodeId, usize> = owners
        .iter()
        .filter_map(|(node, files)| node.as_ref().map(|node| (node, *files)))
        .collect();
    match (&named.keys().collect::<Vec<_>>()[..], owners.get(&None)) {
        ([], None) => Ok(None),
        ([], Some(files)) => Err(IdentityError::Unnamed { path, files: *files }),
        ([node], _) => {
            let (path, files) = (path.display(), named[**node]);
            info!(%path, %node, files, "missing identity taken from queue files");
            Ok(Some((**node).clone()))
        }
        (several, _) => {
            let nodes: Vec<String> =
                several.iter().map(|node| format!("{node} ({} files)", named[**node])).collect();
            Err(IdentityError::Several { path, nodes: nodes.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::QueueName;
    use queue::testing::{Sample, plain};
    use std::path::Path;

    fn places(sample: &Sample) -> Places {
        let queue_directory = sample.queue.directory(QueueName::Hold).parent().unwrap().to_owned();
        fs::create_dir_all(queue_directory.join("optimus/node")).unwrap();
        fs::create_dir_all(queue_directory.join("private")).unwrap();
        let elsewhere = Path::new("/nowhere").to_owned();
        Places { config_directory: elsewhere.clone(), queue_directory, data_directory: elsewhere }
    }

    #[test]
    fn an_identity_is_made_once() {
        let sample = plain();
        let places = places(&sample);
        let made = find(&places, &sample.queue).unwrap();
        assert_eq!(find(&places, &sample.queue).unwrap(), made);
        assert_eq!(made.as_str().len(), 26);
    }

    /// A queue under a new identity would never settle mail that was committed and delivered.
    #[test]
    fn an_identity_that_is_removed_alone_comes_back_from_the_mark() {
        let sample = plain();
        let places = places(&sample);
        let made = find(&places, &sample.queue).unwrap();
        mark::Mark::open(places.mark_file(), made.clone()).unwrap();
        fs::remove_file(places.identity_file()).unwrap();
        assert_eq!(find(&places, &sample.queue).unwrap(), made);
        fs::remove_file(places.identity_file()).unwrap();
        fs::write(places.mark_file(), "garbage\n").unwrap();
        assert!(matches!(find(&places, &sample.queue), Err(IdentityError::Mark(_))));
    }

    #[test]
    fn another_name_takes_no_mark_along() {
        let sample = plain();
        let places = places(&sample);
        let made = find(&places, &sample.queue).unwrap();
        mark::Mark::open(places.mark_file(), made.clone()).unwrap();
        let new = renew(&places).unwrap();
        assert_ne!(new, made);
        assert_eq!(find(&places, &sample.queue).unwrap(), new);
        assert!(!places.mark_file().exists());
    }

    #[test]
    fn an_identity_at_the_former_place_moves() {
        let sample = plain();
        let places = places(&sample);
        fs::write(places.former_identity_file(), "FIRST\n").unwrap();
        assert_eq!(find(&places, &sample.queue).unwrap().as_str(), "FIRST");
        assert!(!places.former_identity_file().exists());
        assert_eq!(fs::read_to_string(places.identity_file()).unwrap(), "FIRST\n");
    }

    #[test]
    fn a_queue_that_carries_mail_of_a_node_is_that_node_s() {
        for queue in [QueueName::Incoming, QueueName::Active, QueueName::Deferred, QueueName::Hold]
        {
            let sample = plain();
            let places = places(&sample);
            sample.write_of(Some("NODE"), queue, 0o700, "4C1B21A0");
            assert_eq!(find(&places, &sample.queue).unwrap().as_str(), "NODE", "{queue}");
        }
    }

    #[test]
    fn a_copy_under_another_name_still_says_whose_it_is() {
        let sample = plain();
        let places = places(&sample);
        sample.write_of(Some("NODE"), QueueName::Deferred, 0o700, "4C1B21A1");
        assert_eq!(find(&places, &sample.queue).unwrap().as_str(), "NODE");
    }

    #[test]
    fn a_queue_of_several_nodes_or_of_an_unnamed_one_gets_no_identity() {
        let sample = plain();
        let places = places(&sample);
        sample.write_of(None, QueueName::Hold, 0o700, "4C1B21A0");
        let error = find(&places, &sample.queue).unwrap_err().to_string();
        assert!(error.contains("whose name is lost"), "{error}");
        sample.write_of(Some("ONE"), QueueName::Hold, 0o700, "4C1B21A0");
        sample.write_named("4C1B21A7", "TWO", QueueName::Deferred);
        let error = find(&places, &sample.queue).unwrap_err().to_string();
        assert!(error.contains("several nodes: ONE (1 files), TWO (1 files)"), "{error}");
        assert!(!places.identity_file().exists());
    }

    #[test]
    fn garbage_is_not_an_identity_and_is_not_replaced() {
        let sample = plain();
        let places = places(&sample);
        fs::write(places.identity_file(), "no name\n").unwrap();
        assert!(find(&places, &sample.queue).unwrap_err().to_string().contains("no name"));
        assert_eq!(fs::read_to_string(places.identity_file()).unwrap(), "no name\n");
    }
}
