//! The contents of packets.

use std::time::Duration;

use super::{MIN_CHUNK_BYTES, Ranges};
use crate::{MAX_MESSAGE_BYTES, Sequence};

/// The content of a client's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// Asks for a ticket.
    Hello,
    /// A request, or a fragment of one.
    Request(Request<'a>),
    /// Asks how a request fares; with `wanted`, for those fragments of its reply.
    Ask(Ask),
    /// Replies that have arrived, of requests that live on below the floor. Not answered; if it is
    /// lost, they are kept until the client's patience ends.
    Ended {
        /// See [`Request::floor`].
        floor: Sequence,
        /// No more than [`MAX_ENDED`](super::MAX_ENDED).
        sequences: Vec<Sequence>,
    },
    /// The caller no longer wants the result.
    Cancel {
        /// The request.
        sequence: Sequence,
        /// See [`Request::floor`].
        floor: Sequence,
    },
}

/// A request, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Names it within the session.
    pub sequence: Sequence,
    /// The lowest sequence that hasn't ended at the client and isn't known to be received. Of lower
    /// ones, only those live on whose receipt was acknowledged.
    pub floor: Sequence,
    /// The longest that the client will be silent about this request and still want its reply.
    pub patience: Duration,
    /// The time that is left until the caller's limit.
    pub limit: Duration,
    /// Bytes of the reply that may be sent without being asked for. The same in all packets of a
    /// request.
    pub credit_bytes: u32,
    /// The longest datagram that the client takes.
    pub datagram_bytes: u32,
    /// The client waits to hear which fragments have arrived.
    pub report: bool,
    /// The request.
    pub fragment: Fragment<'a>,
}

/// Asks how a request fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The request.
    pub sequence: Sequence,
    /// See [`Request::floor`].
    pub floor: Sequence,
    /// See [`Request::patience`].
    pub patience: Duration,
    /// The fragments of the reply to send now.
    pub wanted: Ranges,
}

/// The content of a server's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The header's ticket admits the client.
    Welcome(Terms),
    /// The reply, or a fragment of it.
    Reply {
        /// The request.
        sequence: Sequence,
        /// A piece of the reply.
        fragment: Fragment<'a>,
    },
    /// The request was received and is being executed.
    Working {
        /// The request.
        sequence: Sequence,
    },
    /// Fragments of the request have been received.
    Got(Got),
    /// The request isn't executed now.
    Refused {
        /// The request.
        sequence: Sequence,
        /// The reason.
        why: Refusal,
        /// Terms of the header's ticket, if it is a new one.
        terms: Terms,
    },
}

/// Terms that a server grants a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Time for which a session is kept after its last packet.
    pub idle: Duration,
    /// So much of a message may be under way at once.
    pub window_bytes: u32,
}

/// Fragments of a request that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The request.
    pub sequence: Sequence,
    /// The one that arrived last.
    pub newest: u32,
    /// The first fragment that is missing: all lower ones are there.
    pub next: u32,
    /// And these.
    pub beyond: Ranges,
}

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server has another epoch: the header's.
    Epoch,
    /// The server doesn't know the session, or not at this address.
    NoSession,
    /// The request is no longer remembered, or was given up by its client.
    Gone,
    /// No room now; later, perhaps.
    Busy,
    /// Longer than the server takes.
    TooLong,
    /// Answers [`Question::Cancel`].
    Cancelled,
    /// The service gave it up without a reply.
    Abandoned,
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Bytes of the whole message.
    pub total_bytes: u32,
    /// Bytes of every piece but the last.
    pub chunk_bytes: u32,
    /// The piece's index.
    pub index: u32,
    /// The piece's bytes.
    pub data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// FeedKey `index` of `message`, if it has so many.
    #[must_use]
    pub fn of(message: &'a [u8], chunk_bytes: u32, index: u32) -> Option<Self> {
        let total_bytes = u32::try_from(message.len()).ok()?;
        let start = (index as usize).checked_mul(chunk_bytes as usize)?;
        let end = message.len().min(start.saturating_add(chunk_bytes as usize));
        let data = message.get(start..end)?;
        Some(Self { total_bytes, chunk_bytes, index, data })
    }

    /// Returns the number of pieces of the message.
    #[must_use]
    pub fn count(&self) -> u32 {
        fragments(self.total_bytes, self.chunk_bytes)
    }

    /// Whether the numbers agree with each other and with the length of the data, and with the
    /// limits.
    #[must_use]
    pub(crate) fn is_sound(&self) -> bool {
        self.total_bytes as usize <= MAX_MESSAGE_BYTES
            && self.chunk_bytes as usize >= MIN_CHUNK_BYTES
            && self.index < self.count()
            && self.data.len() == self.length() as usize
    }

    fn length(&self) -> u32 {
        let before = self.index.saturating_mul(self.chunk_bytes);
        self.total_bytes.saturating_sub(before).min(self.chunk_bytes)
    }
}

/// Returns the number of pieces of `chunk_bytes` in a message of `total_bytes`; an empty one has
/// one.
pub(crate) fn fragments(total_bytes: u32, chunk_bytes: u32) -> u32 {
    total_bytes.div_ceil(chunk_bytes.max(1)).max(1)
}
