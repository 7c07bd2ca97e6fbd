//! The server: executes each request once, and answers questions about it.
//!
//! States of a request:
//!
//! ```text
//!   Request ──▶ Arriving ──all fragments──▶ Executing ──reply()──▶ Done ──┬──▶ forgotten
//!                  │                            │                         │ floor passes, or
//!                  │ the client gives up        │                         │ patience ends
//!                  │                            │                         │
//!                  └────────────────────────────┴─────────────────────────┴──▶ Ended, until the
//!                           Cancel, silence, a newer client generation                floor passes
//! ```
//!
//! The server sends nothing but answers, and repeats nothing by itself: all timers for repetition
//! are the client's. The server's three timers are the late acknowledgement, the end of a client's
//! patience, and the end of an idle session.

mod config;
mod requests;
mod session;
mod ticket;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sansio::Timers;
use thiserror::Error;

pub use config::{Config, Limits};
pub use session::RequestId;

use crate::packet::{Answer, Header, PacketError, Question, Refusal, open_question, seal_answer};
use crate::rules::{Rule, Rules};
use crate::{
    Address, ClientGeneration, ClientId, Identity, PacketNumber, Sequence, Time, Transmit,
};
use session::{Session, SessionKey};
use ticket::Tickets;

/// Core of the server. See [the module](self).
#[derive(Debug)]
pub struct Server {
    config: Config,
    rules: Rules,
    tickets: Tickets,
    sessions: HashMap<SessionKey, Session>,
    clients: HashMap<ClientId, Known>,
    timers: Timers<Timer>,
    outgoing: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    /// Number of open requests, and the bytes kept for them.
    requests: usize,
    bytes: usize,
}

/// A client with a session.
#[derive(Debug)]
struct Known {
    newest: ClientGeneration,
    sessions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Acknowledge(RequestId),
    Release(RequestId),
    Idle(SessionKey),
}

/// Event for the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Execute this request, and [reply](Server::reply).
    Request {
        /// Id for the reply.
        id: RequestId,
        /// Client that made the request.
        client: Identity,
        /// Content of the request.
        body: Bytes,
        /// Time for which the caller still waits.
        limit: Duration,
    },
    /// No reply to this request is awaited any more.
    Cancelled {
        /// Id of the request.
        id: RequestId,
        /// Reason of the cancellation.
        why: CancelReason,
    },
}

/// Reason for which no reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The caller gave up, by its own wish or its time limit.
    Caller,
    /// The client has been silent for longer than it had announced.
    ClientSilent,
    /// The client has begun a new generation.
    ClientRestarted,
}

/// A reply that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// The request was replied to or cancelled before. Nothing must be done.
    #[error("no caller waits for this reply")]
    NotWaiting,
    /// The reply is longer than [`MAX_MESSAGE_BYTES`](crate::MAX_MESSAGE_BYTES). Nothing was sent;
    /// send a shorter one.
    #[error("a reply of {bytes} bytes is too long")]
    TooLong {
        /// The reply's length.
        bytes: usize,
    },
}

/// Packets that a server has sent and received since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub received: u64,
    /// Packets received that aren't of this protocol.
    pub foreign: u64,
    /// Packets with a wrong hash.
    pub unauthentic: u64,
    /// Packets with a right hash and wrong content.
    pub malformed: u64,
    /// Packets for another port.
    pub misdirected: u64,
    /// Packets from another address than the one to which their ticket was sent. They aren't
    /// refused: the refusal would go to a stranger, or make the client give up its calls.
    pub misplaced: u64,
    /// Packets seen before.
    pub replayed: u64,
    /// Packets from an earlier generation of a client.
    pub orphaned: u64,
    /// Packets that were refused.
    pub refused: u64,
    /// Packets about a known request.
    pub repeated: u64,
    /// Requests given to the service.
    pub executed: u64,
    /// Requests cancelled while executed.
    pub cancelled: u64,
    /// Packets sent.
    pub sent: u64,
}

/// Numbers of the things that a server holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sessions.
    pub sessions: usize,
    /// Requests that arrive, are executed, or whose reply is kept.
    pub requests: usize,
    /// Bytes of these requests.
    pub bytes: usize,
    /// Timers that are set.
    pub timers: usize,
}

/// Reason for which a packet doesn't reach its session.
enum NotAdmitted {
    Refused(Refusal),
    Dropped,
}

