//! Release and discard: what happens to held files once Redis has decided.

use std::io;

use postfix_wire::QueueId;
use tracing::warn;

use super::Service;
use crate::protocol::Reply;
use crate::queue::{Discard, Examined, Release};
use crate::session::SessionId;
use crate::tracker::{News, State};
use crate::trigger::{SCAN_INCOMING, wake};

/// Why a file was left alone.
#[derive(Debug, thiserror::Error)]
enum Hands {
    #[error("cleanup is not done with it")]
    Feeding,
    #[error("not a file of ours")]
    NotOurs,
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Service {
    pub(super) fn release(&mut self, session: SessionId, queue_ids: Vec<QueueId>) {
        settings::failpoint::hit(&self.config_directory, "before-release");
        self.catch_up();
        let (mut released, mut settled, mut wakes) = (Vec::with_capacity(queue_ids.len()), Vec::new(), false);
        for queue_id in queue_ids {
            match self.release_one(&queue_id) {
                Err(error) => self.complain(session, &queue_id, &error),
                Ok(release) => {
                    wakes |= release == Release::Moved;
                    settled.extend((release == Release::Gone).then(|| queue_id.clone()));
                    released.push(queue_id);
                }
            }
        }
        if wakes {
            let qmgr = self.qmgr_socket.clone();
            tokio::spawn(async move { wake(&qmgr, SCAN_INCOMING).await });
        }
        settings::failpoint::hit(&self.config_directory, "after-release");
        let out = released.clone();
        self.say(session, Reply::Released { queue_ids: released });
        settled.into_iter().for_each(|queue_id| self.tell(Some(News::Settled(queue_id))));
        out.iter().for_each(|queue_id| self.look_again(queue_id));
    }

    fn release_one(&mut self, queue_id: &QueueId) -> Result<Release, Hands> {
        self.check_ours(queue_id)?;
        let release = self.queue.release(queue_id)?;
        match release {
            Release::Gone => self.tracker.forget(queue_id),
            Release::Moved => self.tracker.queued(queue_id),
            Release::AlreadyOut => match self.tracker.state(queue_id) {
                Some(State::Deferred { .. }) => {}
                _ => self.tracker.queued(queue_id),
            },
        }
        Ok(release)
    }

    /// Only what came from us is moved, whoever asks.
    fn check_ours(&self, queue_id: &QueueId) -> Result<(), Hands> {
        match self.tracker.state(queue_id) {
            Some(State::Feeding { .. }) => Err(Hands::Feeding),
            Some(State::Prepared | State::Queued | State::Deferred { .. }) => Ok(()),
            None => match self.queue.examine(queue_id)? {
                Examined::Ours(origin, _) if origin.queue_id == *queue_id => Ok(()),
                Examined::Absent => Ok(()),
                Examined::Ours(..) | Examined::Foreign => Err(Hands::NotOurs),
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

    fn discard_one(&mut self, queue_id: &QueueId) -> Result<(), Hands> {
        if let Some(State::Feeding { .. }) = self.tracker.state(queue_id) {
            return Err(Hands::Feeding);
        }
        match self.queue.discard(queue_id)? {
            Discard::NotOurs => Err(Hands::NotOurs),
            Discard::Gone => {
                if self.tracker.state(queue_id) == Some(State::Prepared) {
                    self.warn_if_released_by_hand(queue_id);
                    self.tracker.forget(queue_id);
                }
                Ok(())
            }
        }
    }

    /// `postsuper -H` on an undecided file: it is being sent, although Redis has decided otherwise.
    fn warn_if_released_by_hand(&self, queue_id: &QueueId) {
        if let Ok(Some(whereabouts)) = self.queue.find(queue_id) {
            warn!("{queue_id}: to be discarded, but it is in {}; it may be sent twice", whereabouts.queue);
        }
    }

    fn complain(&mut self, session: SessionId, queue_id: &QueueId, error: &Hands) {
        let reason = format!("{queue_id}: {error}");
        warn!("{reason}");
        self.say(session, Reply::Error { reason });
    }
}
