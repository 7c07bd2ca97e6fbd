//! Feedings: messages on their way into cleanup, a bounded number at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use handoff::protocol::{Handoff, Reply};
use postfix_wire::{QueueId, QueueName};
use queue::Preparation;
use spool::{Domain, Epoch, LotNumber, MessageId};
use tokio::time::sleep;
use tracing::field::Empty;
use tracing::{Instrument, Span, error_span, info, warn};

use super::disk::{Follows, Relief};
use super::{Service, ServiceEvent};
use crate::feeder::{Fault, Fed, Job};
use crate::session::SessionId;
use crate::tracker::{FileEvent, FileState};

/// Most messages that may wait to be fed, of all connections together. A Mail Agent's window is far
/// smaller.
const WAITING_FEEDS_LIMIT: usize = 1_000_000;

/// Number of a feeding, unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FeedNumber(u64);

/// A message that waits to be fed.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) session: SessionId,
    job: Job,
    full: Arc<HashSet<Domain>>,
}

/// A message that is being fed.
#[derive(Debug, Clone)]
pub(super) struct Feeding {
    session: SessionId,
    job: Job,
    /// Span of the log lines about the message.
    span: Span,
    /// Destinations of the message; empty until cleanup has named it.
    to: Vec<Domain>,
}

impl Service {
    pub(super) fn feed(
        &mut self,
        session: SessionId,
        (lot, epoch): (LotNumber, Epoch),
        ids: Vec<MessageId>,
        full: Vec<Domain>,
    ) {
        let full = Arc::new(full.into_iter().collect::<HashSet<_>>());
        if self.waiting.len() + ids.len() > WAITING_FEEDS_LIMIT {
            let reason = format!("feed: refused: more than {WAITING_FEEDS_LIMIT} messages wait");
            return self.say(session, Reply::Error { reason });
        }
        if !self.retiring {
            let waiting =
                |id| Waiting { session, job: Job { id, lot, epoch }, full: Arc::clone(&full) };
            self.waiting.extend(ids.into_iter().map(waiting));
            self.start_feeding();
        }
    }

    fn start_feeding(&mut self) {
        while self.feeding.len() < self.cleanups && self.disk.may_feed(self.feeding.len()) {
            let Some(Waiting { session, job, full }) = self.waiting.pop_front() else { return };
            self.feedings_seen += 1;
            let number = FeedNumber(self.feedings_seen);
            let Job { id, lot, epoch } = job;
            let span = error_span!("message", %id, %lot, %epoch, queue_id = Empty);
            let feeding = Feeding { session, job, span: span.clone(), to: Vec::new() };
            self.feeding.insert(number, feeding);
            let (feeder, events) = (self.feeder.clone(), self.events.clone());
            let fed = async move {
                // A failure to send means that the service has ended.
                let named = |queue_id: &QueueId, to: &[Domain]| {
                    let _ = events.send(ServiceEvent::Named(number, queue_id.clone(), to.to_vec()));
                };
                let fed = feeder.feed(job, &full, named).await;
                let _ = events.send(ServiceEvent::Fed(number, fed));
            };
            tokio::spawn(fed.instrument(span));
            self.watch_feedings();
        }
    }

    pub(super) fn named(&mut self, number: FeedNumber, queue_id: &QueueId, to: Vec<Domain>) {
        let Some(feeding) = self.feeding.get_mut(&number) else {
            return debug_assert!(false, "a message is named before its feeding ends");
        };
        feeding.to = to;
        self.tracker.named(queue_id);
    }

    pub(super) fn fed(&mut self, number: FeedNumber, fed: Fed) {
        self.note_feeding_ended();
        // The kernel has reported all that cleanup did before its answer.
        self.catch_up();
        match self.feeding.remove(&number) {
            Some(feeding) => feeding.span.in_scope(|| self.ended(&feeding, fed)),
            None => debug_assert!(false, "a feeding ends once"),
        }
        self.start_feeding();
    }

