//! Typed messages: enums, or any type that serde knows, written as postcard.
//!
//! A server may be unable to read a request from a client of another version. Then the client gets
//! [`TypedError::NotUnderstood`], and the server counts the request. Surplus bytes behind a message
//! are as wrong as missing bytes.
//!
//! A reply begins with two bytes that mark a typed server. So a client never takes an untyped
//! server's reply for a refusal: any such reply is [`TypedError::Reply`], and the request was
//! executed.
//!
//! Types must not be recursive, or must limit their depth themselves. Reading takes some of the
//! stack for each level, a message of 64 MiB can have too many levels, and a stack overflow ends
//! the program.
//!
//! ```no_run
//! # use rpc::typed::Server;
//! # async fn example(server: Server<(u32, u32), u32>) {
//! while let Some(request) = server.recv().await {
//!     let ((a, b), reply) = request.into_parts();
//!     let _ = reply.send(a + b);
//! }
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::driver;
use crate::server::{ReplyError, RequestId};
use crate::{CallError, Execution, Port};

/// Client that calls with requests `Q` and gets answers `A`.
pub struct Client<Q, A> {
    client: driver::Client,
    messages: PhantomData<fn(Q) -> A>,
}

/// Server that receives requests `Q` and replies with `A`.
pub struct Server<Q, A> {
    server: driver::Server,
    not_understood: Arc<AtomicU64>,
    messages: PhantomData<fn(Q) -> A>,
}

/// Request to execute. Dropping a request without a reply abandons it: see [`driver::Request`].
#[derive(Debug)]
pub struct Request<Q, A> {
    /// Content of the request.
    pub message: Q,
    reply: Responder<A>,
}

/// Responder to one request, which can be handed on.
pub struct Responder<A> {
    raw: driver::Request,
    messages: PhantomData<fn(A)>,
}

/// Call that was sent. Awaiting the value, in any task, gives the reply. Dropping the value cancels
/// the call, and tells the server.
#[must_use = "dropping it cancels the call"]
pub struct Pending<A> {
    pending: driver::Pending,
    messages: PhantomData<fn() -> A>,
}

/// A call's end without a readable reply.
#[derive(Debug, Error)]
pub enum TypedError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server couldn't read the request, and has not executed it.
    #[error(
        "request: not executed: not understood by the server: {0}; give both ends the same types"
    )]
    NotUnderstood(String),
    /// The request can't be written. No packet was sent.
    #[error("request: not sent: not serializable: {0}")]
    Request(#[source] postcard::Error),
    /// The reply can't be read. The request was executed.
    #[error(
        "reply: not understood, though the request was executed: {0}; give both ends the same types"
    )]
    Reply(#[source] postcard::Error),
}

/// A reply that wasn't sent.
#[derive(Debug, Error)]
pub enum TypedReplyError {
    /// The message can't be written. No packet was sent.
    #[error("reply: not sent: not serializable: {0}")]
    Message(#[from] postcard::Error),
    /// See [`ReplyError`].
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// First bytes of a typed server's reply. No text begins so: UTF-8 never has the first byte.
const TYPED: [u8; 2] = [0xC1, b'T'];

/// Reply on the wire, behind [`TYPED`].
#[derive(Serialize, Deserialize)]
enum Reply<A> {
    Answer(A),
    NotUnderstood(String),
}

impl TypedError {
    /// Returns whether the request may have been executed.
    #[must_use]
    pub fn execution(&self) -> Execution {
        match self {
            Self::Call(error) => error.execution(),
            Self::NotUnderstood(_) | Self::Request(_) => Execution::Never,
            Self::Reply(_) => Execution::Once,
        }
    }
}

impl<Q: Serialize, A: DeserializeOwned> Client<Q, A> {
    /// Returns a typed client on top of `client`, which may also carry other messages.
    #[must_use]
    pub fn new(client: driver::Client) -> Self {
        Self { client, messages: PhantomData }
    }

    /// Calls a server: see [`driver::Client::call`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn call(&self, port: Port, message: &Q, limit: Duration) -> Result<A, TypedError> {
        read_reply(&self.client.call(port, write(message)?, limit).await?)
    }

    /// Calls on behalf of a request: see [`driver::Client::call_for`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn call_for(
        &self,
        request: &impl AsRef<driver::Request>,
        port: Port,
        message: &Q,
        limit: Duration,
    ) -> Result<A, TypedError> {
        self.send_for(request, port, message, limit).await?.await
    }

