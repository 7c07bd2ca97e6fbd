//! Release of mail on hold without a Mail Agent, for operators' commands.
//!
//! While no Mail Agent is there, or Redis is away, an operator's command acts on this host's queue
//! by itself. Stock postsuper would give released files their old names back, which is not safe:
//! see `queue::operating`. A Mail Agent that is back learns the new names from the files.

use std::io;
use std::path::Path;

use handoff::protocol::NewName;
use postfix_wire::{MainCf, MainCfError, QueueId, QueueLayout};

use crate::queue::Queue;
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

/// Releases files of OPTIMUS that are on hold: those of these names, or all. Other mail, and mail
/// that is undecided, is left alone. Returns the new names.
pub fn release(
    main_cf: &MainCf,
    queue_directory: &Path,
    names: Option<&[QueueId]>,
) -> Result<Vec<NewName>, HeldError> {
    let queue = Queue::new(queue_directory, QueueLayout::of(main_cf)?);
    let all = match names {
        Some(names) => names.to_vec(),
        None => scan::names(&queue)?.into_iter().collect(),
    };
    let mut released = Vec::new();
    for was in all {
        if let Some(now) = queue.release_ours(&was)? {
            released.push(NewName { was, now });
        }
    }
    Ok(released)
}