    fn ended(&mut self, feeding: &Feeding, fed: Fed) {
        match fed {
            Fed::Prepared(queue_id) => {
                self.note_success();
                self.prepared(feeding, &queue_id);
            }
            Fed::Taken(queue_id) => {
                self.note_success();
                self.taken(feeding, &queue_id);
            }
            Fed::Dropped(queue_id) => self.consumed(feeding, &queue_id),
            Fed::Full(to) => self.full(feeding, to),
            Fed::Unanswered(queue_id, why) => self.unanswered(feeding, &queue_id, why),
            Fed::BrokenOff(queue_id, why) => self.broken_off(feeding, &queue_id, why),
            Fed::Refused { queue_id, reason, fault } => {
                // Cleanup has removed its file. The queue id may belong to another message by now.
                queue_id.iter().for_each(|queue_id| self.tracker.forget(queue_id));
                self.refused(feeding, reason, fault);
            }
        }
    }

    fn taken(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        match self.handoff {
            Handoff::Hold => self.retrieve(feeding, queue_id),
            Handoff::Direct => self.handed_over(feeding, queue_id),
        }
    }

    /// Takes cleanup's success under direct hand-off: the queue manager has the file.
    fn handed_over(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        match self.queue.find(queue_id) {
            // Cleanup has said that the file is durable, so the file exists even if the look fails.
            Err(error) => {
                warn!("{queue_id}: not found out where the file is: {error}; taken as stored");
                self.stored(feeding, queue_id);
            }
            Ok(Some(_)) => self.stored(feeding, queue_id),
            Ok(None) if self.was_dropped_by_cleanup(queue_id) => self.consumed(feeding, queue_id),
            Ok(None) => self.come_and_gone(feeding, queue_id),
        }
    }

    /// Takes cleanup's success under two-phase hand-off when the file is no longer in hold, but was
    /// moved or deleted. Cleanup puts only accepted messages on hold, so a message whose file was
    /// deleted must be fed again. No Mail Agent has heard of that file yet.
    fn retrieve(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        match self.queue.retrieve(queue_id, feeding.job.id) {
            Ok(Preparation::Prepared) => self.prepared(feeding, queue_id),
            Ok(Preparation::Out) => {
                warn!("{queue_id}: released by `postsuper -H` before the commit");
                self.stored(feeding, queue_id);
            }
            Ok(Preparation::Gone) if self.deleted_from(queue_id) == Some(QueueName::Incoming) => {
                self.consumed(feeding, queue_id);
            }
            Ok(Preparation::Gone) => self.vanished(feeding, queue_id),
            Err(error) => self.broken_off(feeding, queue_id, format!("not prepared: {error}")),
        }
    }

    fn vanished(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        let from = match self.deleted_from(queue_id) {
            Some(queue) => format!("deleted from {queue}"),
            None => "gone from hold".to_owned(),
        };
        self.tracker.forget(queue_id);
        let reason = format!("{queue_id}: {from} before the commit; never sent, so fed again");
        self.refused(feeding, reason, Fault::Passing);
    }

    /// Takes a death of cleanup after it had the whole message. A finished file counts as a
    /// success; an unfinished file stays unfinished.
    fn unanswered(&mut self, feeding: &Feeding, queue_id: &QueueId, why: String) {
        let finished = match self.queue.find(queue_id) {
            Ok(Some(whereabouts)) if whereabouts.finished => {
                self.queue.sync(whereabouts.folder, queue_id).is_ok()
            }
            Ok(_) | Err(_) => false,
        };
        match self.handoff {
            _ if finished => self.taken(feeding, queue_id),
            Handoff::Direct if self.was_with_queue_manager(queue_id) => {
                self.come_and_gone(feeding, queue_id);
            }
            Handoff::Direct => {
                warn!("{queue_id}: {why}; the message may be sent twice");
                self.tracker.forget(queue_id);
                self.refused(feeding, why, Fault::Passing);
            }
            Handoff::Hold => self.broken_off(feeding, queue_id, why),
        }
    }

    /// Whether cleanup removed its file before the answer. Otherwise the queue manager had a file
    /// that is gone, though the kernel may not have reported the deletion yet.
    fn was_dropped_by_cleanup(&self, queue_id: &QueueId) -> bool {
        matches!(self.deleted_from(queue_id), Some(QueueName::Incoming | QueueName::Hold))
    }

    fn was_with_queue_manager(&self, queue_id: &QueueId) -> bool {
        matches!(self.deleted_from(queue_id), Some(QueueName::Active | QueueName::Deferred))
    }

    fn deleted_from(&self, queue_id: &QueueId) -> Option<QueueName> {
        match self.tracker.state(queue_id) {
            Some(FileState::Feeding { deleted }) => deleted,
            _ => None,
        }
    }

