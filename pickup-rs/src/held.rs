//! Release of mail on hold without a Mail Agent, for operators' commands.
//!
//! While no Mail Agent is there, or Redis is away, an operator's command acts on this host's queue
//! by itself. Stock postsuper would give released files their old names back, which is not safe:
//! see `queue::operating`. A Mail Agent that is back learns the new names from the files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use handoff::protocol::NewName;
use postfix_wire::{MainCf, MainCfError, QueueId, QueueLayout};
use spool::MessageId;

use crate::queue::{OnHold, Queue};
use crate::scan;

/// Failure to release mail on hold. Some of it may have been released.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The layout of the queue can't be told.
    #[error(transparent)]
    Configuration(#[from] MainCfError),
    /// A file can't be examined or moved.
    #[error("mail on hold: can't be released: {0}")]
    File(#[from] io::Error),
}

/// Outcome for mail on hold.
#[derive(Debug, Default)]
pub struct Released {
    /// Files that were released, by their names before and since.
    pub renamed: Vec<NewName>,
    /// Files of OPTIMUS that nobody knows enough of, left on hold.
    pub unknown: Vec<QueueId>,
    /// Files that are stock postsuper's to release.
    pub others: Vec<QueueId>,
}

/// Releases files of OPTIMUS that are on hold: those of these names, or all. Other mail, and mail
/// that is undecided, is left alone. `committed` is what Redis has as committed here, if it can be
/// asked: a file that was handed over directly doesn't tell.
pub fn release(
    main_cf: &MainCf,
    queue_directory: &Path,
    names: Option<&[QueueId]>,
    committed: Option<&BTreeSet<MessageId>>,
) -> Result<Released, HeldError> {
    let queue = Queue::new(queue_directory, QueueLayout::of(main_cf)?);
    let all = match names {
        Some(names) => names.to_vec(),
        None => scan::names(&queue)?.into_iter().collect(),
    };
    let mut released = Released::default();
    for was in all {
        match queue.release_ours(&was, committed)? {
            OnHold::Released(now) => released.renamed.push(NewName { was, now }),
            OnHold::Unknown => released.unknown.push(was),
            OnHold::Others => released.others.push(was),
            OnHold::Absent => {}
        }
    }
    Ok(released)
}
