//! One blocking connection whose every step is bounded by the caller's deadline.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::reply::{self, Reply};
use crate::{Address, InFile, Server};

/// Reason of a failed step, by its meaning for the request.
#[derive(Debug)]
pub(super) enum LinkError {
    /// No server listens at the address.
    NotThere(String),
    /// The request was not run, and would not succeed later either: without permission, for
    /// example.
    Never(String),
    /// The request was not sent completely, so it was not run.
    Unsent(String),
    /// The request was not run: the server has closed the connection, perhaps after an error reply.
    Closed(String),
    /// The request was sent completely, and no whole answer came.
    Unanswered(String),
    /// The request was sent completely, and the answer is not in Redis's protocol.
    Malformed(String),
}

/// A command in pieces, so that a large one is never copied and never whole in memory.
#[derive(Debug)]
pub(super) struct Command<'a> {
    /// First pieces of the command.
    pub(super) before: &'a [&'a [u8]],
    /// Part of the command between `before` and `after`, in a file.
    pub(super) file: Option<InFile<'a>>,
    /// Last pieces of the command.
    pub(super) after: &'a [&'a [u8]],
}

impl<'a> Command<'a> {
    pub(super) fn of(after: &'a [&'a [u8]]) -> Self {
        Self { before: &[], file: None, after }
    }
}

/// Size of one read: two answers of the usual length.
const READ_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    /// Bytes that were read and not yet parsed.
    heard: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Link {
    /// Connects to the first address of the host that answers. The first `skip` addresses are tried
    /// last.
    pub(super) fn connect(
        server: &Server,
        skip: usize,
        deadline: Instant,
    ) -> Result<Self, LinkError> {
        let address = &server.address;
        let connected = match address {
            Address::Unix(path) if server.expects_owner => {
                connect_expected(path, deadline).map(Stream::Unix)
            }
            Address::Unix(path) => connect_unix(path, deadline).map(Stream::Unix),
            Address::Tcp(host, port) => connect_tcp(host, *port, skip, deadline).map(Stream::Tcp),
        };
        let stream = connected.map_err(|error| unreachable(address, &error))?;
        Ok(Self { stream, heard: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends one command, with `following` in the same write as its end, and reads the command's
    /// answer. [`Self::answer`] reads the answer to `following`.
    pub(super) fn call(
        &mut self,
        command: &Command<'_>,
        following: &[&[u8]],
        deadline: Instant,
    ) -> Result<Reply, LinkError> {
        self.send_command(command, following, deadline)
            .map_err(|error| self.refused(error, deadline))?;
        self.answer(deadline).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => LinkError::Malformed(error.to_string()),
            _ => LinkError::Unanswered(format!("waiting for the answer: {error}")),
        })
    }

    fn send_command(
        &mut self,
        command: &Command<'_>,
        following: &[&[u8]],
        deadline: Instant,
    ) -> Result<(), LinkError> {
        let rest = match &command.file {
            None => [command.before, command.after].concat(),
            Some(file) => {
                self.send(command.before, deadline)?;
                let unreadable = |error| {
                    LinkError::Never(format!(
                        "message: the part in its file can't be read: {error}"
                    ))
                };
                file.each(unreadable, &mut |piece| self.send(&[piece], deadline))?;
                command.after.to_vec()
            }
        };
        let bytes: usize = rest.iter().map(|piece| piece.len()).sum();
        match self.write_all(&[&rest, following].concat(), deadline) {
            Err((written, error)) if written < bytes => Err(unsent(&error)),
            // Redis has the whole command, so a failure to write the notice doesn't matter.
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Finds the reason why the server accepts no more connections: such a server writes an error
    /// and closes before it has read anything.
    fn refused(&mut self, error: LinkError, deadline: Instant) -> LinkError {
        match (error, self.heard.is_empty()) {
            (LinkError::Closed(error), true) => match self.answer(deadline) {
                Ok(Reply::Error(reason)) => LinkError::Unsent(reason),
                _ => LinkError::Unsent(error),
            },
            (error, _) => error,
        }
    }

    /// Sends a part of a command that isn't its end.
    fn send(&mut self, pieces: &[&[u8]], deadline: Instant) -> Result<(), LinkError> {
        self.write_all(pieces, deadline).map_err(|(_, error)| unsent(&error))
    }

    /// Writes all pieces. An error comes with the number of bytes written before it.
    fn write_all(&mut self, pieces: &[&[u8]], deadline: Instant) -> Result<(), (usize, io::Error)> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let (mut rest, mut written) = (slices.as_mut_slice(), 0);
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.write_some(rest, deadline) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, timed_out(error))),
            }
        }
        Ok(())
    }

    fn write_some(&mut self, slices: &[IoSlice<'_>], deadline: Instant) -> io::Result<usize> {
        self.set_write_timeout(deadline)?;
        match &mut self.stream {
            Stream::Unix(stream) => stream.write_vectored(slices),
            Stream::Tcp(stream) => stream.write_vectored(slices),
        }
    }

    /// Returns the next answer. After an error the link must not be used again.
    pub(super) fn answer(&mut self, deadline: Instant) -> io::Result<Reply> {
        loop {
            if let Some((reply, bytes)) = reply::parse(&self.heard)? {
                self.heard.drain(..bytes);
                return Ok(reply);
            }
            self.set_read_timeout(deadline)?;
            match self.read_some() {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection was closed",
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
            }
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let count = match &mut self.stream {
            Stream::Unix(stream) => stream.read(&mut bytes)?,
            Stream::Tcp(stream) => stream.read(&mut bytes)?,
        };
        self.heard.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn set_write_timeout(&self, deadline: Instant) -> io::Result<()> {
        let left = Some(remaining(deadline)?);
        match &self.stream {
            Stream::Unix(stream) => stream.set_write_timeout(left),
            Stream::Tcp(stream) => stream.set_write_timeout(left),
        }
    }

    fn set_read_timeout(&self, deadline: Instant) -> io::Result<()> {
        let left = Some(remaining(deadline)?);
        match &self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(left),
            Stream::Tcp(stream) => stream.set_read_timeout(left),
        }
    }
}

/// Returns a command of these words, whose count includes `more` words that must follow.
pub(super) fn frame(words: &[&[u8]], more: usize) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len() + more).into_bytes();
    for word in words {
        out.extend(argument(word.len() as u64));
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Returns the text before a word of `bytes` bytes. A line break must follow the word.
pub(super) fn argument(bytes: u64) -> Vec<u8> {
    format!("${bytes}\r\n").into_bytes()
}

fn unsent(error: &io::Error) -> LinkError {
    let reason = format!("sending: {error}");
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Closed(reason),
        _ => LinkError::Unsent(reason),
    }
}

