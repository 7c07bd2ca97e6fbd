//! Tracker of queue files: the last known state of each, and the changes that the Mail Agent must
//! hear of.
//!
//! ```text
//!  named ──▶ feeding ──▶ prepared ──release──▶ queued ◀──▶ deferred, on hold
//!               │           │ discard             │            │
//!               │           ▼                     ▼            ▼
//!               └──────▶ forgotten             settled      settled
//! ```
//!
//! A file is tracked from the moment cleanup names it, before it can be delivered, so that its end
//! is always seen. Only a file that the queue manager had can be settled. A file that was gone
//! before its release was never sent.
//!
//! The tracker is pure: the methods take events and folders, and return the changes to report.

use std::collections::HashMap;

use handoff::protocol::FolderKind;
use postfix_wire::{QueueId, QueueName};
use queue::Whereabouts;

/// Last known state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileState {
    /// A cleanup process works on the file. `deleted` names the queue that the file was deleted
    /// from since.
    Feeding { deleted: Option<QueueName> },
    /// The file is prepared, and this process has not released it.
    Prepared,
    /// The queue manager has the file.
    Queued,
    /// The queue manager will try the file again at this time, in Unix seconds.
    Deferred { next_attempt_s: u64 },
    /// The site has put the file on hold since its release.
    OnHold,
}

/// Change of a file that the Mail Agent must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileEvent {
    Settled(QueueId),
    Deferred(QueueId, u64),
    OnHold(QueueId),
}

impl FileEvent {
    /// Returns the name of the file.
    pub(crate) fn queue_id(&self) -> &QueueId {
        match self {
            Self::Settled(queue_id) | Self::Deferred(queue_id, _) | Self::OnHold(queue_id) => {
                queue_id
            }
        }
    }
}

/// States of all tracked files.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    files: HashMap<QueueId, FileState>,
}

impl Tracker {
    /// Returns the last known state of a file.
    pub(crate) fn state(&self, id: &QueueId) -> Option<FileState> {
        self.files.get(id).copied()
    }

    /// Notes that a cleanup process has given a message this name.
    pub(crate) fn named(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), FileState::Feeding { deleted: None });
    }

    /// Notes that the file is prepared.
    pub(crate) fn prepared(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), FileState::Prepared);
    }

    /// Notes that the queue manager has the file.
    pub(crate) fn queued(&mut self, id: &QueueId) {
        self.files.insert(id.clone(), FileState::Queued);
    }

    /// Notes that the file has another name. Tracks an unknown file as well, so that its end is
    /// seen.
    pub(crate) fn renamed(&mut self, was: &QueueId, now: &QueueId) {
        let state = self.files.remove(was).unwrap_or(FileState::OnHold);
        self.files.insert(now.clone(), state);
    }

    /// Removes a file that no longer exists and needs no report.
    pub(crate) fn forget(&mut self, id: &QueueId) {
        self.files.remove(id);
    }

    /// Notes that the file was unlinked from `queue`.
    pub(crate) fn deleted(&mut self, queue: QueueName, id: &QueueId) -> Option<FileEvent> {
        match self.files.get_mut(id)? {
            FileState::Feeding { deleted } => {
                *deleted = Some(queue);
                None
            }
            FileState::Prepared => None,
            FileState::Queued | FileState::Deferred { .. } | FileState::OnHold => self.gone(id),
        }
    }

    /// Notes that a file of the queue manager is in no folder of the queue any more.
    pub(crate) fn gone(&mut self, id: &QueueId) -> Option<FileEvent> {
        self.files.remove(id).map(|_| FileEvent::Settled(id.clone()))
    }

    /// Notes that the file was seen in a folder. Each new time of the next attempt is a change.
    pub(crate) fn seen(&mut self, id: &QueueId, whereabouts: &Whereabouts) -> Option<FileEvent> {
        let state = state_at(whereabouts);
        match (self.files.insert(id.clone(), state), state) {
            (Some(before), now) if before == now => None,
            (_, FileState::Deferred { next_attempt_s }) => {
                Some(FileEvent::Deferred(id.clone(), next_attempt_s))
            }
            (_, FileState::OnHold) => Some(FileEvent::OnHold(id.clone())),
            // The Mail Agent hears of the release by this event, though the queue manager tries the
            // file already.
            (Some(FileState::OnHold), FileState::Queued) => {
                Some(FileEvent::Deferred(id.clone(), whereabouts.mtime_s))
            }
            _ => None,
        }
    }

    /// Whether the last known state of a file agrees with `whereabouts`.
    pub(crate) fn agrees(&self, id: &QueueId, whereabouts: &Whereabouts) -> bool {
        self.state(id) == Some(state_at(whereabouts))
    }

    /// Notes an unknown file that an inventory found and reports.
    pub(crate) fn adopt(&mut self, id: &QueueId, whereabouts: &Whereabouts) {
        let _ = self.seen(id, whereabouts);
    }

    /// Returns the files that the queue manager has, or had when last seen.
    pub(crate) fn with_queue_manager(&self) -> impl Iterator<Item = &QueueId> {
        let has = |state: &FileState| {
            matches!(state, FileState::Queued | FileState::Deferred { .. } | FileState::OnHold)
        };
        self.files.iter().filter(move |(_, state)| has(state)).map(|(id, _)| id)
    }
}

