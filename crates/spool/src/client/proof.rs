//! What a node's disk proves: commits are numbered, and the disk has a mark up to which all are
//! released. See "Proof of delivery" in `optimus.lua`.

use postfix_wire::QueueId;
use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::{Absent, Placed, Renamed, Seat, Spool, SpoolError};
use crate::{CommitNumber, MessageId, NodeId};

/// Characters of an id.
const ID_LENGTH: usize = 26;

/// What Redis keeps of a committed message.
pub(super) struct Numbered {
    pub(super) id: MessageId,
    pub(super) number: CommitNumber,
}

impl FromRedisValue for Numbered {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text: String = from_redis_value(value)?;
        let (id, number) = text.split_at_checked(ID_LENGTH).unwrap_or((&text, ""));
        let wrong = |error: crate::IdError| ParsingError::from(error.to_string());
        // Values of earlier versions have no number.
        let number = if number.is_empty() { Ok(CommitNumber(0)) } else { number.parse() };
        Ok(Self { id: id.parse().map_err(wrong)?, number: number.map_err(wrong)? })
    }
}

/// A committed file that is there, and its name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The message.
    pub id: MessageId,
    /// The name it was committed under.
    pub was: QueueId,
    /// The name of its file.
    pub now: QueueId,
}

impl Spool {
    /// Says up to which commit all are released by what the node's disk has safely noted. Tells the
    /// last commit of which absence proves nothing, since the disk was put back after it.
    pub async fn attend(&self, node: &NodeId, mark: CommitNumber) -> Result<CommitNumber, SpoolError> {
        let (floor,) = self.connection.run(self.function("attend").arg(node).arg(mark)).await?;
        Ok(floor)
    }

    /// Decides about committed messages whose files are absent: settled where `mark`, as the disk
    /// had it when it was looked through, proves that; else sent again. The second time:
    /// [`Absent::Already`].
    pub async fn absent(
        &self,
        seat: &Seat,
        mark: CommitNumber,
        messages: &[Placed],
    ) -> Result<Vec<Absent>, SpoolError> {
        self.batch(self.seated("absent", seat).arg(mark), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id);
        })
        .await
    }

    /// Notes the names of committed files, and gives their commits new numbers. The second time:
    /// [`Renamed::Already`].
    pub async fn rename(
        &self,
        seat: &Seat,
        files: &[Rename],
    ) -> Result<Vec<(Renamed, CommitNumber)>, SpoolError> {
        self.batch(&self.seated("rename", seat), files, |command, it| {
            command.arg(it.was.as_str()).arg(it.id).arg(it.now.as_str());
        })
        .await
    }
}
