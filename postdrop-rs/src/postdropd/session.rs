//! Session of one peer and its postdrop.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, UnixCredentials, send};
use postfix_wire::{CleanupStatus, attr};

use super::become_peer;
use super::options::Options;
use crate::death::IN_DOUBT;
use crate::log::{Log, Severity};
use crate::sys;

/// Pause before the next check that a postdrop has ended. The kernel needs some microseconds to end
/// a process after closing its files.
const ENDING: Duration = Duration::from_millis(2);
/// Most bytes that are kept of a postdrop's standard error. The end is kept, because it has the
/// reason.
const WORDS_BYTES_MAX: usize = 4_096;
/// Reason why a connection was dismissed.
const DISMISSED: &str = "submission socket: connection given to another user";
/// Text before the reason on postdrop's standard error.
const FATAL: &str = "fatal: ";
/// User number by which the kernel says "no user". No process can take on this number.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Program postdrop, and its environment.
#[derive(Debug)]
pub(super) struct Postdrop {
    /// Path of the installed program.
    pub(super) path: PathBuf,
    /// Configuration directory, unless it is the default instance's.
    pub(super) mail_config: Option<PathBuf>,
}

/// User at the other end, as the kernel names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerUser {
    pub(super) uid: u32,
    gid: u32,
    pub(super) process_id: i32,
}

impl From<UnixCredentials> for PeerUser {
    fn from(credentials: UnixCredentials) -> Self {
        Self { uid: credentials.uid(), gid: credentials.gid(), process_id: credentials.pid() }
    }
}

/// Conversation of a peer with its postdrop. The end of postdrop's standard error ends the session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PeerUser,
    /// Latest end of the session.
    pub(super) deadline: Instant,
    total: Duration,
    connection: UnixStream,
    child: Child,
    stderr: ChildStderr,
    words: Vec<u8>,
    next_look: Option<Instant>,
    ended: bool,
    killed: bool,
    dismissed: bool,
}

impl Session {
    /// Runs postdrop for `peer`. On failure, returns the connection and the reason.
    pub(super) fn start(
        postdrop: &Postdrop,
        connection: UnixStream,
        peer: PeerUser,
        options: &Options,
    ) -> Result<Self, (String, UnixStream)> {
        let started = run(postdrop, &connection, peer, options.idle);
        match started {
            Ok((child, stderr)) => Ok(Self {
                peer,
                deadline: Instant::now() + options.total,
                total: options.total,
                connection,
                child,
                stderr,
                words: Vec::new(),
                next_look: None,
                ended: false,
                killed: false,
                dismissed: false,
            }),
            Err(error) => {
                Err((format!("execute {}: {error}", postdrop.path.display()), connection))
            }
        }
    }

