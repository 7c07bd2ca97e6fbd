//! The server `postdropd`: runs postdrop for callers in whose processes set-group-id is without
//! effect.
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
//! # Why it is this small
//!
//! It judges nothing. The kernel says who has connected; the child becomes that user for good, and
//! then is what that user could have started in a shell: the installed, set-group-id postdrop.
//! Policy, filter, limits, Redis, the maildrop file and its owner are postdrop's. The server reads
//! not one byte of what a peer sends; what it writes to one is a last attribute list for a postdrop
//! that ended without giving its own, with the words it left on standard error.
//!
//! A user that is known on no passwd file here is that number all the same. A peer in a user
//! namespace is who it is outside of it: the "root" of an unprivileged container is the user who
//! made the container. Where the namespace maps a user to no number of ours the kernel says 65534,
//! and so do we: all such peers share one user, `nobody`, and its limit of connections.
//!
//! # Limits
//!
//! | | default | option | who is over it |
//! |---|---|---|---|
//! | connections | 512 | `--connections` | ends the oldest of whoever has most, or must come back later |
//! | connections of one user | 64 | `--connections-per-user` | is told to come back later |
//! | silence, each way | 600 s | `--idle-s` | its postdrop gives up |
//! | a connection | 3600 s | `--total-s` | its postdrop is killed |
//! | what postdrop says on standard error | 4 KiB | | the beginning is forgotten |
//!
//! A connection costs two descriptors and one small process, which keeps at most 512 KiB of a
//! message in memory, whatever its size (see [`crate::collected`]); the rest is in the page cache,
//! which the kernel writes to disk when it needs the memory. A service manager's memory limit must
//! leave room for 1 MiB a connection.
//!
//! # Shares
//!
//! When all connections are taken, a user who has fewer than another by two or more gets one of the
//! other's. The oldest of whoever has most is *dismissed*: its postdrop reads no more than what has
//! been sent. A complete message is submitted and answered as ever, and an unfinished one is not
//! submitted. So no dismissal leaves a message in doubt, unless its user stops postdrop: then it is
//! killed after [`DRAIN`]. Dismissed connections are at most as many again.
//!
//! # Who dies
//!
//! | who | then |
//! |---|---|
//! | the peer | postdrop sees the end of its input: nothing is submitted, unless the message was complete |
//! | the peer stops postdrop, which is its own process as soon as it has its user | nobody waits for it but its time limit: [`become_peer`] |
//! | postdrop | the peer is told; if it had sent all of a message, it is told that nobody knows |
//! | postdropd | conversations that have begun end well without it; new peers find nobody. The next one replaces the socket |
//!
//! On SIGTERM it accepts what has connected already, removes its socket, and gives the rest
//! [`DRAIN`] to end.
//!
//! # How to start it
//!
//! As root, after the file systems are there; without Redis, Postfix or network it works too.
//! `postdropd [-c config_dir]`, in the foreground; it logs as Postfix does. As a systemd service:
//!
//! * `Type=exec`, `KillMode=mixed`, `Restart=on-failure`; `TimeoutStopSec` above 30 s.
//! * Nothing that implies `NoNewPrivileges=yes` (for a service of root that is only that setting
//!   itself), no `nosuid` over `$command_directory`, no `User=`: children must be able to become
//!   anybody and then gain the group. It says so and ends where it can't work.
//!   `CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_DAC_OVERRIDE` suffices.
//! * What children need in their view: `/etc`, the queue directory writable, Redis's socket or
//!   network, `/dev/log`.
//! * Best with a socket unit (`ListenStream=/var/spool/postfix/optimus/submit`, `SocketMode=0666`,
//!   `DirectoryMode=0755`, `Accept=no`, `Backlog=4096`): then the socket stays while the service
//!   restarts, and nobody is turned away meanwhile.
//!
//! Into a container mount the socket's folder, not the socket, so that a restart's new socket is
//! seen there too.

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
use crate::instance::{Asked, DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::log::{Log, Severity};
use crate::privilege::Caller;
use crate::sys;
use listener::Listener;
use options::Options;
use session::{Peer, Postdrop, Session, refuse};

/// Time for which conversations may go on when the server is asked to end: postdrop's own time
/// limits, and a slow disk. Less than the 90 s that service managers wait.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Connections that are taken up before those that exist are looked after.
const ACCEPTED_AT_ONCE: usize = 64;
/// Time to leave new connections alone when the system has no descriptors for them.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Refusals are logged this often at most: who is refused could have us fill the disk.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// `main` of `postdropd`: what it ends with.
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

fn start(log: &mut Log) -> Result<Server, Failure> {
    let options = Options::parse(std::env::args_os().skip(1).map(OsStringExt::into_vec))?;
    can_work()?;
    sys::settle_signals();
    raise_descriptor_limit();
    sys::keep_inherited_descriptors()
        .map_err(|error| Failure::temporary(format!("inherited descriptors: {error}")))?;
    let caller = Caller {
        uid: 0,
        mail_config: std::env::var_os("MAIL_CONFIG"),
        name: None,
        was_set_user_id_root: false,
    };
    let asked = options.config_directory.clone().map_or(Asked::No, Asked::ByPostdropOption);
    let instance = Instance::open(asked, &caller)?;
    instance.configure(log)?;
    let socket = socket_path(&instance)?;
    // Before the first child, which must not be told of it.
    let signals = signals().map_err(|error| Failure::temporary(format!("signals: {error}")))?;
    let listener = Listener::open(&socket).map_err(|error| trouble(&socket, &error))?;
    let elsewhere = instance.config_directory.as_path() != Path::new(DEFAULT_CONFIG_DIRECTORY);
    let postdrop = Postdrop {
        path: PathBuf::from(instance.text("command_directory")).join("postdrop"),
        mail_config: elsewhere.then(|| instance.config_directory.clone()),
    };
    // As Postfix's daemons; whatever folder we were started in is not kept busy.
    let _ = std::env::set_current_dir(instance.text("queue_directory"));
    let listener = Some(listener);
    let crowd = Crowd {
        options,
        postdrop,
        log: log.clone(),
        sessions: Vec::new(),
        complaint: Complaint::default(),
    };
    Ok(Server { crowd, signals, listener, paused_until: None })
}

/// Checks for troubles that would otherwise be told to each caller.
fn can_work() -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Err(Failure::temporary("postdropd must be run by root"));
    }
    if nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        return Err(Failure::temporary(
            "postdropd can't work with NoNewPrivileges: postdrop would not get its group",
        ));
    }
    become_peer::trouble().map_or(Ok(()), |trouble| Err(Failure::temporary(trouble)))
}

