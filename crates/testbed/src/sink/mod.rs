//! An SMTP server that accepts mail and records it, to count deliveries.
//!
//! The sink records a whole message before it acknowledges the message, so an acknowledged delivery
//! is never missing. A message whose acknowledgement gets lost is recorded twice, under one queue
//! id. Such a duplicate is Postfix's own, and [`Tally`](crate::Tally) counts it apart.
//!
//! One thread accepts, and one thread per connection serves it with blocking reads. Replies to
//! pipelined commands leave in one segment. The sink shares the machine with the measured programs,
//! so it does little, and parses only the header.

mod content;
mod journal;
mod session;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use journal::Delivery;
use journal::Journal;
use session::Session;

/// Stack size of a session's thread, in bytes. Sessions don't need the default of 2 MiB.
const STACK_BYTES: usize = 256 * 1024;

/// Answer of the sink to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkAnswer {
    /// 250: accepted.
    Accept,
    /// 450: Postfix will try again.
    TempFail,
    /// 550: Postfix will bounce.
    Reject,
}

type Judge = dyn Fn(&str) -> SinkAnswer + Send + Sync;

/// State that sessions share.
struct Shared {
    journal: Journal,
    judge: Box<Judge>,
    keep_content: bool,
    delay: Duration,
    stopping: AtomicBool,
    connections: Mutex<HashMap<SocketAddr, TcpStream>>,
}

/// Description of a sink.
pub struct SinkBuilder {
    judge: Box<Judge>,
    keep_content: bool,
    delay: Duration,
}

impl SinkBuilder {
    /// Answers each recipient as `judge` says, which gets the address without brackets.
    #[must_use]
    pub fn answer(mut self, judge: impl Fn(&str) -> SinkAnswer + Send + Sync + 'static) -> Self {
        self.judge = Box::new(judge);
        self
    }

    /// Waits for `delay` before each acknowledgement of a message.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Forgets the messages' content, so that the sink can take large numbers of messages.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.keep_content = false;
        self
    }

    /// Binds a free loopback port of this thread's network namespace, and serves in threads.
    pub fn start(self) -> Result<Sink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("sink: can't listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            journal: Journal::new(),
            judge: self.judge,
            keep_content: self.keep_content,
            delay: self.delay,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let (accepting, listening) = (Arc::clone(&shared), listener.try_clone()?);
        std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || accept(&listening, &accepting))?;
        Ok(Sink { address, listener, shared })
    }
}

/// A running server. Stops when dropped.
pub struct Sink {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Sink {
    /// Starts a sink that accepts everything on a free loopback port.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Begins the description of a sink.
    pub fn builder() -> SinkBuilder {
        SinkBuilder {
            judge: Box::new(|_| SinkAnswer::Accept),
            keep_content: true,
            delay: Duration::ZERO,
        }
    }

    /// Returns the address on which the sink listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port, for [`PostfixBuilder::relay_to`](crate::PostfixBuilder::relay_to).
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the time from which arrivals are counted.
    pub fn started(&self) -> Instant {
        self.shared.journal.started()
    }

    /// Returns all deliveries so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Delivery> {
        self.shared.journal.received()
    }

    /// Returns the number of deliveries.
    pub fn count(&self) -> usize {
        self.shared.journal.count()
    }

    /// Returns the number of different messages (`X-Test-Id`).
    pub fn distinct(&self) -> usize {
        self.shared.journal.distinct()
    }

    /// Waits for `count` deliveries; fails after `limit`.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Delivery>> {
        self.shared.journal.wait(limit, |journal| journal.deliveries.len() >= count)?;
        Ok(self.received())
    }

    /// Waits for `count` different messages; fails when `patience` passes without any delivery.
    pub fn wait_for_distinct(&self, count: usize, patience: Duration) -> Result<()> {
        loop {
            let before = self.count();
            let enough = self.shared.journal.wait(patience, |journal| {
                journal.test_ids.len() >= count || journal.deliveries.len() > before
            });
            enough.with_context(|| {
                format!("sink: {} of {count} messages arrived", self.distinct())
            })?;
            if self.distinct() >= count {
                return Ok(());
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The accepting thread returns from its wait, in whatever network namespace.
        let _ =
            nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for stream in self.shared.connections().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, peer)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(shared);
        let serve = move || serve(&shared, stream, peer);
        let _ =
            std::thread::Builder::new().stack_size(STACK_BYTES).name("smtp".into()).spawn(serve);
    }
}

fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    if let Ok(clone) = stream.try_clone() {
        shared.connections().insert(peer, clone);
    }
    // A client that goes away is no error.
    let _ = Session::new(shared, stream).and_then(Session::run);
    shared.connections().remove(&peer);
}
