//! Operators' acts on files that Postfix has, in the manner of postsuper(1).
//!
//! Postfix moves files with `rename` and no lock, and so does its own `postsuper`. The later one of
//! two processes finds the file gone. The queue manager only warns when a file in `active` is gone,
//! and a delivery that is under way ends as usual.
//!
//! A release differs from `postsuper -H`: the file gets another name. Postfix's queue manager finds
//! the jobs in its memory by queue id. A file under the old name could be taken for that of a job
//! in memory, and be removed without a delivery. The new name has the file's inode, as each queue
//! id has, and the time of the release.
//!
//! Source: Postfix `postsuper.c` (`delete_one`, `hold_one`, `release_one`, `requeue_one`),
//! `qmgr_job.c` (`qmgr_job_obtain`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handoff::protocol::Handoff;
use postfix_wire::{QueueId, QueueName};
use spool::{Act, MessageId};

use crate::file::{link, open, remove, rename, whose};
use crate::folder::Folder;
use crate::origin::Whose;
use crate::queue::{EXAMINE_ATTEMPTS, Examined, QUEUES, Queue, never_at_rest};

/// Queues in which Postfix keeps its notes on a message's deliveries.
const LOGS: [QueueName; 3] = [QueueName::Bounce, QueueName::Defer, QueueName::Trace];

/// Most names that are tried. The first may belong to an earlier file with that inode.
const NAME_ATTEMPTS: u64 = 10;

/// Outcome of an operator's act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The act was carried out.
    Done,
    /// The file was released from hold, and has this name since.
    Renamed(QueueId),
    /// The file was already in the state that the act asks for.
    AsItWas,
    /// The message's file has left the queue.
    Absent,
    /// The file is not released yet, so Postfix doesn't have it.
    Prepared,
    /// The file is too damaged to name its owner.
    Unclear,
}

/// Outcome for a file on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnHold {
    /// The file was released, and has this name since.
    Released(QueueId),
    /// The file was left on hold, because Redis can't be asked whether the queue manager had it.
    Unknown,
    /// The file is not of OPTIMUS, or undecided, and was left on hold.
    Others,
    /// No such file is on hold.
    Absent,
}

