//! Submission through postdropd, for a process without the rights of the installed program.
//!
//! Set-group-id has no effect in a service with `NoNewPrivileges`, on a file system mounted
//! `nosuid`, in a copy of the program, and in a container. postdropd then does the work. This
//! server listens on a socket that every user may connect to, asks the kernel for the peer's user,
//! and runs postdrop as that user. So the rules, the messages and the result are postdrop's own;
//! see [`crate::postdropd`] and `docs/decisions/0011-*`.
//!
//! ```text
//! has the rights? ── yes ──────────────────────────────▶ submits by itself
//!       │ no
//!       ▼
//! the socket ── a server listens ─────▶ speaks postdrop's protocol with it
//!       │ none
//!       ▼
//! tries by itself all the same; a failure also names the trouble with the socket
//! ```
//!
//! A process has the rights if it can make a file in the maildrop. The kernel answers that
//! question, so user, group and capabilities count as they will when the file is made. A program
//! that runs set-group-id has the rights and doesn't ask.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use host::peer::Socket;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{AccessFlags, faccessat};
use postfix_wire::CleanupStatus;
use postfix_wire::attr::{self, Attributes};
use settings::{Places, Settings};

use crate::collected::Collected;
use crate::death::IN_DOUBT;
use crate::exit::Failure;
use crate::instance::Instance;
use crate::log::Log;
use crate::policy::may_submit;
use crate::privilege::is_privileged;

/// Longest silence of postdropd when it must answer, in seconds. Its postdrop waits only for
/// `submit.timeout_ms` and the disk, which take far less.
const PATIENCE_S: i64 = 120;
/// Bytes that are read at once; an answer has a line or two.
const READ_BYTES: usize = 4_096;

/// Returns whether this process may put mail into the maildrop. A process that may can also reach
/// Redis, in a correct installation.
pub fn has_rights(instance: &Instance) -> bool {
    is_privileged() || {
        let maildrop = Path::new(&instance.text("queue_directory")).join("maildrop");
        let write = AccessFlags::W_OK | AccessFlags::X_OK;
        faccessat(AT_FDCWD, &maildrop, write, AtFlags::AT_EACCESS).is_ok()
    }
}

/// Way of a submission.
#[derive(Debug)]
pub enum Way {
    /// This process submits by itself.
    Own {
        /// Reason why postdropd doesn't submit for a process without rights.
        no_socket: Option<String>,
    },
    /// postdropd submits.
    Socket(Relay),
}

impl Way {
    /// Chooses the way of a process without rights. Fails if this user may not submit mail, or not
    /// now.
    pub fn without_rights(instance: &Instance, uid: u32, log: &Log) -> Result<Self, Failure> {
        let path = socket_path(instance)?;
        match connected(&path, PATIENCE_S) {
            Ok(stream) => Relay::greeted(stream, path).map(Self::Socket),
            Err(error) => {
                may_submit(instance, uid, log)?;
                let reason = format!("submission socket {}: {}", path.display(), words(&error));
                Ok(Self::Own { no_socket: Some(reason) })
            }
        }
    }
}

/// Returns the text of an error, which begins with the error's name where the system gave a number.
fn words(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| Errno::from_raw(number).to_string())
}

/// Returns the socket's path, which is the default one if the settings can't be read.
fn socket_path(instance: &Instance) -> Result<PathBuf, Failure> {
    let settings = Settings::load(&instance.config_directory).unwrap_or_default();
    let places = Places::of(&instance.config_directory, &instance.main_cf)
        .map_err(|error| Failure::temporary(error.to_string()))?;
    Ok(places.submit_socket(&settings))
}

/// Connects to a server that root or the owner of the socket's folder runs. If the server's queue
/// is full, waits for at most `patience_s` seconds. Each read and write has the same limit.
pub(crate) fn connected(path: &Path, patience_s: i64) -> io::Result<UnixStream> {
    let found = Socket::find(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, SendTimeout, &TimeVal::seconds(patience_s))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(patience_s))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(&found.path())?)?;
    found.expect_owner(&socket)?;
    Ok(socket.into())
}

/// Conversation with postdropd after its greeting.
#[derive(Debug)]
pub struct Relay {
    stream: UnixStream,
    path: PathBuf,
    unread: Vec<u8>,
    /// Name that postdropd will give the message.
    pub queue_id: String,
}