/// Connects to a socket at which root or the owner of its folder listens, and to no other.
fn connect_expected(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = host::peer::Socket::find(path)?;
    let stream = connect_unix(&socket.path(), deadline)?;
    socket.expect_owner(&stream)?;
    Ok(stream)
}

/// Connects within the deadline. If the server's backlog is full, connect(2) waits; on Linux a Unix
/// socket's send timeout limits that wait.
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // A timeout of 0 would mean no limit.
    let left_us = i64::try_from(remaining(deadline)?.as_micros()).unwrap_or(i64::MAX).max(1);
    socket::setsockopt(&fd, sockopt::SendTimeout, &TimeVal::microseconds(left_us))?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn connect_tcp(host: &str, port: u16, skip: usize, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "host name without an address");
    let mut addresses = names::addresses(host, deadline).map_err(io::Error::other)?;
    let count = addresses.len().max(1);
    addresses.rotate_left(skip % count);
    for address in addresses {
        match TcpStream::connect_timeout(&(address, port).into(), remaining(deadline)?) {
            Ok(stream) => return stream.set_nodelay(true).map(|()| stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn unreachable(address: &Address, error: &io::Error) -> LinkError {
    let reason = match error.kind() {
        io::ErrorKind::WouldBlock => format!("connecting to {address}: {}", host::limit::BACKLOG),
        _ => format!("connecting to {address}: {error}"),
    };
    if host::folder::is_refusal(error) {
        return LinkError::Never(reason);
    }
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => LinkError::NotThere(reason),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename => LinkError::Never(reason),
        _ => LinkError::Unsent(reason),
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(out_of_time()) } else { Ok(left) }
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { out_of_time() } else { error }
}

fn out_of_time() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time limit was reached")
}
