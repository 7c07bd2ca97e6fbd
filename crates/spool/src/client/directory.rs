//! The directory: which agents are alive. Leases are compared with Redis's clock only.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use super::answers::{from_array, words};
use super::{Spool, SpoolError};
use crate::library::DIRECTORY;
use crate::{AgentId, Incarnation, Start};

words! {
    /// What an agent does.
    AgentKind {
        /// Shares lots out over the nodes.
        Info = "info",
        /// Watches the Mail Agents.
        Scheduler = "scheduler",
        /// Hands a node's lots to its Postfix.
        Mail = "mail",
    }
}

/// Who registers, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name: a node's for a Mail Agent.
    pub agent: AgentId,
    /// What it does.
    pub kind: AgentKind,
    /// This life of its process.
    pub incarnation: Incarnation,
    /// How long it counts as alive without renewing.
    pub lease: Duration,
    /// For people: host name and instance, say.
    pub name: String,
    /// How many messages it may be given at once, for a Mail Agent; 0 when it can't work now.
    pub capacity: u32,
}

/// What a registration came to. The number ranks the agents of a kind by the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// Alive now, and nobody of that name was.
    New(Start),
    /// Alive now, in the place of an earlier incarnation whose lease was still running.
    Replaced(Start),
    /// This incarnation is registered already; its lease has been renewed.
    Already(Start),
    /// No: a later incarnation is alive. This process is to end.
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
    /// What a renewal came to.
    Renewed {
        /// Alive for another lease.
        Renewed = "renewed",
        /// A later incarnation has the name. This process is to end.
        Superseded = "superseded",
        /// The lease had ended, and others may have acted on that. Register again.
        Lapsed = "lapsed",
    }
}

words! {
    /// What leaving came to.
    Left {
        /// Alive no longer.
        Left = "left",
        /// It wasn't alive.
        Already = "already",
        /// A later incarnation has the name; nothing was changed.
        Superseded = "superseded",
    }
}

/// One agent in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub agent: AgentId,
    /// When its lease ends or has ended, Unix milliseconds by Redis's clock.
    pub lease_ends_ms: u64,
    /// What it does.
    pub kind: AgentKind,
    /// The life of its process.
    pub incarnation: Incarnation,
    /// Ranks the agents of a kind by the order of their start.
    pub start: Start,
    /// For people.
    pub name: String,
    /// How many messages it may be given at once.
    pub capacity: u32,
}

/// Who is alive, and who was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// By Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// Agents with a lease, which may be over and not yet reaped.
    pub leases: Vec<Agent>,
    /// Mail Agents whose leases have ended.
    pub gone: Vec<Agent>,
}

impl Directory {
    /// The agents of a kind that are alive, in the order of their start.
    pub fn alive(&self, kind: AgentKind) -> Vec<&Agent> {
        let is_alive = |agent: &&Agent| agent.kind == kind && agent.lease_ends_ms > self.now_ms;
        let mut agents: Vec<_> = self.leases.iter().filter(is_alive).collect();
        agents.sort_by_key(|agent| agent.start);
        agents
    }
}

from_array!(Agent { agent, lease_ends_ms, kind, incarnation, start, name, capacity });
from_array!(Directory { now_ms, leases, gone });

impl Spool {
    /// Announces an agent, or renews it. The second time: [`Registered::Already`].
    pub async fn register(&self, registration: &Registration) -> Result<Registered, SpoolError> {
        let Registration { agent, kind, incarnation, lease, name, capacity } = registration;
        let mut command = self.function_on(DIRECTORY, "register");
        command
            .arg(agent)
            .arg(kind.as_str())
            .arg(incarnation)
            .arg(milliseconds(*lease))
            .arg(name)
            .arg(capacity);
        self.connection.run(&command).await
    }

    /// Keeps an agent alive for another lease.
    pub async fn renew(
        &self,
        agent: &AgentId,
        incarnation: Incarnation,
        lease: Duration,
    ) -> Result<Renewed, SpoolError> {
        let mut command = self.function_on(DIRECTORY, "renew");
        command.arg(agent).arg(incarnation).arg(milliseconds(lease));
        self.connection.run(&command).await
    }

    /// Ends an agent's lease at once. The second time: [`Left::Already`].
    pub async fn leave(
        &self,
        agent: &AgentId,
        incarnation: Incarnation,
    ) -> Result<Left, SpoolError> {
        self.connection.run(self.function_on(DIRECTORY, "leave").arg(agent).arg(incarnation)).await
    }

    /// Takes agents whose leases have ended off the leases and says who they were. The second time:
    /// nobody. So whoever acts on an agent's end has to look at the directory; the answer is news.
    pub async fn reap(&self) -> Result<Vec<AgentId>, SpoolError> {
        self.connection.run(&self.function_on(DIRECTORY, "reap")).await
    }

    /// Who is alive. Changes nothing.
    pub async fn directory(&self) -> Result<Directory, SpoolError> {
        self.connection.run(&self.function_on(DIRECTORY, "directory")).await
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