    fn prepared(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        let Job { id, lot, epoch } = feeding.job;
        self.tracker.prepared(queue_id);
        let (queue_id, to) = (queue_id.clone(), feeding.to.clone());
        self.answer(feeding, Reply::Held { id, lot, epoch, queue_id, to });
    }

    fn stored(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        let Job { id, lot, epoch } = feeding.job;
        self.tracker.queued(queue_id);
        let to = feeding.to.clone();
        self.answer(feeding, Reply::Stored { id, lot, epoch, queue_id: queue_id.clone(), to });
        self.look_again(queue_id);
    }

    fn come_and_gone(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        let Job { id, lot, epoch } = feeding.job;
        self.tracker.forget(queue_id);
        let to = feeding.to.clone();
        self.answer(feeding, Reply::Stored { id, lot, epoch, queue_id: queue_id.clone(), to });
        self.tell(Some(FileEvent::Settled(queue_id.clone())));
    }

    fn consumed(&mut self, feeding: &Feeding, queue_id: &QueueId) {
        let Job { id, lot, epoch } = feeding.job;
        self.tracker.forget(queue_id);
        self.answer(feeding, Reply::Consumed { id, lot, epoch, queue_id: queue_id.clone() });
    }

    /// Reports that all destinations are full. Only the connection that asked needs to know, since
    /// no file was made.
    fn full(&mut self, feeding: &Feeding, to: Vec<Domain>) {
        let Job { id, lot, epoch } = feeding.job;
        if self.sessions.contains_key(&feeding.session) {
            self.say(feeding.session, Reply::Full { id, lot, epoch, to });
        }
    }

    /// Takes a death of cleanup before it had the whole message, or before it finished its file.
    fn broken_off(&mut self, feeding: &Feeding, queue_id: &QueueId, why: String) {
        self.tracker.forget(queue_id);
        self.sweep(queue_id, feeding.job.id);
        self.refused(feeding, why, Fault::Passing);
    }

    fn refused(&mut self, feeding: &Feeding, reason: String, fault: Fault) {
        let Job { id, lot, epoch } = feeding.job;
        match fault {
            Fault::Disk => {
                self.note_no_room(&reason);
                self.probe_soon();
            }
            Fault::Message => warn!("message refused for good: {reason}"),
            Fault::Passing => {
                warn!("message refused for now: {reason}");
                self.probe_soon();
            }
        }
        let retry = fault != Fault::Message;
        if self.sessions.contains_key(&feeding.session) {
            self.say(feeding.session, Reply::Refused { id, lot, epoch, reason, retry });
        }
    }

    fn note_no_room(&mut self, reason: &str) {
        let pause = match self.disk.failed(Instant::now(), reason) {
            Follows::Nothing => return,
            Follows::Pause(pause) => pause,
            Follows::Trouble(pause) => {
                warn!(
                    "cleanup failed: {reason}; mail waits, and one message is tried now and then"
                );
                pause
            }
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            sleep(pause).await;
            let _ = events.send(ServiceEvent::TryAgain);
        });
    }

    fn note_success(&mut self) {
        self.note_room();
        self.note_feeding_works();
    }

    /// Notes that there is room again.
    pub(super) fn note_room(&mut self) {
        if let Some(Relief { refused, lasted }) = self.disk.succeeded(Instant::now()) {
            info!("cleanup wrote again, after {refused} failures in {} seconds", lasted.as_secs());
        }
    }

    pub(super) fn try_again(&mut self) {
        self.disk.pause_is_over();
        self.start_feeding();
    }

    /// Removes the file that a dead cleanup may have left. Leaves the file under direct hand-off,
    /// because the queue manager may have it.
    fn sweep(&self, queue_id: &QueueId, message: MessageId) {
        if self.handoff == Handoff::Hold
            && let Err(error) = self.queue.sweep(queue_id, message)
        {
            warn!("{queue_id}: file of a dead cleanup not removed: {error}; see to the disk");
        }
    }

    /// Sends a reply to the connection that asked, or to all agents if that one is lost.
    fn answer(&mut self, feeding: &Feeding, reply: Reply) {
        if self.sessions.contains_key(&feeding.session) {
            self.say(feeding.session, reply);
        } else {
            self.tell_agents(&reply, &[]);
        }
    }
}
