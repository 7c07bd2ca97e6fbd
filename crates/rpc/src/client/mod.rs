//! The client: makes calls, and repeats unanswered requests.
//!
//! States of a call:
//!
//! ```text
//!         found, greeted       Working                   fragments
//!  Waiting ──────────▶ Sending ───────▶ Asking ───┬─────────────▶ Receiving ──┐
//!                        │ ▲ repeats      ▲ heart-│                │ asks for │ all of them
//!                        │ └─ after RTO   └─ beat ┘                │ the rest │
//!                        └──────── a reply of one datagram ────────┴──────────┴──▶ ended
//! ```
//!
//! From any of them it ends with a [`CallError`]: at its time limit, by cancellation, after too
//! many unanswered transmissions, or when the server has forgotten it. If the caller's will or
//! limit ends a call, it is *cancelled* at the server too.

mod answers;
mod call;
mod config;
mod peer;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sansio::Timers;

pub use call::CallId;
pub use config::{Config, Limits};

use crate::packet::{Header, Question, seal_question};
use crate::rules::{Rule, Rules};
use crate::{
    Address, CallError, MAX_MESSAGE_BYTES, PacketNumber, Port, Progress, Sequence, Time, Transmit,
};
use call::{Call, Session};
use peer::{Cancelling, Peer};

/// Core of the client. See [the module](self).
#[derive(Debug)]
pub struct Client {
    config: Config,
    rules: Rules,
    peers: BTreeMap<Port, Peer>,
    calls: BTreeMap<CallId, Place>,
    timers: Timers<Timer>,
    outgoing: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    next_call: u64,
    /// Number of the first packet to a new server: higher than any to a forgotten one.
    next_number: PacketNumber,
}

/// A call's port and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    port: Port,
    sequence: Sequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// Time limit of a call.
    Limit(CallId),
    /// Retransmission or heartbeat of a call.
    Retry(CallId),
    Cancel(Place),
    Greet(Port),
    Idle(Port),
}

/// Event for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Find the port's address, and pass it to [`Client::handle_found`].
    Lookup {
        /// The port.
        port: Port,
    },
    /// A call has ended.
    Ended {
        /// The call.
        call: CallId,
        /// The call's reply, or the reason why there is none.
        result: Result<Bytes, CallError>,
    },
}

/// Packets that a client has sent and received since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls begun.
    pub calls: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets sent because a timer expired: repetitions and heartbeats.
    pub repeated: u64,
    /// Packets received.
    pub received: u64,
    /// Packets received that aren't of this protocol.
    pub foreign: u64,
    /// Packets with a wrong hash.
    pub unauthentic: u64,
    /// Packets with a right hash and wrong content.
    pub malformed: u64,
    /// Packets for an earlier generation of this client.
    pub orphaned: u64,
    /// Packets for no packet of an open call: late, copied, or sent again.
    pub stray: u64,
}

/// Numbers of the things that a client holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Servers that the client knows.
    pub servers: usize,
    /// Calls that are open.
    pub calls: usize,
    /// Ended calls that a server is being told of.
    pub cancels: usize,
    /// Timers that are set.
    pub timers: usize,
}

