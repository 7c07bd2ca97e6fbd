//! Unix datagram sockets.
//!
//! A server has a path, whose mode decides who may send to it. A client has a name that the kernel
//! chose (autobind, unix(7)) in the abstract namespace. Such a name needs no writable folder and
//! leaves no file behind. The client is connected to the server, so the kernel lets only the server
//! send to the client, even if others know the name. Client and server must be in the same network
//! namespace, like abstract names.
//!
//! When the server has died, the first datagram to it fails, and the kernel ends the connection.
//! Then the client connects its socket to itself, until there is a server again. Between the failed
//! sending and that connect(2), a stranger's datagram can get in. The stranger would have to guess
//! a call's number.
//!
//! The client doesn't compare the names of senders. A server may have bound its path under another
//! name: a symbolic link, a relative path, another root. In a mount namespace of their own, any
//! user can bind any path.
//!
//! A name in the abstract namespace is written as in the kernel: a path that begins with a NUL
//! byte.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, UnixAddr, bind, connect, getsockname, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Socket file of a server, which is removed when the value is dropped, unless another file is at
/// the path.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: (u64, u64),
    _lock: Lock,
}

/// The right to serve at a path, held while the server runs. Without it, two servers that begin at
/// once would both find the socket file of a dead one. The later would remove the file that the
/// earlier has bound since. The right is a lock (flock(2)) on a file beside the socket: sockets
/// themselves can't be locked, and any reader of the folder could lock the folder.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    fn take(server: &Path) -> io::Result<Self> {
        let mut name = OsString::from(server);
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            let lock = Self { file: Self::try_lock(&path)?, path: path.clone() };
            // If the former holder has removed this lock file, another server could lock a new one.
            if lock.is_in_place() {
                return Ok(lock);
            }
        }
    }

    fn try_lock(path: &Path) -> io::Result<Flock<File>> {
        let mut options = File::options();
        options.create(true).append(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        Flock::lock(options.open(path)?, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            match error {
                Errno::EWOULDBLOCK => Errno::EADDRINUSE.into(),
                other => other.into(),
            }
        })
    }

    fn is_in_place(&self) -> bool {
        let held = self.file.metadata().map(|file| (file.dev(), file.ino()));
        held.is_ok_and(|held| identity(&self.path).is_ok_and(|now| now == held))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_in_place() {
            // If the removal fails, the next server locks the same file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.file) {
            // If the removal fails, the next server finds that no server listens, and replaces the
            // file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a server to a path, and replaces the socket file of a dead server.
pub(super) fn serve(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let fd = datagram_socket()?;
    let address = UnixAddr::new(path)?;
    let lock = Lock::take(path)?;
    // The mode must never be wider, not even before bind(2), which takes the file's mode from the
    // socket.
    fchmod(&fd, Mode::from_bits_truncate(mode))?;
    match bind(fd.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(fd.as_raw_fd(), &address)?;
        }
        other => other?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((fd, SocketFile { path: path.to_owned(), file: identity(path)?, _lock: lock }))
}

/// Returns a client's socket, connected to the server at `path`.
pub(super) fn reach(server: &UnixAddr) -> nix::Result<OwnedFd> {
    let fd = datagram_socket()?;
    // Connecting first leaves no moment in which the socket has a name and others may send to it.
    connect(fd.as_raw_fd(), server)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
    Ok(fd)
}

/// Connects a client's socket, whose server is dead, to itself. The kernel has left the socket
/// without a connection, so any process could send to it.
pub(super) fn connect_to_self(fd: RawFd) -> nix::Result<()> {
    connect(fd, &getsockname::<UnixAddr>(fd)?)
}

fn datagram_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None)
}

fn remove_stale(path: &Path, address: &UnixAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is at the path",
        ));
    }
    let probe = datagram_socket()?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Errno::EADDRINUSE.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Returns the address in the kernel's form.
pub(super) fn address_of(path: &Path) -> nix::Result<UnixAddr> {
    match path.as_os_str().as_bytes() {
        [] => Err(Errno::EINVAL),
        [0, name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(path),
    }
}

/// Returns the path of an address; `None` for a socket without a name.
pub(super) fn path_of(address: &UnixAddr) -> Option<PathBuf> {
    // nix panics when asked for the name of so short an address.
    if usize::try_from(address.len()).is_ok_and(|bytes| bytes < size_of::<libc::sa_family_t>()) {
        return None;
    }
    if let Some(path) = address.path() {
        return Some(path.to_owned());
    }
    let name: Vec<u8> = std::iter::once(0).chain(address.as_abstract()?.iter().copied()).collect();
    Some(PathBuf::from(OsString::from_vec(name)))
}
