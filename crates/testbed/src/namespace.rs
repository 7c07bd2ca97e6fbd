//! Network namespaces of the kernel, by name, and a guard that removes them.
//!
//! The guard is a shell that waits for the end of a pipe, however this program ends. The devices of
//! a namespace go with it, as soon as no process is left in it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::link::ip;

/// Script that removes the given namespaces when the pipe ends.
const GUARD: &str = r#"trap '' INT TERM HUP QUIT; read -r _; for name; do ip netns delete "$name"; done 2>/dev/null"#;

/// A network namespace. The value is a name and keeps nothing alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Returns the name, with room for a letter in the name of a device.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Returns a command that runs `program` in the namespace, as the process that is started.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program.as_ref());
        command
    }

    /// Calls a function in a thread of the namespace. Sockets and threads that it makes stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        let entered = move || {
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            setns(file, CloneFlags::CLONE_NEWNET).context("network namespace: not entered")?;
            work()
        };
        let ended = std::thread::scope(|scope| scope.spawn(entered).join());
        ended.unwrap_or_else(|_| Err(anyhow!("thread in a network namespace: panicked")))
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }
}

/// Returns a command that runs `program`, in a namespace if there is one.
pub(crate) fn command(namespace: Option<&Namespace>, program: impl AsRef<Path>) -> Command {
    match namespace {
        Some(namespace) => namespace.command(program),
        None => Command::new(program.as_ref()),
    }
}

/// Several namespaces. Dropping the value removes them.
#[derive(Debug)]
pub(crate) struct Namespaces {
    all: Vec<Namespace>,
    guard: Child,
}

impl Namespaces {
    /// Makes `count` namespaces, each with its loopback device and nothing else of this machine's
    /// network.
    pub(crate) fn new(count: u8) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique =
            format!("o{:x}n{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let named = |number| Namespace(format!("{unique}{}", char::from(b'a' + number)));
        let all: Vec<Namespace> = (0..count).map(named).collect();
        let guard = guard(&all).context("guard process (sh): not started")?;
        // From here on, dropping the value removes the namespaces.
        let namespaces = Self { all, guard };
        for Namespace(name) in &namespaces.all {
            ip(&["netns", "add", name]).context("network namespace: not made; run as root")?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(namespaces)
    }

    /// Returns all of them, in order.
    pub(crate) fn all(&self) -> &[Namespace] {
        &self.all
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Starts the guard in a process group of its own, so that Ctrl-C in the terminal doesn't end the
/// guard.
fn guard(namespaces: &[Namespace]) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "sh"]).args(namespaces.iter().map(Namespace::name));
    Ok(command.stdin(Stdio::piped()).process_group(0).spawn()?)
}
