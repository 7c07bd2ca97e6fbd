//! Release of mail on hold without a Mail Agent, for operators' commands.
//!
//! While no Mail Agent runs, or Redis is away, an operator's command acts on this host's queue
//! directly. Stock postsuper would let released files keep their names, which is not safe: see
//! `operating`. A Mail Agent that starts later learns the new names from the files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use handoff::protocol::NewName;
use postfix_wire::{MainCf, MainCfError, QueueId, QueueLayout};
use spool::MessageId;

use crate::operating::OnHold;
use crate::queue::Queue;
use crate::scan;

/// Failure to release mail on hold. Some files may have been released.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// A parameter for the layout of the queue has the wrong form.
    #[error(transparent)]
    Configuration(#[from] MainCfError),
    /// A file can't be examined or moved.
    #[error("mail on hold: not released: {0}")]
    File(#[from] io::Error),
}

/// Outcome of a release, by file.
#[derive(Debug, Default)]
pub struct Released {
    /// Released files, each with its name before and after.
    pub renamed: Vec<NewName>,
    /// Files of OPTIMUS left on hold, because Redis can't be asked about them.
    pub unknown: Vec<QueueId>,
    /// Files left on hold for stock postsuper.
    pub others: Vec<QueueId>,
}

/// Releases files of OPTIMUS that are on hold: those in `names`, or all. Leaves other mail and
/// undecided mail alone. A file that was handed over directly is released only if its message is in
/// `committed`, which Redis gave. `None` means that Redis can't be asked.
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
