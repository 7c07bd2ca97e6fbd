//! The quarantine, for operators and Schedulers that decide about its messages.

use super::{Dropped, MESSAGE_LIMIT, Quarantined, Retried, Spool, SpoolError};
use crate::MessageId;
use crate::keys::SHARD;
use crate::message::{self, records_of};

/// Entries per call when all are read.
const PAGE: u32 = 500;
/// Bytes that hold the first line of any message.
const FIRST_LINE: usize = 512;

impl Spool {
    /// Returns at most `limit` messages in quarantine (and at most
    /// [`BATCH_MAX`](super::BATCH_MAX)), oldest first. Changes nothing.
    pub async fn quarantined(&self, limit: u32) -> Result<Vec<Quarantined>, SpoolError> {
        self.quarantine_page(limit, 0).await
    }

    /// Returns all messages in quarantine, oldest first. A message that comes or goes meanwhile may
    /// be missing. Changes nothing.
    pub async fn all_quarantined(&self) -> Result<Vec<Quarantined>, SpoolError> {
        let mut all = Vec::new();
        loop {
            let page = self.quarantine_page(PAGE, all.len()).await?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn quarantine_page(
        &self,
        limit: u32,
        skip: usize,
    ) -> Result<Vec<Quarantined>, SpoolError> {
        self.connection.run(self.function("quarantine").arg(limit).arg(skip)).await
    }

    /// Moves messages from quarantine to a new lot. A second call returns [`Retried::Already`].
    pub async fn retry_quarantined(&self, ids: &[MessageId]) -> Result<Vec<Retried>, SpoolError> {
        self.batch(&self.function("retry"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// Drops messages from quarantine; a later submission under the same id is dropped too. A
    /// second call returns [`Dropped::Already`].
    pub async fn drop_quarantined(&self, ids: &[MessageId]) -> Result<Vec<Dropped>, SpoolError> {
        self.batch(&self.function("drop"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// Drops messages as [`Self::drop_quarantined`] does, because the quarantine is over a limit. A
    /// counter of its own counts these messages.
    pub async fn make_room(&self, ids: &[MessageId]) -> Result<Vec<Dropped>, SpoolError> {
        self.batch(&self.function("make_room"), ids, |command, id| {
            command.arg(id);
        })
        .await
    }

    /// Returns the number of the submitting user, if the message's first line is readable. Changes
    /// nothing.
    pub async fn submitted_by(&self, id: MessageId) -> Result<Option<u32>, SpoolError> {
        Ok(message::about(records_of(&self.beginning(id, FIRST_LINE).await?).0).map(|(uid, _)| uid))
    }

    /// Returns a message as it is stored, damaged or not; `None` if Redis has no such message.
    /// Changes nothing.
    pub async fn stored(&self, id: MessageId) -> Result<Option<Vec<u8>>, SpoolError> {
        let mut command = redis::cmd("GET");
        self.connection.run_within(MESSAGE_LIMIT, command.arg(format!("{SHARD}m:{id}"))).await
    }

    /// Returns the first `bytes` of a message as it is stored; no bytes if Redis has no such
    /// message. Changes nothing.
    pub async fn beginning(&self, id: MessageId, bytes: usize) -> Result<Vec<u8>, SpoolError> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(format!("{SHARD}m:{id}")).arg(0).arg(bytes.saturating_sub(1));
        self.connection.run(&command).await
    }
}
