//! One server, as the client knows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::call::{Call, CallPhase, CallSession};
use super::config::Limits;
use super::{Context, Event, Timer};
use crate::packet::{ClientBody, Header, MAX_ENDED, Terms, seal_question};
use crate::rtt::RoundTrip;
use crate::window::Window;
use crate::{Address, CallError, PacketNumber, Port, Sequence, Time, Transmit};

/// Number of transmissions whose times are kept for measuring round trips: more than can be under
/// way.
const REMEMBERED: usize = 4_096;
/// Bytes of arrived replies from which on the client reports them at once; fewer wait for others.
const ENDED_BYTES: usize = 1 << 20;
/// Shortest time for which a session counts as kept, even if the server names a shorter one.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// A server. Its open calls are in the [`Conversation`](super::conversation::Conversation).
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) port: Port,
    pub(super) address: Option<Address>,
    /// Whether a lookup is under way.
    pub(super) finding: bool,
    pub(super) session: Option<CurrentSession>,
    pub(super) greeting: Option<Greeting>,
    pub(super) round_trip: RoundTrip,
    /// Windows for requests, and for replies.
    pub(super) up: Window,
    pub(super) down: Window,
    sharers: Sharers,
    /// Calls that have never been sent.
    pub(super) waiting: VecDeque<Sequence>,
    /// Calls that the server isn't known to have received. The floor is the lowest of them.
    pub(super) unreceived: BTreeSet<Sequence>,
    /// Floor at the last call of [`Self::has_risen`].
    last_floor: Sequence,
    pub(super) cancels: BTreeMap<Sequence, Cancelling>,
    pub(super) ended: EndedCalls,
    next_sequence: Sequence,
    pub(super) next_number: PacketNumber,
    /// Time of the last call or answer.
    pub(super) used: Time,
    departures: VecDeque<(PacketNumber, Time)>,
}

/// Numbers of open calls: of those that share the window for requests or for replies, and of
/// others.
#[derive(Debug, Default)]
struct Sharers {
    requests: u32,
    replies: u32,
    others: u32,
}

impl Sharers {
    /// Returns the counter of the calls in phases like `phase`.
    fn of(&mut self, phase: &CallPhase) -> &mut u32 {
        match phase {
            CallPhase::Sending { flight: Some(_), .. } => &mut self.requests,
            CallPhase::Receiving { .. } => &mut self.replies,
            CallPhase::Sending { flight: None, .. } | CallPhase::Waiting | CallPhase::Asking => {
                &mut self.others
            }
        }
    }
}

/// Session in which new calls begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurrentSession {
    pub(super) session: CallSession,
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

/// An ended call of which the client is telling the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cancelling {
    pub(super) session: CallSession,
    pub(super) transmissions: u32,
}

/// Ended calls below the floor, which the floor can't report to the server.
#[derive(Debug, Default)]
pub(super) struct EndedCalls {
    session: Option<CallSession>,
    sequences: Vec<Sequence>,
    bytes: usize,
}

impl EndedCalls {
    /// Notes a call that has ended.
    pub(super) fn note(&mut self, session: CallSession, sequence: Sequence, reply_bytes: usize) {
        if self.session != Some(session) {
            *self = Self { session: Some(session), ..Self::default() };
        }
        self.sequences.push(sequence);
        self.bytes += reply_bytes;
    }

    /// Takes the calls if they are many or large enough for a packet.
    pub(super) fn take_if_many(&mut self) -> Option<(CallSession, Vec<Sequence>)> {
        let worth = self.sequences.len() >= MAX_ENDED || self.bytes >= ENDED_BYTES;
        let ended = worth.then(|| std::mem::take(self))?;
        Some((ended.session?, ended.sequences))
    }
}

impl CurrentSession {
    pub(super) fn new(now: Time, session: CallSession, terms: Terms) -> Self {
        Self { session, idle: terms.idle.max(SHORTEST_IDLE), used: now }
    }
}

impl Greeting {
    /// Returns whether `number` is one of the greeting's packets.
    pub(super) fn includes(&self, number: PacketNumber) -> bool {
        (self.first..=self.number).contains(&number)
    }
}

impl Peer {
    pub(super) fn new(now: Time, port: Port, limits: &Limits, next_number: PacketNumber) -> Self {
        Self {
            port,
            address: None,
            finding: false,
            session: None,
            greeting: None,
            round_trip: RoundTrip::new(limits.rto_initial, limits.rto_max),
            sharers: Sharers::default(),
            up: Window::new(limits.window_bytes),
            down: Window::new(limits.window_bytes),
            waiting: VecDeque::new(),
            unreceived: BTreeSet::new(),
            last_floor: Sequence(0),
            cancels: BTreeMap::new(),
            ended: EndedCalls::default(),
            next_sequence: Sequence(0),
            next_number,
            used: now,
            departures: VecDeque::new(),
        }
    }

