//! The contestants: one server and one caller of each transport, behind one interface.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::ValueEnum;
use plotters::style::RGBColor;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::library::{self, Over};
use super::place::Distance;
use super::tcp;

/// Time limit of an exchange, after which the benchmark has failed. All have it, since a caller
/// without one would hang.
const LIMIT: Duration = Duration::from_secs(30);

/// The contestants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Transport {
    /// TCP with a connection for each exchange.
    TcpEach,
    /// TCP kept open, a connection for each caller.
    TcpKept,
    /// The library over UDP; without a key on loopback.
    RpcUdp,
    /// The library over UDP on loopback with a key, which costs a hash of every packet.
    RpcUdpKey,
    /// The library over Unix datagram sockets.
    RpcUnix,
}

impl Transport {
    pub(super) const ALL: [Self; 5] =
        [Self::TcpEach, Self::TcpKept, Self::RpcUdp, Self::RpcUdpKey, Self::RpcUnix];

    /// Whether the transport exists at this place, and differs there from the others.
    pub(super) fn is_at(self, place: Distance) -> bool {
        match self {
            Self::TcpEach | Self::TcpKept | Self::RpcUdp => true,
            Self::RpcUdpKey | Self::RpcUnix => place == Distance::Loopback,
        }
    }

    /// Returns the name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TcpEach => "TCP per exchange",
            Self::TcpKept => "TCP kept open",
            Self::RpcUdp => "rpc over UDP",
            Self::RpcUdpKey => "rpc over UDP, key",
            Self::RpcUnix => "rpc over Unix sockets",
        }
    }

    /// Returns the colour in plots, from a palette for the colour-blind (Okabe and Ito).
    pub(super) fn colour(self) -> RGBColor {
        match self {
            Self::TcpEach => RGBColor(213, 94, 0),
            Self::TcpKept => RGBColor(0, 114, 178),
            Self::RpcUdp => RGBColor(0, 158, 115),
            Self::RpcUdpKey => RGBColor(204, 121, 167),
            Self::RpcUnix => RGBColor(230, 159, 0),
        }
    }

    fn over(self) -> Option<Over> {
        match self {
            Self::TcpEach | Self::TcpKept => None,
            Self::RpcUdp => Some(Over::Udp),
            Self::RpcUdpKey => Some(Over::UdpWithKey),
            Self::RpcUnix => Some(Over::Unix),
        }
    }

    /// Starts a server that echoes. Returns the address for clients.
    pub(super) fn serve(self, address: Ipv4Addr) -> Result<String> {
        if let Some(over) = self.over() {
            return library::serve(over, address);
        }
        let listener = tcp::listen(address)?;
        let server = listener.local_addr()?.to_string();
        tokio::spawn(tcp::serve(listener, self == Self::TcpKept));
        Ok(server)
    }

    /// Returns this number of callers.
    pub(super) async fn callers(
        self,
        server: &str,
        callers: usize,
    ) -> Result<Vec<TransportCaller>> {
        if let Some(over) = self.over() {
            let callers = library::callers(over, server, callers)?;
            return Ok(callers.into_iter().map(TransportCaller::Library).collect());
        }
        let address = server.parse()?;
        let mut made = Vec::new();
        for _ in 0..callers {
            made.push(match self {
                Self::TcpKept => TransportCaller::TcpKept(tcp::Connection::open(address).await?),
                _ => TransportCaller::TcpEach(address),
            });
        }
        Ok(made)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A caller, which makes one exchange after another.
pub(super) enum TransportCaller {
    TcpEach(std::net::SocketAddr),
    TcpKept(tcp::Connection),
    Library(library::RpcCaller),
}

impl TransportCaller {
    /// Returns the reply.
    pub(super) async fn call(&mut self, body: &Bytes) -> Result<Bytes> {
        let reply = match self {
            Self::TcpEach(server) => timeout(LIMIT, tcp::exchange(*server, body)).await,
            Self::TcpKept(connection) => timeout(LIMIT, connection.exchange(body)).await,
            Self::Library(caller) => return caller.call(body, LIMIT).await,
        };
        Ok(reply.with_context(|| format!("call: no reply within {} s", LIMIT.as_secs()))??)
    }
}