impl Server {
    /// Returns a server without sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let rules = Rules::default();
        Self {
            tickets: Tickets::new(&config, &rules),
            config,
            rules,
            sessions: HashMap::new(),
            clients: HashMap::new(),
            timers: Timers::new(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            requests: 0,
            bytes: 0,
        }
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "mutations")]
    pub fn break_rule(&mut self, rule: Rule) {
        self.rules.break_one(rule);
        self.tickets = Tickets::new(&self.config, &self.rules);
    }

    /// Handles a datagram that came.
    pub fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.counters.received += 1;
        let key = self.config.key.clone();
        match open_question(&key, packet) {
            Ok(opened) => self.handle_question(now, from, &opened.header, &opened.body),
            Err(PacketError::Foreign) => self.counters.foreign += 1,
            Err(PacketError::Unauthentic) => self.counters.unauthentic += 1,
            Err(PacketError::Malformed) => self.counters.malformed += 1,
        }
    }

    /// Handles the timers that are due, as [`poll_timeout`](Self::poll_timeout) announced.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Acknowledge(id) => self.acknowledge(now, id),
                Timer::Release(id) => self.release(now, id),
                Timer::Idle(key) => self.end_if_idle(now, key),
            }
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// Returns the next event for the service.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the time for the next [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Returns the counters since the server's start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the number of things that the server holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sessions: self.sessions.len(),
            requests: self.requests,
            bytes: self.bytes,
            timers: self.timers.len(),
        }
    }

    fn handle_question(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        question: &Question<'_>,
    ) {
        if header.port != self.config.port {
            self.counters.misdirected += 1;
            return;
        }
        let (sequence, floor) = match question {
            Question::Hello => return self.welcome(now, from, header),
            Question::Ended { floor, sequences } => {
                return self.handle_all_ended(now, from, header, question, (*floor, sequences));
            }
            Question::Request(request) => (request.sequence, request.floor),
            Question::Ask(ask) => (ask.sequence, ask.floor),
            Question::Cancel { sequence, floor } => (*sequence, *floor),
        };
        match self.admit(now, from, header, question) {
            Ok(session) => {
                self.raise_floor(session, floor);
                self.handle_admitted(now, RequestId { session, sequence }, header, question);
            }
            Err(NotAdmitted::Refused(why)) => self.refuse(now, from, header, sequence, why),
            Err(NotAdmitted::Dropped) => {}
        }
    }

    /// Handles `Ended`, which has no answer in any case.
    fn handle_all_ended(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        question: &Question<'_>,
        (floor, ended): (Sequence, &[Sequence]),
    ) {
        if let Ok(session) = self.admit(now, from, header, question) {
            self.raise_floor(session, floor);
            for sequence in ended {
                self.handle_ended(RequestId { session, sequence: *sequence });
            }
        }
    }

    fn welcome(&mut self, now: Time, from: &Address, header: &Header) {
        let ticket = self.tickets.issue(now, header.client, from);
        let terms = self.config.limits.terms();
        self.answer(from, &Header { ticket, ..*header }, Duration::ZERO, &Answer::Welcome(terms));
    }

    /// Refuses a request. For want of a session, the refusal has the ticket for a new one.
    fn refuse(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        sequence: Sequence,
        why: Refusal,
    ) {
        self.counters.refused += 1;
        let ticket = match why {
            Refusal::Epoch | Refusal::NoSession => self.tickets.issue(now, header.client, from),
            Refusal::Gone
            | Refusal::Busy
            | Refusal::TooLong
            | Refusal::Cancelled
            | Refusal::Abandoned => header.ticket,
        };
        let terms = self.config.limits.terms();
        self.answer(
            from,
            &Header { ticket, ..*header },
            Duration::ZERO,
            &Answer::Refused { sequence, why, terms },
        );
    }

    fn answer(&mut self, to: &Address, header: &Header, held: Duration, answer: &Answer<'_>) {
        let header = Header { epoch: self.config.epoch, ..*header };
        let mut packet = Vec::new();
        seal_answer(&self.config.key, &header, held, answer, &mut packet);
        self.counters.sent += 1;
        self.outgoing.push_back(Transmit { to: to.clone(), packet });
    }

    /// Returns the session of a packet, and opens it if that is allowed.
    fn admit(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        question: &Question<'_>,
    ) -> Result<SessionKey, NotAdmitted> {
        if header.epoch != self.config.epoch && self.rules.obey(Rule::ServerEpoch) {
            return Err(NotAdmitted::Refused(Refusal::Epoch));
        }
        let key = SessionKey::of(header);
        let Some(session) = self.sessions.get_mut(&key) else {
            return self.open_session(now, from, header, question).map(|()| key);
        };
        if session.has_seen(header.number) && self.rules.obey(Rule::Replay) {
            self.counters.replayed += 1;
            return Err(NotAdmitted::Dropped);
        }
        if session.address != *from && self.rules.obey(Rule::TicketProof) {
            self.counters.misplaced += 1;
            return Err(NotAdmitted::Dropped);
        }
        session.take(header.number);
        session.last_heard = now;
        Ok(key)
    }

    fn open_session(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        question: &Question<'_>,
    ) -> Result<(), NotAdmitted> {
        let Question::Request(request) = question else {
            return Err(NotAdmitted::Refused(Refusal::NoSession));
        };
        if self.rules.obey(Rule::TicketProof)
            && !self.tickets.is_ours(header.ticket, header.client, from)
        {
            self.counters.misplaced += 1;
            return Err(NotAdmitted::Dropped);
        }
        if self.rules.obey(Rule::TicketAge) && !self.tickets.is_young(header.ticket, now) {
            return Err(NotAdmitted::Refused(Refusal::NoSession));
        }
        self.greet_generation(header.client)?;
        let key = SessionKey::of(header);
        self.sessions.insert(key, Session::open(now, from.clone(), header.number, request.floor));
        self.timers.set(Timer::Idle(key), now + self.idle());
        Ok(())
    }

    /// Counts a session for the client, and ends its earlier generations.
    fn greet_generation(&mut self, client: Identity) -> Result<(), NotAdmitted> {
        let full = self.sessions.len() >= self.config.limits.sessions;
        let known = self.clients.get(&client.id);
        match known {
            Some(known)
                if known.newest > client.generation && self.rules.obey(Rule::NewestGeneration) =>
            {
                self.counters.orphaned += 1;
                return Err(NotAdmitted::Dropped);
            }
            Some(known) if known.newest < client.generation => self.end_earlier_generations(client),
            Some(known) if known.sessions >= self.config.limits.sessions_per_client => {
                return Err(NotAdmitted::Refused(Refusal::Busy));
            }
            _ if full => return Err(NotAdmitted::Refused(Refusal::Busy)),
            _ => {}
        }
        let known = self
            .clients
            .entry(client.id)
            .or_insert(Known { newest: client.generation, sessions: 0 });
        known.newest = client.generation;
        known.sessions += 1;
        Ok(())
    }

    /// Ends the sessions of a client's earlier generations. Nothing is executed twice after that.
    /// Packets of those generations are refused while the newer session lives, and it outlives
    /// their tickets.
    fn end_earlier_generations(&mut self, client: Identity) {
        let earlier = |key: &&SessionKey| {
            key.client.id == client.id && key.client.generation < client.generation
        };
        let ended: Vec<SessionKey> = self.sessions.keys().filter(earlier).copied().collect();
        for key in ended {
            self.end_session(key, CancelReason::ClientRestarted);
        }
    }

    /// Returns the time for which a session is kept after its last packet.
    fn idle(&self) -> Duration {
        if self.rules.obey(Rule::OutliveTicket) {
            self.config.limits.session_idle
        } else {
            self.config.limits.session_idle / 8
        }
    }

    fn end_if_idle(&mut self, now: Time, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        let idle = self.idle();
        if session.has_open() {
            self.timers.set(Timer::Idle(key), now + idle);
        } else if now < session.last_heard + idle {
            self.timers.set(Timer::Idle(key), session.last_heard + idle);
        } else {
            self.end_session(key, CancelReason::ClientSilent);
        }
    }

    fn end_session(&mut self, key: SessionKey, why: CancelReason) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        for (sequence, entry) in session.drain() {
            self.forget(RequestId { session: key, sequence }, &entry, why);
        }
        self.timers.cancel(Timer::Idle(key));
        if let Some(known) = self.clients.get_mut(&key.client.id) {
            known.sessions -= 1;
            if known.sessions == 0 {
                self.clients.remove(&key.client.id);
            }
        }
    }

    /// Raises the floor of a session. Requests below it that haven't been acknowledged have ended
    /// at the client.
    fn raise_floor(&mut self, key: SessionKey, floor: Sequence) {
        let ended =
            self.sessions.get_mut(&key).map(|session| session.raise(floor)).unwrap_or_default();
        for (sequence, entry) in ended {
            self.forget(RequestId { session: key, sequence }, &entry, CancelReason::Caller);
        }
    }
}

/// Returns the header of an answer to a known request.
fn answering(id: RequestId, config: &Config, number: PacketNumber) -> Header {
    let SessionKey { client, ticket } = id.session;
    Header { port: config.port, epoch: config.epoch, client, ticket, number }
}
