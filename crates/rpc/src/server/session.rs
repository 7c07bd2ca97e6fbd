//! A session: what the server remembers of one client since its ticket.
//!
//! Sequences below the *floor* have ended at the client, or the client knows that the server has
//! them: it was told `Working`, `Got`, or the beginning of a long reply. So of those below it only
//! the ones that were acknowledged in such a way are still alive, in `late`, until the client says
//! that they have `Ended` or its patience does. All others below are refused without any record.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::fragments::Assembly;
use crate::packet::{Header, Refusal};
use crate::replay::Replay;
use crate::{Address, Identity, PacketNumber, Sequence, Ticket, Time};

/// Names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey {
    pub(super) client: Identity,
    pub(super) ticket: Ticket,
}

/// By the ticket's proof alone: it is a hash of all the rest, made here, and each packet needs
/// several lookups.
impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.ticket.proof);
    }
}

impl SessionKey {
    pub(super) fn of(header: &Header) -> Self {
        Self { client: header.client, ticket: header.ticket }
    }
}

/// Names a request to the service, for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) session: SessionKey,
    pub(super) sequence: Sequence,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { id, epoch } = self.session.client;
        write!(f, "{:016x}.{epoch}.{}.{}", id.0, self.session.ticket.issued_us, self.sequence)
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    /// The client was told that the server has it, or some of it: then the floor doesn't tell
    /// whether it has ended.
    pub(super) acknowledged: bool,
    /// The newest question about it, which an answer answers.
    pub(super) asked: Asked,
    /// The client won't ask any more after this.
    pub(super) until: Time,
    /// Bytes of the reply to send unasked.
    pub(super) credit_bytes: u32,
    /// Bytes of each fragment of the reply.
    pub(super) chunk_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) number: PacketNumber,
    pub(super) at: Time,
}

#[derive(Debug)]
pub(super) enum State {
    Arriving {
        assembly: Assembly,
    },
    /// The service has its body.
    Executing {
        body_bytes: usize,
    },
    Done {
        reply: Bytes,
    },
    /// Given up by the client or the service, or its reply is no longer kept. Remembered until the
    /// floor has passed it.
    Ended {
        why: Refusal,
    },
}

impl Entry {
    /// Bytes that it keeps.
    pub(super) fn bytes(&self) -> usize {
        match &self.state {
            State::Arriving { assembly } => assembly.bytes(),
            State::Executing { body_bytes } => *body_bytes,
            State::Done { reply } => reply.len(),
            State::Ended { .. } => 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Ended { .. })
    }
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: Address,
    pub(super) last_heard: Time,
    /// Bytes that its entries keep.
    pub(super) bytes: usize,
    replay: Replay,
    floor: Sequence,
    table: BTreeMap<Sequence, Entry>,
    late: BTreeMap<Sequence, Entry>,
}

impl Session {
    pub(super) fn open(now: Time, address: Address, first: PacketNumber, floor: Sequence) -> Self {
        Self {
            address,
            last_heard: now,
            bytes: 0,
            replay: Replay::new(first),
            floor,
            table: BTreeMap::new(),
            late: BTreeMap::new(),
        }
    }

    /// Whether the packet is a copy of one that was taken.
    pub(super) fn has_seen(&self, number: PacketNumber) -> bool {
        self.replay.has_seen(number)
    }

    pub(super) fn take(&mut self, number: PacketNumber) {
        self.replay.take(number);
    }

    pub(super) fn floor(&self) -> Sequence {
        self.floor
    }

    /// Sequences in the table, whatever their state, and those below the floor that live on.
    pub(super) fn len(&self) -> usize {
        self.table.len() + self.late.len()
    }

    pub(super) fn has_open(&self) -> bool {
        self.table.values().chain(self.late.values()).any(Entry::is_open)
    }

    pub(super) fn entry(&mut self, sequence: Sequence) -> Option<&mut Entry> {
        self.table.get_mut(&sequence).or_else(|| self.late.get_mut(&sequence))
    }

    pub(super) fn insert(&mut self, sequence: Sequence, entry: Entry) {
        self.table.insert(sequence, entry);
    }

    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Entry> {
        self.table.remove(&sequence).or_else(|| self.late.remove(&sequence))
    }

    /// Takes what the session still remembers.
    pub(super) fn drain(&mut self) -> Vec<(Sequence, Entry)> {
        std::mem::take(&mut self.table).into_iter().chain(std::mem::take(&mut self.late)).collect()
    }

    /// Raises the floor. Returns what has ended by that.
    pub(super) fn raise(&mut self, floor: Sequence) -> Vec<(Sequence, Entry)> {
        self.floor = self.floor.max(floor);
        let mut ended = Vec::new();
        while let Some(lowest) =
            self.table.first_entry().filter(|lowest| *lowest.key() < self.floor)
        {
            let (sequence, entry) = lowest.remove_entry();
            if entry.acknowledged {
                self.late.insert(sequence, entry);
            } else {
                ended.push((sequence, entry));
            }
        }
        ended
    }
}
