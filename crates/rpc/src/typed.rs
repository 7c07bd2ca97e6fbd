//! Messages instead of bytes: enums, or whatever serde knows, written as postcard.
//!
//! A request that a server can't read, from a client of another version, is answered with [`TypedError::NotUnderstood`] and
//! counted, never dropped; and bytes behind a message are as wrong as bytes that are missing.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::driver::{self, Pending};
use crate::server::{ReplyError, RequestId};
use crate::{CallError, Execution, Port};

/// Calls with requests `Q`, answered by `A`.
pub struct Client<Q, A> {
    client: driver::Client,
    messages: PhantomData<fn(Q) -> A>,
}

/// Receives requests `Q` and replies with `A`.
pub struct Server<Q, A> {
    server: driver::Server,
    not_understood: Arc<AtomicU64>,
    messages: PhantomData<fn(Q) -> A>,
}

/// A request to execute.
#[derive(Debug)]
pub struct Request<Q> {
    /// What it says.
    pub message: Q,
    /// The request it came in; its body is what `message` was read from.
    pub raw: driver::Request,
}

/// Why a call ended without a reply that could be read.
#[derive(Debug, Error)]
pub enum TypedError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server couldn't read the request, and has not executed it.
    #[error("the server doesn't understand the request: {0}")]
    NotUnderstood(String),
    /// The request can't be written. Nothing was sent.
    #[error("request: {0}")]
    Request(#[source] postcard::Error),
    /// The reply can't be read. The request was executed.
    #[error("reply: {0}")]
    Reply(#[source] postcard::Error),
}

/// Why a reply wasn't given.
#[derive(Debug, Error)]
pub enum TypedReplyError {
    /// It can't be written. Nothing was sent.
    #[error("reply: {0}")]
    Message(#[from] postcard::Error),
    /// See [`ReplyError`].
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// What goes over the wire as a reply.
#[derive(Serialize, Deserialize)]
enum Reply<A> {
    Answer(A),
    NotUnderstood(String),
}

impl TypedError {
    /// Whether the request may have been executed; `None` says that it was.
    #[must_use]
    pub fn execution(&self) -> Option<Execution> {
        match self {
            Self::Call(error) => Some(error.execution()),
            Self::NotUnderstood(_) | Self::Request(_) => Some(Execution::Never),
            Self::Reply(_) => None,
        }
    }
}

impl<Q: Serialize, A: DeserializeOwned> Client<Q, A> {
    /// Calls by means of `client`, which others may use for other messages.
    #[must_use]
    pub fn new(client: driver::Client) -> Self {
        Self { client, messages: PhantomData }
    }

    /// As [`driver::Client::call`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn call(&self, port: Port, message: &Q, limit: Duration) -> Result<A, TypedError> {
        read_reply(&self.client.call(port, write(message)?, limit).await?)
    }

    /// As [`driver::Client::call_for`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn call_for(
        &self,
        request: &driver::Request,
        port: Port,
        message: &Q,
        limit: Duration,
    ) -> Result<A, TypedError> {
        read_reply(&self.client.call_for(request, port, write(message)?, limit).await?)
    }

    /// As [`driver::Client::send`]; [`Self::receive`] awaits the reply.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn send(&self, port: Port, message: &Q, limit: Duration) -> Result<Pending, TypedError> {
        Ok(self.client.send(port, write(message)?, limit).await?)
    }

    /// Awaits the reply to what was sent.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn receive(&self, pending: Pending) -> Result<A, TypedError> {
        read_reply(&pending.await?)
    }
}

impl<Q: DeserializeOwned, A: Serialize> Server<Q, A> {
    /// Serves by means of `server`.
    #[must_use]
    pub fn new(server: driver::Server) -> Self {
        Self { server, not_understood: Arc::default(), messages: PhantomData }
    }

    /// The next request that can be read; none after a shutdown.
    pub async fn recv(&self) -> Option<Request<Q>> {
        loop {
            let raw = self.server.recv().await?;
            match read(&raw.body) {
                Ok(message) => return Some(Request { message, raw }),
                Err(error) => self.refuse(&raw, &error),
            }
        }
    }

    fn refuse(&self, raw: &driver::Request, error: &postcard::Error) {
        self.not_understood.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(request = ?raw.id, client = ?raw.client, bytes = raw.body.len(), %error, "request not understood");
        // Only what has been cancelled meanwhile isn't answered.
        let _ = self.give(raw.id, &Reply::NotUnderstood(error.to_string()));
    }

    /// As [`driver::Server::reply`].
    ///
    /// # Errors
    /// See [`TypedReplyError`].
    pub fn reply(&self, request: RequestId, message: A) -> Result<(), TypedReplyError> {
        self.give(request, &Reply::Answer(message))
    }

    fn give(&self, request: RequestId, reply: &Reply<A>) -> Result<(), TypedReplyError> {
        Ok(self.server.reply(request, postcard::to_stdvec(reply)?)?)
    }

    /// Requests that couldn't be read.
    #[must_use]
    pub fn not_understood(&self) -> u64 {
        self.not_understood.load(Ordering::Relaxed)
    }

    /// The server beneath.
    #[must_use]
    pub fn server(&self) -> &driver::Server {
        &self.server
    }
}

fn write<Q: Serialize>(message: &Q) -> Result<Vec<u8>, TypedError> {
    postcard::to_stdvec(message).map_err(TypedError::Request)
}

fn read_reply<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, TypedError> {
    match read(bytes).map_err(TypedError::Reply)? {
        Reply::Answer(answer) => Ok(answer),
        Reply::NotUnderstood(why) => Err(TypedError::NotUnderstood(why)),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

impl<Q, A> Clone for Client<Q, A> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), messages: PhantomData }
    }
}

impl<Q, A> Clone for Server<Q, A> {
    fn clone(&self) -> Self {
        let not_understood = self.not_understood.clone();
        Self { server: self.server.clone(), not_understood, messages: PhantomData }
    }
}

impl<Q, A> fmt::Debug for Client<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.client).finish()
    }
}

impl<Q, A> fmt::Debug for Server<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.server).finish()
    }
}