/// A service is started with 1024 as a rule, and may have many more.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    // Without, it is refusals that come sooner.
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

/// The server: one thread, one owner.
struct Server {
    crowd: Crowd,
    signals: SignalFd,
    /// None: it has been asked to end.
    listener: Option<Listener>,
    paused_until: Option<Instant>,
}

impl Server {
    /// Serves until it is asked to end and has nobody left to serve.
    fn run(&mut self) -> Result<(), Failure> {
        while self.listener.is_some() || !self.crowd.sessions.is_empty() {
            self.wait().map_err(|error| Failure::temporary(format!("poll: {error}")))?;
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

    /// For something to do.
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
            // Rounded up, so that the time has come when it is over.
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
                    self.crowd.log.say(Severity::Warning, &format!("accept: {error}"));
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

/// The peers that are being served.
struct Crowd {
    options: Options,
    postdrop: Postdrop,
    log: Log,
    sessions: Vec<Session>,
    complaint: Complaint,
}

impl Crowd {
    /// Begins a conversation, or says why not.
    fn welcome(&mut self, connection: UnixStream) {
        let peer = match getsockopt(&connection, PeerCredentials) {
            Ok(credentials) => Peer::from(credentials),
            Err(error) => {
                return self.log.say(Severity::Warning, &format!("peer credentials: {error}"));
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

    fn objection(&self, peer: &Peer) -> Option<String> {
        let path = self.postdrop.path.display();
        let of_this_user = || self.connections_of(peer.uid);
        if self.sessions.iter().any(|session| session.process_id() == peer.process_id) {
            // Which would go on for ever: it has come to us for what it lacks, and it lacks it
            // because it is ours.
            Some(format!(
                "{path}, run for user ID {}, is without the rights of its group: is it \
                    set-group-id?",
                peer.uid
            ))
        } else if self.is_full() {
            Some(format!("the submission socket is busy: {} connections", self.sessions.len()))
        } else if of_this_user() >= self.options.connections_per_user {
            Some(format!(
                "the submission socket is busy: {} connections of user ID {}",
                of_this_user(),
                peer.uid
            ))
        } else {
            None
        }
    }

    /// Counts what a user has, without what was dismissed.
    fn connections_of(&self, uid: u32) -> usize {
        self.sessions.iter().filter(|it| it.peer.uid == uid && !it.is_dismissed()).count()
    }

    fn is_full(&self) -> bool {
        let waiting = self.sessions.iter().filter(|it| !it.is_dismissed()).count();
        let most = self.options.connections;
        waiting >= most || self.sessions.len() >= 2 * most
    }

    /// Dismisses the oldest connection of whoever has most, if `peer` would still have fewer.
    fn make_room(&mut self, peer: &Peer) {
        if !self.is_full() {
            return;
        }
        let users = self.sessions.iter().filter(|it| !it.is_dismissed()).map(|it| it.peer.uid);
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

    /// Hears what the postdrops have to say, and sees off who has ended or has to.
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

    /// Nobody has longer than until then.
    fn hurry(&mut self, deadline: Instant) {
        self.sessions
            .iter_mut()
            .for_each(|session| session.deadline = session.deadline.min(deadline));
    }
}

/// Refusals, logged now and then.
#[derive(Debug, Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    fn make(&mut self, log: &Log, peer: &Peer, reason: &str) {
        if self.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            self.unsaid += 1;
            return;
        }
        let others = match self.unsaid {
            0 => String::new(),
            others => format!("; and {others} refusals before this"),
        };
        log.say(Severity::Warning, &format!("uid={}: {reason}{others}", peer.uid));
        *self = Self { last: Some(Instant::now()), unsaid: 0 };
    }
}
