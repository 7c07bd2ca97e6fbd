//! Submission: the way of a message to a place where it is durable.
//!
//! ```text
//!              ┌── stored ──────────────▶ Redis                                      exit 0
//!  submit ────▶│
//!   (id made   ├── certainly not there ─▶ maildrop, for stock pickup                 exit 0
//!    once)     │
//!              └── nobody knows ────────▶ maildrop, under a name that stock pickup   exit 0
//!                                         skips, with the id; pickup-rs asks Redis
//!                  and no maildrop either: exit 75, and nobody knows still
//! ```
//!
//! Exit 0 always means that the message is durable. The id is made once per message and is the same
//! in every attempt. Redis takes an id once, so a repeated attempt makes no second copy. A message
//! is never in both places with permission to be sent from both. Exit 75 means that no durable copy
//! is certain. Only in the last case above may Redis have the message. The error then says so,
//! because another submission may send the mail twice. See `docs/decisions/0003-*`.

use std::path::Path;

use postfix_wire::QueueId;
use spool::Content;

use crate::collected::{Collected, Room};
use crate::death::{IN_DOUBT, redis_may_have_it};
use crate::exit::Failure;
use crate::instance::Instance;
use crate::maildrop::{Maildrop, Readiness};
use crate::offer::{Offer, offer};
use crate::stamp::SubmissionStamp;

/// Place in which a message is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Redis.
    Spool,
    /// The local maildrop, because Redis certainly doesn't have the message.
    Maildrop {
        /// Name of the file there.
        queue_id: QueueId,
        /// Trouble with Redis.
        because: String,
    },
    /// The local maildrop, until Redis has said whether it has the message, too.
    InDoubt {
        /// Name of the file there, without [`settings::IN_DOUBT_SUFFIX`].
        queue_id: QueueId,
        /// Trouble with Redis.
        because: String,
    },
}

/// Returns the folders for a large message's records: the maildrop, or public ones for a process
/// without rights to the maildrop.
pub(crate) fn room(instance: &Instance, has_rights: bool) -> Room {
    match has_rights {
        true => Room::maildrop(Path::new(&instance.text("queue_directory"))),
        false => Room::for_everybody(),
    }
}

/// Makes a message durable: `records` as [`crate::filter`] made them. After an error, the message
/// is not in the maildrop, and the error says whether Redis may have the message.
pub fn submit(
    instance: &Instance,
    stamp: &SubmissionStamp,
    mut records: Collected,
) -> Result<Kept, Failure> {
    redis_may_have_it(true);
    match offer(instance, stamp, records.content()) {
        Offer::Stored => Ok(Kept::Spool),
        Offer::NotSubmitted(because) => {
            redis_may_have_it(false);
            let queue_id = store(instance, records.content(), Readiness::Ready, &because)?;
            Ok(Kept::Maildrop { queue_id, because })
        }
        Offer::Unknown(because) => {
            records.mark(stamp.id);
            let queue_id = store(instance, records.content(), Readiness::InDoubt, &because)?;
            Ok(Kept::InDoubt { queue_id, because })
        }
    }
}

fn store(
    instance: &Instance,
    records: Content<'_>,
    readiness: Readiness,
    because: &str,
) -> Result<QueueId, Failure> {
    let maildrop = Maildrop::of(&instance.main_cf).map_err(|e| e.to_string());
    let stored =
        maildrop.and_then(|maildrop| maildrop.store(records, readiness).map_err(|e| e.to_string()));
    let fate = match readiness {
        Readiness::Ready => "the message is not submitted",
        Readiness::InDoubt => IN_DOUBT,
    };
    stored.map_err(|maildrop| {
        Failure::temporary(format!("{fate}: Redis: {because}; maildrop: {maildrop}"))
    })
}
