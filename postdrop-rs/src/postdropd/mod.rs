//! Server `postdropd`: runs postdrop for callers in whose processes set-group-id has no effect.
//!
//! ```text
//! sendmail, postdrop             postdropd, root                     postdrop -r, set-group-id
//!   (no rights)        socket
//!      connect ──────────────────▶ SO_PEERCRED: uid, gid
//!                                  fork, exec itself ── gid, uid ───▶ exec
//!      ◀──────────────────────────── protocol, queue_id ─────────────── │ standard input, output
//!      records ───────────────────────────────────────────────────────▶ │ are the connection
//!      ◀──────────────────────────── status, reason ─────────────────── │
//!                                  ◀──────── standard error, exit ──────┘
//! ```
//!
//! # Why the server is small
//!
//! The server takes no decision about a message. The kernel names the user who has connected. The
//! child takes on that user for good, and then runs the program that this user could have started
//! in a shell: the installed, set-group-id postdrop. Policy, filter, limits, Redis, the maildrop
//! file and its owner are postdrop's. The server reads no byte from a peer. It writes to a peer
//! only if a postdrop ended without an answer: an attribute list with that postdrop's last words on
//! standard error.
//!
//! A user without an entry in any passwd file is just a number. A peer in a user namespace counts
//! as its user outside: the "root" of an unprivileged container is the user who made the container.
//! Where the namespace maps a user to no number of the host, the kernel says 65534, and so does the
//! server. All such peers count as one user, `nobody`, with one limit of connections.
//!
//! # Limits
//!
//! | | default | option | beyond it |
//! |---|---|---|---|
//! | connections | 512 | `--connections` | the oldest of the user with most ends, or the peer is refused |
//! | connections of one user | 64 | `--connections-per-user` | the peer is refused for now |
//! | silence, each way | 600 s | `--idle-s` | its postdrop gives up |
//! | a connection | 3600 s | `--total-s` | its postdrop is killed |
//! | postdrop's output on standard error | 4 KiB | | the beginning is forgotten |
//!
//! A connection costs two descriptors and one small process, which keeps at most 512 KiB of a
//! message in memory (see [`crate::collected`]). The rest is in the page cache, which the kernel
//! writes to disk when it needs the memory. A service manager's memory limit must leave room for 1
//! MiB a connection.
//!
//! # Shares
//!
//! When all connections are taken, a user with at least two fewer connections than another gets one
//! of the other's. The oldest connection of the user with most is *dismissed*: its postdrop reads
//! only what has been sent. A complete message is submitted and answered as ever, and an unfinished
//! one is not submitted. So a dismissal leaves a message in doubt only if its user stops postdrop,
//! which is then killed after [`DRAIN`]. Dismissed connections don't count in the limit; they may
//! at most double it.
//!
//! # Deaths
//!
//! | process | result |
//! |---|---|
//! | the peer | the input of postdrop ends: only a complete message is submitted |
//! | postdrop, stopped by the peer | its time limit ends it; the server doesn't wait: `become_peer` |
//! | postdrop | the peer is told so; a message that was sent in whole is in doubt |
//! | postdropd | conversations go on without it; new peers find no server until the next one starts |
//!
//! On SIGTERM the server accepts the connections that wait, removes its socket, and gives all
//! conversations [`DRAIN`] to end.
//!
//! # How to start it
//!
//! Start the server as root, when the file systems are mounted; Redis, Postfix or network need not
//! run. `postdropd [-c config_dir]` stays in the foreground and logs as Postfix does. As a systemd
//! service:
//!
//! * `Type=exec`, `KillMode=mixed`, `Restart=on-failure`; `TimeoutStopSec` above 30 s.
//! * No setting that implies `NoNewPrivileges=yes` (for a service of root that is only this setting
//!   itself), no `nosuid` over `$command_directory`, no `User=`. Children must be able to become
//!   any user and then gain the group. Where children can't, the server prints the reason and ends.
//!   `CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_DAC_OVERRIDE` suffices.
//! * Children must see `/etc`, a writable queue directory, Redis's socket or network, and
//!   `/dev/log`.
//! * Best with a socket unit (`ListenStream=/var/spool/postfix/optimus/submit`, `SocketMode=0666`,
//!   `DirectoryMode=0755`, `Accept=no`, `Backlog=4096`): the socket then stays while the service
//!   restarts, and no peer is turned away meanwhile.
//!
//! Into a container, mount the socket's folder and not the socket. The container then sees the new
//! socket after a restart, too.

mod become_peer;
mod listener;
mod options;
mod session;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use settings::{Places, Settings};

