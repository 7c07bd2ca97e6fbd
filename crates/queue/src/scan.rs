//! Scan of the queue: all queue files of OPTIMUS, and their folders.
//!
//! Files move during a scan, and Redis forgets a message whose file is reported as missing. So
//! while the directories are read, the kernel reports each name that moves or appears
//! ([`Arrivals`]). So a file that stays in the queue during the scan is found in a directory or
//! among the moves. If the kernel lost events, or a new directory appeared, everything is read
//! again.
//!
//! The first bytes of each file then say whether OPTIMUS made the file. Files that are known to be
//! foreign are not opened again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use handoff::protocol::{FolderKind, Handoff};
use nix::sys::inotify::AddWatchFlags;
use postfix_wire::QueueId;
use spool::NodeId;
use tracing::warn;

use crate::file::Whereabouts;
use crate::folder::Folder;
use crate::inotify::{Directory, Inotify};
use crate::origin::Origin;
use crate::queue::{Examined, Queue, folders};

/// Most attempts to list the directories. An attempt fails only in a burst of thousands of moves.
const ATTEMPTS: usize = 5;

/// Queue file of OPTIMUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Attributes in the file.
    pub origin: Origin,
    /// Folder and state of the file.
    pub whereabouts: Whereabouts,
}

impl Ours {
    /// Returns the place that the protocol names.
    pub fn place(&self) -> FolderKind {
        self.whereabouts.place()
    }
}

/// Outcome of a scan.
#[derive(Debug, Default)]
pub struct Scan {
    /// Files of this node.
    pub ours: HashMap<QueueId, Ours>,
    /// Files with attributes of OPTIMUS that name another queue id.
    pub renamed: HashMap<QueueId, Ours>,
    /// Files that are not of OPTIMUS, or of another node.
    pub foreign: HashSet<QueueId>,
    /// Files whose owner is unclear, with the reason. OPTIMUS may have made any of them, so the
    /// next scan opens them again.
    pub unreadable: HashMap<QueueId, io::Error>,
}

/// Scans the queue for the files of `node`, without opening the `foreign` ones. Blocks. Lists a
/// file that can't be read as unreadable; only an unreadable directory is an error.
pub fn take(queue: &Queue, node: &NodeId, foreign: &HashSet<QueueId>) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for id in names(queue)? {
        if foreign.contains(&id) {
            scan.foreign.insert(id);
            continue;
        }
        match queue.examine_prepared(&id) {
            Ok(Examined::Ours(_, whereabouts)) if !whereabouts.finished => {
                _ = scan.unreadable.insert(id, unfinished());
            }
            Ok(Examined::Ours(origin, whereabouts)) => {
                scan.add(queue, node, id, Ours { origin, whereabouts });
            }
            Ok(Examined::Foreign) => _ = scan.foreign.insert(id),
            Ok(Examined::Absent) => {}
            Ok(Examined::Unclear) => _ = scan.unreadable.insert(id, damaged()),
            Err(error) => _ = scan.unreadable.insert(id, error),
        }
    }
    Ok(scan)
}

/// Counts the files of OPTIMUS by node, and those whose owner is unclear. Files of earlier versions
/// name no node. Blocks.
pub fn owners(queue: &Queue) -> io::Result<(BTreeMap<Option<NodeId>, usize>, usize)> {
    let (mut owners, mut unclear) = (BTreeMap::new(), 0);
    for id in names(queue)? {
        match queue.examine(&id) {
            Ok(Examined::Ours(origin, _)) => *owners.entry(origin.node).or_default() += 1,
            Ok(Examined::Foreign | Examined::Absent) => {}
            Ok(Examined::Unclear) | Err(_) => unclear += 1,
        }
    }
    Ok((owners, unclear))
}

/// Returns the error for an unfinished file in a queue where cleanup writes none. Either cleanup
/// died and `postsuper` moved the file, or the file's mode was changed.
fn unfinished() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unfinished, though no cleanup writes here")
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "attributes of OPTIMUS damaged")
}

impl Scan {
    fn add(&mut self, queue: &Queue, node: &NodeId, id: QueueId, ours: Ours) {
        let Whereabouts { folder, released, .. } = ours.whereabouts;
        // Released files under the node's former name are Postfix's alone. Redis decides whether
        // prepared files are sent, whichever node they name.
        if folder != Folder::Prepared && ours.origin.node.as_ref().is_some_and(|it| it != node) {
            _ = self.foreign.insert(id);
            return;
        }
        if ours.origin.queue_id != id {
            return if ours.origin.node.as_ref() == Some(node) {
                _ = self.renamed.insert(id, ours);
            } else {
                _ = self.foreign.insert(id);
            };
        }
        let unmarked =
            ours.origin.handoff == Handoff::Hold && folder != Folder::Prepared && !released;
        if unmarked && let Err(error) = queue.mark(folder, &id) {
            warn!("{id}: not marked as released: {error}; tried again at the next scan");
        }
        self.ours.insert(id, ours);
    }
}

/// Returns the names of all files that stay in the queue during the call, and some of those that
/// come or go meanwhile.
pub fn names(queue: &Queue) -> io::Result<HashSet<QueueId>> {
    for _ in 0..ATTEMPTS {
        let arrivals = Arrivals::watch(queue)?;
        let mut names = HashSet::new();
        for directory in &arrivals.directories {
            read_names(directory, &mut names)?;
        }
        if arrivals.complete(&mut names)? {
            return Ok(names);
        }
    }
    Err(io::Error::other("queue: not listed: files move faster than pickup-rs reads their names"))
}

fn read_names(directory: &Path, names: &mut HashSet<QueueId>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(())
}

/// Names that appear in a queue's directories.
struct Arrivals {
    inotify: Inotify,
    directories: Vec<PathBuf>,
}

