//! The contents of packets.

use std::time::Duration;

use super::{MIN_CHUNK_BYTES, Ranges};
use crate::{MAX_MESSAGE_BYTES, Sequence};

/// The content of a client's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientBody<'a> {
    /// Asks for a ticket.
    Hello,
    /// A request, or a fragment of one.
    Request(RequestPart<'a>),
    /// Asks for the state of a request, and for the fragments of its reply in `wanted`.
    Ask(Ask),
    /// Reports replies that have arrived, of requests that live on below the floor. The report has
    /// no answer; if it is lost, the server keeps the replies until the client's patience ends.
    Ended {
        /// See [`RequestPart::floor`].
        floor: Sequence,
        /// Sequences of the requests, at most [`MAX_ENDED`](super::MAX_ENDED).
        sequences: Vec<Sequence>,
    },
    /// The caller no longer wants the result.
    Cancel {
        /// Sequence of the request.
        sequence: Sequence,
        /// See [`RequestPart::floor`].
        floor: Sequence,
    },
}

impl ClientBody<'_> {
    /// Returns the request to which an answer would refer.
    pub(crate) fn sequence(&self) -> Option<Sequence> {
        match self {
            Self::Hello | Self::Ended { .. } => None,
            Self::Request(request) => Some(request.sequence),
            Self::Ask(ask) => Some(ask.sequence),
            Self::Cancel { sequence, .. } => Some(*sequence),
        }
    }
}

/// A request, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPart<'a> {
    /// Sequence of the request, which names it within the session.
    pub sequence: Sequence,
    /// Lowest sequence that hasn't ended at the client and isn't known to be received. Below the
    /// floor only acknowledged requests live on.
    pub floor: Sequence,
    /// Longest silence of the client about this request while it still wants the reply.
    pub patience: Duration,
    /// Time left until the caller's limit.
    pub limit: Duration,
    /// Bytes of the reply that may be sent unasked, the same in all packets of a request.
    pub credit_bytes: u32,
    /// Longest datagram that the client takes.
    pub datagram_bytes: u32,
    /// Whether the client waits for a report of the fragments that have arrived.
    pub report: bool,
    /// Content of the request, or a part of it.
    pub fragment: Fragment<'a>,
}

/// A question about the state of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Sequence of the request.
    pub sequence: Sequence,
    /// See [`RequestPart::floor`].
    pub floor: Sequence,
    /// See [`RequestPart::patience`].
    pub patience: Duration,
    /// Fragments of the reply to send now.
    pub wanted: Ranges,
}

/// The content of a server's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerBody<'a> {
    /// Admits the client by the header's ticket.
    Welcome(Terms),
    /// The reply, or a fragment of it.
    Reply {
        /// Sequence of the request.
        sequence: Sequence,
        /// A piece of the reply.
        fragment: Fragment<'a>,
    },
    /// The request was received and is being executed.
    Working {
        /// Sequence of the request.
        sequence: Sequence,
    },
    /// Fragments of the request have been received.
    Got(Got),
    /// The request isn't executed now.
    Refused {
        /// Sequence of the request.
        sequence: Sequence,
        /// Reason of the refusal.
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
    /// Bytes of a message that may be under way at once.
    pub window_bytes: u32,
}

/// Report of a request's fragments that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Sequence of the request.
    pub sequence: Sequence,
    /// Fragment that arrived last.
    pub newest: u32,
    /// First fragment that is missing; all lower ones have arrived.
    pub next: u32,
    /// Fragments beyond `next` that have arrived.
    pub beyond: Ranges,
}

/// Reason for refusing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server has another epoch, which is in the header.
    Epoch,
    /// The server doesn't know the session, or knows it at another address only.
    NoSession,
    /// The request is no longer remembered, or was given up by its client.
    Gone,
    /// There is no room now.
    Busy,
    /// The request is longer than the server takes.
    TooLong,
    /// The cancellation is noted: the answer to [`ClientBody::Cancel`].
    Cancelled,
    /// The service gave the request up without a reply.
    Abandoned,
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Length of the whole message, bytes.
    pub total_bytes: u32,
    /// Length of every fragment but the last, bytes.
    pub chunk_bytes: u32,
    /// Index of the fragment.
    pub index: u32,
    /// Content of the fragment.
    pub data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Returns fragment `index` of `message`; `None` if the message has fewer fragments.
    #[must_use]
    pub fn of(message: &'a [u8], chunk_bytes: u32, index: u32) -> Option<Self> {
        let total_bytes = u32::try_from(message.len()).ok()?;
        let start = (index as usize).checked_mul(chunk_bytes as usize)?;
        let end = message.len().min(start.saturating_add(chunk_bytes as usize));
        let data = message.get(start..end)?;
        Some(Self { total_bytes, chunk_bytes, index, data })
    }

    /// Returns the number of fragments of the message.
    #[must_use]
    pub fn count(&self) -> u32 {
        fragments(self.total_bytes, self.chunk_bytes)
    }

    /// Returns whether the numbers agree with each other, with the length of the data, and with the
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

/// Returns the number of fragments of `chunk_bytes` in a message of `total_bytes`; an empty message
/// has one.
pub(crate) fn fragments(total_bytes: u32, chunk_bytes: u32) -> u32 {
    total_bytes.div_ceil(chunk_bytes.max(1)).max(1)
}
