//! One call, from the request to its reply.

use bytes::Bytes;

use crate::fragments::{Assembly, Flight};
use crate::packet::Header;
use crate::{Epoch, PacketNumber, Progress, Sequence, Ticket, Time};

/// Name of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(super) u64);

/// A call that hasn't ended.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) sequence: Sequence,
    pub(super) body: Bytes,
    pub(super) deadline: Time,
    /// Phase, which only [`Peer::enter`](super::peer::Peer::enter) changes.
    pub(super) phase: CallPhase,
    /// Session in which the call was first sent, and its packets; `None` while the call waits.
    pub(super) sent: Option<Sent>,
    /// Whether the server acknowledged the request.
    pub(super) received: bool,
    /// Number of unanswered transmissions in a row, without the last one.
    pub(super) unanswered: u32,
    /// Number of refusals in a row by a server without room.
    pub(super) busy: u32,
    /// Whether the timer is a pause, until a heartbeat or after a refusal, with no packet
    /// unanswered.
    pub(super) paused: bool,
    /// Bytes of the reply that the server may send unasked.
    pub(super) credit_bytes: u32,
}

#[derive(Debug)]
pub(super) enum CallPhase {
    /// Waits for a session, or until earlier calls have ended.
    Waiting,
    /// Sends the request until the server has it. `flight` is set if the request has several
    /// fragments.
    Sending { flight: Option<Flight>, chunk_bytes: u32, reported: u32 },
    /// Asks for the reply: the server has the request.
    Asking,
    /// Receives a reply of several fragments.
    Receiving { assembly: Assembly, flight: Flight, chunk_bytes: u32 },
}

/// Session of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallSession {
    pub(super) epoch: Epoch,
    pub(super) ticket: Ticket,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) session: CallSession,
    pub(super) first: PacketNumber,
    pub(super) newest: PacketNumber,
    /// Newest packet whose answer was not a part of a reply.
    pub(super) answered: Option<PacketNumber>,
}

impl Call {
    pub(super) fn new(id: CallId, sequence: Sequence, body: Bytes, deadline: Time) -> Self {
        Self {
            id,
            sequence,
            body,
            deadline,
            phase: CallPhase::Waiting,
            sent: None,
            received: false,
            unanswered: 0,
            busy: 0,
            paused: false,
            credit_bytes: 0,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match (self.sent, self.received) {
            (None, _) => Progress::Unsent,
            (Some(_), false) => Progress::Sent,
            (Some(_), true) => Progress::Received,
        }
    }

    pub(super) fn session(&self) -> Option<CallSession> {
        self.sent.map(|sent| sent.session)
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.phase, CallPhase::Receiving { .. })
    }

    /// Notes a transmission.
    pub(super) fn departed(&mut self, number: PacketNumber) {
        let Some(sent) = self.sent.as_mut() else {
            return debug_assert!(false, "a call is sent in a session");
        };
        debug_assert!(sent.first <= number, "the numbers of packets grow");
        sent.newest = number;
    }

    /// Notes an answer, which shows that the server is alive.
    pub(super) fn hear(&mut self) {
        self.unanswered = 0;
        self.busy = 0;
        self.paused = false;
    }

    /// Returns whether an answer to packet `number` is newer than all seen (rejects replays).
    pub(super) fn is_news(&mut self, number: PacketNumber) -> bool {
        let Some(sent) = self.sent.as_mut() else {
            debug_assert!(false, "only packets of a call are answered");
            return false;
        };
        let news = sent.answered.is_none_or(|answered| number > answered);
        if news {
            sent.answered = Some(number);
        }
        news
    }
}

impl CallPhase {
    /// Returns whether a call in this phase may enter the phase `next`: see the diagram of
    /// [the module](super).
    pub(super) fn leads_to(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Waiting, Self::Sending { .. }) => true,
            (Self::Sending { .. } | Self::Asking, Self::Asking | Self::Receiving { .. }) => true,
            (Self::Waiting | Self::Sending { .. } | Self::Asking | Self::Receiving { .. }, _) => {
                false
            }
        }
    }
}

impl CallSession {
    pub(super) fn of(header: &Header) -> Self {
        Self { epoch: header.epoch, ticket: header.ticket }
    }
}

impl Sent {
    /// Returns whether `number` is one of the call's packets.
    pub(super) fn includes(&self, number: PacketNumber) -> bool {
        (self.first..=self.newest).contains(&number)
    }
}
