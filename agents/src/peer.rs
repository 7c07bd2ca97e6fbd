//! Calls between agents, which go from process to process and not through Redis.
//!
//! Each agent answers rpc at the address in its directory entry. Other agents have the address in
//! their views, so they can call while Redis is away. A call decides nothing. Its reply, or the
//! lack of one, tells what another process is at, and decisions follow in Redis.
//!
//! A loopback address means another place on each host. So the directory has the host beside it,
//! and only agents of that host call there: at the same port of another host anybody may listen.

use std::fs;
use std::net::SocketAddr;
use std::sync::OnceLock;
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
    /// Returns the agent's peer; none if the agent answers no calls of this host.
    pub fn of(it: &spool::Agent) -> Option<Self> {
        let (agent, generation, start, taken) =
            (it.agent.clone(), it.generation, it.start, it.taken);
        let address = read(&it.address, this_host())?;
        Some(Self { agent, generation, address, start, taken })
    }
}

/// Returns the address of this host's endpoint as the directory has it; none for a loopback address
/// of a host without a name.
pub fn written(address: SocketAddr) -> Option<String> {
    write(address, this_host())
}

fn write(address: SocketAddr, host: Option<&str>) -> Option<String> {
    if is_loopback(address) {
        Some(format!("{address} {}", host?))
    } else {
        Some(address.to_string())
    }
}

/// Returns the address that the directory has, if it can be called from this host.
fn read(written: &str, host: Option<&str>) -> Option<SocketAddr> {
    let (address, of) = written.split_once(' ').unwrap_or((written, ""));
    let address = address.parse().ok()?;
    (!is_loopback(address) || host.is_some_and(|host| host == of)).then_some(address)
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Returns a name that only processes with the same loopback interface have: boot and network
/// namespace.
fn this_host() -> Option<&'static str> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    let name = || {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let network = fs::read_link("/proc/self/ns/net").ok()?;
        Some(format!("{} {}", boot.trim(), network.display()))
    };
    HOST.get_or_init(name).as_deref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_is_called_only_on_its_own_host() {
        for address in ["127.0.0.1:7", "127.1.2.3:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
            let it: SocketAddr = address.parse().unwrap();
            let written = write(it, Some("boot a")).unwrap();
            assert_eq!(read(&written, Some("boot a")), Some(it));
            assert_eq!(read(&written, Some("boot b")), None);
            for (written, host) in [(&*written, None), (address, Some("boot a")), (address, None)] {
                assert_eq!(read(written, host), None, "{written} on {host:?}");
            }
            assert_eq!(write(it, None), None);
        }
    }

    #[test]
    fn another_address_is_called_from_everywhere() {
        for address in ["192.0.2.1:7", "[2001:db8::1]:7"] {
            let it: SocketAddr = address.parse().unwrap();
            let written = write(it, Some("a")).unwrap();
            assert_eq!((&*written, read(&written, None)), (address, Some(it)));
        }
        assert_eq!(read("", Some("a")), None);
    }

    #[test]
    fn this_host_has_a_name() {
        let own = ([127, 0, 0, 1], 7).into();
        assert_eq!(read(&written(own).unwrap(), this_host()), Some(own));
    }
}