fn state_at(whereabouts: &Whereabouts) -> FileState {
    match whereabouts.place() {
        FolderKind::Prepared => FileState::Prepared,
        FolderKind::Queued => FileState::Queued,
        FolderKind::Deferred => FileState::Deferred { next_attempt_s: whereabouts.mtime_s },
        FolderKind::OnHold => FileState::OnHold,
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

    fn tracking(state: FileState) -> Tracker {
        Tracker { files: HashMap::from([(id(), state)]) }
    }

    #[test]
    fn a_file_is_settled_once() {
        let mut tracker = tracking(FileState::Queued);
        assert_eq!(tracker.deleted(QueueName::Active, &id()), Some(FileEvent::Settled(id())));
        assert_eq!(tracker.deleted(QueueName::Active, &id()), None);
        assert_eq!(tracker.gone(&id()), None);
    }

    #[test]
    fn a_foreign_file_is_never_reported() {
        assert_eq!(Tracker::default().deleted(QueueName::Active, &id()), None);
    }

    #[test]
    fn an_undecided_file_is_never_settled() {
        let mut tracker = tracking(FileState::Prepared);
        assert_eq!(tracker.deleted(QueueName::Hold, &id()), None);
        assert_eq!(tracker.with_queue_manager().count(), 0);
    }

    #[test]
    fn a_deletion_before_cleanup_s_answer_is_remembered() {
        let mut tracker = Tracker::default();
        tracker.named(&id());
        assert_eq!(tracker.deleted(QueueName::Active, &id()), None);
        assert_eq!(
            tracker.state(&id()),
            Some(FileState::Feeding { deleted: Some(QueueName::Active) })
        );
    }

    #[test]
    fn each_deferral_is_reported_once() {
        let mut tracker = tracking(FileState::Queued);
        let deferred =
            |tracker: &mut Tracker, time| tracker.seen(&id(), &at(QueueName::Deferred, time));
        assert_eq!(deferred(&mut tracker, 100), Some(FileEvent::Deferred(id(), 100)));
        assert_eq!(deferred(&mut tracker, 100), None);
        assert_eq!(tracker.seen(&id(), &at(QueueName::Active, 100)), None);
        assert_eq!(
            deferred(&mut tracker, 100),
            Some(FileEvent::Deferred(id(), 100)),
            "tried in between"
        );
        assert_eq!(deferred(&mut tracker, 500), Some(FileEvent::Deferred(id(), 500)));
        assert_eq!(tracker.deleted(QueueName::Deferred, &id()), Some(FileEvent::Settled(id())));
    }
}
