//! Counters of sent, received and lost datagrams. The first loss of each kind in a while is logged,
//! too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::{debug, warn};

use crate::Address;

/// Time between two log lines about the same kind of loss.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counters of all sockets of one client or server, since it began.
#[derive(Debug, Default)]
pub(super) struct Counters {
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

impl Counters {
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
                debug!(%to, bytes, total, %error, "datagram not delivered");
            }
            _ if self.warned.now() => warn!(%to, bytes, total, %error, "datagram not delivered"),
            _ => {}
        }
    }

    pub(super) fn overflowed(&self, datagrams: usize) {
        if datagrams > 0 {
            let total =
                self.overflowed.fetch_add(datagrams as u64, Ordering::Relaxed) + datagrams as u64;
            debug!(datagrams, total, "outbox overflowed");
        }
    }

    pub(super) fn nameless(&self) {
        let total = self.nameless.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warned_of_nameless.now() {
            warn!(total, "datagrams from Unix sockets without a name dropped");
        }
    }

    pub(super) fn returned(&self, error: Errno) {
        let total = self.returned.fetch_add(1, Ordering::Relaxed) + 1;
        debug!(total, %error, "earlier datagram not delivered");
    }

    pub(super) fn unwatched(&self, error: &std::io::Error) {
        if self.warned_of_watching.now() {
            warn!(%error, "watching for writability failed");
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

/// A throttle of log lines, which admits one in a while.
#[derive(Debug)]
pub(super) struct LogThrottle {
    began: Instant,
    /// Milliseconds since `began` until which no line is admitted.
    next_ms: AtomicU64,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self { began: Instant::now(), next_ms: AtomicU64::new(0) }
    }
}

impl LogThrottle {
    pub(super) fn now(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next_ms.load(Ordering::Relaxed);
        let then = now.saturating_add(LOG_EVERY.as_millis() as u64);
        now >= next
            && self
                .next_ms
                .compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
