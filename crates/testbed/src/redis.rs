//! A real redis-server for one test, which loses nothing when it is killed.
//!
//! The server fsyncs every write before it answers, as OPTIMUS requires. So [`Redis::restart`]
//! after [`Redis::kill9`] brings back exactly the acknowledged data. The server works in a folder
//! of a [`Scratch`] and ends with that.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::namespace::{self, Namespace};
use crate::processes::send;
use crate::scratch::Scratch;
use crate::wait::until;

/// Time for a server to answer after its start.
const START: Duration = Duration::from_secs(20);
/// Folder of a server's append-only file.
const DATA: &str = "appendonlydir";
/// Attempts to find a free port: another program may take one before the server starts.
const PORT_ATTEMPTS: u32 = 5;

/// A running redis-server, or one that was killed and not started again. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    server: Option<Child>,
    folder: PathBuf,
    port: Option<u16>,
    options: Vec<String>,
    namespace: Option<Namespace>,
    _scratch: Option<Scratch>,
}

impl Redis {
    /// Starts a server that listens on a Unix socket only.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with further options of redis-server, as `["maxmemory 3mb"]`.
    pub fn start_with(options: &[&str]) -> Result<Self> {
        Self::start_in_scratch(options, None)
    }

    /// Starts a server that listens on a free port of 127.0.0.1 as well.
    pub fn start_with_tcp(options: &[&str]) -> Result<Self> {
        let mut failed = None;
        for _ in 0..PORT_ATTEMPTS {
            match Self::start_in_scratch(options, Some(free_port()?)) {
                Ok(redis) => return Ok(redis),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("redis-server: no port tried")?)
    }

    /// Starts a server that works in `folder`, whose owner removes it.
    pub fn start_in(folder: &Path, options: &[&str]) -> Result<Self> {
        Self::start_at(folder, options, None)
    }

    /// Starts a server that works in `folder`, whose owner removes it, in a network namespace.
    pub fn start_within(namespace: &Namespace, folder: &Path, options: &[&str]) -> Result<Self> {
        Self::start_at(folder, options, Some(namespace.clone()))
    }

    fn start_at(folder: &Path, options: &[&str], namespace: Option<Namespace>) -> Result<Self> {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let folder = folder.to_owned();
        let (server, port) = (None, None);
        let mut redis = Self { server, folder, port, options, namespace, _scratch: None };
        redis.restart()?;
        Ok(redis)
    }

    fn start_in_scratch(options: &[&str], port: Option<u16>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let folder = scratch.folder("redis")?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let (server, namespace, _scratch) = (None, None, Some(scratch));
        let mut redis = Self { server, folder, port, options, namespace, _scratch };
        redis.restart()?;
        Ok(redis)
    }

    /// Returns the URL of the Unix socket, `unix:///...`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Returns the URL `redis://127.0.0.1:port/0`, if the server was started with TCP.
    pub fn tcp_url(&self) -> Option<String> {
        self.port.map(|port| format!("redis://127.0.0.1:{port}/0"))
    }

    /// Returns the path of the server's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Returns the process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Kills the server with SIGKILL, and returns when it is gone. Does nothing if no server runs.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Stops the server where it is, as a swapping machine or a hanging disk would.
    /// [`Redis::resume`] lets it go on.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            send(pid, signal);
        }
    }

    /// Kills the server if it runs, starts it again on the same data, and returns when it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.start_loading()?;
        until(START, "redis-server's first answer", || self.answers() || self.has_ended())?;
        if self.has_ended() {
            bail!("redis-server: ended at its start; log:\n{}", self.log());
        }
        Ok(())
    }

    /// Kills the server if it runs and starts it again, without waiting for an answer.
    pub fn start_loading(&mut self) -> Result<()> {
        self.kill9();
        let mut command = namespace::command(self.namespace.as_ref(), "redis-server");
        command.current_dir(&self.folder).args(["--dir", "."]).args(self.arguments());
        let quiet = || Stdio::null();
        let server = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
        self.server = Some(server.context("redis-server: not started; install Redis")?);
        Ok(())
    }

    /// Copies the append-only file for [`Redis::restore`], in place of an earlier copy.
    pub fn copy(&self) -> Result<PathBuf> {
        let copy = self.folder.join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        copy_folder(&self.folder.join(DATA), &copy)?;
        Ok(copy)
    }

    /// Kills the server if it runs, and starts it with the data of the copy.
    pub fn restore(&mut self, copy: &Path) -> Result<()> {
        self.kill9();
        let data = self.folder.join(DATA);
        std::fs::remove_dir_all(&data)?;
        copy_folder(copy, &data)?;
        self.restart()
    }

    /// Restarts the server with the data in the folder `other`, or with none. The server's own data
    /// goes to that folder, where [`Redis::start_in`] finds it.
    pub fn swap(&mut self, other: &Path) -> Result<()> {
        self.kill9();
        let [ours, theirs, between] =
            [&self.folder, other, &other.join("between")].map(|it| it.join(DATA));
        std::fs::create_dir_all(other.join("between"))?;
        std::fs::rename(&ours, &between)?;
        if theirs.exists() {
            std::fs::rename(&theirs, &ours)?;
        }
        std::fs::rename(&between, &theirs)?;
        self.restart()
    }

    fn arguments(&self) -> Vec<String> {
        let port = self.port.unwrap_or(0);
        let listen =
            format!("--port {port} --bind 127.0.0.1 --unixsocket ./socket --unixsocketperm 777");
        let durable = "--appendonly yes --appendfsync always --logfile ./log";
        let mut words: Vec<String> =
            format!("{listen} {durable}").split(' ').map(str::to_owned).collect();
        // An empty value must stay a word of its own.
        words.extend(["--save".to_owned(), String::new()]);
        for option in &self.options {
            words.extend(format!("--{option}").split(' ').map(str::to_owned));
        }
        words
    }

    fn answers(&self) -> bool {
        // A user without rights gets NOAUTH or NOPERM, which is an answer too.
        let asked = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line)
        };
        asked().is_ok_and(|line| {
            line.starts_with("+PONG") || line.starts_with("-NOAUTH") || line.starts_with("-NOPERM")
        })
    }

    fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
    }

    /// Returns redis-cli's output for a command, trimmed. Fails if Redis answers with an error.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        command.arg("-e").arg("-s").arg(self.socket()).args(words);
        let output = command.output().context("redis-cli: not run; install Redis")?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        match output.status.success() {
            true => Ok(said),
            false => bail!(
                "redis-cli: {words:?} failed: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("redis-server's log:\n{}", self.log());
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::is_alive;

    #[test]
    fn acknowledged_data_survives_a_kill() {
        let mut redis = Redis::start().unwrap();
        redis.cli(&["SET", "k", "v"]).unwrap();
        let first = redis.pid();
        redis.kill9();
        assert!(redis.cli(&["GET", "k"]).is_err());
        redis.restart().unwrap();
        assert_ne!(redis.pid(), first);
        assert_eq!(redis.cli(&["GET", "k"]).unwrap(), "v");
    }

    #[test]
    fn a_paused_server_answers_when_it_is_resumed() {
        let redis = Redis::start().unwrap();
        redis.pause();
        let mut stream = UnixStream::connect(redis.socket()).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut line = String::new();
        let error = BufReader::new(&stream).read_line(&mut line).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        redis.resume();
        stream.set_nonblocking(false).unwrap();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert_eq!(line, "+PONG\r\n");
    }

    #[test]
    fn two_servers_swap_their_data_and_swap_it_back() {
        let mut redis = Redis::start().unwrap();
        let other = tempfile::tempdir().unwrap();
        redis.cli(&["SET", "k", "ours"]).unwrap();
        redis.swap(other.path()).unwrap();
        assert_eq!(redis.cli(&["GET", "k"]).unwrap(), "");
        redis.cli(&["SET", "k", "theirs"]).unwrap();
        redis.swap(other.path()).unwrap();
        assert_eq!(redis.cli(&["GET", "k"]).unwrap(), "ours");
        let theirs = Redis::start_in(other.path(), &[]).unwrap();
        assert_eq!(theirs.cli(&["GET", "k"]).unwrap(), "theirs");
    }

    #[test]
    fn dropping_a_server_leaves_no_process_and_no_folder() {
        let redis = Redis::start().unwrap();
        let (pid, folder) = (i32::try_from(redis.pid().unwrap()).unwrap(), redis.folder.clone());
        assert!(is_alive(pid));
        drop(redis);
        assert!(!is_alive(pid));
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_with_tcp_listens_there_too() {
        let redis = Redis::start_with_tcp(&[]).unwrap();
        let url = redis.tcp_url().unwrap();
        let place = url.strip_prefix("redis://").unwrap().strip_suffix("/0").unwrap();
        assert!(std::net::TcpStream::connect(place).is_ok());
    }

    #[test]
    fn an_unknown_option_is_an_error_with_the_server_s_words() {
        let error = Redis::start_with(&["no-such-option 1"]).unwrap_err().to_string();
        assert!(error.contains("ended at its start"), "{error}");
    }
}
