//! Counters of sent, received and lost datagrams. The first loss of each kind in a while is logged,
//! too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sansio::Throttle;
use tracing::{debug, warn};

use crate::Address;

/// Time between two log lines about the same kind of loss.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counters of all sockets of one client or server, since it began.
#[derive(Debug, Default)]
pub(super) struct SocketCounters {
    sent: AtomicU64,
    received: AtomicU64,
    undeliverable: AtomicU64,
    overflowed: AtomicU64,
    nameless: AtomicU64,
    returned: AtomicU64,
    warned: LogThrottle,
    warned_of_nameless: LogThrottle,
    warned_of_watching: LogThrottle,
}

/// Numbers of datagrams of one client or server, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Datagrams given to the kernel.
    pub sent: u64,
    /// Datagrams received from the kernel, of any content.
    pub received: u64,
    /// Datagrams refused by the kernel: no receiver, too long for the path, no route. For the core
    /// they were lost on the way.
    pub undeliverable: u64,
    /// Datagrams dropped because too many waited for the kernel already.
    pub overflowed: u64,
    /// Datagrams dropped because their Unix socket has no name, which makes an answer impossible.
    /// The counter `received` leaves them out.
    pub nameless: u64,
    /// Errors received instead of a datagram, each about a datagram sent earlier.
    pub returned: u64,
}

impl SocketCounters {
    pub(super) fn sent(&self, datagrams: usize) {
        self.sent.fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, datagrams: u64) {
        self.received.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// Counts a datagram that the kernel refused. For the core the datagram was lost on the way.
    /// The log has the reason, in case the kernel refuses all datagrams.
    pub(super) fn undeliverable(&self, to: &Address, bytes: usize, error: Errno) {
        let total = self.undeliverable.fetch_add(1, Ordering::Relaxed) + 1;
        match error {
            // An absent server is normal: the client retransmits until there is one.
            Errno::ECONNREFUSED | Errno::ENOENT | Errno::ENOBUFS => {
                debug!(%to, bytes, undelivered = total, %error, "datagram not delivered");
            }
            _ if self.warned.admits() => {
                warn!(%to, bytes, undelivered = total, %error, "datagram not delivered");
            }
            _ => {}
        }
    }

    pub(super) fn overflowed(&self, datagrams: usize) {
        if datagrams > 0 {
            let total =
                self.overflowed.fetch_add(datagrams as u64, Ordering::Relaxed) + datagrams as u64;
            debug!(datagrams, dropped = total, "datagrams dropped: outbox full");
        }
    }

    pub(super) fn nameless(&self) {
        let total = self.nameless.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warned_of_nameless.admits() {
            warn!(dropped = total, "datagrams dropped: sender's Unix socket without a name");
        }
    }

    pub(super) fn returned(&self, error: Errno) {
        let total = self.returned.fetch_add(1, Ordering::Relaxed) + 1;
        debug!(undelivered = total, %error, "earlier datagram not delivered");
    }

    pub(super) fn unwatched(&self, error: &std::io::Error) {
        if self.warned_of_watching.admits() {
            warn!(%error, "socket not watched for writability");
        }
    }

    pub(super) fn get(&self) -> Datagrams {
        Datagrams {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            undeliverable: self.undeliverable.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            nameless: self.nameless.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
        }
    }
}

/// [`Throttle`] of one kind of line, which tasks on several threads share.
#[derive(Debug)]
pub(super) struct LogThrottle(Mutex<Throttle<()>>);

impl Default for LogThrottle {
    fn default() -> Self {
        Self(Mutex::new(Throttle::new(LOG_EVERY)))
    }
}

impl LogThrottle {
    /// Whether the line should be logged now. Notes it as logged then.
    pub(super) fn admits(&self) -> bool {
        let mut throttle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admits(Instant::now(), &())
    }
}
