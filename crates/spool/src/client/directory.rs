//! The directory of agents with their leases. Leases are compared with Redis's clock only.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use super::answers::words;
use super::{Spool, SpoolError};
use crate::keys::DIRECTORY;
use crate::{AgentId, Generation, NodeId, Start};

words! {
    /// Task of an agent.
    AgentKind {
        /// Assigns lots to the nodes.
        Info = "info",
        /// Watches the Mail Agents.
        Scheduler = "scheduler",
        /// Has a node's lots fed to its Postfix.
        Mail = "mail",
    }
}

words! {
    /// Cause for which a node takes no mail.
    Unfit {
        /// An operator has drained the node.
        Drained = "drained",
        /// The node's pickup-rs can't be reached, or serves nothing.
        Away = "away",
        /// The node's pickup-rs does not answer.
        Silent = "silent",
        /// Cleanup can't write: the disk is full or broken.
        Room = "room",
        /// Cleanup does not answer.
        Cleanup = "cleanup",
        /// The queue manager does not answer.
        Manager = "manager",
        /// A cause that only a later version of OPTIMUS knows.
        #[serde(other)]
        Other = "other",
    }
}

/// Registration of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Name of the agent: a node's name for a Mail Agent.
    pub agent: AgentId,
    /// Task of the agent.
    pub kind: AgentKind,
    /// Generation of the agent's process.
    pub generation: Generation,
    /// Time for which the agent counts as alive without renewing.
    pub lease: Duration,
    /// Text for people, such as host name and instance.
    pub name: String,
    /// Number of messages that a Mail Agent may be given at once; 0 when the agent can't work now.
    pub capacity: u32,
    /// Address at which the agent answers rpc, as agents write it.
    pub address: Option<String>,
    /// Cause for which a Mail Agent's node takes no mail.
    pub unfit: Option<Unfit>,
}

/// Outcome of a registration. The number ranks the agents of a kind by the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The agent is registered: no agent of that name was alive.
    New(Start),
    /// The agent is registered in the place of an earlier generation whose lease was still running.
    Replaced(Start),
    /// The generation was registered before; its lease is renewed.
    Already(Start),
    /// The registration is refused: a later generation is alive. The caller must end.
    Superseded,
}

impl FromRedisValue for Registered {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (outcome, start): (String, u64) = from_redis_value(value)?;
        let start = Start(start);
        match outcome.as_str() {
            "new" => Ok(Self::New(start)),
            "replaced" => Ok(Self::Replaced(start)),
            "already" => Ok(Self::Already(start)),
            "superseded" => Ok(Self::Superseded),
            other => Err(format!("{other:?} is not an answer to a registration").into()),
        }
    }
}

words! {
    /// Outcome of a renewal.
    Renewed {
        /// The agent is alive for another lease.
        Renewed = "renewed",
        /// A later generation has the name. The caller must end.
        Superseded = "superseded",
        /// The lease had ended, and other agents may have taken the agent for dead. The caller must
        /// register again.
        Lapsed = "lapsed",
    }
}

words! {
    /// Outcome of leaving.
    Left {
        /// The agent's lease has ended now.
        Left = "left",
        /// The agent wasn't alive.
        Already = "already",
        /// The call changed nothing: a later generation has the name.
        Superseded = "superseded",
    }
}

words! {
    /// Outcome of a suspicion.
    Suspected {
        /// The agent's lease has ended now.
        Ended = "ended",
        /// The call changed nothing: the lease had ended, and may have been taken again.
        Already = "already",
    }
}

/// A Mail Agent's change of Scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// The Mail Agent.
    pub agent: AgentId,
    /// Number under which the agent holds its lease.
    pub start: Start,
    /// Last Scheduler that the caller saw in the directory.
    pub from: Option<AgentId>,
    /// Scheduler that looks after the agent from now on.
    pub to: AgentId,
}

words! {
    /// Outcome of a change of Scheduler.
    Supervised {
        /// The agent has the new Scheduler.
        Supervised = "supervised",
        /// The agent had it before.
        Already = "already",
        /// The call changed nothing: the agent has another Scheduler or another process, or the new
        /// Scheduler is dead.
        Moved = "moved",
    }
}

/// One agent in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Name of the agent.
    pub agent: AgentId,
    /// End of the agent's lease, past or future, Unix milliseconds by Redis's clock.
    pub lease_ends_ms: u64,
    /// Task of the agent.
    pub kind: AgentKind,
    /// Generation of the agent's process.
    pub generation: Generation,
    /// Rank among the agents of a kind, by the order of their start.
    pub start: Start,
    /// Text for people.
    pub name: String,
    /// Number of messages that the agent may be given at once.
    pub capacity: u32,
    /// Address at which the agent answers rpc, as agents write it; empty if nowhere.
    pub address: String,
    /// Number of times that the agent took a lease that it didn't hold.
    pub taken: u64,
    /// Scheduler that looks after the Mail Agent, or did before its own death.
    pub scheduler: Option<AgentId>,
    /// Cause for which a Mail Agent's node takes no mail, and the time since which it holds, Unix
    /// milliseconds.
    pub unfit: Option<(Unfit, u64)>,
}

/// Living agents, and Mail Agents that were alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Time of the answer by Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// Time since which Schedulers have looked without a long pause, Unix milliseconds; 0 before
    /// the first look.
    pub watching_since_ms: u64,
    /// Agents with a lease, which may have ended and not been reaped yet.
    pub leases: Vec<Agent>,
    /// Mail Agents whose leases have ended.
    pub gone: Vec<Agent>,
    /// Nodes that operators have drained, each with the time of the order, Unix milliseconds.
    pub drained: BTreeMap<NodeId, u64>,
}

