//! Outcomes of a Mail Agent's report in Redis, as log lines.

use spool::{Absent, Placed, Uncommitted};

/// Logs what became of committed messages whose files are absent.
pub(super) fn tell_absents(messages: &[Placed], outcomes: &[Absent]) {
    let mut resent = 0;
    for (Placed { queue_id, id }, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Absent::Settled | Absent::Already => tracing::debug!(%queue_id, %id, %outcome, "gone"),
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
            Uncommitted::Already => tracing::debug!(%queue_id, %id, "commit taken back before"),
            Uncommitted::Held | Uncommitted::Deleted => {
                tell_stopped(queue_id, *id, outcome.as_str());
            }
        }
    }
}

fn tell_stopped(queue_id: &postfix_wire::QueueId, id: spool::MessageId, word: &str) {
    tracing::info!(%queue_id, %id, "message {word} in redis, as ordered or as it was on hold");
}
