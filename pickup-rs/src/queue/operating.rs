//! What operators do with files that Postfix has, in the manner of postsuper(1).
//!
//! Postfix moves files with `rename` and asks nobody, and so does its own `postsuper`: there is no
//! lock to be taken. Whoever comes second finds the file gone. The queue manager only warns when a
//! file in `active` is gone, and a delivery that is under way ends as it would have.
//!
//! Source: Postfix `postsuper.c` (`delete_one`, `hold_one`, `release_one`, `requeue_one`).

use std::fs::{self, File, FileTimes};
use std::io;
use std::time::SystemTime;

use postfix_wire::{QueueId, QueueName};
use spool::{Act, MessageId};

use super::file::{remove, rename};
use super::{EXAMINE_ATTEMPTS, Examined, Folder, Queue, never_at_rest};

/// Where Postfix keeps what it has noted of a message's deliveries.
const LOGS: [QueueName; 3] = [QueueName::Bounce, QueueName::Defer, QueueName::Trace];

/// What an operator's act came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Done now.
    Done,
    /// Nothing was left to do.
    AsItWas,
    /// The message's file has left the queue.
    Absent,
    /// Nobody has released it, so Postfix hasn't got it.
    Prepared,
    /// The file is too damaged to say whose it is.
    Unclear,
}

impl Queue {
    /// Does this to the file of that message, wherever Postfix has it.
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
                // It has moved on, and moves rarely.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(never_at_rest(id))
    }

    fn operate_in(&self, act: Act, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        let to = match (act, queue) {
            (Act::Delete, _) => return self.delete(queue, id),
            // Nobody delivers it there.
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
            // A time of next attempt would keep stock pickup from it.
            let now = SystemTime::now();
            File::open(&to_path)?
                .set_times(FileTimes::new().set_accessed(now).set_modified(now))?;
        }
        Ok(Operation::Done)
    }

    /// Logs go first: a log without its message would be taken for another one's.
    fn delete(&self, queue: QueueName, id: &QueueId) -> io::Result<Operation> {
        LOGS.iter().try_for_each(|log| remove(&self.path(*log, id)))?;
        fs::remove_file(self.path(queue, id)).map(|()| Operation::Done)
    }
}
