//! The heart of all programs here: from a message to the place where it is durable.
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
//! Exit 0 means durable, always. The id is made once per message and is the same in every attempt,
//! and Redis takes an id once, so repeating an attempt whose answer was lost makes no second copy.
//! A message is never put in both places with permission to be sent from both. Exit 75 means that
//! nothing here is durable for certain; only the last of the cases above leaves open whether Redis
//! has the message, and says so to the caller: to submit it again may send it twice. See
//! `docs/decisions/0003-*`.

use std::path::Path;

use postfix_wire::QueueId;
use spool::Content;

use crate::collected::{Collected, Room};
use crate::death::{IN_DOUBT, redis_may_have_it};
use crate::exit::Failure;
use crate::instance::Instance;
use crate::maildrop::{Maildrop, Readiness};
use crate::offer::{Offer, offer};
use crate::ticket::Ticket;

/// The place where a message is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In Redis.
    Spool,
    /// In the local maildrop, because Redis has certainly not got it.
    Maildrop {
        /// The file's name there.
        queue_id: QueueId,
        /// The trouble with Redis.
        because: String,
    },
    /// In the local maildrop, waiting for Redis to say whether it has it too.
    InDoubt {
        /// The file's name there, once that is decided.
        queue_id: QueueId,
        /// The trouble with Redis.
        because: String,
    },
}

/// Returns the room in which the records of a large message are put aside. Without rights to the
/// maildrop, it is where every process may.
pub(crate) fn room(instance: &Instance, has_rights: bool) -> Room {
    match has_rights {
        true => Room::maildrop(Path::new(&instance.text("queue_directory"))),
        false => Room::for_everybody(),
    }
}

/// Makes a message durable: `records` as [`crate::filter`] made them. After an error it is not in
/// the maildrop, and its words say whether Redis may have it.
pub fn submit(
    instance: &Instance,
    ticket: &Ticket,
    mut records: Collected,
) -> Result<Kept, Failure> {
    redis_may_have_it(true);
    match offer(instance, ticket, records.content()) {
        Offer::Stored => Ok(Kept::Spool),
        Offer::NotSubmitted(because) => {
            redis_may_have_it(false);
            let queue_id = store(instance, records.content(), Readiness::Ready, &because)?;
            Ok(Kept::Maildrop { queue_id, because })
        }
        Offer::Unknown(because) => {
            records.mark(ticket.id);
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
