//! The Mail Agent's end of the hand-off socket.
//!
//! The connection has two halves, so that an agent can wait for replies in a `select!` and send
//! requests meanwhile. The client keeps no state. After an error the connection is useless: the
//! caller connects again and asks for an inventory.
//!
//! ```no_run
//! # async fn example() -> Result<(), handoff::client::ClientError> {
//! use handoff::client;
//! use handoff::protocol::Request;
//!
//! let socket = "/var/spool/postfix/private/optimus";
//! let (mut requests, mut replies) = client::connect(socket.as_ref()).await?;
//! requests.send(&Request::Inventory).await?;
//! while let Some(reply) = replies.next().await? {
//!     println!("{reply:?}");
//! }
//! # Ok(())
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};

use host::peer::Socket;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::lines::{Line, Lines};
use crate::protocol::{REPLY_LINE_LIMIT_BYTES, REQUEST_LINE_LIMIT_BYTES, Reply, Request};

/// Failure of the connection to pickup-rs. A request that was sent may or may not have been carried
/// out: connect again and ask for an inventory.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens, or the socket is not safe to use. No request was sent.
    #[error("pickup-rs at {}: not connected: {source}; check that Postfix runs", path.display())]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// Cause, from the operating system.
        source: io::Error,
    },
    /// The connection broke.
    #[error("pickup-rs: connection broken: {0}")]
    Connection(#[from] io::Error),
    /// The request is longer than pickup-rs reads, and was not sent. Ask for less at a time.
    #[error(
        "request: not sent: {bytes} bytes, more than the limit of {REQUEST_LINE_LIMIT_BYTES}; \
            ask for less at a time"
    )]
    RequestTooLong {
        /// Length of the request, in bytes.
        bytes: usize,
    },
    /// The line that arrived is no reply: the peer is another program, or pickup-rs of another
    /// version.
    #[error("pickup-rs: reply not understood: {0}; run the same version of all programs")]
    NotAReply(String),
}

/// Connects to pickup-rs. Returns as soon as master holds the socket; pickup-rs may start later.
pub async fn connect(socket: &Path) -> Result<(Requests, Replies), ClientError> {
    let failed = |source| ClientError::Connect { path: socket.to_owned(), source };
    let (reading, writing) = connected(socket).await.map_err(failed)?.into_split();
    let lines = Lines::new(BufReader::new(reading), REPLY_LINE_LIMIT_BYTES);
    Ok((Requests { stream: writing, line: Vec::new() }, Replies { lines }))
}

/// Connects only to master or the owner of the socket's folder.
async fn connected(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::find(path)?;
    let stream = UnixStream::connect(socket.path()).await?;
    socket.expect_owner(&stream)?;
    Ok(stream)
}

/// Sending half of the connection.
#[derive(Debug)]
pub struct Requests {
    stream: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Requests {
    /// Sends one request. The caller must await the call to its end: half a line would garble the
    /// next one.
    pub async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, request).map_err(io::Error::from)?;
        if self.line.len() > REQUEST_LINE_LIMIT_BYTES {
            return Err(ClientError::RequestTooLong { bytes: self.line.len() });
        }
        self.line.push(b'\n');
        Ok(self.stream.write_all(&self.line).await?)
    }
}

/// Receiving half of the connection: replies and events.
#[derive(Debug)]
pub struct Replies {
    lines: Lines<BufReader<OwnedReadHalf>>,
}

impl Replies {
    /// Returns the next reply, or `None` when pickup-rs has closed the connection. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Reply>, ClientError> {
        match self.lines.next().await? {
            None => Ok(None),
            Some(Line::TooLong) => Err(ClientError::NotAReply("line too long".to_owned())),
            Some(Line::Text(line)) => match serde_json::from_slice(&line) {
                Ok(reply) => Ok(Some(reply)),
                Err(error) => Err(ClientError::NotAReply(error.to_string())),
            },
        }
    }
}
