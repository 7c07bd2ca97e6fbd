//! What a node has on disk against what Redis says it has: recovery from nothing but these two.
//!
//! Redis is asked first. So a message that Redis says is committed here had its queue file when Redis was asked, and if the
//! queue, read after that, doesn't have it, Postfix is done with it.
//!
//! | on disk | committed here in Redis | not |
//! |---|---|---|
//! | in hold, undecided | release | commit, and see |
//! | with the queue manager | track | commit, and see; if refused, it may be sent twice |
//! | nothing | settle | |

use std::collections::{HashMap, HashSet};

use pickup_rs::protocol::{Place, QueuedFile};
use postfix_wire::QueueId;
use spool::MessageId;

use super::feeding::Piece;
use super::ledger::How;

/// What follows from the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Committed, and still in hold.
    pub(crate) release: Vec<QueueId>,
    /// Committed, and here.
    pub(crate) track: Vec<(QueueId, MessageId)>,
    /// Committed, and waiting in Postfix's deferred queue until then (Unix ms).
    pub(crate) defer: Vec<(QueueId, u64)>,
    /// Here, and not decided.
    pub(crate) undecided: Vec<(QueueId, Piece, How)>,
    /// Committed, and gone.
    pub(crate) settle: Vec<(QueueId, MessageId)>,
    /// All that is here.
    pub(crate) names: HashSet<QueueId>,
}

/// Compares. `committed` must have been read before `files`.
pub(crate) fn compare(files: &[QueuedFile], committed: &HashMap<QueueId, MessageId>) -> Findings {
    let mut findings = Findings::default();
    for file in files {
        findings.names.insert(file.queue_id.clone());
        if committed.get(&file.queue_id) == Some(&file.id) {
            findings.ours(file);
        } else {
            findings.undecided.push((file.queue_id.clone(), piece_of(file), how(file.place)));
        }
        if let (Place::Deferred, Some(next_s)) = (file.place, file.next_attempt_s) {
            findings.defer.push((file.queue_id.clone(), next_s * 1_000));
        }
    }
    let here: HashSet<(&QueueId, MessageId)> = files.iter().map(|file| (&file.queue_id, file.id)).collect();
    let gone = committed.iter().filter(|(queue_id, id)| !here.contains(&(*queue_id, **id)));
    findings.settle = gone.map(|(queue_id, id)| (queue_id.clone(), *id)).collect();
    findings
}

impl Findings {
    fn ours(&mut self, file: &QueuedFile) {
        self.track.push((file.queue_id.clone(), file.id));
        match file.place {
            Place::Prepared => self.release.push(file.queue_id.clone()),
            Place::Queued | Place::Deferred => (),
        }
    }
}

pub(crate) fn piece_of(file: &QueuedFile) -> Piece {
    Piece { lot: file.lot, epoch: file.epoch, id: file.id }
}

fn how(place: Place) -> How {
    match place {
        Place::Prepared => How::Held,
        Place::Queued | Place::Deferred => How::Stored,
    }
}
