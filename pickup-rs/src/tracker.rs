//! What pickup-rs believes of each queue file, and what of it is news to the Mail Agent.
//!
//! ```text
//!  named ──▶ feeding ──▶ prepared ──release──▶ queued ◀──▶ deferred, on hold
//!               │           │ discard             │            │
//!               │           ▼                     ▼            ▼
//!               └──────▶ forgotten             settled      settled
//! ```
//!
//! A file is tracked from the moment cleanup names it, before it can be delivered, so that no end
//! goes unseen. It counts as settled only once the queue manager had it: a file that was gone
//! before its release was never sent.
//!
//! Pure: it is told what happened and where files are, and says what to tell.

use std::collections::HashMap;

use postfix_wire::{QueueId, QueueName};

use crate::protocol::Place;
use crate::queue::Whereabouts;

/// What is believed of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// A cleanup process is at it. If it has been deleted since, from there.
    Feeding { deleted: Option<QueueName> },
    /// Prepared, and not released by this process.
    Prepared,
    /// The queue manager's.
    Queued,
    /// The queue manager will try again then. Unix seconds.
    Deferred { next_attempt_s: u64 },
    /// The site has put it on hold since its release.
    OnHold,
}

/// What the Mail Agent wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Settled(QueueId),
    Deferred(QueueId, u64),
    OnHold(QueueId),
}

/// All tracked files.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    files: HashMap<QueueId, State>,
}

impl Tracker {
    /// What is believed of that file.
    pub(crate) fn state(&self, id: &QueueId) -> Option<State> {
        self.files.get(id).copied()
    }

    /// A cleanup process has named a message so.
    pub(crate) fn named(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), State::Feeding { deleted: None });
    }

    /// It is prepared.
    pub(crate) fn prepared(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), State::Prepared);
    }

    /// It is the queue manager's now.
    pub(crate) fn queued(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), State::Queued);
    }

    /// There is no such file any more, and nothing to tell.
    pub(crate) fn forget(&mut self, id: &QueueId) {
        self.files.remove(id);
    }

    /// It was unlinked from that queue.
    pub(crate) fn deleted(&mut self, queue: QueueName, id: &QueueId) -> Option<News> {
        match self.files.get_mut(id)? {
            State::Feeding { deleted } => {
                *deleted = Some(queue);
                None
            }
            State::Prepared => None,
            State::Queued | State::Deferred { .. } | State::OnHold => self.gone(id),
        }
    }

    /// A file that was the queue manager's is nowhere in the queue.
    pub(crate) fn gone(&mut self, id: &QueueId) -> Option<News> {
        self.files.remove(id).map(|_| News::Settled(id.clone()))
    }

    /// It has been seen there. Deferral is news each time it is for another time.
    pub(crate) fn seen(&mut self, id: &QueueId, whereabouts: &Whereabouts) -> Option<News> {
        let state = state_at(whereabouts);
        match (self.files.insert(id.clone(), state), state) {
            (Some(before), now) if before == now => None,
            (_, State::Deferred { next_attempt_s }) => {
                Some(News::Deferred(id.clone(), next_attempt_s))
            }
            (_, State::OnHold) => Some(News::OnHold(id.clone())),
            // Released from hold and at once at work: deferred until now.
            (Some(State::OnHold), State::Queued) => {
                Some(News::Deferred(id.clone(), whereabouts.mtime_s))
            }
            _ => None,
        }
    }

    /// Whether what is believed of a file is what was seen of it.
    pub(crate) fn agrees(&self, id: &QueueId, whereabouts: &Whereabouts) -> bool {
        self.state(id) == Some(state_at(whereabouts))
    }

    /// A file unknown so far was found there by an inventory, which tells of it.
    pub(crate) fn adopt(&mut self, id: &QueueId, whereabouts: &Whereabouts) {
        let _ = self.seen(id, whereabouts);
    }

    /// The files that the queue manager has or had.
    pub(crate) fn with_queue_manager(&self) -> impl Iterator<Item = &QueueId> {
        let has =
            |state: &State| matches!(state, State::Queued | State::Deferred { .. } | State::OnHold);
        self.files.iter().filter(move |(_, state)| has(state)).map(|(id, _)| id)
    }
}

fn state_at(whereabouts: &Whereabouts) -> State {
    match whereabouts.place() {
        Place::Prepared => State::Prepared,
        Place::Queued => State::Queued,
        Place::Deferred => State::Deferred { next_attempt_s: whereabouts.mtime_s },
        Place::OnHold => State::OnHold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> QueueId {
        "4C1B21A0".parse().unwrap()
    }

    fn at(queue: QueueName, mtime_s: u64) -> Whereabouts {
        Whereabouts { folder: queue.into(), released: true, finished: true, mtime_s }
    }

    fn tracking(state: State) -> Tracker {
        Tracker { files: HashMap::from([(id(), state)]) }
    }

    #[test]
    fn a_file_is_settled_once() {
        let mut tracker = tracking(State::Queued);
        assert_eq!(tracker.deleted(QueueName::Active, &id()), Some(News::Settled(id())));
        assert_eq!(tracker.deleted(QueueName::Active, &id()), None);
        assert_eq!(tracker.gone(&id()), None);
    }

    #[test]
    fn nobody_else_s_file_is_news() {
        assert_eq!(Tracker::default().deleted(QueueName::Active, &id()), None);
    }

    #[test]
    fn an_undecided_file_is_never_settled() {
        let mut tracker = tracking(State::Prepared);
        assert_eq!(tracker.deleted(QueueName::Hold, &id()), None);
        assert_eq!(tracker.with_queue_manager().count(), 0);
    }

    #[test]
    fn an_end_before_the_answer_is_remembered() {
        let mut tracker = Tracker::default();
        tracker.named(&id());
        assert_eq!(tracker.deleted(QueueName::Active, &id()), None);
        assert_eq!(tracker.state(&id()), Some(State::Feeding { deleted: Some(QueueName::Active) }));
    }

    #[test]
    fn each_deferral_is_told_once() {
        let mut tracker = tracking(State::Queued);
        let deferred =
            |tracker: &mut Tracker, time| tracker.seen(&id(), &at(QueueName::Deferred, time));
        assert_eq!(deferred(&mut tracker, 100), Some(News::Deferred(id(), 100)));
        assert_eq!(deferred(&mut tracker, 100), None);
        assert_eq!(tracker.seen(&id(), &at(QueueName::Active, 100)), None);
        assert_eq!(
            deferred(&mut tracker, 100),
            Some(News::Deferred(id(), 100)),
            "tried in between"
        );
        assert_eq!(deferred(&mut tracker, 500), Some(News::Deferred(id(), 500)));
        assert_eq!(tracker.deleted(QueueName::Deferred, &id()), Some(News::Settled(id())));
    }
}
