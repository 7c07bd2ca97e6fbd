//! Feeding: one message from Redis into cleanup.
//!
//! ```text
//! read from Redis, check ──────────┬─▶ parse ─▶ log ─▶ send ─▶ wait for the answer
//! connect, learn the queue id ─────┘
//! ```
//!
//! While some destinations have their share, pickup-rs connects to cleanup only after parsing. A
//! message whose destinations all have their share is answered with `full` and never reaches
//! cleanup.
//!
//! The answer to the Mail Agent depends on the kind of failure:
//!
//! | | answer |
//! |---|---|
//! | Redis away for [`REDIS_PATIENCE`] | refused, retry |
//! | checksum, missing, malformed | refused for good: the agent has Redis quarantine it |
//! | cleanup can't be reached, or dies before all was sent | refused, retry |
//! | cleanup dies after all was sent | the service looks for the file on disk |
//! | cleanup: bad message by its submitter's fault | consumed: stock pickup deletes it, with a warning |
//! | cleanup: bad message for a reason unknown here | refused for good |
//! | cleanup: no recipients | consumed: stock pickup deletes such a message, with a warning |
//! | cleanup: disk full | refused, retry; all others wait as well |
//! | cleanup: any other status | refused, retry |

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use handoff::protocol::Handoff;
use postfix_wire::{CleanupFlags, CleanupStatus, QueueId};
use queue::{Origin, Queue};
use spool::{Damage, Domain, Epoch, LotNumber, Message, MessageId, NodeId, Spool, SpoolError};
use tokio::time::{Instant, sleep};
use tracing::{Span, info, warn};

use crate::cleanup::{CleanupAnswer, CleanupError, Conversation};
use crate::message::{Draft, Fault as SubmitterFault, Malformed, Site, Stored, for_log};

/// Longest wait of a message for Redis to come back, before it is refused.
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

/// Pause before Redis is asked again. The client also backs off between connections.
const REDIS_PAUSE: Duration = Duration::from_millis(100);

/// Seconds by which a submission time may lie in the future at most, as in stock pickup.
const FUTURE_LIMIT_S: i64 = 2 * 3600;

/// Age in seconds above which stock pickup logs a warning.
const DAY_S: i64 = 24 * 3600;

/// Settings and connections that the feedings of all messages share.
#[derive(Debug)]
pub(crate) struct Feeder {
    pub(crate) node: NodeId,
    pub(crate) spool: Spool,
    pub(crate) site: Site,
    pub(crate) queue: Queue,
    pub(crate) cleanup_socket: PathBuf,
    pub(crate) flags: CleanupFlags,
    pub(crate) handoff: Handoff,
    pub(crate) internal_addresses: bool,
    pub(crate) ipc_timeout: Duration,
    pub(crate) config_directory: PathBuf,
}

/// One message to feed, by its feed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: MessageId,
    pub(crate) lot: LotNumber,
    pub(crate) epoch: Epoch,
}

/// Outcome of a feeding, by cleanup's answer. The service then looks for the file on disk.
#[derive(Debug)]
pub(crate) enum Fed {
    /// Cleanup took the message, and its file is prepared.
    Prepared(QueueId),
    /// Cleanup took the message. The service must find its file.
    Taken(QueueId),
    /// Cleanup took the message, and no file will exist.
    Dropped(QueueId),
    /// All destinations of the message have their share. Cleanup was not asked.
    Full(Vec<Domain>),
    /// Cleanup had the whole message and did not answer.
    Unanswered(QueueId, String),
    /// Cleanup died before it had the whole message.
    BrokenOff(QueueId, String),
    /// Cleanup did not take the message.
    Refused { queue_id: Option<QueueId>, reason: String, fault: Fault },
}

/// Party at fault when cleanup did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The message itself: no retry would help.
    Message,
    /// A passing cause, which a retry may mend.
    Passing,
    /// The disk: cleanup can write neither this file nor others.
    Disk,
}

