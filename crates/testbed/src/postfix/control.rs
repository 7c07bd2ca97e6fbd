//! Start, stop and mistreatment of an instance.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::Postfix;
use crate::processes::{Process, children, is_alive, kill_9, processes_under, send};
use crate::wait::{until, until_some};

/// Limit far above the time that any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Time for daemons to end when master tells them to.
const POLITE: Duration = Duration::from_secs(5);

impl Postfix {
    /// Starts master and waits until it is ready. Works right after `kill9_master` too, when the
    /// children may still be there.
    pub fn start(&self) -> Result<()> {
        let log_length = self.log().len();
        let mut command = self.command(self.layout.daemons.join("master"));
        let output = command
            .arg("-c")
            .arg(self.config_dir())
            .arg("-w")
            .output()
            .context("master: not run")?;
        if !output.status.success() {
            let log = self.log().split_off(log_length);
            bail!(
                "master: not started: {}\n{}{log}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Stops master and all daemons. Does nothing if master doesn't run.
    pub fn stop(&self) -> Result<()> {
        if let Some(pid) = self.running_master() {
            send(pid, Signal::SIGTERM);
        }
        if until(POLITE, "end of Postfix", || self.daemons().is_empty()).is_ok() {
            return Ok(());
        }
        until(LIMIT, "end of Postfix's killed daemons", || {
            self.daemons().iter().for_each(|daemon| kill_9(daemon.pid));
            self.daemons().is_empty()
        })
    }

    /// Stops the instance and starts it.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Reloads as `postfix reload` does, and returns when master has read its configuration again.
    pub fn reload(&self) -> Result<()> {
        let reloads = || self.log().matches("reload -- version").count();
        let before = reloads();
        send(self.master_pid(), Signal::SIGHUP);
        until(LIMIT, "reload of Postfix", || reloads() > before)
    }

    /// Kills master with SIGKILL. Its daemons notice that by themselves, and end when they are
    /// idle.
    pub fn kill9_master(&self) {
        let pid = self.master_pid();
        kill_9(pid);
        while is_alive(pid) {
            std::thread::yield_now();
        }
    }

    /// Returns the process id of master.
    ///
    /// # Panics
    /// Panics when master doesn't run.
    pub fn master_pid(&self) -> i32 {
        self.running_master()
            .unwrap_or_else(|| panic!("Postfix's master: does not run; log:\n{}", self.log()))
    }

    /// Whether master runs.
    pub fn is_running(&self) -> bool {
        self.running_master().is_some()
    }

    /// Returns the process ids of the daemon `name` among master's children. The name is the
    /// program's, at most 15 bytes.
    pub fn daemon_pids(&self, name: &str) -> Vec<i32> {
        let Some(master) = self.running_master() else { return Vec::new() };
        let named = |process: &Process| process.name == name;
        children(master).into_iter().filter(named).map(|process| process.pid).collect()
    }

    /// Waits for the daemon `name` and kills one such process with SIGKILL. Returns its id.
    pub fn kill9_daemon(&self, name: &str) -> Result<i32> {
        let pid = until_some(LIMIT, &format!("daemon {name}"), || self.daemon_pids(name).pop())?;
        kill_9(pid);
        until(LIMIT, &format!("end of {name}"), || !is_alive(pid))?;
        Ok(pid)
    }

    /// Returns all processes of this Postfix: master makes the queue directory their working
    /// directory.
    fn daemons(&self) -> Vec<Process> {
        processes_under(self.queue_dir())
    }

    fn running_master(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.queue_dir().join("pid/master.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        self.daemons().iter().any(|process| process.pid == pid).then_some(pid)
    }
}
