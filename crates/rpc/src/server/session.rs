//! A session: the server's memory of one client since its ticket.
//!
//! Sequences below the *floor* have ended at the client, or the server has acknowledged them: by
//! `Working`, `Got`, or the beginning of a long reply. So below the floor only acknowledged
//! requests are alive, in `late`. They end when the client says that they have `Ended`, or with the
//! client's patience. All others below the floor are refused without any record.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::fragments::Assembly;
use crate::packet::{Header, Refusal};
use crate::replay::Replay;
use crate::{Address, Identity, PacketNumber, Sequence, Ticket, Time};

/// Name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey {
    pub(super) client: Identity,
    pub(super) ticket: Ticket,
}

/// Hashes the ticket's proof alone: the proof is a hash of all the rest, and each packet needs
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

/// Name of a request, by which the service replies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) session: SessionKey,
    pub(super) sequence: Sequence,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { id, generation } = self.session.client;
        write!(f, "{:016x}.{generation}.{}.{}", id.0, self.session.ticket.issued_us, self.sequence)
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Whether the client knows that the server has the request, or a part of it. Then the floor
    /// doesn't tell whether it has ended.
    pub(super) acknowledged: bool,
    /// Newest question about the request, to which the next answer belongs.
    pub(super) asked: Asked,
    /// Time after which the client won't ask any more.
    pub(super) until: Time,
    /// Bytes of the reply to send unasked.
    pub(super) credit_bytes: u32,
    /// Length of each fragment of the reply, bytes.
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
    /// The service has the body.
    Executing {
        body_bytes: usize,
    },
    Done {
        reply: Bytes,
    },
    /// The client or the service gave the request up, or its reply is no longer kept. It is
    /// remembered until the floor has passed it.
    Ended {
        why: Refusal,
    },
}

impl Entry {
    /// Returns the bytes that the entry keeps.
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
    /// Bytes that the entries keep.
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

    /// Whether the packet is a copy of an earlier one.
    pub(super) fn has_seen(&self, number: PacketNumber) -> bool {
        self.replay.has_seen(number)
    }

    pub(super) fn take(&mut self, number: PacketNumber) {
        self.replay.take(number);
    }

    pub(super) fn floor(&self) -> Sequence {
        self.floor
    }

    /// Returns the number of sequences in the table, and of those below the floor that live on.
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

    /// Takes all entries out.
    pub(super) fn drain(&mut self) -> Vec<(Sequence, Entry)> {
        std::mem::take(&mut self.table).into_iter().chain(std::mem::take(&mut self.late)).collect()
    }

    /// Raises the floor. Returns the entries that have ended by that.
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
