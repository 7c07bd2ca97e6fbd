//! What Redis remembers of messages that it no longer has: `done:` and `disowned` of `optimus.lua`.

use redis::cmd;

use super::{Spool, SpoolError};
use crate::MessageId;
use crate::library::SHARD;

/// Characters of an id that share a key: `done` of `optimus.lua`.
const SHARED: usize = 6;

/// How a message has ended, for as long as that is remembered: 25 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// It was sent, or dropped by those who look after what is kept aside.
    Settled,
    /// An operator has deleted it.
    Deleted,
    /// Whoever submitted it could not tell whether Redis had it, and took it back.
    Disowned,
}

impl Spool {
    /// How a message has ended. None: it has not, or it never was here, or that was too long ago.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// Redis can't be asked, or remembers what this version doesn't know.
    pub async fn remembered(&self, id: MessageId) -> Result<Option<Remembered>, SpoolError> {
        let id = id.to_string();
        let mut ended = cmd("HGET");
        ended.arg(format!("{SHARD}done:{}", &id[..SHARED])).arg(&id);
        let ended: Option<String> = self.connection.run(&ended).await?;
        match ended.as_deref() {
            Some("s") => return Ok(Some(Remembered::Settled)),
            Some("d") => return Ok(Some(Remembered::Deleted)),
            Some(other) => {
                return Err(SpoolError::Refused(format!("message {id} ended as {other:?}")));
            }
            None => {}
        }
        let mut disowned = cmd("ZSCORE");
        disowned.arg(format!("{SHARD}disowned")).arg(&id);
        let since: Option<f64> = self.connection.run(&disowned).await?;
        Ok(since.map(|_| Remembered::Disowned))
    }
}
