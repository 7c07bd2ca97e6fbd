//! A session: the server's memory of one client since its ticket.
//!
//! Sequences below the *floor* have ended at the client, or the server has acknowledged them: by
//! `Working`, `Got`, or the beginning of a long reply. So below the floor only acknowledged
//! requests are alive, in `late`. Such a request ends when the client reports it as `Ended`, or
//! with the client's patience. Any other request below the floor is refused without a record.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::Config;
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

/// Hashes the ticket's proof alone, because each packet needs several lookups. The proof is itself
/// a hash of all other fields.
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

/// One session: a client, and its requests. Client and requests are separate fields, so that a
/// function can change a request and answer its client together.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: SessionClient,
    pub(super) requests: Requests,
}

/// The client of a session.
#[derive(Debug)]
pub(super) struct SessionClient {
    pub(super) key: SessionKey,
    pub(super) address: Address,
    pub(super) last_heard: Time,
    /// Bytes that the session's requests keep.
    pub(super) bytes: usize,
    replay: Replay,
}

/// The requests of a session.
#[derive(Debug)]
pub(super) struct Requests {
    floor: Sequence,
    table: BTreeMap<Sequence, SessionRequest>,
    late: BTreeMap<Sequence, SessionRequest>,
}

/// One request.
#[derive(Debug)]
pub(super) struct SessionRequest {
    pub(super) sequence: Sequence,
    /// Phase, which only `requests.rs` changes.
    pub(super) phase: RequestPhase,
    /// Whether the client knows that the server has the request, or a part of it. Then the floor
    /// doesn't tell whether the request has ended.
    pub(super) acknowledged: bool,
    /// Newest question about the request, which the next answer answers.
    pub(super) asked: Asked,
    /// Time after which the client won't ask any more.
    pub(super) until: Time,
    /// Bytes of the reply that may be sent unasked.
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
pub(super) enum RequestPhase {
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
    /// The client or the service gave the request up, or its reply is no longer kept. The server
    /// remembers the request until the floor has passed it.
    Ended {
        why: Refusal,
    },
}

impl RequestPhase {
    /// Returns whether a request in this phase may enter the phase `next`: see the diagram of
    /// [the module](super).
    pub(super) fn leads_to(&self, next: &Self) -> bool {
        match self {
            Self::Arriving { .. } => matches!(next, Self::Executing { .. } | Self::Ended { .. }),
            Self::Executing { .. } => matches!(next, Self::Done { .. } | Self::Ended { .. }),
            Self::Done { .. } | Self::Ended { .. } => matches!(next, Self::Ended { .. }),
        }
    }
}

impl SessionRequest {
    /// Returns the bytes that the request keeps.
    pub(super) fn bytes(&self) -> usize {
        match &self.phase {
            RequestPhase::Arriving { assembly } => assembly.bytes(),
            RequestPhase::Executing { body_bytes } => *body_bytes,
            RequestPhase::Done { reply } => reply.len(),
            RequestPhase::Ended { .. } => 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, RequestPhase::Ended { .. })
    }

    pub(super) fn is_arriving(&self) -> bool {
        matches!(self.phase, RequestPhase::Arriving { .. })
    }

    pub(super) fn is_executing(&self) -> bool {
        matches!(self.phase, RequestPhase::Executing { .. })
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, RequestPhase::Done { .. })
    }
}

impl Session {
    pub(super) fn open(
        now: Time,
        key: SessionKey,
        address: Address,
        first: PacketNumber,
        floor: Sequence,
    ) -> Self {
        let replay = Replay::new(first);
        Self {
            peer: SessionClient { key, address, last_heard: now, bytes: 0, replay },
            requests: Requests { floor, table: BTreeMap::new(), late: BTreeMap::new() },
        }
    }
}

impl SessionClient {
    /// Returns whether the packet is a copy of an earlier one.
    pub(super) fn has_seen(&self, number: PacketNumber) -> bool {
        self.replay.has_seen(number)
    }

    /// Notes a packet of the client.
    pub(super) fn heard(&mut self, now: Time, number: PacketNumber) {
        self.replay.take(number);
        self.last_heard = now;
    }

    /// Returns the name of the session's request.
    pub(super) fn id_of(&self, sequence: Sequence) -> RequestId {
        RequestId { session: self.key, sequence }
    }

    /// Returns the header of an answer to the client's packet.
    pub(super) fn header(&self, config: &Config, number: PacketNumber) -> Header {
        let SessionKey { client, ticket } = self.key;
        Header { port: config.port, epoch: config.epoch, client, ticket, number }
    }
}

impl Requests {
    pub(super) fn floor(&self) -> Sequence {
        self.floor
    }

    /// Returns the number of sequences in the table, and of those below the floor that live on.
    pub(super) fn len(&self) -> usize {
        self.table.len() + self.late.len()
    }

    pub(super) fn has_open(&self) -> bool {
        self.table.values().chain(self.late.values()).any(SessionRequest::is_open)
    }

    pub(super) fn get_mut(&mut self, sequence: Sequence) -> Option<&mut SessionRequest> {
        self.table.get_mut(&sequence).or_else(|| self.late.get_mut(&sequence))
    }

    /// Returns a request that waits for its reply.
    pub(super) fn executing(&mut self, sequence: Sequence) -> Option<&mut SessionRequest> {
        self.get_mut(sequence).filter(|request| request.is_executing())
    }

    /// Adds a request to the table. Returns the request, and an earlier one with the same sequence,
    /// which only a broken rule permits.
    pub(super) fn insert(
        &mut self,
        request: SessionRequest,
    ) -> (&mut SessionRequest, Option<SessionRequest>) {
        match self.table.entry(request.sequence) {
            Entry::Vacant(vacant) => (vacant.insert(request), None),
            Entry::Occupied(mut occupied) => {
                let before = occupied.insert(request);
                (occupied.into_mut(), Some(before))
            }
        }
    }

    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<SessionRequest> {
        self.table.remove(&sequence).or_else(|| self.late.remove(&sequence))
    }

    /// Removes a request whose reply is kept.
    pub(super) fn remove_done(&mut self, sequence: Sequence) -> Option<SessionRequest> {
        let is_done = self.get_mut(sequence).is_some_and(|request| request.is_done());
        is_done.then(|| self.remove(sequence)).flatten()
    }

    /// Takes all requests out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = SessionRequest> + use<> {
        let (table, late) = (std::mem::take(&mut self.table), std::mem::take(&mut self.late));
        table.into_values().chain(late.into_values())
    }

    /// Raises the floor. Returns the requests that thereby have ended.
    pub(super) fn raise(&mut self, floor: Sequence) -> Vec<SessionRequest> {
        self.floor = self.floor.max(floor);
        let mut ended = Vec::new();
        while let Some(lowest) =
            self.table.first_entry().filter(|lowest| *lowest.key() < self.floor)
        {
            let (sequence, request) = lowest.remove_entry();
            if request.acknowledged {
                self.late.insert(sequence, request);
            } else {
                ended.push(request);
            }
        }
        ended
    }
}
