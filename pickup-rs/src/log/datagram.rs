//! Lines to postlogd.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::local_time::{MONTHS, local_time};

/// How long a line may wait for postlogd. Longer, and it is lost, as are the lines after it that can't be sent at once, until
/// one can: mail matters more.
const SEND_PATIENCE: Duration = Duration::from_millis(200);

/// postlogd's socket, and what each line starts with.
#[derive(Debug)]
pub(super) struct Postlog {
    tag: String,
    host: String,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Lines lost since postlogd took one.
    lost: AtomicU64,
}

impl Postlog {
    pub(super) fn new(tag: &str, hostname: &str, path: &Path) -> Self {
        let host = hostname.split('.').next().unwrap_or_default().to_owned();
        let socket = UnixDatagram::unbound().ok();
        if let Some(socket) = &socket {
            let _ = socket.set_write_timeout(Some(SEND_PATIENCE));
        }
        Self { tag: tag.to_owned(), host, path: path.to_owned(), socket, lost: AtomicU64::new(0) }
    }

    /// Sends a line. One that can't be sent is lost; that is said when postlogd takes lines again.
    pub(super) fn line(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        let lost = self.lost.load(Ordering::Relaxed);
        let _ = socket.set_nonblocking(lost > 0);
        if lost > 0 && self.send(socket, &format!("warning: {lost} log lines were lost")) {
            self.lost.store(0, Ordering::Relaxed);
        }
        if !self.send(socket, text) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, socket: &UnixDatagram, text: &str) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = self.format(i64::try_from(now).unwrap_or_default(), text);
        socket.send_to(line.as_bytes(), &self.path).is_ok()
    }

    fn format(&self, now_s: i64, text: &str) -> String {
        let time = local_time(now_s);
        let Self { host, tag, .. } = self;
        format!(
            "{} {:02} {:02}:{:02}:{:02} {host} {tag}[{}]: {text}",
            MONTHS[time.month % MONTHS.len()],
            time.day,
            time.hour,
            time.minute,
            time.second,
            std::process::id()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_datagram_in_postlogd_s_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postlog");
        let receiver = UnixDatagram::bind(&path).unwrap();
        Postlog::new("postfix/pickup", "mail.example.org", &path).line("4C1B21A0: uid=0 from=<>");
        let mut datagram = [0; 200];
        let length = receiver.recv(&mut datagram).unwrap();
        let line = std::str::from_utf8(&datagram[..length]).unwrap();
        let (_, rest) = line.split_at("Nov 21 09:04:00".len());
        let expected = format!(" mail postfix/pickup[{}]: 4C1B21A0: uid=0 from=<>", std::process::id());
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_stuck_postlogd_costs_one_wait_and_the_loss_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postlog");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let postlog = Postlog::new("postfix/pickup", "mail", &path);
        while postlog.lost.load(Ordering::Relaxed) == 0 {
            postlog.line("x");
        }
        let started = std::time::Instant::now();
        (0..1000).for_each(|_| postlog.line("x"));
        assert!(started.elapsed() < 100 * SEND_PATIENCE, "each has waited");
        receiver.set_nonblocking(true).unwrap();
        let mut datagram = [0; 200];
        while receiver.recv(&mut datagram).is_ok() {}
        postlog.line("the last one");
        let mut next = || {
            let length = receiver.recv(&mut datagram).unwrap();
            String::from_utf8_lossy(&datagram[..length]).into_owned()
        };
        assert!(next().ends_with("warning: 1001 log lines were lost"));
        assert!(next().ends_with("the last one"));
    }

    #[test]
    fn without_postlogd_lines_are_lost_and_nothing_else() {
        Postlog::new("postfix/pickup", "mail", Path::new("/nonexistent/postlog")).line("x");
    }
}