impl Relay {
    fn greeted(stream: UnixStream, path: PathBuf) -> Result<Self, Failure> {
        let mut relay = Self { stream, path, unread: Vec::new(), queue_id: String::new() };
        let greeting = relay.attributes().map_err(|error| relay.not_submitted(&error))?;
        match (greeting.get("queue_id"), greeting.get("reason")) {
            (Some(id), _) => relay.queue_id = id.to_owned(),
            (None, Some(reason)) => return Err(Failure::temporary(reason)),
            (None, None) => return Err(relay.not_submitted(&io::ErrorKind::InvalidData.into())),
        }
        Ok(relay)
    }

    /// Submits `records` as [`crate::filter`] made them. Returns postdrop's answer. Without an
    /// answer, the error says whether the message is in doubt.
    pub fn submit(mut self, records: &Collected) -> Result<(CleanupStatus, String), Failure> {
        // postdrop writes the time record itself.
        let content = records.rest();
        let sent = content.each(|error| error, &mut |piece| self.stream.write_all(piece));
        // A peer that stopped reading may have sent the reason.
        match (sent, self.attributes()) {
            (_, Ok(answer)) => self.understood(&answer),
            (Err(error), Err(_)) => Err(self.not_submitted(&error)),
            (Ok(()), Err(error)) => Err(self.in_doubt(&error)),
        }
    }

    fn understood(&self, answer: &Attributes) -> Result<(CleanupStatus, String), Failure> {
        let status = answer
            .require_u32("status")
            .map_err(|error| self.in_doubt(&io::Error::other(error)))?;
        Ok((CleanupStatus::from_bits(status), answer.get("reason").unwrap_or_default().to_owned()))
    }

    fn attributes(&mut self) -> io::Result<Attributes> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some((list, length)) = attr::decode(&self.unread).map_err(io::Error::other)? {
                self.unread.drain(..length);
                return Ok(list);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn not_submitted(&self, error: &io::Error) -> Failure {
        self.trouble("the message is not submitted", error)
    }

    fn in_doubt(&self, error: &io::Error) -> Failure {
        self.trouble(IN_DOUBT, error)
    }

    fn trouble(&self, fate: &str, error: &io::Error) -> Failure {
        let path = self.path.display();
        Failure::temporary(match error.kind() {
            io::ErrorKind::WouldBlock => {
                format!(
                    "{fate}: submission socket {path}: silent for {PATIENCE_S} s; see postdropd(8)"
                )
            }
            _ => format!("{fate}: submission socket {path}: {error}; see postdropd(8)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collected::Room;
    use postfix_wire::record::RecordType;
    use std::thread;

    /// Returns a relay's verdict on a peer that sends `greeting`, reads `length` bytes, and then
    /// sends `answer`.
    fn told(
        greeting: &'static [u8],
        length: usize,
        answer: &'static [u8],
    ) -> Result<(CleanupStatus, String), String> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            theirs.write_all(greeting).unwrap();
            theirs.read_exact(&mut vec![0; length]).unwrap();
            theirs.write_all(answer).unwrap();
        });
        let relay = Relay::greeted(ours, "/s".into());
        let mut records = Collected::beginning_with(RecordType::Time, b"1 2", Room::memory());
        records.add(RecordType::Xtra, b"").unwrap();
        let told =
            relay.and_then(|relay| relay.submit(&records)).map_err(|failure| failure.message);
        peer.join().unwrap();
        told
    }

    #[test]
    fn every_end_of_the_conversation_has_its_own_error() {
        const HELLO: &[u8] = b"protocol\0postdrop_protocol\0queue_id\0ID\0\0";
        let ok = (CleanupStatus::OK, String::new());
        assert_eq!(told(HELLO, 2, b"status\x000\0reason\0\0\0"), Ok(ok));
        let size = (CleanupStatus::SIZE, "x".to_owned());
        assert_eq!(
            told(HELLO, 2, b"status\x0016\0reason\0x\0\0").map(|(_, reason)| reason),
            Ok(size.1)
        );
        assert_eq!(told(b"status\x002\0reason\0no\0\0", 0, b""), Err("no".to_owned()));
        for (greeting, length, words) in [
            (&b""[..], 0, "is not submitted"),
            (b"x\0y\0\0", 0, "is not submitted"),
            (HELLO, 2, "may or may not be submitted"),
        ] {
            let error = told(greeting, length, b"").unwrap_err();
            assert!(error.contains(words) && error.contains("socket /s: "), "{error}");
        }
    }
}
