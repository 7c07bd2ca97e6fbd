//! The Redis of `optimus run`, when none is configured: a redis-server child with one socket and
//! its own folder.
//!
//! - Nothing is acknowledged before it is on disk: append-only file, fsync before every answer, no
//!   eviction.
//! - Only `mail_owner` and set-group-id `sendmail` can reach it: a socket in `public/`, mode 0770,
//!   group `setgid_group`; no port.
//! - Whoever reaches it may only submit: the one user without a password appends to the inbox, and
//!   nothing else. The daemons log in with a password that is made here and that only `mail_owner`
//!   can read (decision 0009). It is in two files and on no command line.
//! - Two servers must never write one file: whoever writes holds a lock in the folder. The lock
//!   belongs to an open file that the child inherits, so it lasts as long as the last process that
//!   has it, whoever started it.
//!
//! ```text
//!  is one answering? ── yes ──▶ use it until it is gone
//!        │ no
//!  the lock ── taken ──▶ one is still ending (or starting): wait
//!        │ free
//!  start one ──▶ wait until it answers ──▶ until it ends ──▶ back-off, again
//! ```
//!
//! The child ends with this process (SIGTERM by the kernel, upon which it writes out what it has),
//! so that a killed and restarted `optimus run` is always the parent of the Redis it uses, at most
//! a moment later. It is in a process group of its own, so that Ctrl-C doesn't take it from the
//! agents, who have something to say to it before they end.
//!
//! Redis doesn't notice when somebody removes its socket, and can't make another one while it runs.
//! We look, and start it again.
//!
//! Its log is a file in its folder, because standard error may be a pipe that nobody reads, and a
//! write to that would hold up the one thread of Redis. What it says outlives us there, too.
//!
//! A connection over which nothing comes is closed after [`spool::SILENCE_LIMIT_S`]: stopped
//! `sendmail`s must not use up `maxclients`.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use host::folder::is_refusal;
use host::peer::Socket;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid};
use spool::Generation;
use spool::acl::{self, Proof};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::{child, machine_memory as machine, own_file};

/// What an embedded Redis needs to know.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Its socket.
    pub socket: PathBuf,
    /// Its folder.
    pub directory: PathBuf,
    /// The daemons' password, in a file in that folder; made if it is missing.
    pub password_file: PathBuf,
    /// Who may use the socket, besides the owner.
    pub group: Gid,
    /// redis-server, by name or path.
    pub program: PathBuf,
    /// Memory from which on it takes no more submissions, bytes. See [`memory_bytes`].
    pub memory_bytes: u64,
}

/// The setting, or half of what this machine has. The other half is for the rewriting of the
/// append-only file, which copies what changes meanwhile, and for recovery: functions may use more
/// than the limit, or mail could not leave.
pub fn memory_bytes(setting_mb: Option<u64>) -> u64 {
    let half_of_all =
        || machine::memory_bytes().map_or(MEMORY_LEAST, |bytes| (bytes / 2).max(MEMORY_LEAST));
    setting_mb.map_or_else(half_of_all, |mb| mb << 20)
}

/// Where nothing is known of the machine; a Redis with less is of no use.
const MEMORY_LEAST: u64 = 64 << 20;

/// How often to look whether a server that is starting or ending has done so.
const LOOK: Duration = Duration::from_millis(10);
/// How often to look whether its socket is still there.
const SOCKET_LOOK: Duration = Duration::from_secs(1);
/// Longer than the busiest machine takes from the start of a server to its socket, which is there
/// before it loads its data.
const OPEN: Duration = Duration::from_secs(60);
const PAUSE_SHORTEST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// A server that ran for this long did not fail at once.
const STEADY: Duration = Duration::from_secs(60);
/// How long a server may take to write out what it has.
const END: Duration = Duration::from_secs(30);

/// Years of what it says at its log level.
const LOG_BYTES_MAX: u64 = 1 << 20;

const LAST_WORDS_BYTES: u64 = 1024;

const FOLDER_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const DATABASE: u32 = 0;
/// Two ULIDs, which is 160 random bits.
const PASSWORD_BYTES: usize = 52;

