//! The place of a message, for the mail log, when it isn't where it should be.

use spool::MessageId;

use host::limit::explained;

use crate::exit::without_numbers;
use crate::log::{Log, Severity};
use crate::submission::Kept;

/// Says nothing of a message in Redis: pickup-rs logs it when it hands it to Postfix.
pub fn report(kept: &Kept, id: MessageId, log: &Log) {
    match kept {
        Kept::Spool => {}
        Kept::Maildrop { queue_id, because } => {
            log.say(
                Severity::Note,
                &format!(
                    "{id}: to the local maildrop as {queue_id}: {}",
                    without_numbers(&explained(because))
                ),
            );
        }
        Kept::InDoubt { queue_id, because } => {
            log.say(
                Severity::Note,
                &format!(
                    "{id}: in doubt, kept in the local maildrop as {queue_id}: {}",
                    without_numbers(&explained(because))
                ),
            );
        }
    }
}
