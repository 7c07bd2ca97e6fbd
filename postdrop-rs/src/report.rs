//! Log line about a message that is not in Redis.

use spool::MessageId;

use host::limit::explained;

use crate::exit::without_numbers;
use crate::log::{Log, Severity};
use crate::submission::Kept;

/// Logs where a message is. Logs nothing for a message in Redis, because pickup-rs logs such a
/// message when it feeds it.
pub fn report(kept: &Kept, id: MessageId, log: &Log) {
    match kept {
        Kept::Spool => {}
        Kept::Maildrop { queue_id, because } => {
            log.say(
                Severity::Note,
                &format!(
                    "{id}: stored in the local maildrop as {queue_id}: {}",
                    without_numbers(&explained(because))
                ),
            );
        }
        Kept::InDoubt { queue_id, because } => {
            log.say(
                Severity::Note,
                &format!(
                    "{id}: in doubt, stored in the local maildrop as {queue_id}: {}",
                    without_numbers(&explained(because))
                ),
            );
        }
    }
}
