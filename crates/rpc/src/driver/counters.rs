//! Counters of datagrams' fates; the first of each kind in a while is logged too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::{debug, warn};

use crate::Address;

/// Not more often than this does a flood of the same thing reach the log.
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

/// Datagrams of one client or server, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Given to the kernel.
    pub sent: u64,
    /// Received from the kernel, whatever they were.
    pub received: u64,
    /// Refused by the kernel: nobody there, too long for the path, no route. As good as lost on the
    /// way.
    pub undeliverable: u64,
    /// Dropped because too many waited for the kernel already.
    pub overflowed: u64,
    /// Dropped because they came from a Unix socket without a name, which can't be answered. Not in
    /// `received`.
    pub nameless: u64,
    /// Errors told instead of a datagram: what one that was sent earlier met on its way.
    pub returned: u64,
}

impl Counters {
    pub(super) fn sent(&self, datagrams: usize) {
        self.sent.fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, datagrams: u64) {
        self.received.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// A datagram that never left is a datagram that was lost; but if all are, somebody should be
    /// able to read why.
    pub(super) fn undeliverable(&self, to: &Address, bytes: usize, error: Errno) {
        let total = self.undeliverable.fetch_add(1, Ordering::Relaxed) + 1;
        match error {
            // A server that isn't there is what retransmissions are for.
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
        debug!(total, %error, "an earlier datagram came to nothing");
    }

    pub(super) fn unwatched(&self, error: &std::io::Error) {
        if self.warned_of_watching.now() {
            warn!(%error, "not told when the kernel takes more datagrams; trying now and then");
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

/// True once in a while.
#[derive(Debug)]
pub(super) struct LogThrottle {
    began: Instant,
    /// Milliseconds since `began` until which it is false.
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
