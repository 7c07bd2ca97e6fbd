//! The configuration of a client, and its limits.

use std::time::Duration;

use crate::{Address, Identity, Key, window};

/// The configuration of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The client's name and life.
    pub identity: Identity,
    /// The secret shared with the servers.
    pub key: Key,
    /// The number of its first packet: random, unless its epoch is larger than in any earlier life.
    pub first_number: u64,
    /// The client's limits.
    pub limits: Limits,
}

impl Config {
    /// With the default limits.
    #[must_use]
    pub fn new(identity: Identity, key: Key, first_number: u64) -> Self {
        Self { identity, key, first_number: first_number >> 1, limits: Limits::default() }
    }
}

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls that are open at once; more are [`TooManyCalls`](crate::CallError::TooManyCalls).
    pub calls: usize,
    /// Sequences that run ahead of the floor, at one server. Further calls wait. No more than the
    /// server's [`requests_per_session`](crate::server::Limits::requests_per_session).
    pub calls_ahead: usize,
    /// Transmissions after the first that may stay unanswered in a row before the server counts as
    /// down.
    pub retransmissions: u32,
    /// Transmissions of a cancellation. If all are lost, the floor and the heartbeats' silence tell
    /// the server.
    pub cancellations: u32,
    /// Cancellations at one server that are under way at once; of more the server isn't told.
    pub cancels: usize,
    /// Time between two questions to a server that has acknowledged a request.
    pub heartbeat: Duration,
    /// The retransmission timer before any round trip was measured.
    pub rto_initial: Duration,
    /// The longest retransmission timer.
    pub rto_max: Duration,
    /// So much of a reply may be under way at once: half of what the socket's buffer holds.
    pub window_bytes: u32,
    /// The longest datagram to and from another machine. Ethernet's 1,500 less the headers of IPv6
    /// and UDP.
    pub datagram_bytes: usize,
    /// The longest datagram on this machine.
    pub local_datagram_bytes: usize,
    /// A server that isn't called for so long is forgotten, and greeted again; sooner if its
    /// sessions are shorter.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 16_384,
            calls_ahead: 1_024,
            retransmissions: 10,
            cancellations: 3,
            cancels: 4_096,
            heartbeat: Duration::from_secs(1),
            rto_initial: Duration::from_millis(200),
            rto_max: Duration::from_secs(1),
            window_bytes: window::MOST_BYTES,
            datagram_bytes: 1_452,
            local_datagram_bytes: 33_000,
            idle: Duration::from_secs(300),
        }
    }
}

impl Limits {
    pub(super) fn datagram_bytes(&self, to: &Address) -> usize {
        if to.is_local() { self.local_datagram_bytes } else { self.datagram_bytes }
    }
}
