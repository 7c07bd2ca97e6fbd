//! Socket to a log, and the lines that wait for it.
//!
//! ```text
//! line ──▶ waiting ── sent ──▶ log
//!             │ full: lost, counted     (the count is a line of its own, once there is room)
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};

/// Most lines that may wait, each of at most some 2 KiB. The kernel's queue has room for ten
/// datagrams by default. A burst of lines fills that queue faster than a log daemon on another
/// processor wakes up.
pub const WAITING_MAX: usize = 256;

/// Queue of lines to one socket, which may disappear and come back.
#[derive(Debug)]
pub struct Channel {
    path: PathBuf,
    connected: Option<Connected>,
    waiting: VecDeque<String>,
    /// Number of lines lost since the last line that was sent.
    lost: u64,
}

#[derive(Debug)]
struct Connected {
    fd: OwnedFd,
    /// Whether the socket is a stream, in which NUL ends each line, as in syslog(3).
    is_stream: bool,
}

impl Channel {
    /// Returns a channel that connects at the first line.
    pub fn to(path: PathBuf) -> Self {
        Self { path, connected: None, waiting: VecDeque::new(), lost: 0 }
    }

    /// Sends the line. A line that can't be sent waits or, if too many wait, is lost and counted.
    /// `notice` makes the line that reports a number of losses.
    pub fn send(&mut self, line: String, notice: impl Fn(u64) -> String) {
        self.flush(&notice);
        if self.waiting.len() < WAITING_MAX && self.lost == 0 {
            self.waiting.push_back(line);
            self.flush(notice);
        } else {
            self.lost += 1;
        }
    }

    /// Sends waiting lines in order, until the log takes no more.
    pub fn flush(&mut self, notice: impl Fn(u64) -> String) {
        while let Some(line) = self.waiting.pop_front() {
            if !self.is_sent(&line) {
                return self.waiting.push_front(line);
            }
        }
        if self.lost > 0 && self.is_sent(&notice(self.lost)) {
            self.lost = 0;
        }
    }

    /// Returns whether this number of lines was lost and not yet reported.
    #[cfg(test)]
    pub(super) fn lost_is(&self, lines: u64) -> bool {
        self.lost == lines
    }

    fn is_sent(&mut self, line: &str) -> bool {
        let was_connected = self.connected.is_some();
        match self.try_to_send(line) {
            Ok(()) => true,
            // The log has no room now.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => false,
            Err(_) => {
                // The log daemon may have been restarted since the connection was made.
                self.connected = None;
                was_connected && self.try_to_send(line).is_ok()
            }
        }
    }

    fn try_to_send(&mut self, line: &str) -> nix::Result<()> {
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => Connected::to(&self.path)?,
        };
        let connected = self.connected.insert(connected);
        let mut bytes = line.as_bytes().to_vec();
        bytes.extend(connected.is_stream.then_some(0));
        let sent = send(
            connected.fd.as_raw_fd(),
            &bytes,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        )?;
        // The stream has a part of a line. Closing the connection shows the reader where that part
        // stops.
        if sent < bytes.len() { Err(Errno::ECONNRESET) } else { Ok(()) }
    }
}

impl Connected {
    fn to(path: &std::path::Path) -> nix::Result<Self> {
        match Self::of_type(SockType::Datagram, path) {
            Err(Errno::EPROTOTYPE) => Self::of_type(SockType::Stream, path),
            connected => connected,
        }
    }

    fn of_type(kind: SockType, path: &std::path::Path) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, kind, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { fd, is_stream: kind == SockType::Stream })
    }
}
