//! Release and discard of prepared files, after Redis has decided.

use std::io;
use std::time::Duration;

use handoff::protocol::Reply;
use maildrop::trigger::{SCAN_INCOMING, wake};
use postfix_wire::QueueId;
use queue::{Discard, Examined, Folder, Release};
use spool::CommitNumber;
use tokio::time::sleep;
use tracing::warn;

use super::{Service, ServiceEvent};
use crate::session::SessionId;
use crate::tracker::{FileEvent, FileState};

/// Pause before a wake-up that failed is repeated.
const WAKE_PAUSE: Duration = Duration::from_secs(1);

/// Reason for which a file was left alone.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMoved {
    #[error("cleanup has not finished the file")]
    Feeding,
    #[error("not a file of OPTIMUS")]
    NotOurs,
    #[error("damaged, so whether OPTIMUS made the file is unknown")]
    Unclear,
    #[error("not released yet, so Postfix can't carry out the order")]
    Unreleased,
    #[error("file not found")]
    Nothing,
    #[error("this queue directory no longer serves its node")]
    NotServed,
    #[error("in {0}, so left to Postfix; the message may be sent twice")]
    Out(Folder),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Outcome of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Released {
    /// The file was moved to incoming.
    Now,
    /// The queue manager had the file already.
    Before,
    /// The queue manager had the file, and has removed it.
    AndGone,
    /// The file vanished before it could be released.
    Never,
}

/// Outcomes of all releases of one request.
#[derive(Debug, Default)]
struct Outcomes {
    moved: bool,
    released: Vec<QueueId>,
    out_before: Vec<QueueId>,
    settled: Vec<QueueId>,
    vanished: Vec<QueueId>,
}

impl Outcomes {
    fn note(&mut self, queue_id: QueueId, outcome: Released) {
        match outcome {
            Released::Never => return self.vanished.push(queue_id),
            Released::Now => self.moved = true,
            Released::Before => self.out_before.push(queue_id.clone()),
            Released::AndGone => self.settled.push(queue_id.clone()),
        }
        self.released.push(queue_id);
    }
}

/// State of waking the queue manager. Only one wake-up runs at a time, until the queue manager has
/// read the request. A wake-up covers all releases before its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Waking {
    #[default]
    No,
    /// A wake-up is under way.
    Yes,
    /// A wake-up is under way, and files were released after its start.
    AndAgain,
}

impl Waking {
    /// Notes new mail. Returns whether to start a wake-up now.
    fn want(&mut self) -> bool {
        let start = *self == Self::No;
        *self = if start { Self::Yes } else { Self::AndAgain };
        start
    }

    /// Whether a wake-up is under way.
    pub(super) fn is_under_way(self) -> bool {
        self != Self::No
    }

    /// Notes the end of a wake-up. Returns whether to start another one now.
    fn done(&mut self) -> bool {
        let start = *self == Self::AndAgain;
        *self = if start { Self::Yes } else { Self::No };
        start
    }
}

