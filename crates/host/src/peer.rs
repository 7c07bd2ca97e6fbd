//! Servers at Unix sockets, and whether the one that answers should be there.
//!
//! Whoever can put a socket where a server's is wanted is told what was meant for that server:
//! passwords, messages, what root asks. And a link there has root talk to sockets that only root
//! can reach. So the way to a socket is walked as that to a file is (see [`crate::folder`]), the
//! client connects to what was found, whatever the name leads to by then, and the kernel says who
//! listens: root, or the owner of the folder that the socket lies in. Those two can do as they like
//! with that folder anyway.
//!
//! A server of another user, as a Redis of the site's own may be, can't be told from an imposter
//! this way. It is for whoever writes its path into the settings to know the folder.
//!
//! Source: unix(7), `SO_PEERCRED`: the credentials are those of the time of listen(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, fstat};

use crate::folder::{Folder, Refusal, kind};

const ROOT: u32 = 0;
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A socket in the file system that was looked at, and that nobody can exchange any more.
#[derive(Debug)]
pub struct Socket {
    entry: OwnedFd,
    path: PathBuf,
    folder_owner: u32,
}

impl Socket {
    /// Finds the socket at a path, if it may be one that its folder's owner put there.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], or what the system says; `NotFound` where there is nothing. Nobody was
    /// connected to.
    pub fn find(path: &Path) -> io::Result<Self> {
        let (folder, name) = Folder::of(path)?;
        let entry = openat(folder.fd(), name.as_os_str(), ENTRY, Mode::empty())?;
        let is = fstat(&entry)?;
        if is.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(Refusal::Kind { is: kind(is.st_mode), wanted: "socket" }.into());
        }
        // One of root's with a single name was put there by root.
        if is.st_uid != ROOT || is.st_nlink > 1 {
            folder.vouch_for(is.st_uid, is.st_nlink)?;
        }
        Ok(Self { entry, path: path.to_owned(), folder_owner: folder.owner() })
    }

    /// The path to connect to: by the descriptor, or by its name where there is no `/proc`.
    pub fn path(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.entry.as_raw_fd()));
        if by_descriptor.symlink_metadata().is_ok() { by_descriptor } else { self.path.clone() }
    }

    /// Checks that root or the owner of the socket's folder listens at the other end.
    ///
    /// # Errors
    ///
    /// [`Refusal::Peer`]. Nothing must have been said before.
    pub fn expect_owner(&self, stream: &impl AsFd) -> io::Result<()> {
        let is = getsockopt(&stream.as_fd(), PeerCredentials)?.uid();
        if is == ROOT || is == self.folder_owner {
            return Ok(());
        }
        Err(Refusal::Peer { is, wanted: self.folder_owner }.into())
    }
}

/// Connects to a server that root or the folder's owner runs.
///
/// # Errors
///
/// A [`Refusal`], or what the system says. Nothing was said to anybody.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::find(path)?;
    let stream = UnixStream::connect(socket.path())?;
    socket.expect_owner(&stream)?;
    Ok(stream)
}