impl Client {
    /// Returns a client without calls.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            next_number: PacketNumber(config.first_number),
            config,
            rules: Rules::default(),
            peers: BTreeMap::new(),
            calls: BTreeMap::new(),
            timers: Timers::new(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            next_call: 0,
        }
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "mutations")]
    pub fn break_rule(&mut self, rule: Rule) {
        self.rules.break_one(rule);
    }

    /// Sends a request to the server that `port` names. [`Event::Ended`] follows, within `limit`.
    ///
    /// # Errors
    /// [`CallError::TooManyCalls`] and [`CallError::TooLong`]: nothing was begun.
    pub fn call(
        &mut self,
        now: Time,
        port: Port,
        body: Bytes,
        limit: Duration,
    ) -> Result<CallId, CallError> {
        if self.calls.len() >= self.config.limits.calls {
            return Err(CallError::TooManyCalls { open: self.calls.len() });
        }
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(CallError::TooLong { bytes: body.len() });
        }
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.counters.calls += 1;
        if self.rules.obey(Rule::TimeLimit) {
            self.timers.set(Timer::Limit(id), now + limit);
        }
        self.enqueue(now, port, Call::new(id, body, now + limit));
        self.proceed(now, port);
        Ok(id)
    }

    /// Ends a call, if it hasn't ended, with [`CallError::Cancelled`]; the server is told.
    pub fn cancel(&mut self, now: Time, call: CallId) {
        if let Some(place) = self.calls.get(&call).copied() {
            let progress = self.call_at(place).map_or(Progress::Unsent, |call| call.progress());
            self.give_up(now, place, CallError::Cancelled(progress));
        }
    }

    /// Handles the answer to [`Event::Lookup`]. `None`: the port has no server.
    pub fn handle_found(&mut self, now: Time, port: Port, address: Option<Address>) {
        let Some(peer) = self.peers.get_mut(&port) else { return };
        peer.finding = false;
        match address {
            None => self.end_unsent(port, &CallError::NoSuchPort(port)),
            Some(address) if peer.address.as_ref() == Some(&address) => {}
            Some(address) => {
                self.move_to(now, port, address);
                self.proceed(now, port);
            }
        }
    }

    /// Handles the timers that are due, as [`poll_timeout`](Self::poll_timeout) announced.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Limit(call) => self.end_at_limit(now, call),
                Timer::Retry(call) => self.retry(now, call),
                Timer::Cancel(place) => self.repeat_cancel(now, place),
                Timer::Greet(port) => self.repeat_greeting(now, port),
                Timer::Idle(port) => self.end_if_idle(now, port),
            }
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// Returns the next event for the caller.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the time for the next [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Returns the counters since the client's start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the number of things that the client holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let cancels = self.peers.values().map(|peer| peer.cancels.len()).sum();
        Usage {
            servers: self.peers.len(),
            calls: self.calls.len(),
            cancels,
            timers: self.timers.len(),
        }
    }

    fn enqueue(&mut self, now: Time, port: Port, call: Call) {
        let limits = &self.config.limits;
        let (timers, number) = (&mut self.timers, self.next_number);
        let peer = self.peers.entry(port).or_insert_with(|| {
            timers.set(Timer::Idle(port), now + limits.idle);
            Peer::new(now, limits, number)
        });
        let sequence = peer.next_sequence;
        peer.next_sequence = Sequence(sequence.0 + 1);
        peer.used = now;
        peer.unreceived.insert(sequence);
        peer.waiting.push_back(sequence);
        self.calls.insert(call.id, Place { port, sequence });
        peer.insert(sequence, call);
    }

    fn end_at_limit(&mut self, now: Time, id: CallId) {
        let Some(place) = self.calls.get(&id).copied() else { return };
        let Some(call) = self.call_at(place) else { return };
        let error =
            if call.busy > 0 { CallError::Busy } else { CallError::TimedOut(call.progress()) };
        self.give_up(now, place, error);
    }

    /// Ends a call here, and tells the server if it may have the request.
    fn give_up(&mut self, now: Time, place: Place, error: CallError) {
        let session = self.call_at(place).and_then(|call| call.sent).map(|sent| sent.session);
        self.end(place, Err(error));
        let most = self.config.limits.cancels;
        if let (Some(session), Some(peer)) = (session, self.peers.get_mut(&place.port))
            && peer.cancels.len() < most
        {
            peer.cancels.insert(place.sequence, Cancelling { session, transmissions: 0 });
            self.send_cancel(now, place);
        }
        self.proceed(now, place.port);
    }

    fn end(&mut self, place: Place, result: Result<Bytes, CallError>) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let Some(call) = peer.remove(place.sequence) else { return };
        let lives_on = !peer.unreceived.remove(&place.sequence);
        if let (Ok(reply), Some(sent), true) = (&result, call.sent, lives_on) {
            peer.ended.note(sent.session, place.sequence, reply.len());
        }
        if call.sent.is_none() {
            peer.waiting.retain(|sequence| *sequence != place.sequence);
        }
        self.calls.remove(&call.id);
        self.timers.cancel(Timer::Limit(call.id));
        self.timers.cancel(Timer::Retry(call.id));
        self.events.push_back(Event::Ended { call: call.id, result });
    }

    /// Ends all calls to a server that were never sent.
    fn end_unsent(&mut self, port: Port, error: &CallError) {
        let Some(peer) = self.peers.get(&port) else { return };
        for sequence in peer.waiting.clone() {
            self.end(Place { port, sequence }, Err(error.clone()));
        }
    }

    /// Ends all calls that were first sent in a session that the server no longer has.
    fn end_session(&mut self, port: Port, session: Session, error: &CallError) {
        let Some(peer) = self.peers.get(&port) else { return };
        let inside = |call: &Call| call.sent.is_some_and(|sent| sent.session == session);
        let ended: Vec<Sequence> = peer
            .calls
            .iter()
            .filter(|(_, call)| inside(call))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in ended {
            self.end(Place { port, sequence }, Err(error.clone()));
        }
    }

    fn end_if_idle(&mut self, now: Time, port: Port) {
        let Some(peer) = self.peers.get(&port) else { return };
        let until = peer.used + self.config.limits.idle;
        if peer.is_unused() && until <= now {
            self.next_number = self.next_number.max(peer.next_number);
            self.peers.remove(&port);
            self.timers.cancel(Timer::Greet(port));
        } else {
            self.timers.set(Timer::Idle(port), until.max(now + self.config.limits.idle / 2));
        }
    }

    fn call_at(&mut self, place: Place) -> Option<&mut Call> {
        self.peers.get_mut(&place.port)?.calls.get_mut(&place.sequence)
    }

    /// Sends a question. Returns its number, if the server's address is known.
    fn send(
        &mut self,
        now: Time,
        port: Port,
        session: Session,
        question: &Question<'_>,
    ) -> Option<PacketNumber> {
        let peer = self.peers.get_mut(&port)?;
        let to = peer.address.clone()?;
        let number = peer.next_number;
        peer.next_number = PacketNumber(number.0.wrapping_add(1));
        let Session { epoch, ticket } = session;
        let header = Header { port, epoch, client: self.config.identity, ticket, number };
        let mut packet = Vec::new();
        seal_question(&self.config.key, &header, question, &mut packet);
        peer.departed(now, number);
        self.counters.sent += 1;
        self.outgoing.push_back(Transmit { to, packet });
        Some(number)
    }
}
