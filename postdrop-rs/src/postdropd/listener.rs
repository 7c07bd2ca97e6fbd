//! Listening socket: from the service manager, or made by this process.
//!
//! A lock beside the socket decides which of two servers has the socket. The kernel ends the lock
//! with its process. So the server that has the lock may replace any socket at that path.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use host::folder::Folder;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{Backlog, listen};

use crate::sys;

/// Mode of the socket: every user may connect. Only root can change the socket's folder.
const SOCKET_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o755;
/// Mode of the lock: no other user can take it and so prevent the start.
const LOCK_MODE: u32 = 0o600;

/// Listening socket. Dropping the value removes a socket that this process has made.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Listener {
    /// Takes the service manager's socket, or makes one at `path`. Fails if another postdropd has
    /// the lock, or others than root can change the folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (socket, own) = match sys::socket_of_service_manager() {
            Some(descriptor) => (UnixListener::from(descriptor), None),
            None => {
                let lock = locked(path)?;
                (bound(path)?, Some(Own { path: path.to_owned(), _lock: lock }))
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket, own })
    }

    /// Accepts the next connection, if one waits.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((connection, _)) => Ok(Some(connection)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The peer has closed the connection already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = std::fs::remove_file(&own.path);
        }
    }
}

fn locked(path: &Path) -> io::Result<Flock<File>> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        Folder::make(folder, FOLDER_MODE, None)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = path.with_file_name(name);
    // Only root must be able to change this folder, in which files are made, removed and opened to
    // all.
    Folder::settled(&lock)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(LOCK_MODE);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(&lock)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!(
            "{}: not a regular file; remove this file",
            lock.display()
        )));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => io::Error::other("in use by another postdropd; stop that one first"),
        error => error.into(),
    })
}

fn bound(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("not a socket; remove this file")),
        Err(_) => {}
    }
    let socket = UnixListener::bind(path)?;
    listen(&socket, Backlog::MAXCONN)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimus/submit");
        let first = Listener::open(&path).unwrap();
        assert!(Listener::open(&path).unwrap_err().to_string().contains("another postdropd"));
        UnixStream::connect(&path).unwrap();
        assert!(first.accept().unwrap().is_some());
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        let second = Listener::open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o666, 0o755));
        assert_eq!(mode(&path.with_file_name("submit.lock")), 0o600);
        drop(second);

        std::fs::write(&path, "").unwrap();
        assert!(Listener::open(&path).unwrap_err().to_string().contains("not a socket"));
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_others_can_change_and_a_lock_that_is_a_trap_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimus/submit");
        let above = path.parent().unwrap();
        std::fs::create_dir(above).unwrap();
        let lock = path.with_file_name("submit.lock");
        let victim = folder.path().join("victim");
        std::os::unix::fs::symlink(&victim, &lock).unwrap();
        assert!(Listener::open(&path).is_err());
        assert!(!victim.exists(), "the link was followed");
        std::fs::remove_file(&lock).unwrap();
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(Listener::open(&path).is_err());
        std::fs::remove_file(&lock).unwrap();
        std::os::unix::fs::chown(above, Some(65_534), None).unwrap();
        let error = Listener::open(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to user 65534"), "{error}");
    }
}