    /// Sends a call: see [`driver::Client::send`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn send(
        &self,
        port: Port,
        message: &Q,
        limit: Duration,
    ) -> Result<Pending<A>, TypedError> {
        Ok(Pending::new(self.client.send(port, write(message)?, limit).await?))
    }

    /// Sends a call if a permit is free: see [`driver::Client::try_send`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn try_send(
        &self,
        port: Port,
        message: &Q,
        limit: Duration,
    ) -> Result<Pending<A>, TypedError> {
        Ok(Pending::new(self.client.try_send(port, write(message)?, limit)?))
    }

    /// Sends a call on behalf of a request: see [`driver::Client::send_for`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn send_for(
        &self,
        request: &impl AsRef<driver::Request>,
        port: Port,
        message: &Q,
        limit: Duration,
    ) -> Result<Pending<A>, TypedError> {
        let pending = self.client.send_for(request.as_ref(), port, write(message)?, limit).await?;
        Ok(Pending::new(pending))
    }
}

impl<A> Pending<A> {
    fn new(pending: driver::Pending) -> Self {
        Self { pending, messages: PhantomData }
    }

    /// Cancels the call: see [`driver::Pending::cancel`].
    pub fn cancel(&self) {
        self.pending.cancel();
    }
}

impl<A: DeserializeOwned> Future for Pending<A> {
    type Output = Result<A, TypedError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.pending).poll(cx));
        Poll::Ready(ended.map_err(TypedError::Call).and_then(|bytes| read_reply(&bytes)))
    }
}

impl<Q, A: Serialize> Request<Q, A> {
    /// Replies to the request.
    ///
    /// # Errors
    /// See [`TypedReplyError`].
    pub fn reply(self, message: A) -> Result<(), TypedReplyError> {
        self.reply.send(message)
    }

    /// Returns the content, and the responder.
    #[must_use]
    pub fn into_parts(self) -> (Q, Responder<A>) {
        (self.message, self.reply)
    }
}

impl<A: Serialize> Responder<A> {
    /// Replies to the request.
    ///
    /// # Errors
    /// See [`TypedReplyError`].
    pub fn send(self, message: A) -> Result<(), TypedReplyError> {
        Ok(self.raw.reply(write_reply(&Reply::Answer(message))?)?)
    }
}

/// Gives the request on the wire; the message was read from its body.
impl<Q, A> AsRef<driver::Request> for Request<Q, A> {
    fn as_ref(&self) -> &driver::Request {
        &self.reply.raw
    }
}

/// Gives the request on the wire.
impl<A> AsRef<driver::Request> for Responder<A> {
    fn as_ref(&self) -> &driver::Request {
        &self.raw
    }
}

impl<Q: DeserializeOwned, A: Serialize> Server<Q, A> {
    /// Returns a typed server on top of `server`.
    #[must_use]
    pub fn new(server: driver::Server) -> Self {
        Self { server, not_understood: Arc::default(), messages: PhantomData }
    }

    /// Returns the next readable request; `None` after a shutdown.
    pub async fn recv(&self) -> Option<Request<Q, A>> {
        loop {
            let raw = self.server.recv().await?;
            match read(&raw.body) {
                Ok(message) => {
                    return Some(Request {
                        message,
                        reply: Responder { raw, messages: PhantomData },
                    });
                }
                Err(error) => self.refuse(&raw, &error),
            }
        }
    }

    fn refuse(&self, raw: &driver::Request, error: &postcard::Error) {
        self.not_understood.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            request = %raw,
            client = ?raw.client,
            bytes = raw.body.len(),
            %error,
            "request not understood",
        );
        // Only a request that has been cancelled meanwhile stays unanswered.
        let _ = self.send(raw.id(), &Reply::NotUnderstood(error.to_string()));
    }

    /// Replies by id, for detached requests and for replies that may be too long: see
    /// [`driver::Server::reply`].
    ///
    /// # Errors
    /// See [`TypedReplyError`].
    pub fn reply(&self, request: RequestId, message: A) -> Result<(), TypedReplyError> {
        self.send(request, &Reply::Answer(message))
    }

    fn send(&self, request: RequestId, reply: &Reply<A>) -> Result<(), TypedReplyError> {
        Ok(self.server.reply(request, write_reply(reply)?)?)
    }

    /// Returns the number of unreadable requests.
    #[must_use]
    pub fn not_understood(&self) -> u64 {
        self.not_understood.load(Ordering::Relaxed)
    }

    /// Returns the untyped server.
    #[must_use]
    pub fn server(&self) -> &driver::Server {
        &self.server
    }
}

fn write<Q: Serialize>(message: &Q) -> Result<Vec<u8>, TypedError> {
    postcard::to_stdvec(message).map_err(TypedError::Request)
}

fn write_reply<A: Serialize>(reply: &Reply<A>) -> postcard::Result<Vec<u8>> {
    postcard::to_extend(reply, TYPED.to_vec())
}

fn read_reply<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, TypedError> {
    let reply = bytes.strip_prefix(&TYPED).ok_or(postcard::Error::DeserializeBadEncoding);
    match reply.and_then(read).map_err(TypedError::Reply)? {
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

impl<A> fmt::Debug for Responder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Responder").field(&self.raw).finish()
    }
}

impl<A> fmt::Debug for Pending<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.pending).finish()
    }
}
