//! The Redis of `optimus run`, when none is configured: a redis-server child with one socket and
//! its own folder.
//!
//! - Nothing is acknowledged before it is on disk: append-only file, fsync before every answer, no
//!   snapshots instead.
//! - Only `mail_owner` and set-group-id `sendmail` can reach it: a socket in `public/`, mode 0770,
//!   group `setgid_group`; no port.
//! - A connection without a password may only submit: its user appends to the inbox, and nothing
//!   else. The daemons log in with a password that is made here and that only `mail_owner` can read
//!   (decision 0009). The password is in two files and on no command line.
//! - Two servers must never write one file, so each server holds a lock in the folder. The lock
//!   belongs to an open file that the child inherits. So it lasts as long as any process has that
//!   file open, also when `optimus run` has died.
//!
//! ```text
//!  does one answer?  ── yes ──▶ use it until it is gone
//!        │ no
//!  the lock ── taken ──▶ a server is still ending (or starting): wait
//!        │ free
//!  start a server ──▶ wait until it answers ──▶ until it ends ──▶ back-off, again
//! ```
//!
//! The child ends with this process: the kernel sends it SIGTERM, upon which it writes out its
//! data. So a restarted `optimus run` soon has a Redis of its own as a child.
//! The child is in a process group of its own, so that Ctrl-C doesn't take it from the agents,
//! which use it until they end.
//!
//! Redis doesn't notice when its socket is removed, and can't make another one while it runs. So
//! this module looks for the socket, and starts Redis again when it is gone.
//!
//! Redis logs to a file in its folder. Standard error may be a pipe that nobody reads, and a write
//! to that would hold up the one thread of Redis. The file also outlives this process.
//!
//! An idle connection is closed after [`spool::SILENCE_LIMIT_S`], so that stopped `sendmail`
//! processes don't use up `maxclients`.

mod child;
mod machine_memory;

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents::own_file;
use anyhow::{Context, Result, anyhow};
use durable::TextFile;
use host::folder::is_refusal;
use host::peer::Socket;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid};
use sansio::{Backoff, Policy};
use spool::Generation;
use spool::acl::{self, Proof};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use self::machine_memory as machine;

/// An embedded Redis: its settings, and [`run`](Self::run) to keep it running.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    /// Socket on which Redis listens.
    pub(crate) socket: PathBuf,
    /// Folder of the files of Redis.
    pub(crate) directory: PathBuf,
    /// File with the daemons' password; made if it is missing.
    pub(crate) password_file: PathBuf,
    /// Group that may use the socket, besides the owner.
    pub(crate) group: Gid,
    /// Name or path of redis-server.
    pub(crate) program: PathBuf,
    /// Memory above which Redis takes no more submissions, in bytes. See [`memory_bytes`].
    pub(crate) memory_bytes: u64,
}

/// Returns the memory limit in bytes: the setting, or half of the machine's memory. The other half
/// is for recovery, and for rewriting the append-only file, which copies changed memory. Functions
/// may exceed the limit, too; else no mail could leave.
pub(crate) fn memory_bytes(setting_mb: Option<u64>) -> u64 {
    let half_of_all =
        || machine::memory_bytes().map_or(MEMORY_LEAST, |bytes| (bytes / 2).max(MEMORY_LEAST));
    setting_mb.map_or_else(half_of_all, |mb| mb << 20)
}

/// The least limit, also used where the machine's memory is unknown. A smaller Redis is of no use.
const MEMORY_LEAST: u64 = 64 << 20;

/// Time between two looks at a server that is starting or ending.
const LOOK: Duration = Duration::from_millis(10);
/// Time between two looks for the server's socket.
const SOCKET_LOOK: Duration = Duration::from_secs(1);
/// Time within which a server must have made its socket, which it does before it loads its data.
/// Even a busy machine needs less.
const OPEN: Duration = Duration::from_secs(60);
/// Pauses between the end of a server and the start of the next one.
const RESTART: Policy = Policy::from_millis(100, 10_000);
/// Time after which a server counts as steady, and the back-off begins anew.
const STEADY: Duration = Duration::from_secs(60);
/// Time in which an ending server may write out its data, before it is killed.
const END: Duration = Duration::from_secs(30);

/// Size above which a log is put aside, in bytes. At `warning` Redis takes years to write as much.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Length of the end of the log that is searched for its last line, in bytes.
const LAST_WORDS_BYTES: u64 = 1024;

const FOLDER_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const DATABASE: u32 = 0;
/// Length of a password, in bytes: two ULIDs, which have 160 random bits.
const PASSWORD_BYTES: usize = 52;

