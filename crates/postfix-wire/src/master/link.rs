//! Descriptors that a service inherits from master, and the messages over them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::args::{MasterArgs, generation, generation_variable};
use super::fds;
use crate::constants as c;

const STATUS_FD: RawFd = c::MASTER_STATUS_FD as RawFd;
const LISTEN_FD: RawFd = c::MASTER_LISTEN_FD as RawFd;
const FLOW_READ_FD: RawFd = c::MASTER_FLOW_READ as RawFd;
const FLOW_WRITE_FD: RawFd = c::MASTER_FLOW_WRITE as RawFd;
/// Most sockets on which a service may listen.
pub const MAX_SOCKETS: usize = 1024;

/// Error: this process is no service of master, or its descriptors can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MasterLinkError {
    /// A descriptor that master always gives is not open: the program was started by hand.
    #[error("descriptor {0}: not open: started by hand; let master(8) start this command")]
    NotInherited(RawFd),
    /// The descriptors were requested for a second time.
    #[error("inherited descriptors: not taken: an earlier call took them already")]
    TakenAlready,
    /// The environment's `GENERATION` is no octal number.
    #[error("variable GENERATION: {0:?} is no octal number; let master(8) start this command")]
    Generation(String),
    /// `-s` asks for more than [`MAX_SOCKETS`].
    #[error("sockets: {0} are too many; let the service listen on {MAX_SOCKETS} at most")]
    TooManySockets(usize),
}

/// Descriptors that a service inherits.
#[derive(Debug)]
pub struct Inherited {
    /// Link to master.
    pub link: MasterLink,
    /// Pipe for flow control.
    pub flow: FlowPipe,
    /// Listening sockets, as many as `-s` says, in the blocking mode that master set.
    pub sockets: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes the descriptors that master left to this process. Works once; fails if one of them is
    /// not open.
    pub fn take(args: &MasterArgs) -> Result<Self, MasterLinkError> {
        let variable = std::env::var(generation_variable()).ok();
        let generation = generation(variable.as_deref())
            .ok_or_else(|| MasterLinkError::Generation(variable.unwrap_or_default()))?;
        if args.socket_count > MAX_SOCKETS {
            return Err(MasterLinkError::TooManySockets(args.socket_count));
        }
        let sockets = LISTEN_FD..LISTEN_FD + args.socket_count as RawFd;
        let numbers = [FLOW_READ_FD, FLOW_WRITE_FD, STATUS_FD].into_iter().chain(sockets);
        let fds = fds::take(numbers).ok_or(MasterLinkError::TakenAlready)?;
        let mut fds = fds.map_err(MasterLinkError::NotInherited)?.into_iter();
        match (fds.next(), fds.next(), fds.next()) {
            (Some(read), Some(write), Some(status)) => Ok(Self {
                link: MasterLink::new(status, generation),
                flow: FlowPipe { read, write },
                sockets: fds.collect(),
            }),
            _ => Err(MasterLinkError::NotInherited(STATUS_FD)),
        }
    }

    /// Returns the listening sockets of a service of type `unix`, non-blocking.
    pub fn unix_listeners(&mut self) -> io::Result<Vec<UnixListener>> {
        let listen = |fd: OwnedFd| {
            let listener = UnixListener::from(fd);
            listener.set_nonblocking(true).map(|()| listener)
        };
        self.sockets.drain(..).map(listen).collect()
    }
}

/// Availability of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The process serves a client.
    Taken,
    /// The process is idle.
    Available,
}

/// Link to master. Its descriptor becomes readable only when master is gone, because master never
/// writes.
#[derive(Debug)]
pub struct MasterLink {
    status: OwnedFd,
    generation: u32,
}

impl MasterLink {
    /// Makes a link from the status descriptor and the process's `GENERATION`.
    pub fn new(status: OwnedFd, generation: u32) -> Self {
        Self { status, generation }
    }