use crate::exit::Failure;
use crate::instance::{ConfigurationChoice, DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::log::{Log, Severity};
use crate::privilege::Caller;
use crate::sys;
use listener::Listener;
use options::Options;
use session::{PeerUser, Postdrop, Session, refuse};

/// Time that sessions have to end when the server must end. This time covers postdrop's own limits
/// and a slow disk, and is shorter than the 90 s of service managers.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Most connections that are accepted before the existing ones are served.
const ACCEPTED_AT_ONCE: usize = 64;
/// Pause in accepting after an error, such as a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Shortest time between two logged refusals. Otherwise refused peers could fill the disk.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Runs `postdropd` and returns its exit code.
pub fn main() -> u8 {
    let mut log = Log::new("postdropd");
    if let Some(reason) = become_peer::if_asked(std::env::args_os().skip(1)) {
        log.say(Severity::Fatal, &reason);
        return 1;
    }
    match start(&mut log).and_then(|mut server| server.run()) {
        Ok(()) => 0,
        Err(failure) => {
            log.say(Severity::Fatal, &failure.message);
            1
        }
    }
}

fn start(log: &mut Log) -> Result<SubmissionServer, Failure> {
    let options = Options::parse(std::env::args_os().skip(1).map(OsStringExt::into_vec))?;
    can_work()?;
    sys::settle_signals();
    raise_descriptor_limit();
    sys::keep_inherited_descriptors().map_err(|error| {
        Failure::temporary(format!("inherited descriptors: not marked to close: {error}"))
    })?;
    let caller = Caller {
        uid: 0,
        mail_config: std::env::var_os("MAIL_CONFIG"),
        name: None,
        was_set_user_id_root: false,
    };
    let asked = options
        .config_directory
        .clone()
        .map_or(ConfigurationChoice::No, ConfigurationChoice::ByPostdropOption);
    let instance = Instance::open(asked, &caller)?;
    instance.configure(log)?;
    let socket = socket_path(&instance)?;
    // Signals are set up before the first child, which must not inherit the descriptor.
    let signals =
        signals().map_err(|error| Failure::temporary(format!("signals: not set up: {error}")))?;
    let listener = Listener::open(&socket).map_err(|error| trouble(&socket, &error))?;
    let elsewhere = instance.config_directory.as_path() != Path::new(DEFAULT_CONFIG_DIRECTORY);
    let postdrop = Postdrop {
        path: PathBuf::from(instance.text("command_directory")).join("postdrop"),
        mail_config: elsewhere.then(|| instance.config_directory.clone()),
    };
    // Postfix's daemons do so, too: the folder in which postdropd was started can then be
    // unmounted.
    let _ = std::env::set_current_dir(instance.text("queue_directory"));
    let listener = Some(listener);
    let crowd = Crowd {
        options,
        postdrop,
        log: log.clone(),
        sessions: Vec::new(),
        complaint: Complaint::default(),
    };
    Ok(SubmissionServer { crowd, signals, listener, paused_until: None })
}

/// Checks for faults of the installation, which each peer would otherwise meet.
fn can_work() -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Err(Failure::temporary(
            "postdropd: not started: must be run by root; use its service, or sudo",
        ));
    }
    if nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        return Err(Failure::temporary(
            "postdropd: not started: NoNewPrivileges denies postdrop its group; remove the setting",
        ));
    }
    become_peer::trouble().map_or(Ok(()), |trouble| Err(Failure::temporary(trouble)))
}

/// Raises the limit of open descriptors. A service usually starts with 1024 and may have many more.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    // Without more descriptors, refusals come sooner.
    let _ = raised;
}

fn socket_path(instance: &Instance) -> Result<PathBuf, Failure> {
    let settings = Settings::load(&instance.config_directory);
    let places = Places::of(&instance.config_directory, &instance.main_cf);
    let path = settings.and_then(|settings| Ok(places?.submit_socket(&settings)));
    path.map_err(|error| Failure::temporary(error.to_string()))
}

