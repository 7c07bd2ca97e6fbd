//! A conversation with one cleanup process about one message.
//!
//! A cleanup process serves one client at a time, and one message per connection. So several
//! messages at once need several connections, for each of which master starts a process.
//! `postfix_wire::cleanup` describes the protocol.

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

/// Longest time of attempts to connect while master's socket is full or absent. A reload of Postfix
/// takes less.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Size of the longest content, in bytes, that is sent with its head and tail in one system call.
const ONE_WRITE_BYTES: usize = 256 * 1024;

/// Failure of a conversation. Cleanup drops a message of which it has only a part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    /// No process answered at the socket.
    #[error("cleanup: not connected: {0}; check that Postfix runs")]
    Connect(io::Error),
    /// The connection broke: the process died.
    #[error("cleanup: connection broken: {0}")]
    Connection(#[from] io::Error),
    /// Cleanup closed the connection without an answer.
    #[error("cleanup: no answer: connection closed; see Postfix's log")]
    Closed,
    /// Cleanup sent nothing for `ipc_timeout`.
    #[error("cleanup: no answer within ipc_timeout; see Postfix's log")]
    Silent,
    /// Cleanup sent something that is no attribute list, or one without an expected attribute.
    #[error("cleanup: answer not understood: {0}")]
    Language(#[from] AttrError),
    /// Cleanup greeted with another protocol's name.
    #[error("cleanup: greeting not understood: unknown protocol {0:?}")]
    Protocol(String),
    /// Cleanup gave the message a name that is no queue id.
    #[error("cleanup: queue id not understood: {0}")]
    Name(#[from] QueueIdError),
}

/// Cleanup's answer to a whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CleanupAnswer {
    pub(crate) status: CleanupStatus,
    /// Cleanup's own words, which cleanup has logged; may be empty.
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
    /// Connects and learns the queue id. Cleanup has nothing of the message yet.
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

    /// Returns the message's name in Postfix's queue.
    pub(crate) fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// Sends the whole message. From here on cleanup may finish the file, even if this process
    /// dies.
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

    /// Waits for cleanup's answer.
    pub(crate) async fn answer(mut self) -> Result<CleanupAnswer, CleanupError> {
        let attributes =
            read_attributes(&mut self.stream, &mut self.received, self.timeout).await?;
        let status = CleanupStatus::from_bits(attributes.require_u32("status")?);
        Ok(CleanupAnswer { status, reason: attributes.require("reason")?.to_owned() })
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

/// Reads one attribute list. Bytes after the list stay in `received`.
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