    pub(super) fn is_at(&self, address: &Address) -> bool {
        self.address.as_ref() == Some(address)
    }

    /// Counts a new call, which waits at first. Returns its sequence.
    pub(super) fn add(&mut self, now: Time) -> Sequence {
        let sequence = self.next_sequence;
        self.next_sequence = Sequence(sequence.0 + 1);
        self.used = now;
        self.unreceived.insert(sequence);
        self.waiting.push_back(sequence);
        *self.sharers.of(&CallPhase::Waiting) += 1;
        sequence
    }

    /// Changes a call's phase.
    pub(super) fn enter(&mut self, call: &mut Call, phase: CallPhase) {
        debug_assert!(call.phase.leads_to(&phase), "{:?} to {phase:?}", call.phase);
        *self.sharers.of(&call.phase) -= 1;
        *self.sharers.of(&phase) += 1;
        call.phase = phase;
    }

    /// Ends a call that was removed from the open ones, and removes all records of it.
    pub(super) fn end(&mut self, cx: &mut Context, call: Call, result: Result<Bytes, CallError>) {
        let Call { id, sequence, phase, sent, .. } = call;
        *self.sharers.of(&phase) -= 1;
        let lives_on = !self.unreceived.remove(&sequence);
        match (&result, sent) {
            (Ok(reply), Some(sent)) if lives_on => {
                self.ended.note(sent.session, sequence, reply.len());
            }
            (_, Some(_)) => {}
            (_, None) => self.waiting.retain(|waiting| *waiting != sequence),
        }
        cx.keys.remove(&id);
        cx.timers.cancel(Timer::Limit(id));
        cx.timers.cancel(Timer::Retry(id));
        cx.events.push_back(Event::Ended { call: id, result });
    }

    /// Returns the lowest sequence that hasn't ended at the client and isn't known to be received.
    pub(super) fn floor(&self) -> Sequence {
        self.unreceived.first().copied().unwrap_or(self.next_sequence)
    }

    /// Returns whether the floor has risen since the last call.
    pub(super) fn has_risen(&mut self) -> bool {
        let floor = self.floor();
        let last = std::mem::replace(&mut self.last_floor, floor);
        debug_assert!(last <= floor, "the floor never falls");
        last < floor
    }

    /// Takes the next waiting call that may run ahead of the floor.
    pub(super) fn next_waiting(&mut self, limits: &Limits) -> Option<Sequence> {
        let (floor, sequence) = (self.floor(), *self.waiting.front()?);
        debug_assert!(floor <= sequence, "a call that waits isn't received");
        if sequence.0 - floor.0 >= limits.calls_ahead as u64 {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Returns the session for a new call, if the server certainly still knows the session.
    pub(super) fn usable_session(&self, now: Time) -> Option<CallSession> {
        self.session
            .filter(|current| now.since(current.used) < current.idle / 2)
            .map(|current| current.session)
    }

    /// Sends a question. Returns its number, or `None` if the server's address isn't known: then
    /// the question counts as lost.
    pub(super) fn send(
        &mut self,
        cx: &mut Context,
        now: Time,
        session: CallSession,
        question: &ClientBody<'_>,
    ) -> Option<PacketNumber> {
        let Some(to) = self.address.clone() else {
            cx.counters.unaddressed += 1;
            return None;
        };
        let number = self.next_number;
        self.next_number = PacketNumber(number.0.wrapping_add(1));
        let CallSession { epoch, ticket } = session;
        let header = Header { port: self.port, epoch, client: cx.config.identity, ticket, number };
        let mut packet = Vec::new();
        seal_question(&cx.config.key, &header, question, &mut packet);
        self.departed(now, number);
        cx.counters.sent += 1;
        cx.outgoing.push_back(Transmit { to, packet });
        Some(number)
    }

    fn departed(&mut self, now: Time, number: PacketNumber) {
        debug_assert!(
            self.departures.back().is_none_or(|(last, _)| *last < number),
            "no number is used twice"
        );
        if self.departures.len() == REMEMBERED {
            self.departures.pop_front();
        }
        self.departures.push_back((number, now));
    }

    /// Measures a round trip by the answer to packet `number`; `held` is the time that the server
    /// took.
    pub(super) fn measure(&mut self, now: Time, number: PacketNumber, held: Duration) {
        let at = self.departures.partition_point(|(earlier, _)| *earlier < number);
        if self.departures.get(at).is_some_and(|(found, _)| *found == number)
            && let Some((_, departed)) = self.departures.remove(at)
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

    /// Returns the number of open calls.
    pub(super) fn open(&self) -> usize {
        let Sharers { requests, replies, others } = self.sharers;
        (requests + replies + others) as usize
    }
}
