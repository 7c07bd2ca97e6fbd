//! Changes of queue files, reported by the kernel: inotify on the directories of Postfix's queues.
//!
//! | queue | watched for | because |
//! |---|---|---|
//! | active | deletion | delivered, bounced |
//! | active | moving out | deferred, or put on hold, or back to incoming |
//! | hold | moving in, moving out | `postsuper -h`, `postsuper -H` |
//! | hold, incoming, deferred, corrupt | deletion | the administrator's `postsuper -d`, or `rm` |
//!
//! A change is a hint where to look. Only a deletion is final, because Postfix moves files with
//! `rename`, so an unlinked name is gone. The kernel drops changes that are not read in time, and
//! reports the loss. Then the queue must be scanned.
//!
//! Hash directories come and go (see [`queue::inotify`]). So their parents are watched for new
//! ones.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};
use postfix_wire::{QueueId, QueueName};
use queue::inotify::{Directory, Inotify};
use queue::{Folder, QUEUES, Queue};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::readiness;

/// Change of one queue file, or of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The file was unlinked from that queue.
    Deleted(QueueName, QueueId),
    /// The file was moved out of active, or into or out of hold.
    Moved(QueueId),
    /// The kernel has dropped changes: scan the queue.
    Overflow,
    /// Files may have come into a new directory or gone from there unseen: scan the queue.
    NewDirectory,
}

/// Watched directories of a queue.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    readiness: AsyncFd<OwnedFd>,
    directories: HashMap<WatchDescriptor, Directory>,
}

impl Watch {
    /// Starts to watch the directories of a queue. The error for a limit of inotify names the
    /// remedy.
    pub(crate) fn new(queue: &Queue) -> io::Result<Self> {
        let inotify = Inotify::new()?;
        let readiness = readiness::of(&inotify, Interest::READABLE)?;
        let mut watch = Self { inotify, readiness, directories: HashMap::new() };
        for name in QUEUES {
            watch.add(Directory::of(queue, name.into()))?;
        }
        Ok(watch)
    }

    /// Waits for changes. Cancel-safe.
    pub(crate) async fn changes(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let mut ready = self.readiness.readable().await?;
            ready.clear_ready();
            let changes = self.pending()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// Returns the changes up to now, without waiting.
    pub(crate) fn pending(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let events = self.inotify.events()?;
        events.into_iter().for_each(|event| self.understand(event, &mut changes));
        Ok(changes)
    }

    fn understand(&mut self, event: InotifyEvent, changes: &mut Vec<Change>) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return changes.push(Change::Overflow);
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&event.wd);
            return;
        }
        let (Some(directory), Some(name)) = (self.directories.get(&event.wd), event.name) else {
            return;
        };
        if event.mask.contains(AddWatchFlags::IN_ISDIR) {
            if event.mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO) {
                let Some(below) = directory.below(Path::new(&name)) else { return };
                let path = below.path.clone();
                if let Err(error) = self.add(below) {
                    warn!(
                        "{}: not watched: {error}; changes go unseen until the next rescan",
                        path.display()
                    );
                }
                // Files may have come and gone before the watch began.
                changes.push(Change::NewDirectory);
            }
            return;
        }
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { return };
        if event.mask.contains(AddWatchFlags::IN_DELETE) {
            if let Folder::Queue(queue) = directory.folder {
                changes.push(Change::Deleted(queue, id));
            }
        } else if event.mask.intersects(AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO) {
            changes.push(Change::Moved(id));
        }
    }

    /// Watches a directory and all below it.
    fn add(&mut self, directory: Directory) -> io::Result<()> {
        let directories = &mut self.directories;
        self.inotify.add(directory, flags, &mut |descriptor, directory| {
            directories.insert(descriptor, directory);
        })
    }
}

