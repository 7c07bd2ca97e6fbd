//! Pipes and sockets that nobody reads, and that are full.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe;

/// Returns a pipe without room: its reader, which must live, and its writer.
///
/// A write waits: the writer has no `O_NONBLOCK`, which would hide that a program waits by mistake.
pub fn full_pipe() -> Result<(OwnedFd, File)> {
    let (reader, writer) = pipe()?;
    let mut writer = File::from(writer);
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while writer.write(&[b'x'; 512]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok((reader, writer))
}

/// Sends datagrams to a socket until its queue is full.
pub fn fill_socket(path: &Path) -> Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    while sender.send_to(b"x", path).is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_has_no_room_and_its_writer_waits() {
        let (_reader, writer) = full_pipe().unwrap();
        let flags = OFlag::from_bits_retain(fcntl(writer.as_fd(), FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        assert!((&writer).write(b"x").is_err());
    }
}
