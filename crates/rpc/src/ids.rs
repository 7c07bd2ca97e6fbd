//! Names: of servers, clients, their lives, and what they send.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// Names a server, wherever it runs (paper, section 2). Opaque; [`Port::random`] never meets
    /// another by chance that matters.
    Port
}
number! {
    /// One life of a server. Grows at each start; never 0, which is a client's "not known yet".
    Epoch
}
number! {
    /// Names a client over its lives.
    ClientId
}
number! {
    /// One life of a client. Grows at each start.
    ClientGeneration
}
number! {
    /// A client's number for a call to one server. Grows by one.
    Sequence
}
number! {
    /// A client's number for a packet. Never used twice in its life, so a packet seen twice is a
    /// copy.
    PacketNumber
}

impl Port {
    /// A port nobody else has.
    ///
    /// # Errors
    /// The kernel gave no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        getrandom::u64().map(Self)
    }
}

/// A client and its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The client.
    pub id: ClientId,
    /// The client's life.
    pub epoch: ClientGeneration,
}

impl Identity {
    /// A client that has no earlier lives and will have no later ones.
    ///
    /// # Errors
    /// The kernel gave no randomness.
    pub fn ephemeral() -> Result<Self, getrandom::Error> {
        Ok(Self { id: ClientId(getrandom::u64()?), epoch: ClientGeneration(1) })
    }
}

/// Admits a client to a server. Made and checked by the server; names the session that is opened
/// with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Time of issue on the server's own clock, in microseconds since its start.
    pub issued_us: u64,
    /// Keyed hash of `issued_us`, client, its address, port and epoch.
    pub proof: u64,
}

/// An address from which datagrams come and to which they go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// UDP.
    Udp(SocketAddr),
    /// A Unix datagram socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether datagrams to it stay on this machine by its nature.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Udp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
