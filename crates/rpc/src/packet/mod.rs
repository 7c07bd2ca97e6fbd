//! Packets between client and server, and their form.
//!
//! ```text
//!   0  magic "OR", version 1, kind          4 bytes
//!   4  port                                 8
//!  12  server epoch                         8
//!  20  client id, client generation              16
//!  36  ticket: issued, proof                16
//!  52  number of the packet, or of the      8
//!      one that is answered
//!  60  body, by kind
//!      keyed hash                           16
//! ```
//!
//! A client asks, a server answers. An answer has the number of the packet that it answers, and the
//! time since that packet's arrival. So round trips can be measured even on repeated packets, and
//! an old answer differs from a new one.
//!
//! Integers are big-endian. A packet is read only after its hash was verified, and then completely
//! or not at all.

mod body;
mod codec;
mod ranges;

use std::time::Duration;

pub use body::{Ask, ClientBody, Fragment, Got, Refusal, RequestPart, ServerBody, Terms};
pub use codec::{Opened, PacketError, open_answer, open_question, seal_answer, seal_question};
pub use ranges::Ranges;

use crate::key::TAG_BYTES;
use crate::{Epoch, Identity, PacketNumber, Port, Ticket};

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 60;
/// Bytes of the longest body that carries a fragment, without the fragment.
const FRAGMENT_HEAD_BYTES: usize = 45;
/// Most sequences in an [`Ended`](ClientBody::Ended).
pub const MAX_ENDED: usize = 32;
/// Length of the longest datagram: what IPv4 can carry in one.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;
/// Shortest fragment of a message but the last, so that no message has absurdly many.
pub(crate) const MIN_CHUNK_BYTES: usize = 512;
/// Shortest datagram that a peer may ask for: the least that every IPv6 path carries, less the
/// headers.
pub const MIN_DATAGRAM_BYTES: usize = 1_232;

/// Returns the bytes of a message that fit into a datagram of `datagram_bytes`.
#[must_use]
pub fn chunk_bytes(datagram_bytes: usize) -> usize {
    let datagram_bytes = datagram_bytes.clamp(MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES);
    datagram_bytes - HEADER_BYTES - FRAGMENT_HEAD_BYTES - TAG_BYTES
}

/// Part that every packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name of the server.
    pub port: Port,
    /// Epoch of the server as the sender knows it; 0 in a `Hello`.
    pub epoch: Epoch,
    /// Name and generation of the client.
    pub client: Identity,
    /// Ticket of the session: none in a `Hello`, a new one in `Welcome` and in the refusal of a
    /// request without a session.
    pub ticket: Ticket,
    /// Number of the question, or of the question that the packet answers.
    pub number: PacketNumber,
}

/// Returns a time as packets have it, milliseconds; a longer time is cut to the longest that fits.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
