//! One node of a fleet, and the misfortunes that may come over it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{Delivery, Namespace, Postfix, kill_9, processes_under, until};

use super::target::{Mood, Target};
use super::{Arrival, FleetPlan, configure, host_name};
use crate::agents::Agents;

const MAIL_AGENT: &str = "mail-agent";
/// File that takes all room of a disk, in the queue directory.
const BALLAST: &str = "ballast";
/// Time limit for processes to end.
const END: Duration = Duration::from_secs(30);

/// A node. Its processes end when dropped.
pub(crate) struct Node {
    number: usize,
    /// Name of its host, as `optimus status` tells it.
    pub(crate) host: String,
    agents: Agents,
    pub(crate) postfix: Postfix,
    target: Target,
    usual: Mood,
    frozen: Vec<Pid>,
}

impl Node {
    /// Makes a node and starts its Postfix.
    pub(super) fn start(
        number: usize,
        namespace: &Namespace,
        plan: &FleetPlan,
        disk_bytes: Option<usize>,
        settings: &str,
    ) -> Result<Self> {
        let usual = Mood::Takes(plan.delay);
        let target = Target::start(namespace, usual)?;
        let host = format!("node-{number}");
        let limit = plan.at_once;
        let postfix = Postfix::builder()
            .within(namespace)
            .relay_to(target.sink.port())
            .optimus()
            .main(&host_name(&host))
            .main("enable_long_queue_ids = yes")
            .main(&format!("default_destination_concurrency_limit = {limit}"))
            .main(&format!("initial_destination_concurrency = {limit}"));
        let postfix = match disk_bytes {
            Some(bytes) => postfix.queue_disk(bytes).prepare()?,
            None => postfix.prepare()?,
        };
        configure(&postfix, settings)?;
        postfix.start()?;
        let agents = Agents::new(postfix.path().join("log"));
        Ok(Self { number, host, agents, postfix, target, usual, frozen: Vec::new() })
    }

    /// Starts the Mail Agent.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        self.agents.start(MAIL_AGENT, self.postfix.command(testbed::bin(MAIL_AGENT)))
    }

    /// Restarts the Mail Agent if it has ended by itself.
    pub(super) fn revive(&mut self) -> Result<()> {
        if self.agents.take_ended()?.is_empty() { Ok(()) } else { self.start_agent() }
    }

    /// Kills the Mail Agent.
    pub(crate) fn kill_agent(&mut self) {
        self.agents.kill_9(MAIL_AGENT);
    }

    /// Ends the Mail Agent by SIGTERM.
    pub(crate) fn end_agent(&mut self) -> Result<()> {
        self.agents.terminate(MAIL_AGENT)
    }

    /// Kills all processes of Postfix, pickup-rs among them.
    pub(crate) fn kill_postfix(&self) -> Result<()> {
        until(END, "end of Postfix's processes", || {
            let left = processes_under(self.postfix.queue_dir());
            left.iter().for_each(|it| kill_9(it.pid));
            left.is_empty()
        })
    }

    /// Stops programs of Postfix where they are, until [`Node::thaw`].
    pub(crate) fn freeze(&mut self, programs: &[&str]) -> Result<()> {
        for name in programs {
            let pids = match *name {
                "master" => vec![self.postfix.master_pid()],
                name => self.postfix.daemon_pids(name),
            };
            ensure!(!pids.is_empty(), "{name}: does not run");
            for pid in pids.into_iter().map(Pid::from_raw) {
                kill(pid, Signal::SIGSTOP).with_context(|| format!("{name}: not frozen"))?;
                self.frozen.push(pid);
            }
        }
        Ok(())
    }

    /// Stops the whole node where it is, as a suspended machine does.
    pub(crate) fn suspend(&mut self) -> Result<()> {
        self.agents.freeze(MAIL_AGENT)?;
        let daemons = processes_under(self.postfix.queue_dir());
        for pid in daemons.into_iter().map(|it| Pid::from_raw(it.pid)) {
            // A daemon that has ended meanwhile is no error.
            let _ = kill(pid, Signal::SIGSTOP);
            self.frozen.push(pid);
        }
        Ok(())
    }

    /// Lets a suspended node go on.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.thaw();
        self.thaw_agent()
    }

    /// Stops the Mail Agent where it is.
    pub(crate) fn freeze_agent(&self) -> Result<()> {
        self.agents.freeze(MAIL_AGENT)
    }

    /// Lets the Mail Agent go on.
    pub(crate) fn thaw_agent(&self) -> Result<()> {
        self.agents.thaw(MAIL_AGENT)
    }

    /// Lets frozen programs go on.
    pub(crate) fn thaw(&mut self) {
        for pid in self.frozen.drain(..) {
            // A process that has been killed meanwhile is no error.
            let _ = kill(pid, Signal::SIGCONT);
        }
    }

    /// Fills the disk under the queue.
    pub(crate) fn fill_disk(&self) -> Result<()> {
        let path = self.postfix.queue_dir().join(BALLAST);
        let mut file = File::create(path)?;
        for bytes in [64 * 1024, 1] {
            loop {
                match file.write_all(&vec![0; bytes]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("disk: not filled"),
                }
            }
        }
        Ok(())
    }

    /// Makes room on the disk again.
    pub(crate) fn make_room(&self) -> Result<()> {
        let path = self.postfix.queue_dir().join(BALLAST);
        std::fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    /// Changes the mood of the node's target.
    pub(crate) fn set_target(&self, mood: Mood) {
        self.target.set(mood);
    }

    /// Brings the target back to its usual mood, and has Postfix try deferred mail again.
    pub(crate) fn heal_target(&self) -> Result<()> {
        self.target.set(self.usual);
        self.flush()
    }

    /// Has Postfix try deferred mail again, if Postfix runs.
    pub(crate) fn flush(&self) -> Result<()> {
        if self.postfix.is_running() {
            self.postfix.command("/usr/sbin/postqueue").arg("-f").output().context("postqueue")?;
        }
        Ok(())
    }

    /// Whether no mail waits in Postfix's queues, or Postfix doesn't run.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.postfix.is_running() || self.postfix.queue_is_empty()
    }

    /// Returns the arrivals from this node.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        let started = self.target.sink.started();
        let arrival = |delivery: Delivery| {
            let at = started + Duration::from_millis(delivery.at_ms);
            Arrival { node: self.number, at, delivery }
        };
        self.target.sink.received().into_iter().map(arrival).collect()
    }

    /// Returns the number of messages that the queue manager has ever had.
    pub(crate) fn taken(&self) -> usize {
        let log = self.postfix.log();
        let of_queue_manager = log.lines().filter(|it| it.contains("/qmgr["));
        let named = of_queue_manager.filter_map(|line| {
            let (queue_id, rest) = line.split_once("]: ")?.1.split_once(": ")?;
            rest.starts_with("from=<").then_some(queue_id)
        });
        named.collect::<HashSet<_>>().len()
    }
}
