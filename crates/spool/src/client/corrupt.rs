//! What is kept aside, for whoever has to decide about it.

use super::{Corrupt, Dropped, MESSAGE_LIMIT, Retried, Spool, SpoolError};
use crate::MessageId;
use crate::library::SHARD;
use crate::message::{self, records_of};

/// Entries asked for at once when all are asked for.
const PAGE: u32 = 500;
/// Bytes that hold the first line of any message.
const FIRST_LINE: usize = 512;

impl Spool {
    /// What is kept aside, at most `limit` of it (and at most [`BATCH_MAX`](super::BATCH_MAX)), the
    /// oldest first. Changes nothing.
    pub async fn corrupt(&self, limit: u32) -> Result<Vec<Corrupt>, SpoolError> {
        self.corrupt_page(limit, 0).await
    }

    /// All that is kept aside, the oldest first. What changes meanwhile may be in it or not.
    /// Changes nothing.
    pub async fn all_corrupt(&self) -> Result<Vec<Corrupt>, SpoolError> {
        let mut all = Vec::new();
        loop {
            let page = self.corrupt_page(PAGE, all.len()).await?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn corrupt_page(&self, limit: u32, skip: usize) -> Result<Vec<Corrupt>, SpoolError> {
        self.connection.run(self.function("corrupt").arg(limit).arg(skip)).await
    }

    /// Sends messages after all that were kept aside. The second time: [`Retried::Already`].
    pub async fn retry_corrupt(&self, ids: &[MessageId]) -> Result<Vec<Retried>, SpoolError> {
        self.batch(&self.function("retry"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// Gives up messages that were kept aside; submitted again under the same id, they stay so. The
    /// second time: [`Dropped::Already`].
    pub async fn drop_corrupt(&self, ids: &[MessageId]) -> Result<Vec<Dropped>, SpoolError> {
        self.batch(&self.function("drop"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// As [`Self::drop_corrupt`], because a limit of what is kept aside was passed. It is counted
    /// apart.
    pub async fn make_room(&self, ids: &[MessageId]) -> Result<Vec<Dropped>, SpoolError> {
        self.batch(&self.function("make_room"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// Who submitted a message, as far as its first line can be read. Changes nothing.
    pub async fn submitted_by(&self, id: MessageId) -> Result<Option<u32>, SpoolError> {
        Ok(message::about(records_of(&self.beginning(id, FIRST_LINE).await?).0).map(|(uid, _)| uid))
    }

    /// A message as it is stored, whatever is wrong with it. Changes nothing.
    pub async fn stored(&self, id: MessageId) -> Result<Option<Vec<u8>>, SpoolError> {
        let mut command = redis::cmd("GET");
        self.connection.run_within(MESSAGE_LIMIT, command.arg(format!("{SHARD}m:{id}"))).await
    }

    /// The first `bytes` of a message as it is stored; nothing when it isn't. Changes nothing.
    pub async fn beginning(&self, id: MessageId, bytes: usize) -> Result<Vec<u8>, SpoolError> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(format!("{SHARD}m:{id}")).arg(0).arg(bytes.saturating_sub(1));
        self.connection.run(&command).await
    }
}
