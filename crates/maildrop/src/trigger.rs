//! Waking a Postfix service, as `mail_trigger(3)` does.
//!
//! The request is one letter to the service's socket or FIFO. A lost trigger costs time only. The
//! queue manager looks at its queues every `queue_run_delay` anyway, and stock pickup every minute.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use tracing::warn;

/// Request to look for new mail: `QMGR_REQ_SCAN_INCOMING`.
pub const SCAN_INCOMING: u8 = b'I';

/// Request to do the service's usual work: `TRIGGER_REQ_WAKEUP`.
pub const WAKE_UP: u8 = b'W';

/// Longest wait until the service has read the request: a little more than Postfix's
/// `trigger_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a request. Returns whether the service has read the request, or may have, through a FIFO.
/// A failure is logged.
pub async fn wake(socket: &Path, request: u8) -> bool {
    let outcome = timeout(PATIENCE, send(socket, request)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Err(error) = &outcome {
        warn!("{}: not woken: {error}; mail waits for the service's next run", socket.display());
    }
    outcome.is_ok()
}

async fn send(path: &Path, request: u8) -> io::Result<()> {
    if std::fs::metadata(path)?.file_type().is_fifo() {
        return pipe::OpenOptions::new().open_sender(path)?.write_all(&[request]).await;
    }
    let mut stream = UnixStream::connect(path).await?;
    // Postfix sends the terminating NUL, too.
    stream.write_all(&[request, 0]).await?;
    // Closing the socket before the service has read the request would withdraw the request.
    stream.read(&mut [0]).await.map(drop)
}

/// Whether a process takes requests there: Postfix's master, or a service that outlives its master.
/// Returns true as well if the answer can't be known. Wakes a waiting service.
pub fn listens(path: &Path) -> bool {
    let refused = match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_fifo() => {
            let fifo = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
            fifo.is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO))
        }
        Ok(_) => connect_at_once(path) == Err(Errno::ECONNREFUSED),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    !refused
}

fn connect_at_once(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_socket_gets_the_request_and_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmgr");
        let listener = UnixListener::bind(&path).unwrap();
        let waking = tokio::spawn(async move { wake(&path, SCAN_INCOMING).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 2];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"I\0");
        assert!(!waking.is_finished());
        drop(stream);
        assert!(waking.await.unwrap());
    }

    #[tokio::test]
    async fn a_fifo_gets_the_letter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pickup");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        assert!(wake(&path, WAKE_UP).await);
        assert_eq!(reader.read_u8().await.unwrap(), b'W');
    }

    #[test]
    fn a_service_listens_while_a_process_has_its_socket_or_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let [socket, fifo] = ["socket", "fifo"].map(|name| directory.path().join(name));
        assert!(!listens(&socket));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(listens(&socket));
        drop(listener);
        assert!(!listens(&socket));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(!listens(&fifo));
        let _reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        assert!(listens(&fifo));
    }

    #[tokio::test]
    async fn waking_a_missing_service_only_warns() {
        assert!(!wake(Path::new("/nonexistent/qmgr"), SCAN_INCOMING).await);
    }
}
