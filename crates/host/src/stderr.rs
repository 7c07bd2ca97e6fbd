//! Standard error that never waits.
//!
//! Standard error belongs to the caller, who may have stopped reading it. If a program waits there
//! although its message is durable, it seems to have failed, and the caller submits the message
//! again. If an agent waits there, it loses its lease. So a line that can't be written at once is
//! lost and counted. The count precedes the next line that can be written.
//!
//! The descriptor itself must stay blocking: the flag would hold for all processes that share it.
//! Instead, sockets are written with `MSG_DONTWAIT`, and other descriptors only when poll(2) calls
//! them writable. For a pipe that means room for [`PIECE_BYTES`], so one piece of that size doesn't
//! wait. (Another writer may take the room in between; that race remains.)

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::limit::explained_line;

/// Most bytes written at once: `PIPE_BUF`, for which a writable pipe has room.
pub const PIECE_BYTES: usize = 4096;

/// Number of lines lost since the last line that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// A writer to standard error. Each call of `write` is one line, written at once or lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Stderr {
    /// Whether standard error is a terminal.
    pub fn is_terminal(self) -> bool {
        io::stderr().is_terminal()
    }
}

impl Write for Stderr {
    /// Takes the whole line, even if it is lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        line_to(io::stderr().as_fd(), &LOST, &explained_line(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line to standard error, or loses it.
pub fn line(words: &[u8]) {
    line_to(io::stderr().as_fd(), &LOST, &explained_line(&[words, b"\n"].concat()));
}

/// Writes as much to standard error as fits without waiting. Allocates no memory.
pub fn write_now(words: &[u8]) {
    pieces(io::stderr().as_fd(), words);
}

fn line_to(fd: BorrowedFd<'_>, lost: &AtomicU64, line: &[u8]) {
    let unsaid = lost.load(Ordering::Relaxed);
    if unsaid > 0 {
        let notice = format!("warning: {unsaid} lines to standard error were lost\n");
        if pieces(fd, notice.as_bytes()) {
            lost.fetch_sub(unsaid, Ordering::Relaxed);
        }
    }
    if !pieces(fd, line) {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a text in pieces. Returns whether all pieces were written. Text that no reader can ever
/// get counts as written: nobody can be told of the loss.
fn pieces(fd: BorrowedFd<'_>, mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match piece(fd, &rest[..rest.len().min(PIECE_BYTES)]) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(error) => return error != Errno::EAGAIN,
        }
    }
    true
}

fn piece(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::ENOTSOCK) => (),
        sent => return sent,
    }
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO)? == 0 {
        return Err(Errno::EAGAIN);
    }
    nix::unistd::write(fd, bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn all_of(mut reader: PipeReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_full_pipe_loses_lines_and_says_later_how_many() {
        let (mut reader, writer) = pipe().unwrap();
        let (lost, filling) = (AtomicU64::new(0), [b'x'; 512]);
        while lost.load(Ordering::Relaxed) < 3 {
            line_to(writer.as_fd(), &lost, &filling);
        }
        reader.read_exact(&mut [0; 8 * PIECE_BYTES]).unwrap();
        line_to(writer.as_fd(), &lost, b"the last one\n");
        drop(writer);
        let text = all_of(reader);
        let end = "warning: 3 lines to standard error were lost\nthe last one\n";
        assert!(text.ends_with(end), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn a_full_socket_and_a_closed_pipe_do_not_block() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let lost = AtomicU64::new(0);
        while lost.load(Ordering::Relaxed) == 0 {
            line_to(ours.as_fd(), &lost, &[b'x'; 512]);
        }
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert!(pieces(writer.as_fd(), b"x"), "EPIPE: nobody is left to be told");
    }
}