impl Arrivals {
    fn watch(queue: &Queue) -> io::Result<Self> {
        let (inotify, mut directories) = (Inotify::new()?, Vec::new());
        let flags = |_: &Directory| AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        for folder in folders() {
            let folder = Directory::of(queue, folder);
            inotify.add(folder, flags, &mut |_, directory| directories.push(directory.path))?;
        }
        Ok(Self { inotify, directories })
    }

    /// Adds the names that have arrived. Returns false if the kernel lost events, or a directory
    /// appeared.
    fn complete(&self, names: &mut HashSet<QueueId>) -> io::Result<bool> {
        let events = self.inotify.events()?;
        let missed = AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_ISDIR;
        if events.iter().any(|event| event.mask.intersects(missed)) {
            return Ok(false);
        }
        let arrived = events.into_iter().filter_map(|event| event.name);
        names.extend(arrived.filter_map(|name| name.to_str()?.parse().ok()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sample, id, plain};
    use postfix_wire::QueueName;
    use std::os::unix::fs::PermissionsExt;

    fn count(sample: &Sample) -> Scan {
        take(&sample.queue, &"node".parse().unwrap(), &HashSet::new()).unwrap()
    }

    #[test]
    fn every_file_of_ours_is_listed_with_its_place() {
        for (folder, mode, expected) in [
            (Folder::Prepared, 0o700, FolderKind::Prepared),
            (Folder::Prepared, 0o701, FolderKind::Prepared),
            (QueueName::Hold.into(), 0o701, FolderKind::OnHold),
            (QueueName::Incoming.into(), 0o701, FolderKind::Queued),
            (QueueName::Active.into(), 0o701, FolderKind::Queued),
            (QueueName::Deferred.into(), 0o701, FolderKind::Deferred),
            (QueueName::Corrupt.into(), 0o400, FolderKind::Queued),
        ] {
            let sample = plain();
            sample.write(folder, mode, "4C1B21A0");
            let scan = count(&sample);
            assert_eq!(scan.ours[&id()].place(), expected, "{folder} {mode:o}");
            assert!(scan.foreign.is_empty());
        }
    }

    #[test]
    fn an_undecided_file_left_in_hold_is_prepared() {
        let sample = plain();
        sample.write(QueueName::Hold, 0o700, "4C1B21A0");
        assert_eq!(count(&sample).ours[&id()].place(), FolderKind::Prepared);
        assert!(sample.queue.look(QueueName::Hold, &id()).unwrap().is_none());
    }

    #[test]
    fn a_file_that_was_released_without_a_mark_gets_it() {
        let sample = plain();
        sample.write(QueueName::Deferred, 0o700, "4C1B21A0");
        count(&sample);
        assert_eq!(sample.mode(QueueName::Deferred), 0o701);
    }

    #[test]
    fn a_file_under_another_name_is_listed_apart_and_another_node_s_is_foreign() {
        let sample = plain();
        sample.write(QueueName::Hold, 0o700, "4C1B21A1");
        let scan = count(&sample);
        assert!(scan.ours.is_empty() && scan.renamed.contains_key(&id()));
        assert_eq!(sample.mode(QueueName::Hold), 0o700, "nobody's to mark");
        sample.write_of(Some("other"), QueueName::Hold, 0o700, "4C1B21A1");
        let scan = count(&sample);
        assert!(scan.renamed.is_empty() && scan.foreign.contains(&id()));
    }

    #[test]
    fn foreign_and_unfinished_files_are_not_ours() {
        let sample = plain();
        sample.write(QueueName::Incoming, 0o600, "4C1B21A0");
        let scan = count(&sample);
        assert!(scan.ours.is_empty() && scan.unreadable.is_empty(), "{scan:?}");
        sample.write(QueueName::Active, 0o700, "4C1B21A0");
        sample.write_foreign(QueueName::Active);
        let scan = count(&sample);
        assert!(scan.foreign.contains(&id()) && scan.unreadable.is_empty(), "{scan:?}");
    }

    #[test]
    fn a_file_that_can_t_be_read_does_not_end_the_scan() {
        let sample = plain();
        sample.write(QueueName::Hold, 0o700, "4C1B21A0");
        // An unfinished file is looked for in every folder, and deferred/4 is no directory.
        let unfinished = sample.queue.directory(QueueName::Hold).join("4C1B21A7");
        fs::write(&unfinished, "x").unwrap();
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(sample.queue.directory(QueueName::Deferred).join("4"), "x").unwrap();
        let scan = count(&sample);
        assert!(scan.ours.contains_key(&id()));
        assert!(scan.unreadable.contains_key(&"4C1B21A7".parse().unwrap()), "{scan:?}");
        fs::remove_dir_all(sample.queue.directory(QueueName::Hold)).unwrap();
        fs::write(sample.queue.directory(QueueName::Hold), "x").unwrap();
        assert!(
            take(&sample.queue, &"node".parse().unwrap(), &HashSet::new()).is_err(),
            "a directory is everybody's"
        );
    }

    #[test]
    fn a_file_that_moves_all_the_time_is_never_missing() {
        let sample = plain();
        sample.write(QueueName::Active, 0o701, "4C1B21A0");
        let active = sample.queue.directory(QueueName::Active).join("4C1B21A0");
        let deferred = sample.queue.directory(QueueName::Deferred).join("4");
        fs::create_dir_all(&deferred).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&active, deferred.join("4C1B21A0")).unwrap();
                    fs::rename(deferred.join("4C1B21A0"), &active).unwrap();
                }
            });
            let missing =
                (0..200).filter(|_| !names(&sample.queue).unwrap().contains(&id())).count();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(missing, 0);
        });
    }
}