    pub(super) fn process_id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Returns the descriptor to wait for: postdrop's standard error, until it ends.
    pub(super) fn speaker(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended).then(|| self.stderr.as_fd())
    }

    /// Returns the time at which the session needs attention even without output.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look.unwrap_or(self.deadline)
    }

    /// Reads the new output of postdrop.
    pub(super) fn listen(&mut self) {
        let mut buffer = [0; WORDS_BYTES_MAX];
        loop {
            match self.stderr.read(&mut buffer) {
                Ok(0) => return self.ended = true,
                Ok(length) => self.words.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.ended |= error.kind() != io::ErrorKind::WouldBlock,
            }
            let excess = self.words.len().saturating_sub(WORDS_BYTES_MAX);
            self.words.drain(..excess);
        }
    }

    /// Kills the postdrop, whose time is over.
    pub(super) fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            self.ended = true;
            let _ = self.child.kill();
        }
    }

    /// Ends the peer's turn: postdrop reads what was sent before, and then the end of its input.
    pub(super) fn dismiss(&mut self, deadline: Instant) {
        self.dismissed = true;
        self.deadline = self.deadline.min(deadline);
        // An error means that the peer has gone, which ends its turn as well.
        let _ = self.connection.shutdown(Shutdown::Read);
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed
    }

    /// Returns the exit status of postdrop, if it has ended. A postdrop that waits for a broken
    /// disk can't even be killed. So the server doesn't wait for the end, but checks again after
    /// [`ENDING`].
    pub(super) fn outcome(&mut self, now: Instant) -> Option<io::Result<ExitStatus>> {
        if !self.ended {
            return None;
        }
        self.next_look = Some(now + ENDING);
        self.child.try_wait().transpose()
    }

    /// Ends the session. If postdrop gave no answer, tells the peer the reason.
    pub(super) fn finish(self, outcome: io::Result<ExitStatus>, log: &Log) {
        let reason = match outcome {
            Ok(status) => self.reason(status),
            Err(error) => Some(format!("postdrop: end unknown: {error}; see the mail log")),
        };
        if let Some(reason) = reason {
            refuse(&self.connection, &reason);
            // postdrop's own words are in the mail log.
            if self.fatal_words().is_none() {
                log.say(Severity::Warning, &format!("uid={}: {reason}", self.peer.uid));
            }
        }
    }

    /// Returns the reason if postdrop gave no answer. A postdrop that has answered prints no fatal
    /// error. One that was killed may have left the message in doubt.
    fn reason(&self, status: ExitStatus) -> Option<String> {
        match (self.killed, status.signal()) {
            (true, _) if self.dismissed => Some(format!("{IN_DOUBT}: {DISMISSED}")),
            (true, _) => Some(format!(
                "{IN_DOUBT}: postdrop: killed: no end after {} s",
                self.total.as_secs()
            )),
            (false, Some(signal)) => {
                Some(format!("{IN_DOUBT}: postdrop: killed by signal {signal}; see the kernel log"))
            }
            (false, None) if self.dismissed => {
                self.fatal_words().map(|words| format!("{DISMISSED}: {words}"))
            }
            (false, None) => self.fatal_words(),
        }
    }

    fn fatal_words(&self) -> Option<String> {
        let words = String::from_utf8_lossy(&self.words);
        let fatal = words.lines().rev().find_map(|line| line.split_once(FATAL));
        fatal.map(|(_, reason)| reason.to_owned())
    }
}

fn run(
    postdrop: &Postdrop,
    connection: &UnixStream,
    peer: PeerUser,
    idle: Duration,
) -> io::Result<(Child, ChildStderr)> {
    if peer.uid == NOBODY_AT_ALL || peer.gid == NOBODY_AT_ALL {
        return Err(io::Error::other("the peer's user has no number on this host"));
    }
    // The time limits belong to the open socket, so they also hold for postdrop, to which they are
    // unknown.
    connection.set_read_timeout(Some(idle))?;
    connection.set_write_timeout(Some(idle))?;
    let ours = || connection.try_clone().map(|connection| Stdio::from(OwnedFd::from(connection)));
    let mut command = become_peer::command(&postdrop.path, peer.uid, peer.gid);
    command.env_clear().stdin(ours()?).stdout(ours()?).stderr(Stdio::piped());
    if let Some(directory) = &postdrop.mail_config {
        command.env("MAIL_CONFIG", directory);
    }
    // Signals of this server's terminal must not reach postdrop.
    command.process_group(0);
    sys::with_no_signal_blocked(&mut command);
    let mut child = command.spawn().map_err(host::limit::starting)?;
    let stderr =
        child.stderr.take().ok_or_else(|| io::Error::other("no pipe for standard error"))?;
    fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((child, stderr))
}

/// Refuses a peer, as postdrop does when it can't submit. Doesn't wait for a peer that doesn't
/// read.
pub(super) fn refuse(connection: &UnixStream, reason: &str) {
    let status = CleanupStatus::WRITE.bits().to_string();
    let mut bytes = Vec::new();
    attr::encode(&mut bytes, &[("status", &status), ("reason", reason)]);
    let _ = send(connection.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}
