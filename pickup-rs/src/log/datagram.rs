//! Lines to postlogd.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::local_time::{MONTHS, local_time};

/// How long a line may wait for postlogd. Longer, and it is lost: mail matters more.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// postlogd's socket, and what each line starts with.
#[derive(Debug)]
pub(super) struct Postlog {
    tag: String,
    host: String,
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Postlog {
    pub(super) fn new(tag: &str, hostname: &str, path: &Path) -> Self {
        let host = hostname.split('.').next().unwrap_or_default().to_owned();
        let socket = UnixDatagram::unbound().ok();
        if let Some(socket) = &socket {
            let _ = socket.set_write_timeout(Some(SEND_PATIENCE));
        }
        Self { tag: tag.to_owned(), host, path: path.to_owned(), socket }
    }

    /// Sends a line. One that can't be sent is lost, as Postfix's are: there is nowhere to say so.
    pub(super) fn line(&self, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = self.format(i64::try_from(now).unwrap_or_default(), text);
        if let Some(socket) = &self.socket {
            let _ = socket.send_to(line.as_bytes(), &self.path);
        }
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
    fn without_postlogd_lines_are_lost_and_nothing_else() {
        Postlog::new("postfix/pickup", "mail", Path::new("/nonexistent/postlog")).line("x");
    }
}
