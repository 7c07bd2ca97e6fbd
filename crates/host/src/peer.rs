//! Servers at Unix sockets, and the check that the right one answers.
//!
//! A user who puts a socket in a server's place gets that server's traffic: passwords, messages,
//! root's requests. A link there would make root talk to sockets that only root can reach. So the
//! way to a socket is walked like that to a file (see [`crate::folder`]). The client connects to
//! the socket that was found, whatever its name leads to by then. The kernel tells which user
//! listens. That must be root or the owner of the socket's folder, who both can change the folder
//! anyway.
//!
//! A server of another user, as a site's own Redis may be, can't be told from an imposter this way.
//! The administrator who writes such a socket's path into the settings must trust its folder.
//!
//! Source: unix(7), `SO_PEERCRED`: the credentials are those of the time of listen(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, fstat};

use crate::folder::{Folder, PathRefusal, kind};

const ROOT: u32 = 0;
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A socket in the file system that was checked, and that can't be exchanged any more.
#[derive(Debug)]
pub struct Socket {
    entry: OwnedFd,
    path: PathBuf,
    folder_owner: u32,
}

impl Socket {
    /// Finds the socket at a path, if its folder's owner, or root, may have put it there.
    ///
    /// # Errors
    ///
    /// A [`PathRefusal`], or the system's error; `NotFound` where there is nothing. No connection
    /// was made.
    pub fn find(path: &Path) -> io::Result<Self> {
        let (folder, name) = Folder::of(path)?;
        let entry = openat(folder.fd(), name.as_os_str(), ENTRY, Mode::empty())?;
        let is = fstat(&entry)?;
        if is.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(PathRefusal::Kind { is: kind(is.st_mode), wanted: "socket" }.into());
        }
        // Root's socket with a single name was put there by root.
        if is.st_uid != ROOT || is.st_nlink > 1 {
            folder.vouch_for(is.st_uid, is.st_nlink)?;
        }
        Ok(Self { entry, path: path.to_owned(), folder_owner: folder.owner() })
    }

    /// Returns the path for connecting: by the descriptor, or by the name where there is no
    /// `/proc`.
    pub fn path(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.entry.as_raw_fd()));
        if by_descriptor.symlink_metadata().is_ok() { by_descriptor } else { self.path.clone() }
    }

    /// Checks that root or the owner of the socket's folder listens at the other end.
    ///
    /// # Errors
    ///
    /// [`PathRefusal::Peer`]. The caller must not have sent anything before.
    pub fn expect_owner(&self, stream: &impl AsFd) -> io::Result<()> {
        let is = getsockopt(&stream.as_fd(), PeerCredentials)?.uid();
        if is == ROOT || is == self.folder_owner {
            return Ok(());
        }
        Err(PathRefusal::Peer { is, wanted: self.folder_owner }.into())
    }
}

/// Connects to a server that root or the folder's owner runs.
///
/// # Errors
///
/// A [`PathRefusal`], or the system's error. Nothing was sent.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::find(path)?;
    let stream = UnixStream::connect(socket.path())?;
    socket.expect_owner(&stream)?;
    Ok(stream)
}
