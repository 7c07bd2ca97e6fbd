//! The id of a submission, made once however often it is attempted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spool::MessageId;

use crate::exit::Failure;

/// Time and id of a submission.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    /// The message's name, in Redis and everywhere after.
    pub id: MessageId,
    /// Now, since the epoch.
    pub arrival: Duration,
    /// The user who submits it.
    pub uid: u32,
}

impl Ticket {
    /// For one message of this user that arrives now.
    pub fn new(uid: u32) -> Result<Self, Failure> {
        Self::of(uid, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// For one that arrived earlier: its sender may have taken hours to write it, and Redis
    /// remembers the past by the time in the id.
    pub fn of(uid: u32, arrival: Duration) -> Result<Self, Failure> {
        let id = MessageId::new()
            .map_err(|error| Failure::temporary(format!("random numbers: {error}")))?;
        Ok(Self { id, arrival, uid })
    }
}
