//! Invariants of the ledger, which are checked where they could break.

use std::collections::BTreeSet;

use postfix_wire::QueueId;
use spool::MessageId;

use super::Ledger;

impl Ledger {
    /// Checks one file where its state has changed: it is in one state only.
    pub(super) fn check(&self, queue_id: &QueueId, id: MessageId) {
        let is_tracked = self.tracked.get(queue_id) == Some(&id);
        let is_undecided = self.undecided.get(queue_id).is_some_and(|it| it.key.id == id);
        let is_withdrawn = self.is_withdrawn(queue_id, id);
        debug_assert!(!(is_tracked && is_undecided), "{queue_id} {id}: tracked and undecided");
        debug_assert!(!(is_tracked && is_withdrawn), "{queue_id} {id}: tracked and withdrawn");
        debug_assert!(!(is_undecided && is_withdrawn), "{queue_id} {id}: undecided and withdrawn");
    }

    /// Checks all files, before a report goes and after its answer: each is in one state, and Redis
    /// was or will be asked to decide about each undecided one. So no message can be forgotten.
    pub(crate) fn assert_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let told = self.told.iter().flat_map(|report| &report.commits);
        let commits = self.waiting.commits.iter().chain(&self.occupied).chain(told);
        let commits: BTreeSet<_> = commits.map(|it| (&it.queue_id, it.key)).collect();
        for (queue_id, file) in &self.undecided {
            let is_asked = commits.contains(&(queue_id, file.key));
            debug_assert!(is_asked, "{queue_id} {}: undecided for ever", file.key.id);
            self.check(queue_id, file.key.id);
        }
        self.tracked.iter().for_each(|(queue_id, id)| self.check(queue_id, *id));
    }

    /// Whether a withdrawn file has this queue id.
    pub(crate) fn has_withdrawn(&self, queue_id: &QueueId) -> bool {
        self.withdrawn.contains_key(queue_id)
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::super::super::feeding::FeedKey;
    use super::super::super::report::HandoffOutcome;
    use super::super::super::samples::{id, queue_id};
    use super::*;
    use spool::{Epoch, LotNumber};

    fn with_an_undecided_file() -> Ledger {
        let mut ledger = Ledger::default();
        let key = FeedKey { lot: LotNumber(1), epoch: Epoch(1), id: id(1) };
        ledger.handed(queue_id(1), key, HandoffOutcome::Held);
        ledger.assert_invariants();
        ledger
    }

    #[test]
    #[should_panic(expected = "undecided for ever")]
    fn a_lost_commit_is_noticed() {
        let mut ledger = with_an_undecided_file();
        ledger.waiting.commits.clear();
        ledger.assert_invariants();
    }

    #[test]
    #[should_panic(expected = "undecided and withdrawn")]
    fn a_file_in_two_states_is_noticed() {
        let mut ledger = with_an_undecided_file();
        ledger.withdrawn.insert(queue_id(1), id(1));
        ledger.assert_invariants();
    }
}
