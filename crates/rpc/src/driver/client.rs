//! The client's core on sockets and tokio's timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::caller::{CallResult, Caller, Waiter};
use super::counters::Datagrams;
use super::endpoint::Endpoint;
use super::error::BindError;
use super::lookup::PortDirectory;
use super::request::Request;
use super::sockets::Local;
use crate::client::{self, CallId, Config};
use crate::{Address, CallError, Identity, Key, Port, Progress};

/// Client that calls servers. Clones share one client. When the last clone is dropped, the client's
/// calls end with [`CallError::Cancelled`].
#[derive(Clone, Debug)]
pub struct Client(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    endpoint: Arc<Endpoint<Caller>>,
    /// Permits for open calls.
    permits: Arc<Semaphore>,
}

/// Call that was sent. Awaiting the value, in any task, gives the reply. Dropping the value cancels
/// the call, and tells the server.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Pending {
    endpoint: Arc<Endpoint<Caller>>,
    call: CallId,
    reply: oneshot::Receiver<CallResult>,
    /// Future that ends when the request that the call serves is cancelled.
    cause: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    done: bool,
}

impl Client {
    /// Returns a configuration for [`Self::bind`], with the default limits and a new name. Such a
    /// client has no earlier or later generations.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn config(key: Key) -> Result<Config, BindError> {
        Self::config_of(Identity::ephemeral()?, key)
    }

    /// Returns a configuration for one generation of a client whose name is kept: see
    /// [`IdentityFile`](crate::IdentityFile).
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn config_of(identity: Identity, key: Key) -> Result<Config, BindError> {
        // A random number that can't be guessed, and leaves enough numbers above for all packets.
        let first_number = getrandom::u64()? >> 1;
        Ok(Config::new(identity, key, first_number))
    }

    /// Begins a client that sends from `locals`, at most one of IPv4 and one of IPv6. Calls to
    /// servers on Unix sockets need no local address.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        config: Config,
        locals: &[Local],
        directory: impl PortDirectory,
    ) -> Result<Self, BindError> {
        if let Some(Local::Unix(path, _)) =
            locals.iter().find(|local| matches!(local, Local::Unix(..)))
        {
            return Err(BindError::ServersOnly(Address::Unix(path.clone())));
        }
        let permits = Arc::new(Semaphore::new(config.limits.calls.min(Semaphore::MAX_PERMITS)));
        let directory: Arc<dyn PortDirectory> = Arc::new(directory);
        let endpoint = Endpoint::open(locals, (config, directory))?;
        Ok(Self(Arc::new(Owner { endpoint, permits })))
    }

    /// Calls the server of `port`, and waits for the reply until `limit`, the wait for a permit
    /// included.
    ///
    /// # Errors
    /// See [`CallError`], whose [`execution`](CallError::execution) says whether the request may
    /// have been executed.
    pub async fn call(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        self.send(port, body, limit).await?.await
    }

    /// Calls a server on behalf of a request that this process executes, within the rest of the
    /// request's limit. When the request is cancelled, the call is cancelled too.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn call_for(
        &self,
        request: &Request,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        self.send_for(request, port, body, limit).await?.await
    }

    /// Sends a call as [`Self::call_for`] does, for a reply that is awaited elsewhere. The waiter
    /// cancels the call when the request is cancelled.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn send_for(
        &self,
        request: &Request,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let mut pending = tokio::select! {
            biased;
            () = request.cancelled() => return Err(CallError::Cancelled(Progress::Unsent)),
            pending = self.send(port, body, limit.min(request.left())) => pending?,
        };
        pending.cause = Some(Box::pin(request.cancellation().clone().cancelled_owned()));
        Ok(pending)
    }

    /// Sends a call whose reply is awaited elsewhere. Waits only for a permit.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub async fn send(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        if let Ok(permit) = self.0.permits.clone().try_acquire_owned() {
            return self.begin_call(permit, port, body.into(), limit);
        }
        let began = Instant::now();
        match self.0.endpoint.within(limit, self.0.permits.clone().acquire_owned()).await {
            Some(Ok(permit)) => {
                self.begin_call(permit, port, body.into(), limit.saturating_sub(began.elapsed()))
            }
            None if !self.0.endpoint.is_closed() => Err(CallError::TimedOut(Progress::Unsent)),
            Some(Err(_)) | None => Err(CallError::Cancelled(Progress::Unsent)),
        }
    }

    /// Sends a call as [`Self::send`] does, but fails if no permit is free.
    ///
    /// # Errors
    /// [`CallError::TooManyCalls`], [`CallError::TooLong`].
    pub fn try_send(
        &self,
        port: Port,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let Ok(permit) = self.0.permits.clone().try_acquire_owned() else {
            return Err(CallError::TooManyCalls {
                open: self.0.endpoint.with(|caller| caller.calls.len()),
            });
        };
        self.begin_call(permit, port, body.into(), limit)
    }

    fn begin_call(
        &self,
        permit: OwnedSemaphorePermit,
        port: Port,
        body: Bytes,
        limit: Duration,
    ) -> Result<Pending, CallError> {
        let (sender, reply) = oneshot::channel();
        let waiter = Waiter { port, caller: sender, permit };
        let call = self.0.endpoint.drive(|caller, now| caller.call(now, body, limit, waiter))?;
        Ok(Pending { endpoint: self.0.endpoint.clone(), call, reply, cause: None, done: false })
    }

    /// Ends all calls with [`CallError::Cancelled`], and tells their servers. Dropping the last
    /// clone does the same, and closes the sockets.
    pub fn shutdown(&self) {
        self.0.endpoint.close();
    }

    /// Returns the bound addresses, in the order of the `locals`.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.0.endpoint.sockets.addresses()
    }

    /// Returns the core's counters.
    #[must_use]
    pub fn counters(&self) -> client::Counters {
        self.0.endpoint.with(|caller| caller.core.counters())
    }

    /// Returns the numbers of objects that the core holds at this moment.
    #[must_use]
    pub fn usage(&self) -> client::Usage {
        self.0.endpoint.with(|caller| caller.core.usage())
    }

    /// Returns the counters of datagrams on the client's sockets.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.0.endpoint.datagrams()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.endpoint.close();
    }
}

impl Pending {
    /// Ends the call with [`CallError::Cancelled`] unless it has ended already, and tells the
    /// server.
    pub fn cancel(&self) {
        self.endpoint.drive(|caller, now| caller.core.cancel(now, self.call));
    }
}

impl Future for Pending {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let cancelled = self.cause.as_mut().is_some_and(|cause| cause.as_mut().poll(cx).is_ready());
        if cancelled {
            // If the reply has come at the same moment, the reply is returned.
            self.cause = None;
            self.cancel();
        }
        let ended = ready!(Pin::new(&mut self.reply).poll(cx));
        self.done = true;
        // A sender is dropped unused only when the whole client ends.
        Poll::Ready(ended.unwrap_or(Err(CallError::Cancelled(Progress::Sent))))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            self.cancel();
        }
    }
}
