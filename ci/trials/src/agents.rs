//! The agents as processes, and their supervisor: it restarts a process that has ended, as an init
//! system would.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

/// Most ends of processes in a trial by which the supervisor still restarts them.
const LIMIT_ENDS: u32 = 50;
/// Time limit for a process's end after SIGTERM: init systems wait for 90 s.
const LIMIT_TERMINATION: Duration = Duration::from_secs(60);

/// Processes by name. Killed when dropped.
#[derive(Debug)]
pub struct Agents {
    logs: PathBuf,
    running: BTreeMap<String, Child>,
    ended_by_themselves: u32,
}

impl Agents {
    /// Returns a supervisor without processes. Their output goes to `logs/NAME.log`.
    pub fn new(logs: PathBuf) -> Self {
        Self { logs, running: BTreeMap::new(), ended_by_themselves: 0 }
    }

    /// Starts a process under this name.
    pub fn start(&mut self, name: &str, mut command: Command) -> Result<()> {
        let path = self.logs.join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .context("log of an agent: not opened")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{name}: not started: {command:?}"))?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    /// Kills a process with SIGKILL and waits for its end. The supervisor doesn't restart it.
    pub fn kill_9(&mut self, name: &str) {
        if let Some(mut child) = self.running.remove(name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a process where it is, until [`Agents::thaw`].
    pub fn freeze(&self, name: &str) -> Result<()> {
        self.send(name, Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self, name: &str) -> Result<()> {
        self.send(name, Signal::SIGCONT)
    }

    fn send(&self, name: &str, signal: Signal) -> Result<()> {
        let child = self.running.get(name).with_context(|| format!("{name}: does not run"))?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Ends a process with SIGTERM, as an init system does, and waits for its end. The supervisor
    /// doesn't restart it.
    pub fn terminate(&mut self, name: &str) -> Result<()> {
        let mut child = self
            .running
            .remove(name)
            .with_context(|| format!("{name}: not stopped: not running"))?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let ended = until(LIMIT_TERMINATION, &format!("end of {name}"), || {
            !matches!(child.try_wait(), Ok(None))
        });
        if ended.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        ended?;
        // A process that has just started may not handle SIGTERM yet. Init systems accept that end,
        // too.
        if !status.success() && status.signal() != Some(Signal::SIGTERM as i32) {
            bail!("{name}: failed when asked to end: {status}");
        }
        Ok(())
    }

    /// Returns and forgets the names of the processes that have ended by themselves since the last
    /// call.
    pub fn take_ended(&mut self) -> Result<Vec<String>> {
        let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        let names: Vec<String> = self
            .running
            .iter_mut()
            .filter_map(|(name, child)| ended(child).then(|| name.clone()))
            .collect();
        names.iter().for_each(|name| drop(self.running.remove(name)));
        self.ended_by_themselves += u32::try_from(names.len())?;
        if self.ended_by_themselves > LIMIT_ENDS {
            bail!("agents: ended again and again: {names:?}; see their logs");
        }
        Ok(names)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        names.iter().for_each(|name| self.kill_9(name));
    }
}