impl Embedded {
    /// Keeps a Redis running until `drain`; then ends it, if this process started it. Fails if the
    /// first server can't be started, or if folder, lock or socket can't be used.
    pub(crate) async fn run(self, mut drain: watch::Receiver<bool>) -> Result<()> {
        self.make_folder()?;
        self.make_users()
            .with_context(|| format!("{}: users not written", self.directory.display()))?;
        let mut backoff = Backoff::new(RESTART);
        let mut has_run = false;
        while let Some(lock) = unless_drained(&mut drain, self.turn()).await.transpose()? {
            let started = Instant::now();
            match self.start(lock) {
                Ok(child) => self.attend(child, &mut drain).await?,
                Err(error) if has_run => {
                    let error = settings::told(error.as_ref());
                    tracing::error!(%error, "restart of redis-server failed");
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

    /// Writes the users file. Each start does so, since another version may have had other rights.
    fn make_users(&self) -> io::Result<()> {
        let password = password(&self.password_file)?;
        let daemons = acl::agent(settings::EMBEDDED_USER, Proof::Password(&password), DATABASE);
        let submitter = acl::submitter(settings::EMBEDDED_SUBMITTER, Proof::None, DATABASE);
        let lines = format!("{}\n{submitter}\n{daemons}", acl::NOBODY);
        TextFile::at(self.users_file(), SECRET_MODE).replace(&lines)
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Opens the log of the next server. A long log first becomes `log.old`, in place of an older
    /// one.
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

    /// Returns the last line of the log, which may name the cause of an end.
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

    /// Waits until no other server runs, and returns the lock that keeps others from starting.
    async fn turn(&self) -> Result<File> {
        let mut is_told = false;
        loop {
            match self.another().await? {
                // The connection closes when that server ends, and also after its `timeout`.
                Some(other) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(
                            socket = %self.socket.display(),
                            "start of redis-server postponed: another one runs at the socket"
                        );
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

    /// Connects to a server that answers already. A socket that another user may have made is an
    /// error.
    async fn another(&self) -> Result<Option<UnixStream>> {
        let Ok(other) = UnixStream::connect(&self.socket).await else { return Ok(None) };
        match Socket::find(&self.socket).and_then(|it| it.expect_owner(&other)) {
            Err(error) if is_refusal(&error) => {
                Err(error).context(self.socket.display().to_string())
            }
            // The server may have ended meanwhile.
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

    /// Starts a server. The child then has the lock instead of this process.
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
                _ => anyhow!("{}: not started: {error}", self.program.display()),
            })?;
        tracing::info!(pid = child.id(), socket = %self.socket.display(), "redis-server started");
        Ok(child)
    }

    /// Attends to a running server. Returns when the child has ended: by itself, because of
    /// `drain`, or because its socket was gone.
    async fn attend(&self, mut child: Child, drain: &mut watch::Receiver<bool>) -> Result<()> {
        tokio::select! {
            status = child.wait() => {
                let (log, last_line) = (self.log_file(), self.last_words());
                tracing::error!(
                    status = %status?,
                    last_line,
                    log = %log.display(),
                    "redis-server died",
                );
                return Ok(());
            }
            _ = drain.wait_for(|drain| *drain) => (),
            reason = self.until_unreachable() => {
                let socket = self.socket.display();
                tracing::error!(%socket, reason, "redis-server became unreachable");
            }
        }
        end(child).await
    }

    /// Returns when the server's socket is not there, with the reason.
    async fn until_unreachable(&self) -> &'static str {
        if timeout(OPEN, self.until_reachable()).await.is_err() {
            return "the socket did not appear";
        }
        let which = || fs::symlink_metadata(&self.socket).map(|it| (it.dev(), it.ino()));
        let Ok(ours) = which() else { return "the socket was removed" };
        // Before the chown only `mail_owner` can connect: Redis makes the socket with the group of
        // this process.
        if let Err(error) = chown(&self.socket, None, Some(self.group.as_raw())) {
            let socket = self.socket.display();
            tracing::error!(%error, %socket, "group of redis-server's socket not set");
        }
        loop {
            sleep(SOCKET_LOOK).await;
            match which() {
                Ok(it) if it == ours => (),
                Ok(_) => return "the socket was replaced",
                Err(_) => return "the socket was removed",
            }
        }
    }

    async fn until_reachable(&self) {
        while UnixStream::connect(&self.socket).await.is_err() {
            sleep(LOOK).await;
        }
    }
}

/// Returns the password of the daemons, which is made once.
fn password(path: &Path) -> io::Result<String> {
    let random = || Generation::new().map_err(io::Error::other);
    let is_whole = |it: &str| {
        it.len() == PASSWORD_BYTES && it.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    own_file::text_of(path, is_whole, || Ok(format!("{}{}", random()?, random()?)))
}

/// Options on which guarantee G1 rests: durable before it is acknowledged.
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
        tracing::error!(limit_s = END.as_secs(), "redis-server killed: not ended after SIGTERM");
        child.kill().await?;
    }
    tracing::info!("redis-server ended");
    Ok(())
}