    /// Tells master whether this process serves a client. An error means that master is gone, so
    /// the process must exit.
    pub fn notify(&self, availability: Availability) -> io::Result<()> {
        let message = status_message(std::process::id(), self.generation, availability);
        // The message is shorter than PIPE_BUF, so it is written whole or not at all.
        match nix::unistd::write(&self.status, &message)? {
            written if written == message.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Makes this process count as used, so that its death doesn't look like a bad start. The
    /// process stays available.
    pub fn count_use(&self) -> io::Result<()> {
        self.notify(Availability::Taken)?;
        self.notify(Availability::Available)
    }

    /// Returns whether master is gone, without waiting.
    pub fn is_gone(&self) -> io::Result<bool> {
        self.poll(PollTimeout::ZERO)
    }

    /// Waits until master is gone, so it needs a thread of its own. A driver can watch
    /// [`AsFd::as_fd`] for reading instead.
    pub fn wait_until_gone(&self) -> io::Result<()> {
        while !self.poll(PollTimeout::NONE)? {}
        Ok(())
    }

    fn poll(&self, timeout: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.status.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
        }
    }
}

impl AsFd for MasterLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

/// Returns `MASTER_STATUS` of `master_proto.h`: three C ints in the machine's order.
fn status_message(pid: u32, generation: u32, availability: Availability) -> [u8; 12] {
    let availability = match availability {
        Availability::Taken => c::MASTER_STAT_TAKEN,
        Availability::Available => c::MASTER_STAT_AVAIL,
    };
    let mut message = [0; 12];
    for (field, number) in message.chunks_exact_mut(4).zip([pid, generation, availability]) {
        field.copy_from_slice(&number.to_ne_bytes());
    }
    message
}

/// Pipe whose bytes are tokens. A process reads one token for each message that it takes in, and
/// writes one for each message that leaves.
#[derive(Debug)]
pub struct FlowPipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl FlowPipe {
    /// Takes up to `count` tokens without waiting. Returns the number of tokens taken.
    pub fn take(&self, count: usize) -> io::Result<usize> {
        let mut fds = [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)];
        let mut taken = 0;
        while taken < count && poll(&mut fds, PollTimeout::ZERO)? > 0 {
            let mut buffer = [0; 512];
            let want = buffer.len().min(count - taken);
            match nix::unistd::read(&self.read, &mut buffer[..want]) {
                Ok(0) | Err(nix::errno::Errno::EAGAIN) => break,
                Ok(got) => taken += got,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// Gives `count` tokens back.
    pub fn put(&self, count: usize) -> io::Result<()> {
        let buffer = [0; 512];
        let mut left = count;
        while left > 0 {
            left -= nix::unistd::write(&self.write, &buffer[..left.min(buffer.len())])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_status_is_three_ints() {
        let (master, child) = UnixStream::pair().unwrap();
        let link = MasterLink::new(child.into(), 0o17);
        link.count_use().unwrap();
        let mut bytes = [0; 24];
        (&master).read_exact(&mut bytes).unwrap();
        let ints: Vec<_> =
            bytes.chunks(4).map(|int| u32::from_ne_bytes(int.try_into().unwrap())).collect();
        let pid = std::process::id();
        assert_eq!(ints, [pid, 15, 0, pid, 15, 1]);
    }

    #[test]
    fn master_is_gone_when_its_end_closes() {
        let (master, child) = UnixStream::pair().unwrap();
        let link = MasterLink::new(child.into(), 0);
        assert!(!link.is_gone().unwrap());
        drop(master);
        link.wait_until_gone().unwrap();
        assert!(link.is_gone().unwrap());
        assert!(link.notify(Availability::Taken).is_err());
    }

    #[test]
    fn tokens_are_taken_as_far_as_there_are_any() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let flow = FlowPipe { read, write };
        assert_eq!(flow.take(3).unwrap(), 0);
        flow.put(700).unwrap();
        assert_eq!(flow.take(600).unwrap(), 600);
        assert_eq!(flow.take(600).unwrap(), 100);
    }
}
