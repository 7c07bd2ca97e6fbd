//! The address at which agents answer each other.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Address at which a host's agents answer rpc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentAddress {
    /// Address of this host.
    pub ip: IpAddr,
    /// First UDP port of those that the agents take; none means any free port.
    pub port: Option<u16>,
}

/// A text that is no address of agents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, or one with a port from 1 to 65000: 192.0.2.1, 192.0.2.1:4800")]
pub struct AgentAddressError;

/// Highest first port, above which the agents of one host find no others.
const PORT_MAX: u16 = 65_000;

impl FromStr for AgentAddress {
    type Err = AgentAddressError;

    fn from_str(text: &str) -> Result<Self, AgentAddressError> {
        let whole = text.parse().ok().map(|ip| Self { ip, port: None });
        let with_port = || {
            let at: SocketAddr = text.parse().ok()?;
            let is_good = (1..=PORT_MAX).contains(&at.port());
            is_good.then_some(Self { ip: at.ip(), port: Some(at.port()) })
        };
        let address = whole.or_else(with_port).ok_or(AgentAddressError)?;
        if address.ip.is_unspecified() { Err(AgentAddressError) } else { Ok(address) }
    }
}

impl TryFrom<String> for AgentAddress {
    type Error = AgentAddressError;

    fn try_from(text: String) -> Result<Self, AgentAddressError> {
        text.parse()
    }
}

impl From<AgentAddress> for String {
    fn from(address: AgentAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.ip),
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["192.0.2.1", "192.0.2.1:4800", "2001:db8::1", "[2001:db8::1]:4800"] {
            assert_eq!(text.parse::<AgentAddress>().unwrap().to_string(), text);
        }
        for text in ["", "mx", "0.0.0.0", "[::]:4800", "192.0.2.1:0", "192.0.2.1:65001", "::1:x"] {
            assert!(text.parse::<AgentAddress>().is_err(), "{text}");
        }
    }
}
