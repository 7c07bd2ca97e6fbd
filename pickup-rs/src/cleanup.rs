//! One message to one cleanup process.
//!
//! A cleanup process serves one client at a time, and one message per connection, so feeding
//! several at once is opening several connections: master starts a process for each. The
//! conversation is in `postfix_wire::cleanup`.

use std::io;
use std::path::Path;
use std::time::Duration;

use postfix_wire::attr::{self, AttrError, Attributes};
use postfix_wire::cleanup::PROTOCOL;
use postfix_wire::{CleanupFlags, CleanupStatus, QueueId, QueueIdError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::message::ForCleanup;

/// How long to go on when master's socket has no room for another connection, or isn't there: a
/// reload is over by then.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Content up to this size is sent together with what surrounds it, in one system call.
const ONE_WRITE_BYTES: usize = 256 * 1024;

/// Why a conversation failed. Whatever cleanup had of the message, it drops, unless all was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    /// Nobody answers there.
    #[error("connect to cleanup: {0}")]
    Connect(io::Error),
    /// The connection broke: the process died.
    #[error("connection to cleanup: {0}")]
    Connection(#[from] io::Error),
    /// It closed the connection without a word.
    #[error("cleanup closed the connection")]
    Closed,
    /// It said nothing for `ipc_timeout`.
    #[error("cleanup does not answer")]
    Silent,
    /// It speaks another language.
    #[error("cleanup: {0}")]
    Language(#[from] AttrError),
    /// It speaks another protocol.
    #[error("cleanup greets with protocol {0:?}")]
    Protocol(String),
    /// It named the message something that is no queue id.
    #[error("cleanup: {0}")]
    Name(#[from] QueueIdError),
}

/// What cleanup said in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: CleanupStatus,
    /// Its own words, if it has any; it has logged them then.
    pub(crate) reason: String,
}

/// A cleanup process that has named a message.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: UnixStream,
    timeout: Duration,
    received: Vec<u8>,
    queue_id: QueueId,
}

impl Conversation {
    /// Connects and learns the queue id. Neither side has anything of the message yet.
    pub(crate) async fn open(socket: &Path, timeout: Duration) -> Result<Self, CleanupError> {
        let mut stream = connect(socket).await?;
        let mut received = Vec::new();
        let greeting = read_attributes(&mut stream, &mut received, timeout).await?;
        match greeting.require("protocol")? {
            PROTOCOL => {}
            other => return Err(CleanupError::Protocol(other.to_owned())),
        }
        let queue_id = greeting.require("queue_id")?.parse()?;
        Ok(Self { stream, timeout, received, queue_id })
    }

    /// What the message is called in Postfix's queue.
    pub(crate) fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// Sends everything. From here on cleanup may finish the file, whether we are there or not.
    pub(crate) async fn send(
        &mut self,
        flags: CleanupFlags,
        message: &ForCleanup<'_>,
    ) -> Result<(), CleanupError> {
        let mut start = Vec::with_capacity(
            message.head.len() + message.content.len().min(ONE_WRITE_BYTES) + 64,
        );
        attr::encode(&mut start, &[("flags", &flags.bits().to_string())]);
        start.extend_from_slice(&message.head);
        if message.content.len() <= ONE_WRITE_BYTES {
            start.extend_from_slice(message.content);
            start.extend_from_slice(&message.tail);
            return self.write(&start).await;
        }
        self.write(&start).await?;
        self.write(message.content).await?;
        self.write(&message.tail).await
    }

    /// Waits for the outcome.
    pub(crate) async fn answer(mut self) -> Result<Answer, CleanupError> {
        let attributes =
            read_attributes(&mut self.stream, &mut self.received, self.timeout).await?;
        let status = CleanupStatus::from_bits(attributes.require_u32("status")?);
        Ok(Answer { status, reason: attributes.require("reason")?.to_owned() })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), CleanupError> {
        timeout(self.timeout, self.stream.write_all(bytes))
            .await
            .map_err(|_| CleanupError::Silent)??;
        Ok(())
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, CleanupError> {
    let give_up = Instant::now() + CONNECT_PATIENCE;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= give_up => return Err(CleanupError::Connect(error)),
            Err(_) => sleep(CONNECT_PAUSE).await,
        }
    }
}

/// Reads one list; what follows it stays in `received`.
async fn read_attributes(
    stream: &mut UnixStream,
    received: &mut Vec<u8>,
    patience: Duration,
) -> Result<Attributes, CleanupError> {
    loop {
        if let Some((attributes, used)) = attr::decode(received)? {
            received.drain(..used);
            return Ok(attributes);
        }
        let read = timeout(patience, stream.read_buf(received))
            .await
            .map_err(|_| CleanupError::Silent)??;
        if read == 0 {
            return Err(CleanupError::Closed);
        }
    }
}
