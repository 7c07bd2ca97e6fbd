//! Files that pickup-rs must release or discard, and the mark that goes to pickup-rs.
//!
//! ```text
//!  committed ─▶ waiting ─release─▶ under way ─released, vanished─▶ (Postfix's)
//!                  │ pickup-rs gone, another Redis server
//!                  ▼
//!               unasked ─▶ the next comparison takes the commits of absent ones back
//! ```
//!
//! The *mark* is the number up to which all commits are released, or are prepared and will be. The
//! mark goes with each release, or alone when it has risen without one. From the time when a
//! committed file was found gone until Redis has taken its commit back, no mark goes.

use std::collections::BTreeSet;

use handoff::protocol::Request;
use postfix_wire::QueueId;
use spool::CommitNumber;

/// Most queue ids in one request, which keeps a line far below pickup-rs's limit.
pub(super) const QUEUE_IDS_PER_REQUEST: usize = 1_000;

/// Releases and discards for pickup-rs; see the module.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: Vec<QueueId>,
    /// Files whose release pickup-rs has not answered.
    under_way: BTreeSet<QueueId>,
    /// Committed files whose release was never asked for, since pickup-rs had gone or Redis was
    /// another server.
    unasked: BTreeSet<QueueId>,
    discards: Vec<QueueId>,
    /// Mark that was last sent to pickup-rs.
    mark: CommitNumber,
    /// Whether pickup-rs takes no mark until it is told none, since a file has vanished.
    must_tell_none: bool,
}

impl Releases {
    /// Queues the release of committed files.
    pub(super) fn release(&mut self, queue_ids: impl IntoIterator<Item = QueueId>) {
        self.waiting.extend(queue_ids);
    }

    /// Queues the deletion of a file that was never released.
    pub(super) fn discard(&mut self, queue_id: QueueId) {
        self.discards.push(queue_id);
    }

    /// Takes the release of these files back.
    pub(super) fn withhold(&mut self, queue_ids: &BTreeSet<&QueueId>) {
        self.waiting.retain(|queue_id| !queue_ids.contains(queue_id));
    }

    /// Returns the next release, or a mark that has changed without one. 0 is no mark.
    pub(super) fn next_release(&mut self, mark: CommitNumber) -> Option<Request> {
        let is_none = mark == CommitNumber(0);
        debug_assert!(is_none || self.mark <= mark, "the mark falls, and the server is the same");
        let queue_ids = some_of(&mut self.waiting);
        self.under_way.extend(queue_ids.iter().cloned());
        let must_tell_none = std::mem::take(&mut self.must_tell_none);
        let mark = if must_tell_none { CommitNumber(0) } else { mark };
        let has_changed = std::mem::replace(&mut self.mark, mark) != mark;
        let is_due = must_tell_none || has_changed || !queue_ids.is_empty();
        is_due.then_some(Request::Release { queue_ids, mark })
    }

    /// Returns the next request to delete files.
    pub(super) fn next_discard(&mut self) -> Option<Request> {
        let is_due = !self.discards.is_empty();
        is_due.then(|| Request::Discard { queue_ids: some_of(&mut self.discards) })
    }

    /// Notes that pickup-rs has released this file.
    pub(super) fn answered(&mut self, queue_id: &QueueId) {
        self.under_way.remove(queue_id);
    }

    /// Notes that pickup-rs found no such file, and takes no mark until it is told none. So no
    /// request that is on its way raises the mark over the file's commit.
    pub(super) fn vanished(&mut self, queue_id: &QueueId) {
        self.answered(queue_id);
        self.must_tell_none = true;
    }

    /// Notes that pickup-rs has gone. Only a comparison shows which requests it carried out.
    pub(super) fn lost_sight(&mut self) {
        self.redis_changed();
        self.under_way.clear();
        self.must_tell_none = false;
    }

    /// Notes that Redis may lack the decisions about waiting files, and numbers commits anew. The
    /// next comparison finds the files again.
    pub(super) fn redis_changed(&mut self) {
        self.unasked.extend(self.waiting.drain(..));
        self.discards.clear();
        self.mark = CommitNumber(0);
    }

    /// Returns whether the release of this committed file was never asked for.
    pub(super) fn is_unasked(&self, queue_id: &QueueId) -> bool {
        self.unasked.contains(queue_id)
    }

    /// Forgets which releases were not asked for: another process may have asked, or a comparison
    /// has judged each of the files.
    pub(super) fn forget_unasked(&mut self) {
        self.unasked.clear();
    }

    /// Returns whether pickup-rs was asked for a release, or told a mark, on this connection.
    pub(super) fn is_asked(&self) -> bool {
        !self.under_way.is_empty() || self.mark != CommitNumber(0)
    }

    /// Returns whether pickup-rs has answered all releases and has all discards.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && self.discards.is_empty()
    }
}

/// Takes as many queue ids as one request may name.
fn some_of(queue_ids: &mut Vec<QueueId>) -> Vec<QueueId> {
    let rest = queue_ids.split_off(queue_ids.len().min(QUEUE_IDS_PER_REQUEST));
    std::mem::replace(queue_ids, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_id(n: usize) -> QueueId {
        format!("4C1B2{n:05X}").parse().unwrap()
    }

    #[test]
    fn a_mark_that_has_risen_is_told_once_for_each_connection() {
        let mut releases = Releases::default();
        let told = |releases: &mut Releases, mark| releases.next_release(CommitNumber(mark));
        assert_eq!(told(&mut releases, 0), None);
        assert!(told(&mut releases, 7).is_some());
        assert_eq!(told(&mut releases, 7), None);
        releases.lost_sight();
        assert!(told(&mut releases, 7).is_some());
    }

    #[test]
    fn pickup_is_told_no_mark_once_for_files_that_vanished() {
        let mut releases = Releases::default();
        let told = |releases: &mut Releases| match releases.next_release(CommitNumber(7)) {
            Some(Request::Release { mark, .. }) => Some(mark.0),
            _ => None,
        };
        assert_eq!([told(&mut releases), told(&mut releases)], [Some(7), None]);
        [1, 2].map(queue_id).iter().for_each(|it| releases.vanished(it));
        assert_eq!([(); 3].map(|()| told(&mut releases)), [Some(0), Some(7), None]);
    }

    #[test]
    fn a_release_that_nobody_asked_for_is_remembered_when_pickup_has_gone() {
        let mut releases = Releases::default();
        releases.release((0..=QUEUE_IDS_PER_REQUEST).map(queue_id));
        assert!(releases.next_release(CommitNumber(1)).is_some());
        releases.lost_sight();
        assert!(releases.is_empty() && releases.is_unasked(&queue_id(QUEUE_IDS_PER_REQUEST)));
        assert!(!releases.is_unasked(&queue_id(0)));
    }

    #[test]
    fn no_file_moves_by_a_decision_of_the_redis_before() {
        let mut releases = Releases::default();
        releases.release([queue_id(1)]);
        releases.discard(queue_id(2));
        releases.redis_changed();
        assert_eq!(releases.next_release(CommitNumber(0)), None);
        assert_eq!(releases.next_discard(), None);
        assert!(releases.is_unasked(&queue_id(1)));
    }
}
