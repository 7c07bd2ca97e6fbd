//! Outcomes of a Mail Agent's report in Redis, as log lines.
//!
//! | call | outcome | meaning | consequence |
//! |---|---|---|---|
//! | settle | settled, already | the message has left Redis, now or before | |
//! | settle | unknown | it was given to others, or is noted under another queue id | warning, comparison |
//! | obey | obeyed | the order has ended | |
//! | obey | already | it ended before, or another one took its place, which is read again | |
//! | uncommit | uncommitted | the message waits in a new lot | notice |
//! | absent | settled | Postfix is done with the message | |
//! | absent | resent | it waits in a new lot, perhaps sent before | notice, error for all |
//! | uncommit, absent | held, deleted | an order, or a hold at the node, stopped it | notice |
//! | uncommit, absent | already | it was taken back or settled before | |
//! | defer | deferred, already | the rest is noted, now or before | |
//! | defer | unknown | it was settled or taken back meanwhile, perhaps by the same report | |
//! | refuse | refused, already | the message is in quarantine, now or before | |
//! | refuse | present | Redis has the message that was missing: it is fed again | (the machine's) |
//! | refuse, park | fenced, settled | the message isn't this node's any more | |
//! | refuse, park | unknown | Redis never had the message, or forgot it | warning |
//! | park | parked | it waits in its destination's lane | |
//!
//! Renames and commits go to the machine. An outcome without a consequence is logged for debugging.
//! A word that this version doesn't know fails the whole report.

use postfix_wire::QueueId;
use spool::{
    Absent, Act, Deferral, Deferred, MessageId, Obeyed, Parked, Placed, Refused, Settled,
    Uncommitted,
};

/// Logs what became of settled messages. Returns whether Redis doesn't know one as this node's.
#[must_use]
pub(super) fn tell_settles(messages: &[Placed], outcomes: &[Settled]) -> bool {
    let mut has_unknown = false;
    for (Placed { queue_id, id }, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Settled::Settled | Settled::Already => debug("settle", queue_id, *id, outcome),
            Settled::Unknown => {
                has_unknown = true;
                tracing::warn!(
                    %queue_id, %id,
                    "file left the queue, and Redis had no commit of it here; the message may be \
                        sent twice, if it was given to others"
                );
            }
        }
    }
    has_unknown
}

/// Logs which orders have ended.
pub(super) fn tell_obeyed(orders: &[(Placed, Act)], outcomes: &[Obeyed]) {
    for ((Placed { queue_id, id }, _), outcome) in orders.iter().zip(outcomes) {
        match outcome {
            Obeyed::Obeyed | Obeyed::Already => debug("obey", queue_id, *id, outcome),
        }
    }
}

/// Logs what became of committed messages whose files are absent.
pub(super) fn tell_absents(messages: &[Placed], outcomes: &[Absent]) {
    let mut resent = 0;
    for (Placed { queue_id, id }, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Absent::Settled | Absent::Already => debug("absent", queue_id, *id, outcome),
            Absent::Resent => {
                resent += 1;
                tracing::info!(%queue_id, %id, "message resent");
            }
            Absent::Held | Absent::Deleted => tell_stopped(queue_id, *id, outcome.as_str()),
        }
    }
    if resent > 0 {
        tracing::error!(
            messages = resent,
            "queue files vanished without proof of delivery, and their messages were resent, \
                perhaps twice; check whether the queue directory was put back"
        );
    }
}

/// Logs what became of messages whose commits were taken back.
pub(super) fn tell_uncommits(messages: &[Placed], outcomes: &[Uncommitted]) {
    for (Placed { queue_id, id }, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Uncommitted::Uncommitted => tracing::info!(%queue_id, %id, "commit taken back"),
            Uncommitted::Already => debug("uncommit", queue_id, *id, outcome),
            Uncommitted::Held | Uncommitted::Deleted => {
                tell_stopped(queue_id, *id, outcome.as_str());
            }
        }
    }
}

fn tell_stopped(queue_id: &QueueId, id: MessageId, word: &str) {
    tracing::info!(%queue_id, %id, "message {word} in Redis, as ordered or as it was on hold");
}

/// Logs which rests Redis has noted.
pub(super) fn tell_deferrals(messages: &[Deferral], outcomes: &[Deferred]) {
    for (Deferral { queue_id, id, .. }, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Deferred::Deferred | Deferred::Already | Deferred::Unknown => {
                debug("defer", queue_id, *id, outcome);
            }
        }
    }
}

/// Logs what became of messages that can't be used.
pub(super) fn tell_refusals(ids: impl Iterator<Item = MessageId>, outcomes: &[Refused]) {
    for (id, outcome) in ids.zip(outcomes) {
        match outcome {
            Refused::Refused
            | Refused::Already
            | Refused::Present
            | Refused::Fenced
            | Refused::Settled => tracing::debug!(%id, %outcome, "refuse answered"),
            Refused::Unknown => tell_unknown("refuse", id),
        }
    }
}

/// Logs what became of messages that wait for their destination.
pub(super) fn tell_parks(ids: impl Iterator<Item = MessageId>, outcomes: &[Parked]) {
    for (id, outcome) in ids.zip(outcomes) {
        match outcome {
            Parked::Parked | Parked::Fenced | Parked::Settled => {
                tracing::debug!(%id, %outcome, "park answered");
            }
            Parked::Unknown => tell_unknown("park", id),
        }
    }
}

fn tell_unknown(call: &str, id: MessageId) {
    tracing::warn!(%id, "{call}: Redis did not know the message; it may have been put back");
}

fn debug(call: &str, queue_id: &QueueId, id: MessageId, outcome: &impl std::fmt::Display) {
    tracing::debug!(%queue_id, %id, %outcome, "{call} answered");
}