words! {
    /// Outcome of an order to drain a node, or to take that back.
    Drained {
        /// The order is noted.
        Done = "done",
        /// The call changed nothing: the order was noted before.
        Already = "already",
    }
}

impl Directory {
    /// Returns the living agents of a kind, in the order of their start.
    pub fn alive(&self, kind: AgentKind) -> Vec<&Agent> {
        let is_alive = |agent: &&Agent| agent.kind == kind && agent.lease_ends_ms > self.now_ms;
        let mut agents: Vec<_> = self.leases.iter().filter(is_alive).collect();
        agents.sort_by_key(|agent| agent.start);
        agents
    }
}

impl FromRedisValue for Agent {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (
            agent,
            lease_ends_ms,
            kind,
            generation,
            start,
            name,
            capacity,
            address,
            taken,
            scheduler,
            unfit,
            since_ms,
        ) = from_redis_value(value)?;
        let unfit: String = unfit;
        let unfit = (!unfit.is_empty()).then(|| (cause(unfit), since_ms));
        Ok(Self {
            agent,
            lease_ends_ms,
            kind,
            generation,
            start,
            name,
            capacity,
            address,
            taken,
            scheduler,
            unfit,
        })
    }
}

/// Reads a cause. A later version may have more of them.
fn cause(word: String) -> Unfit {
    from_redis_value(Value::SimpleString(word)).unwrap_or(Unfit::Other)
}

impl FromRedisValue for Directory {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (now_ms, watching_since_ms, leases, gone, drained) = from_redis_value(value)?;
        let drained: Vec<(NodeId, u64)> = drained;
        let drained = drained.into_iter().collect();
        Ok(Self { now_ms, watching_since_ms, leases, gone, drained })
    }
}

impl Spool {
    /// Announces an agent, or renews its lease. A second call returns [`Registered::Already`].
    pub async fn register(&self, registration: &Registration) -> Result<Registered, SpoolError> {
        let Registration { agent, kind, generation, lease, name, capacity, address, unfit } =
            registration;
        let address = address.as_deref().unwrap_or_default();
        let mut command = self.function_on(DIRECTORY, "register");
        command
            .arg(agent)
            .arg(kind.as_str())
            .arg(generation)
            .arg(milliseconds(*lease))
            .arg(name)
            .arg(capacity)
            .arg(address)
            .arg(unfit.map_or("", Unfit::as_str));
        self.connection.run(&command).await
    }

    /// Keeps an agent alive for another lease.
    pub async fn renew(
        &self,
        agent: &AgentId,
        generation: Generation,
        lease: Duration,
    ) -> Result<Renewed, SpoolError> {
        let mut command = self.function_on(DIRECTORY, "renew");
        command.arg(agent).arg(generation).arg(milliseconds(lease));
        self.connection.run(&command).await
    }

    /// Ends an agent's lease at once. A second call returns [`Left::Already`].
    pub async fn leave(&self, agent: &AgentId, generation: Generation) -> Result<Left, SpoolError> {
        self.connection.run(self.function_on(DIRECTORY, "leave").arg(agent).arg(generation)).await
    }

    /// Ends the lease of an agent that doesn't answer, as it was seen in the directory. A second
    /// call returns [`Suspected::Already`], also when the agent has taken its lease again.
    pub async fn suspect(
        &self,
        agent: &AgentId,
        start: Start,
        taken: u64,
    ) -> Result<Suspected, SpoolError> {
        let mut command = self.function_on(DIRECTORY, "suspect");
        self.connection.run(command.arg(agent).arg(start).arg(taken)).await
    }

    /// Gives Mail Agents to Schedulers, and returns each outcome, in order. A second call returns
    /// [`Supervised::Already`] for each that the first one changed.
    pub async fn supervise(&self, changes: &[Supervision]) -> Result<Vec<Supervised>, SpoolError> {
        let mut command = self.function_on(DIRECTORY, "supervise");
        for Supervision { agent, start, from, to } in changes {
            let from = from.as_ref().map_or("", AgentId::as_str);
            command.arg(agent).arg(start).arg(from).arg(to);
        }
        self.connection.run(&command).await
    }

    /// Removes leases that have ended, and returns their agents; a second call returns none. The
    /// answer is only a notice: decisions must rest on [`Self::directory`].
    pub async fn reap(&self) -> Result<Vec<AgentId>, SpoolError> {
        self.connection.run(&self.function_on(DIRECTORY, "reap")).await
    }

    /// Returns the directory. Changes nothing.
    pub async fn directory(&self) -> Result<Directory, SpoolError> {
        self.connection.run(&self.function_on(DIRECTORY, "directory")).await
    }

    /// Lets a node take no mail. The order holds until [`Self::undrain`], also while the node is
    /// away. A second call returns [`Drained::Already`].
    pub async fn drain(&self, node: &NodeId) -> Result<Drained, SpoolError> {
        self.connection.run(self.function_on(DIRECTORY, "drain").arg(node).arg(1)).await
    }

    /// Lets a drained node take mail again. A second call returns [`Drained::Already`].
    pub async fn undrain(&self, node: &NodeId) -> Result<Drained, SpoolError> {
        self.connection.run(self.function_on(DIRECTORY, "drain").arg(node).arg(0)).await
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
