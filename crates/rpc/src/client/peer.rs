//! One server, as the client knows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::call::{Call, Phase, Session};
use super::config::Limits;
use crate::packet::{MAX_ENDED, Terms};
use crate::rtt::RoundTrip;
use crate::window::Window;
use crate::{Address, PacketNumber, Sequence, Time};

/// Number of transmissions whose time is kept for measuring round trips; more than may be under
/// way.
const REMEMBERED: usize = 4_096;
/// Bytes of arrived replies that are reported at once; smaller ones are reported together.
const ENDED_BYTES: usize = 1 << 20;
/// Shortest time for which a session counts as kept, whatever the server says.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// A server.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Option<Address>,
    /// Whether a lookup is under way.
    pub(super) finding: bool,
    pub(super) session: Option<Open>,
    pub(super) greeting: Option<Greeting>,
    pub(super) round_trip: RoundTrip,
    /// Windows for requests, and for replies.
    pub(super) up: Window,
    pub(super) down: Window,
    pub(super) calls: BTreeMap<Sequence, Call>,
    sharers: Sharers,
    /// Calls that have never been sent.
    pub(super) waiting: VecDeque<Sequence>,
    /// Calls that the server isn't known to have received. The lowest is the floor.
    pub(super) unreceived: BTreeSet<Sequence>,
    /// Floor at the last look.
    pub(super) last_floor: Sequence,
    pub(super) cancels: BTreeMap<Sequence, Cancelling>,
    pub(super) ended: Ended,
    pub(super) next_sequence: Sequence,
    pub(super) next_number: PacketNumber,
    pub(super) used: Time,
    departures: VecDeque<(PacketNumber, Time)>,
}

/// Numbers of calls that share the windows, which each packet needs.
#[derive(Debug, Default)]
struct Sharers {
    requests: u32,
    replies: u32,
    others: u32,
}

impl Sharers {
    /// Returns the number of calls that do the same as `phase`.
    fn of(&mut self, phase: &Phase) -> &mut u32 {
        match phase {
            Phase::Sending { flight: Some(_), .. } => &mut self.requests,
            Phase::Receiving { .. } => &mut self.replies,
            Phase::Sending { flight: None, .. } | Phase::Waiting | Phase::Asking => {
                &mut self.others
            }
        }
    }
}

/// Session in which new calls begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) session: Session,
    /// Time for which the server keeps the session after the last packet, and accepts its ticket.
    pub(super) idle: Duration,
    pub(super) used: Time,
}

/// A `Hello` under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    pub(super) first: PacketNumber,
    pub(super) number: PacketNumber,
    pub(super) unanswered: u32,
}

/// A call that has ended here, of which the server is being told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cancelling {
    pub(super) session: Session,
    pub(super) transmissions: u32,
}

/// Ended calls below the floor, of which the floor doesn't tell the server.
#[derive(Debug, Default)]
pub(super) struct Ended {
    session: Option<Session>,
    sequences: Vec<Sequence>,
    bytes: usize,
}

impl Ended {
    /// Notes a call that has ended.
    pub(super) fn note(&mut self, session: Session, sequence: Sequence, reply_bytes: usize) {
        if self.session != Some(session) {
            *self = Self { session: Some(session), ..Self::default() };
        }
        self.sequences.push(sequence);
        self.bytes += reply_bytes;
    }

    /// Takes the calls when they are worth a packet.
    pub(super) fn take_if_many(&mut self) -> Option<(Session, Vec<Sequence>)> {
        let worth = self.sequences.len() >= MAX_ENDED || self.bytes >= ENDED_BYTES;
        let ended = worth.then(|| std::mem::take(self))?;
        Some((ended.session?, ended.sequences))
    }
}

impl Open {
    pub(super) fn new(now: Time, session: Session, terms: Terms) -> Self {
        Self { session, idle: terms.idle.max(SHORTEST_IDLE), used: now }
    }
}

impl Peer {
    pub(super) fn new(now: Time, limits: &Limits, next_number: PacketNumber) -> Self {
        Self {
            address: None,
            finding: false,
            session: None,
            greeting: None,
            round_trip: RoundTrip::new(limits.rto_initial, limits.rto_max),
            sharers: Sharers::default(),
            up: Window::new(limits.window_bytes),
            down: Window::new(limits.window_bytes),
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            unreceived: BTreeSet::new(),
            last_floor: Sequence(0),
            cancels: BTreeMap::new(),
            ended: Ended::default(),
            next_sequence: Sequence(0),
            next_number,
            used: now,
            departures: VecDeque::new(),
        }
    }

    /// Returns the lowest sequence that hasn't ended here and isn't known to be received.
    pub(super) fn floor(&self) -> Sequence {
        self.unreceived.first().copied().unwrap_or(self.next_sequence)
    }

    /// Returns the session for a new call, while the server certainly still knows it.
    pub(super) fn usable_session(&self, now: Time) -> Option<Session> {
        self.session.filter(|open| now.since(open.used) < open.idle / 2).map(|open| open.session)
    }

    pub(super) fn departed(&mut self, now: Time, number: PacketNumber) {
        if self.departures.len() == REMEMBERED {
            self.departures.pop_front();
        }
        self.departures.push_back((number, now));
    }

    /// Measures a round trip by the answer to packet `number`, which the server `held` for so long.
    pub(super) fn measure(&mut self, now: Time, number: PacketNumber, held: Duration) {
        let place = self.departures.partition_point(|(earlier, _)| *earlier < number);
        if self.departures.get(place).is_some_and(|(found, _)| *found == number)
            && let Some((_, departed)) = self.departures.remove(place)
        {
            self.round_trip.sample(now.since(departed).saturating_sub(held));
        }
    }

    /// Returns the number of calls that share the window for requests.
    pub(super) fn large_requests(&self) -> u32 {
        self.sharers.requests
    }

    /// Returns the number of calls that share the window for replies.
    pub(super) fn large_replies(&self) -> u32 {
        self.sharers.replies
    }

    /// Changes a call's phase. Returns the phase before.
    pub(super) fn enter(&mut self, sequence: Sequence, phase: Phase) -> Option<Phase> {
        let call = self.calls.get_mut(&sequence)?;
        let before = std::mem::replace(&mut call.phase, phase);
        *self.sharers.of(&before) -= 1;
        *self.sharers.of(&call.phase) += 1;
        Some(before)
    }

    pub(super) fn insert(&mut self, sequence: Sequence, call: Call) {
        *self.sharers.of(&call.phase) += 1;
        self.calls.insert(sequence, call);
    }

    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Call> {
        let call = self.calls.remove(&sequence)?;
        *self.sharers.of(&call.phase) -= 1;
        Some(call)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.calls.is_empty() && self.cancels.is_empty()
    }
}