fn flags(directory: &Directory) -> AddWatchFlags {
    let mut flags = AddWatchFlags::IN_DELETE;
    match directory.folder {
        Folder::Queue(QueueName::Active) => flags |= AddWatchFlags::IN_MOVED_FROM,
        Folder::Queue(QueueName::Hold) => {
            flags |= AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO;
        }
        _ => (),
    }
    if directory.levels > 0 {
        flags |= AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::QueueLayout;
    use std::fs::{self, create_dir, create_dir_all, remove_file, rename, write};
    use tempfile::TempDir;

    fn spool() -> (TempDir, Queue) {
        let directory = tempfile::tempdir().unwrap();
        for queue in QueueName::ALL {
            create_dir(directory.path().join(queue.as_str())).unwrap();
        }
        let queue = Queue::new(directory.path(), QueueLayout::new([QueueName::Deferred], 2));
        (directory, queue)
    }

    fn id() -> QueueId {
        "4C1B21A0".parse().unwrap()
    }

    #[tokio::test]
    async fn delivery_and_deferral_are_seen() {
        let (directory, queue) = spool();
        create_dir_all(directory.path().join("deferred/4/C")).unwrap();
        let path = |queue: &str| directory.path().join(queue).join("4C1B21A0");
        let mut watch = Watch::new(&queue).unwrap();
        write(path("incoming"), "").unwrap();
        rename(path("incoming"), path("active")).unwrap();
        assert_eq!(watch.pending().unwrap(), [], "nothing has ended yet");
        rename(path("active"), path("deferred/4/C")).unwrap();
        assert_eq!(watch.changes().await.unwrap(), [Change::Moved(id())]);
        rename(path("deferred/4/C"), path("active")).unwrap();
        remove_file(path("active")).unwrap();
        assert_eq!(watch.changes().await.unwrap(), [Change::Deleted(QueueName::Active, id())]);
    }

    #[tokio::test]
    async fn deletion_by_the_administrator_is_seen_anywhere() {
        let (directory, queue) = spool();
        create_dir_all(directory.path().join("deferred/4/C")).unwrap();
        let mut watch = Watch::new(&queue).unwrap();
        for (name, parent) in [
            (QueueName::Hold, "hold"),
            (QueueName::Incoming, "incoming"),
            (QueueName::Deferred, "deferred/4/C"),
        ] {
            let path = directory.path().join(parent).join("4C1B21A0");
            write(&path, "").unwrap();
            remove_file(&path).unwrap();
            assert_eq!(watch.changes().await.unwrap(), [Change::Deleted(name, id())]);
        }
    }

    #[tokio::test]
    async fn new_hash_directories_are_watched_from_the_moment_they_are_seen() {
        let (directory, queue) = spool();
        let mut watch = Watch::new(&queue).unwrap();
        let parent = directory.path().join("deferred/4/C");
        create_dir_all(&parent).unwrap();
        assert!(
            watch.changes().await.unwrap().contains(&Change::NewDirectory),
            "a file may have been missed"
        );
        write(parent.join("4C1B21A0"), "").unwrap();
        remove_file(parent.join("4C1B21A0")).unwrap();
        let seen = watch.changes().await.unwrap();
        assert!(seen.contains(&Change::Deleted(QueueName::Deferred, id())), "{seen:?}");
    }

    #[tokio::test]
    async fn a_file_with_the_name_of_a_hash_directory_is_not_watched() {
        let (directory, queue) = spool();
        write(directory.path().join("deferred/4"), "").unwrap();
        assert_eq!(Watch::new(&queue).unwrap().pending().unwrap(), []);
    }

    #[tokio::test]
    async fn names_that_are_no_queue_ids_do_not_count() {
        let (directory, queue) = spool();
        let mut watch = Watch::new(&queue).unwrap();
        let path = directory.path().join("incoming/123.456");
        write(&path, "").unwrap();
        remove_file(&path).unwrap();
        assert_eq!(watch.pending().unwrap(), []);
    }

    const FEW: &str = "OPTIMUS_TEST_FEW_WATCHES";

    /// Child process of the next test, with few watches.
    #[tokio::test]
    async fn a_child_watches_with_few_watches() {
        if std::env::var_os(FEW).is_some() {
            let (_directory, queue) = spool();
            println!("told: {}", Watch::new(&queue).unwrap_err());
        }
    }

    /// A user namespace has limits of its own.
    #[test]
    fn a_limit_of_inotify_is_named_with_its_remedy() {
        for (limit, few, remedy) in [
            ("max_inotify_instances", 0, "fs.inotify.max_user_instances"),
            ("max_inotify_watches", 1, "fs.inotify.max_user_watches"),
        ] {
            let script = format!("echo {few} > /proc/sys/user/{limit} && exec \"$@\"");
            let mut command = std::process::Command::new("unshare");
            command.args(["-Ur", "sh", "-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
            command
                .args(["--exact", "watch::tests::a_child_watches_with_few_watches", "--nocapture"])
                .env(FEW, "1");
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                told.contains("can't be watched") && told.contains(remedy),
                "{limit}: {told} {output:?}"
            );
            assert!(!told.contains("RLIMIT_NOFILE") && !told.contains("make room"), "{told}");
        }
    }

    #[tokio::test]
    async fn an_overflow_is_reported() {
        let (directory, queue) = spool();
        let mut watch = Watch::new(&queue).unwrap();
        let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // Different names are needed, because the kernel merges equal events.
        for number in 0..=limit {
            let path = directory.path().join("hold").join(format!("{number:05X}1"));
            write(&path, "").unwrap();
            remove_file(&path).unwrap();
        }
        let seen = watch.pending().unwrap();
        assert_eq!(seen.iter().filter(|change| **change == Change::Overflow).count(), 1);
    }
}
