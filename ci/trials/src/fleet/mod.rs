//! A platform of many nodes, each in a network namespace of its own.
//!
//! ```text
//!   node 0: Postfix, pickup-rs, Mail Agent, target ──┐
//!   node 1: the same ────────────────────────────────┼── centre: Redis, two Info Agents,
//!   ...                                              │   two Schedulers, `sendmail`
//!   node N: the same ────────────────────────────────┘
//! ```
//!
//! Each node delivers to a target of its own, on the loopback device of its namespace. So the
//! arrivals tell the node that sent them, a target can treat one node otherwise than the rest, and
//! a node without its link still delivers, as one does that has lost Redis alone.
//!
//! Everything ends when dropped: namespaces with their links, file systems, processes and folders.
//! Guards of [`testbed`] do so when this program is killed.

mod node;
mod target;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use spool::keys;
use status::{NodeStatus, Output, Seen, Status};
use testbed::{Delivery, Postfix, Redis, Star};

use crate::agents::Agents;
use crate::platform::{LOGINS, SECRET, require_root, users};

pub(crate) use node::Node;
pub(crate) use target::Mood;

/// Port of Redis, at the centre's address.
const REDIS_PORT: u16 = 6379;
/// Secret that the agents share, without which they don't answer other hosts.
const RPC_KEY: &str = "a secret of all agents of the fleet";
/// Names of the Info Agents.
pub(crate) const INFO_AGENTS: [&str; 2] = ["info-1", "info-2"];
/// Names of the Schedulers.
pub(crate) const SCHEDULERS: [&str; 2] = ["scheduler-1", "scheduler-2"];
/// Agents at the centre: program and name.
pub(crate) const CENTRAL: [(&str, &str); 4] = [
    ("info-agent", INFO_AGENTS[0]),
    ("info-agent", INFO_AGENTS[1]),
    ("scheduler-agent", SCHEDULERS[0]),
    ("scheduler-agent", SCHEDULERS[1]),
];

/// Description of a fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FleetPlan {
    /// Number of nodes.
    pub(crate) nodes: u8,
    /// Lease of the agents, milliseconds.
    pub(crate) lease_ms: u64,
    /// Grace of a node that is gone, seconds.
    pub(crate) grace_s: u64,
    /// Messages in a full lot.
    pub(crate) lot: u32,
    /// Most messages that a node may hold unsettled, deferred ones apart.
    pub(crate) window: u32,
    /// Time that a target takes for a message.
    pub(crate) delay: Duration,
    /// Messages that a node delivers at once.
    pub(crate) at_once: u32,
    /// Size of the disk under the first node's queue, bytes; none means the machine's.
    pub(crate) disk_bytes: Option<usize>,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            nodes: 5,
            lease_ms: 2000,
            grace_s: 8,
            lot: 10,
            window: 2000,
            delay: Duration::from_millis(20),
            at_once: 10,
            disk_bytes: None,
        }
    }
}

impl FleetPlan {
    /// Returns the lease.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// Returns the grace.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }

    /// Makes everything and starts Redis and each Postfix, but no agent.
    pub(crate) fn start(self) -> Result<Fleet> {
        require_root()?;
        let star = Star::new(self.nodes).context("namespaces with links: not made")?;
        let home = Postfix::builder().within(star.centre()).main(&host_name("centre")).prepare()?;
        let (redis, url) = redis(&star, home.path())?;
        let settings = self.settings(&url);
        configure(&home, &settings)?;
        let nodes = (0..usize::from(self.nodes)).map(|number| {
            let disk_bytes = self.disk_bytes.filter(|_| number == 0);
            Node::start(number, star.host(number), &self, disk_bytes, &settings)
        });
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        let agents = Agents::new(home.path().join("log"));
        Ok(Fleet { agents, nodes, redis, home, plan: self, star })
    }

    fn settings(&self, url: &str) -> String {
        let Self { lease_ms, grace_s, lot, window, .. } = self;
        format!(
            "[redis]\nurl = {url:?}\n{LOGINS}timeout_ms = 60000\n[lots]\nsize = {lot}\n\
             [mail]\nwindow_shared = {window}\n\
             [agents]\nlease_ms = {lease_ms}\nnode_loss_grace_s = {grace_s}\n\
             rpc_key = \"rpc-key\"\n"
        )
    }
}

/// A running platform of many nodes.
pub(crate) struct Fleet {
    /// Agents at the centre.
    pub(crate) agents: Agents,
    /// Nodes by number.
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
    /// Configuration and `sendmail` of the centre, whose Postfix doesn't run.
    pub(crate) home: Postfix,
    pub(crate) plan: FleetPlan,
    star: Star,
}

/// A message at its target.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Number of the node that sent the message.
    pub(crate) node: usize,
    /// Time of the arrival.
    pub(crate) at: Instant,
    /// The message.
    pub(crate) delivery: Delivery,
}

impl Fleet {
    /// Starts all agents, those at the centre in the order of their numbers.
    pub(crate) fn start_agents(&mut self) -> Result<()> {
        for (_, name) in CENTRAL {
            self.start_central(name)?;
        }
        self.nodes.iter_mut().try_for_each(Node::start_agent)
    }

    /// Starts an agent at the centre.
    pub(crate) fn start_central(&mut self, name: &str) -> Result<()> {
        let program = CENTRAL.into_iter().find(|(_, it)| *it == name);
        let (program, _) = program.with_context(|| format!("{name}: no such agent"))?;
        let mut command = self.home.command(testbed::bin(program));
        command.args(["--name", name]);
        self.agents.start(name, command)
    }

