//! Unix datagram sockets.
//!
//! A server has a path, whose mode says who may send to it. A client has a name that the kernel chose (autobind, unix(7)) in
//! the abstract namespace, which needs no folder to write to and leaves nothing behind; and it is connected to the server, so
//! that the kernel lets nobody but the server send to it, whoever knows the name. Client and server must be in the same
//! network namespace, as abstract names are.
//!
//! A name in the abstract namespace is written as the kernel does: a path that begins with a NUL byte.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrLike, UnixAddr, bind, connect, socket};
use nix::sys::stat::{Mode, fchmod};

/// A server's socket file. Removed when dropped, if it still is that file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.file) {
            // If it can't be removed, the next server to come finds that nobody listens, and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a server to a path, replacing the socket file of a server that is dead.
pub(super) fn serve(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let fd = datagram_socket()?;
    let address = UnixAddr::new(path)?;
    // Never more than that, not even before the next line but one: bind(2) takes the file's mode from the socket.
    fchmod(&fd, Mode::from_bits_truncate(mode))?;
    match bind(fd.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(fd.as_raw_fd(), &address)?;
        }
        other => other?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((fd, SocketFile { path: path.to_owned(), file: identity(path)? }))
}

/// A client's socket, connected to the server at `path`.
pub(super) fn reach(server: &UnixAddr) -> nix::Result<OwnedFd> {
    let fd = datagram_socket()?;
    // First this, so that there is no moment in which it has a name and others may send to it.
    connect(fd.as_raw_fd(), server)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
    Ok(fd)
}

fn datagram_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None)
}

fn remove_stale(path: &Path, address: &UnixAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, and not a socket"));
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

/// The address in the kernel's form.
pub(super) fn address_of(path: &Path) -> nix::Result<UnixAddr> {
    match path.as_os_str().as_bytes() {
        [0, name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(path),
    }
}

/// The address in ours; none for a socket without a name.
pub(super) fn path_of(address: &UnixAddr) -> Option<PathBuf> {
    // To nix such an address is no address at all, and it panics when asked for its name.
    if usize::try_from(address.len()).is_ok_and(|bytes| bytes < size_of::<libc::sa_family_t>()) {
        return None;
    }
    if let Some(path) = address.path() {
        return Some(path.to_owned());
    }
    let name: Vec<u8> = std::iter::once(0).chain(address.as_abstract()?.iter().copied()).collect();
    Some(PathBuf::from(OsString::from_vec(name)))
}
