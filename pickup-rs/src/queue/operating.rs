//! Operators' acts on files that Postfix has, in the manner of postsuper(1).
//!
//! Postfix moves files with `rename` and no lock, and so does its own `postsuper`. The later one of
//! two finds the file gone. The queue manager only warns when a file in `active` is gone, and a
//! delivery that is under way ends as usual.
//!
//! Source: Postfix `postsuper.c` (`delete_one`, `hold_one`, `release_one`, `requeue_one`).

use std::fs::{self, File, FileTimes};
use std::io;
use std::time::SystemTime;

use postfix_wire::{QueueId, QueueName};
use spool::{Act, MessageId};

use super::file::{remove, rename};
use super::{EXAMINE_ATTEMPTS, Examined, Folder, Queue, never_at_rest};

/// Queues in which Postfix keeps its notes on a message's deliveries.
const LOGS: [QueueName; 3] = [QueueName::Bounce, QueueName::Defer, QueueName::Trace];

/// Outcome of an operator's act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The act was carried out.
    Done,
    /// The file was in that state already.
    AsItWas,
    /// The message's file has left the queue.
    Absent,
    /// The file is not released yet, so Postfix doesn't have it.
    Prepared,
    /// The file is too damaged to say whose it is.
    Unclear,
}

impl Queue {
    /// Carries out an act on the file of that message, in any of Postfix's queues.
    pub(crate) fn operate(
        &self,
        act: Act,
        id: &QueueId,
        message: MessageId,
    ) -> io::Result<Operation> {
        for _ in 0..EXAMINE_ATTEMPTS {
            let folder = match self.examine(id)? {
                Examined::Ours(origin, at) if origin.id == message && origin.queue_id == *id => {
                    at.folder
                }
                Examined::Ours(..) | Examined::Foreign | Examined::Absent => {
                    return Ok(Operation::Absent);
                }
                Examined::Unclear => return Ok(Operation::Unclear),
            };
            let Folder::Queue(queue) = folder else { return Ok(Operation::Prepared) };
            match self.operate_in(act, queue, id) {
                // The file has moved on, which it does rarely.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(never_at_rest(id))
    }

    fn operate_in(&self, act: Act, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        let to = match (act, queue) {
            (Act::Delete, _) => return self.delete(queue, id),
            // A file in corrupt is never delivered.
            (_, QueueName::Corrupt) | (Act::Hold, QueueName::Hold) => {
                return Ok(Operation::AsItWas);
            }
            (Act::Release, QueueName::Hold) => QueueName::Deferred,
            (Act::Release, _) => return Ok(Operation::AsItWas),
            (Act::Hold, _) => QueueName::Hold,
            (Act::Requeue, _) => QueueName::Maildrop,
        };
        let to_path = self.path(to, id);
        rename(&self.path(queue, id), &to_path)?;
        if to == QueueName::Maildrop {
            // A time of next attempt would keep stock pickup from the file.
            let now = SystemTime::now();
            File::open(&to_path)?
                .set_times(FileTimes::new().set_accessed(now).set_modified(now))?;
        }
        Ok(Operation::Done)
    }

    /// Deletes a file and its logs. Logs go first: a log without its message would be taken for
    /// that of another message.
    fn delete(&self, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        LOGS.iter().try_for_each(|log| remove(&self.path(*log, id)))?;
        fs::remove_file(self.path(queue, id)).map(|()| Operation::Done)
    }
}
