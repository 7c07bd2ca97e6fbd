//! A queue directory for tests, and one file in it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use postfix_wire::RecordType;
use postfix_wire::record::put;
use postfix_wire::{QueueId, QueueLayout, QueueName};
use tempfile::TempDir;

use crate::folder::Folder;
use crate::queue::Queue;

/// A queue directory, gone when dropped.
#[derive(Debug)]
pub struct Sample {
    /// The queue in it.
    pub queue: Queue,
    _directory: TempDir,
}

/// Makes a queue directory.
pub fn sample(layout: QueueLayout) -> Sample {
    let directory = tempfile::tempdir().unwrap();
    for queue in QueueName::ALL {
        fs::create_dir(directory.path().join(queue.as_str())).unwrap();
    }
    fs::create_dir_all(directory.path().join(Folder::Prepared.name())).unwrap();
    Sample { queue: Queue::new(directory.path(), layout), _directory: directory }
}

/// Makes a queue directory with one level of subdirectories in deferred.
pub fn plain() -> Sample {
    sample(QueueLayout::new([QueueName::Deferred], 1))
}

/// Returns the queue id of the one file.
pub fn id() -> QueueId {
    "4C1B21A0".parse().unwrap()
}

impl Sample {
    /// Writes the file, of the node `node`.
    pub fn write(&self, folder: impl Into<Folder>, mode: u32, written_as: &str) {
        self.write_of(Some("node"), folder, mode, written_as);
    }

    /// Writes a file of the given node.
    pub fn write_of(
        &self,
        node: Option<&str>,
        folder: impl Into<Folder>,
        mode: u32,
        written_as: &str,
    ) {
        self.write_as(&id(), node, folder.into(), mode, written_as);
    }

    /// Writes a file with the given name, of the given node.
    pub fn write_named(&self, name: &str, node: &str, folder: impl Into<Folder>) {
        self.write_as(&name.parse().unwrap(), Some(node), folder.into(), 0o700, name);
    }

    fn write_as(
        &self,
        name: &QueueId,
        node: Option<&str>,
        folder: Folder,
        mode: u32,
        written_as: &str,
    ) {
        let path = self.queue.path(folder, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        let attributes = [
            "optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            "optimus_lot=1.1".to_owned(),
            "optimus_handoff=hold".to_owned(),
            format!("optimus_queue_id={written_as}"),
        ];
        let node = node.map(|node| format!("optimus_node={node}"));
        for attribute in node.into_iter().chain(attributes) {
            put(&mut bytes, RecordType::Attr, attribute.as_bytes());
        }
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// Rewrites the file in `queue` as one that was handed over directly.
    pub fn hand_over_directly(&self, queue: QueueName) {
        let path = self.queue.path(queue, &id());
        let (mode, mut bytes) = (fs::metadata(&path).unwrap().permissions(), Vec::new());
        for attribute in [
            "optimus_node=node",
            "optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "optimus_lot=1.1",
            "optimus_handoff=direct",
            "optimus_queue_id=4C1B21A0",
        ] {
            put(&mut bytes, RecordType::Attr, attribute.as_bytes());
        }
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, mode).unwrap();
    }

    /// Writes a file of a message that is not one of OPTIMUS.
    pub fn write_foreign(&self, queue: QueueName) {
        let mut bytes = Vec::new();
        put(&mut bytes, RecordType::Size, &[b' '; 95]);
        put(&mut bytes, RecordType::Time, b"1 2");
        put(&mut bytes, RecordType::Mesg, b"");
        fs::write(self.queue.path(queue, &id()), bytes).unwrap();
    }

    /// Returns the file's mode.
    pub fn mode(&self, folder: impl Into<Folder>) -> u32 {
        fs::metadata(self.queue.path(folder, &id())).unwrap().mode() & 0o777
    }
}