impl Embedded {
    /// Keeps a Redis running until `drain`; then ends it, if it is ours. Fails only if the first
    /// one can't be started.
    pub async fn run(self, mut drain: watch::Receiver<bool>) -> Result<()> {
        self.make_folder()?;
        self.make_users().with_context(|| self.directory.display().to_string())?;
        let mut backoff = Backoff::new(PAUSE_SHORTEST, PAUSE_LONGEST);
        let mut has_run = false;
        while let Some(lock) = unless_drained(&mut drain, self.turn()).await.transpose()? {
            let started = Instant::now();
            match self.start(lock) {
                Ok(child) => self.attend(child, &mut drain).await?,
                Err(error) if has_run => {
                    tracing::error!(
                        "redis-server can't be started again: {}",
                        settings::told(error.as_ref())
                    );
                }
                Err(error) => return Err(error),
            }
            has_run = true;
            if started.elapsed() >= STEADY {
                backoff.succeeded();
            }
            backoff.failed(Instant::now());
            if let Some(until) = backoff.until() {
                unless_drained(&mut drain, sleep_until(until.into())).await;
            }
        }
        Ok(())
    }

    fn make_folder(&self) -> Result<()> {
        let made = fs::DirBuilder::new().mode(FOLDER_MODE).create(&self.directory);
        made.or_else(
            |error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) },
        )
        .with_context(|| self.directory.display().to_string())
    }

    /// Written anew each time, since another version may have had other rights for them.
    fn make_users(&self) -> io::Result<()> {
        let password = password(&self.password_file)?;
        let daemons = acl::agent(settings::EMBEDDED_USER, Proof::Password(&password), DATABASE);
        let submitter = acl::submitter(settings::EMBEDDED_SUBMITTER, Proof::None, DATABASE);
        let lines = format!("{}\n{submitter}\n{daemons}\n", acl::NOBODY);
        let draft = self.users_file().with_extension("draft");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(SECRET_MODE)
            .open(&draft)?;
        file.write_all(lines.as_bytes())?;
        fs::rename(&draft, self.users_file())
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Opens the log of the next server. A long one is put aside, in the place of the one before.
    fn open_log(&self) -> io::Result<File> {
        let path = self.log_file();
        if path.symlink_metadata().is_ok_and(|it| it.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("old"))?;
        }
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(SECRET_MODE)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options.open(&path)
    }

    /// The last line of the log, for whoever looks for the cause.
    fn last_words(&self) -> String {
        let read = || {
            let mut file = File::open(self.log_file())?;
            let from = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
            file.seek(SeekFrom::Start(from))?;
            let mut end = Vec::new();
            file.take(LAST_WORDS_BYTES).read_to_end(&mut end).map(|_| end)
        };
        let end: Vec<u8> = read().unwrap_or_else(|_: io::Error| Vec::new());
        String::from_utf8_lossy(&end).trim_end().lines().last().unwrap_or_default().to_owned()
    }

    fn users_file(&self) -> PathBuf {
        self.directory.join("users.acl")
    }

    /// Waits until no other server is there, and sees to it that none can come.
    async fn turn(&self) -> Result<File> {
        let mut is_told = false;
        loop {
            match self.another().await? {
                // Closed when that server ends, and also when nothing came for its `timeout`.
                Some(other) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(socket = %self.socket.display(), "redis is there already");
                    }
                    until_closed(other).await;
                }
                None => {
                    if let Some(lock) = self.lock()? {
                        return Ok(lock);
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// A server that answers already, if it can be one of ours.
    async fn another(&self) -> Result<Option<UnixStream>> {
        let Ok(other) = UnixStream::connect(&self.socket).await else { return Ok(None) };
        match Socket::find(&self.socket).and_then(|it| it.expect_owner(&other)) {
            Err(error) if is_refusal(&error) => {
                Err(error).context(self.socket.display().to_string())
            }
            // It may have ended meanwhile.
            Ok(()) | Err(_) => Ok(Some(other)),
        }
    }

    fn lock(&self) -> Result<Option<File>> {
        let path = self.directory.join("lock");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(SECRET_MODE)
            .open(&path);
        let file = open.with_context(|| path.display().to_string())?;
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)) {
            Ok(_) => Ok(Some(file)),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// The child has the lock when this returns, and this process has not.
    fn start(&self, lock: File) -> Result<Child> {
        fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let child = self.spawn();
        drop(lock);
        child
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["--port", "0", "--unixsocketperm", "770", "--unixsocket"]).arg(&self.socket);
        command.arg("--dir").arg(&self.directory).arg("--aclfile").arg(self.users_file());
        command.args(DURABLE).args(PLAIN).arg("--maxmemory").arg(self.memory_bytes.to_string());
        command.arg("--timeout").arg(spool::SILENCE_LIMIT_S.to_string());
        let log = self.open_log().with_context(|| self.log_file().display().to_string())?;
        command.stdin(host::nothing()?).stdout(log.try_clone()?).stderr(log).process_group(0);
        child::end_with_parent(&mut command);
        let child =
            command.spawn().map_err(host::limit::starting).map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    anyhow!(
                        "{}: not found; install Redis 7 or newer, or set redis.url",
                        self.program.display()
                    )
                }
                _ => anyhow!("{}: {error}", self.program.display()),
            })?;
        tracing::info!(pid = child.id(), socket = %self.socket.display(), "redis-server started");
        Ok(child)
    }

    /// Returns when the child has ended, by itself, because of `drain`, or because nobody could
    /// reach it any more.
    async fn attend(&self, mut child: Child, drain: &mut watch::Receiver<bool>) -> Result<()> {
        tokio::select! {
            status = child.wait() => {
                let (log, said) = (self.log_file(), self.last_words());
                tracing::error!(
                    status = %status?,
                    said,
                    log = %log.display(),
                    "redis-server has ended",
                );
                return Ok(());
            }
            _ = drain.wait_for(|drain| *drain) => (),
            why = self.until_unreachable() => {
                let socket = self.socket.display();
                tracing::error!(%socket, "{why}: nobody can reach redis-server, starting it again");
            }
        }
        end(child).await
    }

    /// Returns when the server's socket is not there, and says why.
    async fn until_unreachable(&self) -> &'static str {
        if timeout(OPEN, self.until_reachable()).await.is_err() {
            return "its socket does not appear";
        }
        let which = || fs::symlink_metadata(&self.socket).map(|it| (it.dev(), it.ino()));
        let Ok(ours) = which() else { return "its socket was removed" };
        // Until this has happened, only `mail_owner` can connect: Redis makes the socket with our
        // own group.
        if let Err(error) = chown(&self.socket, None, Some(self.group.as_raw())) {
            tracing::error!(%error, socket = %self.socket.display(), "socket can't be given to \
                setgid_group");
        }
        loop {
            sleep(SOCKET_LOOK).await;
            match which() {
                Ok(it) if it == ours => (),
                Ok(_) => return "its socket was replaced",
                Err(_) => return "its socket was removed",
            }
        }
    }

    async fn until_reachable(&self) {
        while UnixStream::connect(&self.socket).await.is_err() {
            sleep(LOOK).await;
        }
    }
}

/// The password of the daemons, which is made once.
fn password(path: &Path) -> io::Result<String> {
    let random = || Generation::new().map_err(io::Error::other);
    let is_whole = |it: &str| {
        it.len() == PASSWORD_BYTES && it.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    own_file::text_of(path, is_whole, || Ok(format!("{}{}", random()?, random()?)))
}

/// What G1 rests on.
const DURABLE: [&str; 8] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--no-appendfsync-on-rewrite",
    "no",
    "--save",
    "",
];

const PLAIN: [&str; 10] = [
    "--maxmemory-policy",
    "noeviction",
    "--daemonize",
    "no",
    "--databases",
    "1",
    "--loglevel",
    "warning",
    "--logfile",
    "",
];

async fn unless_drained<T>(
    drain: &mut watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        _ = drain.wait_for(|drain| *drain) => None,
    }
}

async fn until_closed(mut stream: UnixStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn end(mut child: Child) -> Result<()> {
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM);
    }
    if timeout(END, child.wait()).await.is_err() {
        tracing::error!("redis-server does not end, killing it");
        child.kill().await?;
    }
    tracing::info!("redis-server ended");
    Ok(())
}
