//! The configuration of a server, and its limits.

use std::time::Duration;

use crate::packet::Terms;
use crate::{Address, Epoch, Key, MAX_MESSAGE_BYTES, Port, window};

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's name.
    pub port: Port,
    /// The server's life: larger than in any earlier one.
    pub epoch: Epoch,
    /// The secret shared with the clients.
    pub key: Key,
    /// Random bytes of this life; tickets are made with them.
    pub secret: [u8; 32],
    /// The server's limits.
    pub limits: Limits,
}

impl Config {
    /// With the default limits.
    #[must_use]
    pub fn new(port: Port, epoch: Epoch, key: Key, secret: [u8; 32]) -> Self {
        Self { port, epoch, key, secret, limits: Limits::default() }
    }
}

/// Limits of a server. A client that meets one is told so by a refusal.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A session is forgotten after so long without a packet, and a ticket opens one for as long
    /// after its issue: no session is forgotten while its ticket is young.
    pub session_idle: Duration,
    /// Replies are kept for so much longer than the client announced, as its last packet may be
    /// under way for so long.
    pub patience_slack: Duration,
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions of one client at once.
    pub sessions_per_client: usize,
    /// Requests of one session that arrive, are executed, or whose reply is kept; and how far
    /// sequences may run ahead of the floor.
    pub requests_per_session: usize,
    /// The most requests of all sessions.
    pub requests: usize,
    /// Bytes of requests that arrive and of replies that are kept, in one session. A new request is
    /// refused beyond it; the replies to those that are executed are kept all the same.
    pub bytes_per_session: usize,
    /// The most bytes of all sessions.
    pub bytes: usize,
    /// The longest request.
    pub message_bytes: usize,
    /// So much of a request may be under way at once: half of what the socket's buffer holds.
    pub window_bytes: u32,
    /// So much of a reply is sent at once at most, whatever the client allows.
    pub burst_bytes: u32,
    /// The longest datagram to another machine. Ethernet's 1,500 less the headers of IPv6 and UDP.
    pub datagram_bytes: usize,
    /// The longest datagram on this machine, where nothing is cut but by the socket's buffer.
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

    /// Returns the longest request. One that will never fit is too long, not to be tried again.
    pub(super) fn longest_request(&self) -> usize {
        self.message_bytes.min(self.bytes_per_session).min(self.bytes)
    }

    pub(super) fn datagram_bytes(&self, to: &Address) -> usize {
        if to.is_local() { self.local_datagram_bytes } else { self.datagram_bytes }
    }
}
