//! The inbox: submission to it, and lots cut from it.

use redis::{Cmd, ToRedisArgs};

use super::{Cut, Disowned, MESSAGE_LIMIT, Spool, SpoolError};
use crate::keys::{INBOX, NOTICES};
use crate::library::NOTICE_OF_INBOX;
use crate::{LotNumber, MessageId, NodeId, Submission};

/// Most messages in one RPUSH: Redis carries a command out whole, and does nothing else meanwhile.
const PUSH_MAX: usize = 1000;
/// Most bytes in one RPUSH, unless a single message has more.
const PUSH_MAX_BYTES: usize = 1024 * 1024;

impl Spool {
    /// Stores a message durably. A repetition stores a copy, which is dropped when lots are cut.
    pub async fn submit(&self, message: &Submission<'_>) -> Result<(), SpoolError> {
        self.submit_many(std::slice::from_ref(message)).await
    }

    /// Stores messages durably, in their order. After an error any of them may be stored. The
    /// caller may repeat all of them under the same ids: each message is sent once.
    pub async fn submit_many(&self, messages: &[Submission<'_>]) -> Result<(), SpoolError> {
        let mut rest = messages;
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(batch_length(rest));
            self.connection.run_within::<u64>(MESSAGE_LIMIT, &push(batch)?).await?;
            rest = more;
        }
        // The messages are stored, even if the notice is lost.
        let _ = self
            .connection
            .run::<u64>(redis::cmd("PUBLISH").arg(NOTICES).arg(NOTICE_OF_INBOX))
            .await;
        Ok(())
    }

    /// Returns the number of entries in the inbox. Calls no function, and changes nothing.
    pub async fn inbox_length(&self) -> Result<u64, SpoolError> {
        self.connection.run(redis::cmd("LLEN").arg(INBOX)).await
    }

    /// Decides a submission in doubt: either Redis knows the message, or never will. Every call
    /// gives the same answer.
    pub async fn disown(&self, id: MessageId) -> Result<Disowned, SpoolError> {
        self.connection.run(self.function("disown").arg(id)).await
    }

    /// Makes the lot of this number, if it is the next one, from at most `size` entries of the
    /// inbox. The lot goes to the node at once, or stays ready. A second call returns
    /// [`Cut::Already`].
    pub async fn cut(
        &self,
        lot: LotNumber,
        size: u32,
        to: Option<&NodeId>,
    ) -> Result<Cut, SpoolError> {
        let mut command = self.function("cut");
        command.arg(lot).arg(size);
        match to {
            Some(node) => command.arg(node),
            None => command.arg(""),
        };
        self.connection.run(&command).await
    }
}

fn batch_length(messages: &[Submission<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |it: &&Submission<'_>| {
        bytes += it.records.len();
        bytes <= PUSH_MAX_BYTES
    };
    messages.iter().take(PUSH_MAX).take_while(fits).count().max(1)
}

fn push(messages: &[Submission<'_>]) -> Result<Cmd, SpoolError> {
    let mut command = redis::cmd("RPUSH");
    command.arg(INBOX);
    for message in messages {
        let head = message.head().map_err(|error| SpoolError::Unavailable(error.to_string()))?;
        [head.as_bytes(), message.records].concat().as_slice().write_redis_args(&mut command);
    }
    Ok(command)
}