impl Queue {
    /// Carries out `act` on the file `id` of `message`, in any of Postfix's queues.
    pub fn operate(&self, act: Act, id: &QueueId, message: MessageId) -> io::Result<Operation> {
        for _ in 0..EXAMINE_ATTEMPTS {
            let folder = match self.examine(id)? {
                // The file may name an earlier queue id, after a release or after Postfix has
                // renamed it.
                Examined::Ours(origin, at) if origin.id == message => at.folder,
                Examined::Ours(..) | Examined::Foreign | Examined::Absent => {
                    return Ok(Operation::Absent);
                }
                Examined::Unclear => return Ok(Operation::Unclear),
            };
            let Folder::Queue(queue) = folder else { return Ok(Operation::Prepared) };
            match self.operate_in(act, queue, id) {
                // The file moved between the look and the act, which is rare.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(never_at_rest(id))
    }

    /// Makes the names safe that acts gave to these files or took from them. Otherwise a power
    /// failure might undo an act that was reported. All folders are synced, also after one has
    /// failed; the error is the first folder's.
    pub fn sync_names<'a>(&self, ids: impl IntoIterator<Item = &'a QueueId>) -> io::Result<()> {
        let queues = QUEUES.into_iter().chain([QueueName::Maildrop]);
        let paths =
            ids.into_iter().flat_map(|id| queues.clone().map(move |queue| self.path(queue, id)));
        let one_of_each: BTreeMap<_, _> =
            paths.map(|path| (path.parent().map(Path::to_owned), path)).collect();
        sync_each(one_of_each.values(), durable::sync_folder_of)
    }

    fn operate_in(&self, act: Act, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        let to = match (act, queue) {
            (Act::Delete, _) => return self.delete(queue, id),
            // A file in corrupt is never delivered.
            (_, QueueName::Corrupt) | (Act::Hold, QueueName::Hold) => {
                return Ok(Operation::AsItWas);
            }
            (Act::Release, QueueName::Hold) => {
                return self.release_from_hold(id).map(Operation::Renamed);
            }
            (Act::Release, _) => return Ok(Operation::AsItWas),
            (Act::Hold, _) => QueueName::Hold,
            (Act::Requeue, _) => QueueName::Maildrop,
        };
        let to_path = self.path(to, id);
        rename(&self.path(queue, id), &to_path)?;
        if to == QueueName::Maildrop {
            // Stock pickup would wait for the time of the next attempt, which the file's mtime has.
            let now = SystemTime::now();
            File::open(&to_path)?
                .set_times(FileTimes::new().set_accessed(now).set_modified(now))?;
        }
        Ok(Operation::Done)
    }

    /// Gives a file on hold back to the queue manager, under a new name. Links the logs to that
    /// name first, since the queue manager may soon need them for a bounce. Until the file has
    /// moved, the logs keep their old names as well, in case this process dies.
    fn release_from_hold(&self, id: &QueueId) -> io::Result<QueueId> {
        let now = self.unused_name(id)?;
        let logs = self.link_logs(id, &now)?;
        let moved = rename(&self.path(QueueName::Hold, id), &self.path(QueueName::Deferred, &now));
        let stale = if moved.is_ok() { id } else { &now };
        for log in logs {
            remove(&self.path(log, stale))?;
        }
        moved.map(|()| now)
    }

    /// Links a message's logs to another name. Returns the queues that have such a log.
    fn link_logs(&self, id: &QueueId, now: &QueueId) -> io::Result<Vec<QueueName>> {
        let mut linked = Vec::new();
        for log in LOGS {
            match link(&self.path(log, id), &self.path(log, now)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map(|()| linked.push(log))?,
            }
        }
        Ok(linked)
    }

    /// Releases a file of OPTIMUS from hold if the queue manager had the file before, as a mark
    /// shows. A file that was handed over directly has no mark, so its message must be in
    /// `committed`. `None` means that Redis can't be asked.
    pub fn release_ours(
        &self,
        id: &QueueId,
        committed: Option<&BTreeSet<MessageId>>,
    ) -> io::Result<OnHold> {
        let hold = QueueName::Hold;
        let Some(at) = self.look(hold, id)? else { return Ok(OnHold::Absent) };
        let origin = match open(&self.path(hold, id)).and_then(|file| whose(&file)) {
            Ok(Whose::Ours(origin)) if at.finished => origin,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(OnHold::Absent),
            Err(error) if at.released => return Err(error),
            _ => return Ok(OnHold::Others),
        };
        let is_direct = origin.handoff == Handoff::Direct && !at.released;
        match committed {
            None if is_direct => return Ok(OnHold::Unknown),
            Some(committed) if is_direct && committed.contains(&origin.id) => {}
            _ if at.released => {}
            _ => return Ok(OnHold::Others),
        }
        match self.release_from_hold(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OnHold::Absent),
            now => now.map(OnHold::Released),
        }
    }

    /// Returns an unused queue id of the same form for a file on hold.
    fn unused_name(&self, id: &QueueId) -> io::Result<QueueId> {
        let inode = fs::symlink_metadata(self.path(QueueName::Hold, id))?.ino();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for micros in 0..NAME_ATTEMPTS {
            let time = time + Duration::from_micros(micros);
            let name = match id.is_long() {
                true => QueueId::long(time, inode),
                false => QueueId::short(time, inode),
            };
            if name != *id && self.find_anywhere(&name)?.is_none() {
                return Ok(name);
            }
        }
        Err(io::Error::other(format!("{id}: not renamed: no unused name found")))
    }

    /// Deletes a file's logs and then the file. A log without its file could be taken for another
    /// message's.
    fn delete(&self, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        LOGS.iter().try_for_each(|log| remove(&self.path(*log, id)))?;
        fs::remove_file(self.path(queue, id)).map(|()| Operation::Done)
    }
}

/// Syncs the folder of each of these files. Returns the first failure.
fn sync_each<'a>(
    files: impl Iterator<Item = &'a std::path::PathBuf>,
    sync: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    for file in files {
        match sync(file) {
            // A subdirectory of a hashed queue was never made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if outcome.is_ok() => {
                let folder = file.parent().unwrap_or(file).display();
                outcome = Err(io::Error::new(error.kind(), format!("{folder}: {error}")));
            }
            Ok(()) | Err(_) => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn all_folders_are_synced_though_one_fails() {
        let files = ["hold/a", "deferred/a", "incoming/a"].map(PathBuf::from);
        let synced = RefCell::new(Vec::new());
        let outcome = sync_each(files.iter(), |file| {
            synced.borrow_mut().push(file.to_owned());
            match file.starts_with("incoming") {
                true => Err(io::ErrorKind::NotFound.into()),
                false => Err(io::Error::other("broken")),
            }
        });
        assert_eq!(outcome.unwrap_err().to_string(), "hold: broken");
        assert_eq!(*synced.borrow(), files);
    }
}
