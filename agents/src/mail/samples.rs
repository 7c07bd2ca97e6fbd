//! Samples of the tests: queue files and commits, each made of a number.

use handoff::protocol::{FolderKind, QueuedFile};
use postfix_wire::QueueId;
use spool::{CommitNumber, Epoch, LotNumber, MessageId};

use super::report::Owned;

pub(super) fn queue_id(n: u64) -> QueueId {
    format!("4C1B2{n:05X}").parse().unwrap()
}

pub(super) fn id(n: u64) -> MessageId {
    MessageId::from_parts(n, 0)
}

pub(super) fn owned(n: u64) -> Owned {
    Owned { id: id(n), number: CommitNumber(n) }
}

pub(super) fn file(n: u64, place: FolderKind) -> QueuedFile {
    let next_attempt_s = (place == FolderKind::Deferred).then_some(7);
    QueuedFile {
        id: id(n),
        lot: LotNumber(1),
        epoch: Epoch(1),
        queue_id: queue_id(n),
        place,
        next_attempt_s,
        to: Vec::new(),
    }
}