    /// Restarts agents that have ended by themselves.
    pub(crate) fn revive(&mut self) -> Result<()> {
        for name in self.agents.take_ended()? {
            self.start_central(&name)?;
        }
        self.nodes.iter_mut().try_for_each(Node::revive)
    }

    /// Cuts a node's link.
    pub(crate) fn cut(&self, node: usize) -> Result<()> {
        self.star.cut(node)
    }

    /// Mends a node's link.
    pub(crate) fn mend(&self, node: usize) -> Result<()> {
        self.star.mend(node)
    }

    /// Returns all arrivals, node by node.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.nodes.iter().flat_map(Node::arrivals).collect()
    }

    /// Returns the number of different messages that have arrived.
    pub(crate) fn arrived(&self) -> usize {
        let ids: HashSet<String> =
            self.arrivals().into_iter().filter_map(|it| it.delivery.test_id).collect();
        ids.len()
    }

    /// Returns a lifetime counter in Redis.
    pub(crate) fn counted(&self, what: &str) -> Result<u64> {
        let text = self.redis.cli(&["HGET", keys::COUNTS, what])?;
        if text.is_empty() { Ok(0) } else { text.parse().context(text) }
    }

    /// Returns the state of the platform, as `optimus status` at the centre tells it.
    pub(crate) fn status(&self) -> Result<Status> {
        let Output { health, seen, .. } = self.ask_status()?;
        match seen {
            Seen::All(status) => Ok(*status),
            Seen::Part(_) | Seen::Host(_) => bail!("optimus status: {health}"),
        }
    }

    /// Returns the first of the findings of `optimus status` that names a node.
    pub(crate) fn finding_of(&self, node: usize) -> Result<Option<String>> {
        let name = self.status_of(node)?.map(|it| it.node.to_string());
        let is_named = |text: &String| {
            name.as_ref().is_some_and(|name| text.contains(name))
                || text.contains(&self.nodes[node].host)
        };
        Ok(self.ask_status()?.health.reasons.into_iter().find(is_named))
    }

    fn ask_status(&self) -> Result<Output> {
        let mut command = self.home.command(testbed::bin("optimus"));
        let output = command.args(["status", "--json"]).output().context("optimus status")?;
        serde_json::from_slice(&output.stdout).context("optimus status")
    }

    /// Returns the state of a node; `None` before its Mail Agent has arrived.
    pub(crate) fn status_of(&self, node: usize) -> Result<Option<NodeStatus>> {
        let status = self.status()?;
        let host = &self.nodes[node].host;
        let agent = status.agents.iter().find(|it| it.host == *host).map(|it| it.agent.clone());
        Ok(status.nodes.into_iter().find(|it| Some(it.node.to_string()) == agent))
    }

    /// Whether Redis keeps no message, and no Postfix that runs has one in a queue.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_empty = |words: &[&str]| self.redis.cli(words).is_ok_and(|it| it.is_empty());
        self.redis.cli(&["LLEN", keys::INBOX]).is_ok_and(|it| it == "0")
            && is_empty(&["--scan", "--pattern", keys::MESSAGES])
            && self.nodes.iter().all(Node::is_at_rest)
    }

    /// Copies all logs to a folder beside the programs. Returns the folder.
    pub(crate) fn keep_evidence(&self, name: &str) -> Result<PathBuf> {
        let folder = std::env::current_exe()?.with_file_name("evidence").join(name);
        let places = self.nodes.iter().map(|it| (it.host.as_str(), it.postfix.path()));
        for (place, path) in places.chain([("centre", self.home.path())]) {
            copy_files(&path.join("log"), &folder.join(place))?;
        }
        if let Ok(status) = self.status() {
            std::fs::write(folder.join("status"), serde_json::to_string(&status)?)?;
        }
        let lines = self
            .arrivals()
            .into_iter()
            .map(|it| Ok(format!("{} {}\n", it.node, serde_json::to_string(&it.delivery)?)));
        std::fs::write(folder.join("deliveries"), lines.collect::<Result<String>>()?)?;
        Ok(folder)
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Returns the parameter of `main.cf` by which `optimus status` tells hosts apart.
fn host_name(host: &str) -> String {
    format!("myhostname = {host}")
}

/// Writes `optimus.toml`, with the password and the key that it names.
fn configure(postfix: &Postfix, settings: &str) -> Result<()> {
    for (name, content) in [("secret", SECRET), ("rpc-key", RPC_KEY)] {
        let file = postfix.config_dir().join(name);
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
    }
    Ok(std::fs::write(postfix.config_dir().join("optimus.toml"), settings)?)
}

/// Starts a Redis at the centre. Returns its URL for everybody.
fn redis(star: &Star, path: &Path) -> Result<(Redis, String)> {
    let folder = path.join("redis");
    std::fs::create_dir(&folder)?;
    let address = star.address_of_centre();
    let listen = [
        format!("port {REDIS_PORT}"),
        format!("bind {address} 127.0.0.1"),
        "protected-mode no".to_owned(),
    ];
    let options: Vec<String> = listen.into_iter().chain(users()).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let redis = Redis::start_within(star.centre(), &folder, &options)?;
    Ok((redis, format!("redis://{address}:{REDIS_PORT}/0")))
}

/// Fails unless this machine has the programs and rights that namespaces need.
pub fn require_namespaces() -> Result<()> {
    require_root()?;
    for program in ["ip", "nsenter"] {
        let found = std::process::Command::new(program).arg("-V").output();
        ensure!(found.is_ok(), "{program}: not found; install iproute2 and util-linux");
    }
    Star::new(1).map(drop).context(
        "namespaces with links: not made; run on a kernel with CONFIG_NET_NS and CONFIG_VETH or \
         CONFIG_TUN, as root, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN",
    )
}