impl Service {
    /// Takes the end of a wake-up. While the queue manager is silent, it is repeated.
    pub(super) fn woken(&mut self, has_read: bool) {
        if self.note_manager(has_read) {
            self.waking.want();
        }
        if self.waking.done() {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.watch_wake_up();
        let (qmgr, events) = (self.qmgr_socket.clone(), self.events.clone());
        tokio::spawn(async move {
            let has_read = wake(&qmgr, SCAN_INCOMING).await;
            if !has_read {
                sleep(WAKE_PAUSE).await;
            }
            // A failure to send means that the service has ended.
            let _ = events.send(ServiceEvent::Woken(has_read));
        });
    }

    pub(super) fn release(
        &mut self,
        session: SessionId,
        queue_ids: Vec<QueueId>,
        mark: CommitNumber,
    ) {
        self.raise_mark(session, &queue_ids, mark);
        if queue_ids.is_empty() {
            return;
        }
        settings::failpoint::hit(&self.config_directory, "before-release");
        self.catch_up();
        let mut outcomes = Outcomes::default();
        for queue_id in queue_ids {
            match self.release_one(&queue_id) {
                Err(error) => self.complain(session, &queue_id, &error),
                Ok(released) => outcomes.note(queue_id, released),
            }
        }
        if outcomes.moved && self.waking.want() {
            self.wake();
        }
        settings::failpoint::hit(&self.config_directory, "after-release");
        let Outcomes { released, vanished, settled, out_before, .. } = outcomes;
        self.say(session, Reply::Released { queue_ids: released });
        if !vanished.is_empty() {
            self.say(session, Reply::Vanished { queue_ids: vanished });
        }
        settled.into_iter().for_each(|queue_id| self.tell(Some(FileEvent::Settled(queue_id))));
        // The kernel will report files that were moved just now when they move on.
        out_before.iter().for_each(|queue_id| self.look_again(queue_id));
    }

    /// Notes the mark on disk, unless a named file is gone: its commit is taken back first. The
    /// peer may have sent more marks before it hears of that. So its marks count again after a
    /// request with none. A mark that is too low costs duplicates, but no mail.
    fn raise_mark(&mut self, session: SessionId, queue_ids: &[QueueId], mark: CommitNumber) {
        let has_vanished = queue_ids.iter().any(|queue_id| self.has_vanished(queue_id));
        if let Some(session) = self.sessions.get_mut(&session) {
            session.is_mark_doubted &= mark != CommitNumber(0);
            session.is_mark_doubted |= has_vanished;
            if session.is_mark_doubted {
                return;
            }
        }
        if let Err(error) = self.attendance.mark().raise(mark) {
            warn!("mark: not written: {error}; see to the disk");
        }
    }

    /// Whether a prepared file is gone without a release.
    fn has_vanished(&self, queue_id: &QueueId) -> bool {
        self.tracker.state(queue_id) == Some(FileState::Prepared)
            && matches!(self.queue.look(Folder::Prepared, queue_id), Ok(None))
            && matches!(self.queue.find_anywhere(queue_id), Ok(None))
    }

    /// Releases one file. A prepared file that is gone without a release by this process was never
    /// sent.
    fn release_one(&mut self, queue_id: &QueueId) -> Result<Released, NotMoved> {
        self.check_served()?;
        self.check_ours(queue_id)?;
        let before = self.tracker.state(queue_id);
        match (self.queue.release(queue_id)?, before) {
            (Release::Moved, _) => {
                self.tracker.queued(queue_id);
                Ok(Released::Now)
            }
            (Release::AlreadyOut, Some(FileState::Deferred { .. } | FileState::OnHold)) => {
                Ok(Released::Before)
            }
            (Release::AlreadyOut, _) => {
                self.tracker.queued(queue_id);
                Ok(Released::Before)
            }
            (Release::Gone, Some(FileState::Prepared)) => {
                self.tracker.forget(queue_id);
                warn!("{queue_id}: deleted before the release; never sent, so fed again");
                Ok(Released::Never)
            }
            (Release::Gone, Some(_)) => {
                self.tracker.forget(queue_id);
                Ok(Released::AndGone)
            }
            // The file went away after the check.
            (Release::Gone, None) => Err(NotMoved::Nothing),
        }
    }

    /// Checks that the node is served here. On a slow disk the files before may have taken so long
    /// that another place serves the node by now.
    pub(super) fn check_served(&self) -> Result<(), NotMoved> {
        if self.is_still_here() { Ok(()) } else { Err(NotMoved::NotServed) }
    }

    /// Checks that a file is one of OPTIMUS, so that no request moves any other.
    fn check_ours(&self, queue_id: &QueueId) -> Result<(), NotMoved> {
        match self.tracker.state(queue_id) {
            Some(FileState::Feeding { .. }) => Err(NotMoved::Feeding),
            Some(
                FileState::Prepared
                | FileState::Queued
                | FileState::Deferred { .. }
                | FileState::OnHold,
            ) => Ok(()),
            None => match self.queue.examine(queue_id)? {
                Examined::Ours(origin, _) if origin.queue_id == *queue_id => Ok(()),
                Examined::Absent => Err(NotMoved::Nothing),
                Examined::Ours(..) | Examined::Foreign => Err(NotMoved::NotOurs),
                Examined::Unclear => Err(NotMoved::Unclear),
            },
        }
    }

    pub(super) fn discard(&mut self, session: SessionId, queue_ids: Vec<QueueId>) {
        let mut discarded = Vec::with_capacity(queue_ids.len());
        for queue_id in queue_ids {
            match self.discard_one(&queue_id) {
                Ok(()) => discarded.push(queue_id),
                Err(error) => self.complain(session, &queue_id, &error),
            }
        }
        self.say(session, Reply::Discarded { queue_ids: discarded });
    }

    fn discard_one(&mut self, queue_id: &QueueId) -> Result<(), NotMoved> {
        self.check_served()?;
        if let Some(FileState::Feeding { .. }) = self.tracker.state(queue_id) {
            return Err(NotMoved::Feeding);
        }
        match self.queue.discard(queue_id)? {
            Discard::NotOurs => Err(NotMoved::NotOurs),
            Discard::Gone => {
                self.check_nowhere(queue_id)?;
                self.counting.discarded(queue_id);
                if self.tracker.state(queue_id) == Some(FileState::Prepared) {
                    self.tracker.forget(queue_id);
                }
                Ok(())
            }
        }
    }

    /// Checks that a file is in no queue of Postfix. An undecided file there was moved by hand.
    fn check_nowhere(&self, queue_id: &QueueId) -> Result<(), NotMoved> {
        match self.queue.examine(queue_id)? {
            Examined::Ours(origin, whereabouts) if origin.queue_id == *queue_id => {
                Err(NotMoved::Out(whereabouts.folder))
            }
            Examined::Ours(..) | Examined::Foreign | Examined::Absent | Examined::Unclear => Ok(()),
        }
    }

    pub(super) fn complain(&mut self, session: SessionId, queue_id: &QueueId, error: &NotMoved) {
        let reason = format!("{queue_id}: request not carried out: {error}");
        warn!("{reason}");
        self.say(session, Reply::Error { reason });
    }
}

#[cfg(test)]
mod tests {
    use super::Waking;

    #[test]
    fn one_wake_up_runs_at_a_time_and_one_more_covers_later_releases() {
        let mut waking = Waking::default();
        assert!(waking.want());
        assert!(!waking.want() && !waking.want());
        assert!(waking.done(), "again, once");
        assert!(!waking.done());
        assert_eq!(waking, Waking::No);
        assert!(waking.want());
    }
}
