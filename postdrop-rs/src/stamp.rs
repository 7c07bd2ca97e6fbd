//! Stamp of a submission: its id, made once for all its attempts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spool::MessageId;

use crate::exit::Failure;

/// Id, time and user of a submission.
#[derive(Debug, Clone, Copy)]
pub struct SubmissionStamp {
    /// Id that names the message in Redis and everywhere after.
    pub id: MessageId,
    /// Time of arrival, since the Unix epoch.
    pub arrival: Duration,
    /// User who submits the message.
    pub uid: u32,
}

impl SubmissionStamp {
    /// Makes a stamp for a message of this user that arrives now.
    pub fn new(uid: u32) -> Result<Self, Failure> {
        Self::of(uid, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Makes a stamp for a message that arrived earlier. The id has the current time: writing the
    /// message may take hours, and Redis forgets old ids by the time in them.
    pub fn of(uid: u32, arrival: Duration) -> Result<Self, Failure> {
        let id = MessageId::new().map_err(|error| {
            Failure::temporary(format!("message id: no random numbers: {error}"))
        })?;
        Ok(Self { id, arrival, uid })
    }
}