fn signals() -> nix::Result<SignalFd> {
    let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn trouble(socket: &Path, error: &io::Error) -> Failure {
    Failure::temporary(format!("submission socket {}: {error}", socket.display()))
}

/// Server, which has one thread.
struct SubmissionServer {
    crowd: Crowd,
    signals: SignalFd,
    /// Socket; `None` once the server must end.
    listener: Option<Listener>,
    paused_until: Option<Instant>,
}

impl SubmissionServer {
    /// Serves until the server must end and no session is left.
    fn run(&mut self) -> Result<(), Failure> {
        while self.listener.is_some() || !self.crowd.sessions.is_empty() {
            self.wait()
                .map_err(|error| Failure::temporary(format!("connections: poll: {error}")))?;
            self.crowd.attend(Instant::now());
            self.accept();
            self.crowd.log.flush();
            if self.is_asked_to_end() {
                self.accept();
                self.listener = None;
                self.crowd.hurry(Instant::now() + DRAIN);
            }
        }
        Ok(())
    }

    /// Waits for output, a signal, a connection or a deadline.
    fn wait(&mut self) -> nix::Result<()> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let listener = self.listener.as_ref().filter(|_| self.paused_until.is_none());
        let listener = listener.map(|listener| listener.as_fd());
        let sessions = self.crowd.sessions.iter().filter_map(Session::speaker);
        let descriptors = sessions.chain([self.signals.as_fd()]).chain(listener);
        let mut descriptors: Vec<_> =
            descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let next =
            self.crowd.sessions.iter().map(Session::next_look).chain(self.paused_until).min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            // The wait is rounded up, so that it ends after the deadline and not just before.
            let wait_ms = next.saturating_duration_since(now).as_millis().saturating_add(1);
            PollTimeout::try_from(wait_ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_asked_to_end(&mut self) -> bool {
        let mut asked = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            asked |= i32::try_from(signal.ssi_signo) != Ok(Signal::SIGHUP as i32);
        }
        asked
    }

    fn accept(&mut self) {
        let Some(listener) = self.listener.as_ref().filter(|_| self.paused_until.is_none()) else {
            return;
        };
        for _ in 0..ACCEPTED_AT_ONCE {
            match listener.accept() {
                Ok(Some(connection)) => self.crowd.welcome(connection),
                Ok(None) => return,
                Err(error) => {
                    self.crowd.log.say(
                        Severity::Warning,
                        &format!("submission socket: accept: {error}; next try in 1 s"),
                    );
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

/// Sessions of all peers.
struct Crowd {
    options: Options,
    postdrop: Postdrop,
    log: Log,
    sessions: Vec<Session>,
    complaint: Complaint,
}

impl Crowd {
    /// Begins a session, or refuses it with a reason.
    fn welcome(&mut self, connection: UnixStream) {
        let peer = match getsockopt(&connection, PeerCredentials) {
            Ok(credentials) => PeerUser::from(credentials),
            Err(error) => {
                return self.log.say(
                    Severity::Warning,
                    &format!("connection: closed: peer's user unknown: {error}"),
                );
            }
        };
        self.make_room(&peer);
        let session = match self.objection(&peer) {
            Some(objection) => Err((objection, connection)),
            None => Session::start(&self.postdrop, connection, peer, &self.options),
        };
        match session {
            Ok(session) => self.sessions.push(session),
            Err((reason, connection)) => {
                refuse(&connection, &reason);
                self.complaint.make(&self.log, &peer, &reason);
            }
        }
    }

    fn objection(&self, peer: &PeerUser) -> Option<String> {
        let path = self.postdrop.path.display();
        let of_this_user = || self.connections_of(peer.uid);
        if self.sessions.iter().any(|session| session.process_id() == peer.process_id) {
            // The peer is a postdrop of this server and has come because it lacks rights. Serving
            // it would make a loop without end.
            Some(format!(
                "{path}: run for user ID {}: lacks the rights of its group; set the \
                    set-group-id bit (chmod g+s)",
                peer.uid
            ))
        } else if self.is_full() {
            Some(format!(
                "submission socket: busy: {} connections; try again later",
                self.sessions.len()
            ))
        } else if of_this_user() >= self.options.connections_per_user {
            Some(format!(
                "submission socket: busy: {} connections of user ID {}; try again later",
                of_this_user(),
                peer.uid
            ))
        } else {
            None
        }
    }

    /// Counts a user's connections, without dismissed ones.
    fn connections_of(&self, uid: u32) -> usize {
        self.sessions.iter().filter(|it| it.peer.uid == uid && !it.is_dismissed()).count()
    }

    fn is_full(&self) -> bool {
        let waiting = self.sessions.iter().filter(|it| !it.is_dismissed()).count();
        let most = self.options.connections;
        waiting >= most || self.sessions.len() >= 2 * most
    }

    /// Dismisses the oldest connection of the user with most connections, if `peer`'s user still
    /// has fewer with one more.
    fn make_room(&mut self, peer: &PeerUser) {
        if !self.is_full() {
            return;
        }
        let users = self.sessions.iter().filter(|it| !it.is_dismissed()).map(|it| it.peer.uid);
        // All connections may be dismissed already, and not be closed yet.
        let Some(heaviest) = users.max_by_key(|uid| self.connections_of(*uid)) else { return };
        if self.connections_of(heaviest) < self.connections_of(peer.uid) + 2 {
            return;
        }
        let oldest =
            self.sessions.iter_mut().find(|it| it.peer.uid == heaviest && !it.is_dismissed());
        if let Some(oldest) = oldest {
            oldest.dismiss(Instant::now() + DRAIN);
        }
    }

    /// Reads the output of all postdrops, and ends sessions that are over or too late.
    fn attend(&mut self, now: Instant) {
        let mut left = Vec::with_capacity(self.sessions.len());
        for mut session in self.sessions.drain(..) {
            session.listen();
            if now >= session.deadline {
                session.kill();
            }
            match session.outcome(now) {
                None => left.push(session),
                Some(outcome) => session.finish(outcome, &self.log),
            }
        }
        self.sessions = left;
    }

    /// Sets a deadline for all sessions.
    fn hurry(&mut self, deadline: Instant) {
        self.sessions
            .iter_mut()
            .for_each(|session| session.deadline = session.deadline.min(deadline));
    }
}

/// Throttle of logged refusals.
#[derive(Debug, Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    fn make(&mut self, log: &Log, peer: &PeerUser, reason: &str) {
        if self.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            self.unsaid += 1;
            return;
        }
        let others = match self.unsaid {
            0 => String::new(),
            others => format!("; {others} earlier refusals not logged"),
        };
        log.say(Severity::Warning, &format!("uid={}: {reason}{others}", peer.uid));
        *self = Self { last: Some(Instant::now()), unsaid: 0 };
    }
}
