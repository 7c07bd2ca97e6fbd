//! Ids that Redis remembers without their messages: `done:` and `disowned` of `optimus.lua`.

use redis::cmd;

use super::{Spool, SpoolError};
use crate::MessageId;
use crate::keys::SHARD;

/// Number of an id's first characters that all ids under one key share, as in `done` of
/// `optimus.lua`.
const SHARED: usize = 6;

/// The end of a message, which Redis remembers for 25 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// The message was sent, or dropped from quarantine.
    Settled,
    /// An operator has deleted the message.
    Deleted,
    /// The submitter did not know whether Redis had the message, and took the message back.
    Disowned,
}

impl Spool {
    /// Returns the end of a message; `None` if the message has not ended, was never in Redis, or
    /// ended too long ago. Changes nothing.
    ///
    /// # Errors
    ///
    /// Fails when Redis can't be asked, or remembers an end that this version doesn't know.
    pub async fn remembered(&self, id: MessageId) -> Result<Option<Remembered>, SpoolError> {
        let id = id.to_string();
        let mut ended = cmd("HGET");
        ended.arg(format!("{SHARD}done:{}", &id[..SHARED])).arg(&id);
        let ended: Option<String> = self.connection.run(&ended).await?;
        match ended.as_deref() {
            Some("s") => return Ok(Some(Remembered::Settled)),
            Some("d") => return Ok(Some(Remembered::Deleted)),
            Some(other) => {
                return Err(SpoolError::Malformed(format!(
                    "message {id}: end not known to this version: {other:?}"
                )));
            }
            None => {}
        }
        let mut disowned = cmd("ZSCORE");
        disowned.arg(format!("{SHARD}disowned")).arg(&id);
        let since: Option<f64> = self.connection.run(&disowned).await?;
        Ok(since.map(|_| Remembered::Disowned))
    }
}
