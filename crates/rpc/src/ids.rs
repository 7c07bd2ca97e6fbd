//! Names of servers, clients, their generations, and their packets.

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
    /// Name of a server, independent of its address (paper, section 2). The number has no meaning.
    /// Collisions of names by [`Port::random`] are too rare to matter.
    Port
}
number! {
    /// Generation of a server. Grows at each start; never 0, which a client sends before the client
    /// knows the epoch.
    Epoch
}
number! {
    /// Name of a client over its generations.
    ClientId
}
number! {
    /// Generation of a client. Grows at each start.
    ClientGeneration
}
number! {
    /// Number that a client gives to a call to one server. Grows by one.
    Sequence
}
number! {
    /// Number that a client gives to a packet. Never used twice in a generation, so a packet seen
    /// twice is a copy.
    PacketNumber
}

impl Port {
    /// Returns a port that no other server has.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        getrandom::u64().map(Self)
    }
}

/// A client and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Name of the client.
    pub id: ClientId,
    /// Generation of the client.
    pub generation: ClientGeneration,
}

impl Identity {
    /// Returns a client without earlier or later generations.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn ephemeral() -> Result<Self, getrandom::Error> {
        Ok(Self { id: ClientId(getrandom::u64()?), generation: ClientGeneration(1) })
    }
}

/// Ticket that admits a client to a server, made and checked by the server. The ticket is also the
/// name of the session that it opens.
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
    /// Returns whether datagrams to the address never leave this machine.
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
