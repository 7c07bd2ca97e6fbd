//! The configuration of a client, and its limits.

use std::time::Duration;

use crate::{Address, Identity, Key, window};

/// The configuration of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name and generation of the client.
    pub identity: Identity,
    /// Secret shared with the servers.
    pub key: Key,
    /// Number of the client's first packet: random, unless the generation is larger than any
    /// before.
    pub first_number: u64,
    /// Limits of the client.
    pub limits: Limits,
}

impl Config {
    /// Returns a configuration with the default limits.
    #[must_use]
    pub fn new(identity: Identity, key: Key, first_number: u64) -> Self {
        Self { identity, key, first_number: first_number >> 1, limits: Limits::default() }
    }
}

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Number of calls that may be open at once; a further one fails with
    /// [`TooManyCalls`](crate::CallError::TooManyCalls).
    pub calls: usize,
    /// Number of sequences that may run ahead of the floor, at one server. Further calls wait. At
    /// most the server's [`requests_per_session`](crate::server::Limits::requests_per_session).
    pub calls_ahead: usize,
    /// Number of unanswered transmissions in a row, after the first, before the server counts as
    /// down.
    pub retransmissions: u32,
    /// Number of transmissions of a cancellation. If all are lost, the server still learns of the
    /// end, by the floor or by missing heartbeats.
    pub cancellations: u32,
    /// Number of cancellations under way at once at one server. The client sends no further ones.
    pub cancels: usize,
    /// Time between two questions to a server that has acknowledged a request.
    pub heartbeat: Duration,
    /// Retransmission timer until a round trip was measured.
    pub rto_initial: Duration,
    /// Longest retransmission timer.
    pub rto_max: Duration,
    /// Bytes of a reply that may be under way at once: half of the socket's buffer.
    pub window_bytes: u32,
    /// Longest datagram to and from another machine, bytes: Ethernet's 1,500 less the headers of
    /// IPv6 and UDP.
    pub datagram_bytes: usize,
    /// Longest datagram on this machine, bytes.
    pub local_datagram_bytes: usize,
    /// Time without a call after which a server is forgotten, and greeted again; shorter if its
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
