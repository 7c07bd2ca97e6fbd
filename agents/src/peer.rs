//! Calls between agents, which go from process to process and not through Redis.
//!
//! Each agent answers rpc at the address in its directory entry. Other agents have the address in
//! their views, so they can call while Redis is away. A call decides nothing. Its reply, or the
//! lack of one, tells what another process is at, and decisions follow in Redis.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spool::{AgentId, Generation, Start};

/// Time in which a reply must come. The client sends a call more than once in that time.
pub const CALL_LIMIT: Duration = Duration::from_millis(250);

/// An agent that can be called, as its directory entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name of the agent.
    pub agent: AgentId,
    /// Generation of the agent's process. A process of another generation doesn't reply.
    pub generation: Generation,
    /// UDP address at which the process answers.
    pub address: SocketAddr,
    /// Number under which the agent holds its lease.
    pub start: Start,
    /// Number of times that the agent took a lease that it didn't hold.
    pub taken: u64,
}

impl Peer {
    /// Returns the agent's peer; none if the agent answers no calls.
    pub fn of(it: &spool::Agent) -> Option<Self> {
        let (agent, generation, start, taken) =
            (it.agent.clone(), it.generation, it.start, it.taken);
        let address = it.address.parse().ok()?;
        Some(Self { agent, generation, address, start, taken })
    }
}

/// Request of one agent to another. New ones are added at the end: the wire has their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A probe: whether the agent is there.
    Probe,
}

/// Reply to a request. New ones are added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Reply to `Probe`.
    Here {
        /// Whether the agent works on lots.
        has_lots: bool,
    },
}

/// End of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    /// The agent has replied.
    Replied(Reply),
    /// No packet came in time.
    Silent,
    /// The call shows nothing about the agent: it wasn't sent, or was refused.
    Failed,
}

/// Number of a call that this process must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallNumber(pub u64);
