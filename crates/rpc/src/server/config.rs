//! The configuration of a server, and its limits.

use std::time::Duration;

use crate::packet::Terms;
use crate::{Address, Epoch, Key, MAX_MESSAGE_BYTES, Port, window};

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the server.
    pub port: Port,
    /// Epoch of the server: larger than in any earlier generation.
    pub epoch: Epoch,
    /// Secret shared with the clients.
    pub key: Key,
    /// Random bytes of this generation, for making tickets.
    pub secret: [u8; 32],
    /// Limits of the server.
    pub limits: Limits,
}

impl Config {
    /// Returns a configuration with the default limits.
    #[must_use]
    pub fn new(port: Port, epoch: Epoch, key: Key, secret: [u8; 32]) -> Self {
        Self { port, epoch, key, secret, limits: Limits::default() }
    }
}

/// Limits of a server, which refuses requests beyond them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time without a packet after which a session is forgotten. A ticket opens a session for as
    /// long after its issue, so no session is forgotten while its ticket is young.
    pub session_idle: Duration,
    /// Time for which replies are kept beyond the client's announced patience, since the client's
    /// last packet may be under way for so long.
    pub patience_slack: Duration,
    /// Number of sessions that may exist at once.
    pub sessions: usize,
    /// Number of sessions that one client may have at once.
    pub sessions_per_client: usize,
    /// Number of one session's requests that arrive, are executed, or whose reply is kept; also the
    /// distance that sequences may run ahead of the floor.
    pub requests_per_session: usize,
    /// Number of requests of all sessions.
    pub requests: usize,
    /// Bytes of arriving requests and kept replies, in one session. Beyond this limit the server
    /// refuses a new request, but keeps the replies to executing ones.
    pub bytes_per_session: usize,
    /// Bytes of all sessions.
    pub bytes: usize,
    /// Longest request, bytes.
    pub message_bytes: usize,
    /// Bytes of a request that may be under way at once: half of the socket's buffer.
    pub window_bytes: u32,
    /// Most bytes of a reply that are sent at once, even if the client allows more.
    pub burst_bytes: u32,
    /// Longest datagram to another machine, bytes: Ethernet's 1,500 less the headers of IPv6 and
    /// UDP.
    pub datagram_bytes: usize,
    /// Longest datagram on this machine, bytes, where only the socket's buffer limits it.
    pub local_datagram_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_idle: Duration::from_secs(300),
            patience_slack: Duration::from_secs(2),
            sessions: 65_536,
            sessions_per_client: 16,
            requests_per_session: 4_096,
            requests: 65_536,
            bytes_per_session: 128 << 20,
            bytes: 512 << 20,
            message_bytes: MAX_MESSAGE_BYTES,
            window_bytes: window::MOST_BYTES,
            burst_bytes: window::MOST_BYTES,
            datagram_bytes: 1_452,
            local_datagram_bytes: 33_000,
        }
    }
}

impl Limits {
    pub(super) fn terms(&self) -> Terms {
        Terms { idle: self.session_idle, window_bytes: self.window_bytes }
    }

    /// Returns the longest request. A request that can never fit is too long, and not tried again.
    pub(super) fn longest_request(&self) -> usize {
        self.message_bytes.min(self.bytes_per_session).min(self.bytes)
    }

    pub(super) fn datagram_bytes(&self, to: &Address) -> usize {
        if to.is_local() { self.local_datagram_bytes } else { self.datagram_bytes }
    }
}