/// Reason for which a message did not reach cleanup.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("Redis: {0}")]
    Spool(#[from] SpoolError),
    #[error("{0}")]
    Damage(#[from] Damage),
}

impl Feeder {
    /// Feeds one message. Calls `named` with the queue id and the destinations before cleanup has
    /// any of the message.
    pub(crate) async fn feed(
        &self,
        job: Job,
        full: &HashSet<Domain>,
        named: impl FnOnce(&QueueId, &[Domain]),
    ) -> Fed {
        let open = || Conversation::open(&self.cleanup_socket, self.ipc_timeout);
        // If all destinations may have their share, pickup-rs doesn't connect to cleanup yet.
        let (message, cleanup) = if full.is_empty() {
            let (message, cleanup) = tokio::join!(self.read(job.id), open());
            (message, Some(cleanup))
        } else {
            (self.read(job.id).await, None)
        };
        let message = match message {
            Ok(message) => message,
            Err(NotReady::Spool(error)) => {
                return refused(None, format!("Redis: {error}"), Fault::Passing);
            }
            Err(NotReady::Damage(damage)) => {
                return refused(None, damage.to_string(), Fault::Message);
            }
        };
        let stored = Self::stored(&message);
        let draft = match Draft::new(stored, &self.site) {
            Ok(draft) => draft,
            Err(malformed) => return malformed_message(&message, &malformed),
        };
        if !draft.to().is_empty() && draft.to().iter().all(|to| full.contains(to)) {
            return Fed::Full(draft.to().to_vec());
        }
        let cleanup = match cleanup {
            Some(cleanup) => cleanup,
            None => open().await,
        };
        match cleanup {
            Ok(cleanup) => self.hand_over(job, cleanup, &stored, &draft, named).await,
            Err(error) => refused(None, error.to_string(), Fault::Passing),
        }
    }

    async fn read(&self, id: MessageId) -> Result<Message, NotReady> {
        let give_up = Instant::now() + REDIS_PATIENCE;
        loop {
            match self.spool.get(&[id]).await {
                Ok(messages) => {
                    return Ok(messages.into_iter().next().unwrap_or(Err(Damage::Missing))?);
                }
                Err(error) if error.is_retryable() && Instant::now() < give_up => {
                    sleep(REDIS_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn stored<'a>(message: &'a Message) -> Stored<'a> {
        Stored {
            id: message.id,
            uid: message.uid,
            arrival_s: arrival_s(message, now_s()),
            host: &message.host,
            records: &message.records,
        }
    }

    async fn hand_over(
        &self,
        job: Job,
        mut cleanup: Conversation,
        stored: &Stored<'_>,
        draft: &Draft<'_>,
        named: impl FnOnce(&QueueId, &[Domain]),
    ) -> Fed {
        let queue_id = cleanup.queue_id().clone();
        Span::current().record("queue_id", tracing::field::display(&queue_id));
        named(&queue_id, draft.to());
        self.log(&queue_id, stored, draft);
        let Job { id, lot, epoch } = job;
        let node = Some(self.node.clone());
        let (handoff, to) = (self.handoff, draft.to().to_vec());
        let origin = Origin { node, id, lot, epoch, handoff, queue_id: queue_id.clone(), to };
        if let Err(error) = cleanup.send(self.flags, &draft.write(&self.site, &origin)).await {
            return Fed::BrokenOff(queue_id, error.to_string());
        }
        settings::failpoint::hit(&self.config_directory, "before-held");
        let answer = cleanup.answer().await;
        settings::failpoint::hit(&self.config_directory, "held");
        let fed = self.prepare(outcome(queue_id, answer, draft.fault()));
        settings::failpoint::hit(&self.config_directory, "prepared");
        fed
    }

    /// Moves the file out of hold at once, because `postsuper` acts on files in hold.
    fn prepare(&self, fed: Fed) -> Fed {
        match fed {
            Fed::Taken(queue_id) if self.handoff == Handoff::Hold => {
                match self.queue.prepare(&queue_id) {
                    Ok(true) => Fed::Prepared(queue_id),
                    Ok(false) | Err(_) => Fed::Taken(queue_id),
                }
            }
            fed => fed,
        }
    }

    /// Logs the line that log analysers rely on. Warns of odd dates, as stock pickup does.
    fn log(&self, queue_id: &QueueId, stored: &Stored<'_>, draft: &Draft<'_>) {
        let age_s = now_s().saturating_sub(stored.arrival_s);
        if age_s > DAY_S {
            warn!("{queue_id}: message has been queued for {} days", age_s / DAY_S);
        }
        let sender = for_log(draft.sender(), self.internal_addresses);
        info!("{queue_id}: uid={} from=<{sender}>", stored.uid);
    }
}

/// Returns the time of submission in Unix seconds, or now if it lies too far in the future.
fn arrival_s(message: &Message, now_s: i64) -> i64 {
    let arrival_s = i64::try_from(message.arrival_ms / 1000).unwrap_or(i64::MAX);
    let ahead_s = arrival_s.saturating_sub(now_s);
    if ahead_s <= FUTURE_LIMIT_S {
        return arrival_s;
    }
    warn!("message dated {ahead_s} seconds into the future");
    now_s
}

/// Maps cleanup's answer to an outcome. Drops a bad message if its submitter is at fault, as stock
/// pickup does.
fn outcome(
    queue_id: QueueId,
    answer: Result<CleanupAnswer, CleanupError>,
    submitter: Option<SubmitterFault>,
) -> Fed {
    let CleanupAnswer { status, reason } = match answer {
        Ok(answer) => answer,
        Err(error) => return Fed::Unanswered(queue_id, error.to_string()),
    };
    if status.is_ok() {
        return Fed::Taken(queue_id);
    }
    if reason.is_empty() && fault_of(status) != Fault::Disk {
        // Cleanup has logged all other failures.
        warn!("error writing {queue_id}: {status}");
    }
    let is_bad = status.contains(CleanupStatus::BAD);
    if (is_bad && submitter.is_some()) || (!is_bad && status.contains(CleanupStatus::RCPT)) {
        return Fed::Dropped(queue_id);
    }
    let words = if reason.is_empty() { status.to_string() } else { reason };
    refused(Some(queue_id), format!("cleanup: {words}"), fault_of(status))
}

fn malformed_message(message: &Message, malformed: &Malformed) -> Fed {
    warn!("uid={}: malformed message: {malformed}", message.uid);
    refused(None, format!("malformed: {malformed}"), Fault::Message)
}

fn fault_of(status: CleanupStatus) -> Fault {
    match status {
        _ if !status.may_retry() => Fault::Message,
        _ if status.contains(CleanupStatus::WRITE) => Fault::Disk,
        _ => Fault::Passing,
    }
}

fn refused(queue_id: Option<QueueId>, reason: String, fault: Fault) -> Fed {
    Fed::Refused { queue_id, reason, fault }
}

fn now_s() -> i64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: CleanupStatus, reason: &str) -> Fed {
        outcome(
            "4C1B21A0".parse().unwrap(),
            Ok(CleanupAnswer { status, reason: reason.to_owned() }),
            None,
        )
    }

    #[test]
    fn the_answer_of_cleanup_decides_the_outcome() {
        assert!(matches!(answered(CleanupStatus::OK, ""), Fed::Taken(_)));
        assert!(matches!(answered(CleanupStatus::RCPT, ""), Fed::Dropped(_)));
        assert!(matches!(
            answered(CleanupStatus::BAD, ""),
            Fed::Refused { fault: Fault::Message, .. }
        ));
        let both = CleanupStatus::from_bits(CleanupStatus::BAD.bits() | CleanupStatus::RCPT.bits());
        assert!(matches!(answered(both, ""), Fed::Refused { fault: Fault::Message, .. }));
        assert!(matches!(
            answered(CleanupStatus::WRITE, ""),
            Fed::Refused { fault: Fault::Disk, .. }
        ));
        for status in [CleanupStatus::DEFER, CleanupStatus::SIZE, CleanupStatus::CONT] {
            assert!(
                matches!(answered(status, ""), Fed::Refused { fault: Fault::Passing, .. }),
                "{status}"
            );
        }
        let Fed::Refused { reason, .. } = answered(CleanupStatus::DEFER, "4.7.1 not now") else {
            panic!()
        };
        assert_eq!(reason, "cleanup: 4.7.1 not now");
    }

    #[test]
    fn a_bad_message_is_dropped_only_if_its_submitter_is_at_fault() {
        let bad = |fault| {
            let answer = CleanupAnswer { status: CleanupStatus::BAD, reason: String::new() };
            outcome("4C1B21A0".parse().unwrap(), Ok(answer), fault)
        };
        assert!(matches!(bad(Some(SubmitterFault::TwoSenders)), Fed::Dropped(_)));
        assert!(matches!(bad(None), Fed::Refused { fault: Fault::Message, .. }));
    }

    #[test]
    fn a_missing_answer_is_an_outcome_of_its_own() {
        let fed = outcome("4C1B21A0".parse().unwrap(), Err(CleanupError::Closed), None);
        assert!(matches!(fed, Fed::Unanswered(..)));
    }
}
