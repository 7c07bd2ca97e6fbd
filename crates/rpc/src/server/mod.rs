//! The server, which executes each request once and answers questions about it.
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
//! The server sends only answers, and never repeats one by itself: all timers for repetition are
//! the client's. The server's three timers are the late acknowledgement, the end of a client's
//! patience, and the end of an idle session.
//!
//! The table has the phases, divided by whether the client knows that the server has the request
//! (*acknowledged*). An input without a row changes nothing and sends nothing; a test compares the
//! table with the code. The request has one fragment or two. A reply of two fragments acknowledges
//! the request. *execute* and *cancel* are events for the service.
//!
//! | phase | input | then | outputs |
//! |---|---|---|---|
//! | Unknown | request | Executing | execute |
//! | Unknown | first fragment; last fragment | Arriving | Got |
//! | Unknown | Ask; Ask for fragments | same | Gone |
//! | Unknown | Cancel | Ended | Cancelled |
//! | Arriving | first fragment; Ask; Ask for fragments | same | Got |
//! | Arriving | last fragment | Executing, acknowledged | execute |
//! | Executing | ACK_WITHIN passes | Executing, acknowledged | Working |
//! | any Executing | request; first fragment; last fragment | Executing, acknowledged | Working |
//! | any Executing | Ask; Ask for fragments | Executing, acknowledged | Working |
//! | Executing | service replies | Done | Reply |
//! | Executing, acknowledged | service replies | Done, acknowledged | Reply |
//! | any Executing | service abandons | Ended | Abandoned |
//! | any Executing | Cancel | Ended | cancel, Cancelled |
//! | Executing | patience ends | Ended | cancel, Working |
//! | Executing, acknowledged | patience ends | Ended | cancel |
//! | any Done | request; first fragment; last fragment; Ask | same | Reply |
//! | Done, acknowledged | Ask for fragments | same | Reply |
//! | any Done | Ended | Ended | |
//! | Arriving; Done; Done, acknowledged | Cancel | Ended | Cancelled |
//! | Arriving; Done; Done, acknowledged | patience ends | Ended | |
//! | Ended | request; first fragment; last fragment | same | Gone |
//! | Ended | Ask; Ask for fragments | same | Gone |
//! | Ended | Cancel | same | Cancelled |
//! | Executing | floor passes | Unknown | cancel |
//! | Done; Ended | floor passes | Unknown | |
//! | any but Executing | session is idle | no session | |
//! | Executing | session is idle | no session | cancel, Working |
//! | Executing, acknowledged | session is idle | no session | cancel |
//! | any but Executing | client restarts | Unknown | |
//! | any Executing | client restarts | Unknown | cancel |

mod config;
mod requests;
mod session;
mod sessions;
#[cfg(test)]
mod table;
mod ticket;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sansio::Timers;
use thiserror::Error;

pub use config::{Config, Limits};
pub use session::RequestId;

use crate::packet::{
    ClientBody, Header, PacketError, Refusal, ServerBody, open_question, seal_answer,
};
#[cfg(feature = "mutations")]
use crate::rules::Rule;
use crate::rules::Rules;
use crate::{Address, Identity, MAX_MESSAGE_BYTES, Sequence, Time, Transmit};
use session::{Session, SessionKey};
use sessions::{NotAdmitted, Sessions};
use ticket::Tickets;

/// Core of the server. See [the module](self).
#[derive(Debug)]
pub struct Server {
    sessions: Sessions,
    cx: Context,
}

/// Data that all sessions share: their configuration, and the queues of their outputs.
#[derive(Debug)]
struct Context {
    config: Config,
    rules: Rules,
    tickets: Tickets,
    timers: Timers<Timer>,
    outgoing: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    /// Number of known requests in all sessions, and the bytes kept for them.
    requests: usize,
    bytes: usize,
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
    /// The service must execute this request, and [reply](Server::reply).
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
    /// No caller awaits a reply to this request any more.
    Cancelled {
        /// Id of the request.
        id: RequestId,
        /// Reason of the cancellation.
        why: CancelReason,
    },
}

/// Reason why no caller awaits a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The caller gave up, by its own wish or its time limit.
    Caller,
    /// The client has been silent for longer than it had announced.
    ClientSilent,
    /// The client has begun a new generation.
    ClientRestarted,
}

/// Reason for which a reply was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// The request was replied to or cancelled before. The service has nothing to do.
    #[error("reply: not sent: the caller no longer waits")]
    NotWaiting,
    /// The reply is longer than [`MAX_MESSAGE_BYTES`](crate::MAX_MESSAGE_BYTES). No packet was
    /// sent; send a shorter one.
    #[error("reply: not sent: too long: {bytes} bytes; send a shorter one")]
    TooLong {
        /// The reply's length, bytes.
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
    /// Packets from another address than the one to which their ticket was sent. The server drops
    /// them: a refusal would go to a stranger, or make the client give up its calls.
    pub misplaced: u64,
    /// Packets seen before.
    pub replayed: u64,
    /// Packets from an earlier generation of a client.
    pub orphaned: u64,
    /// Packets that were refused.
    pub refused: u64,
    /// Packets about a known request.
    pub repeated: u64,
    /// Reports of ended calls whose replies aren't kept: overtaken, or doubled.
    pub stale: u64,
    /// Requests given to the service.
    pub executed: u64,
    /// Requests cancelled while executed.
    pub cancelled: u64,
    /// Packets sent.
    pub sent: u64,
}

/// Numbers of the objects that a server holds now.
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

impl Server {
    /// Returns a server without sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let rules = Rules::default();
        Self {
            sessions: Sessions::default(),
            cx: Context {
                tickets: Tickets::new(&config, &rules),
                config,
                rules,
                timers: Timers::new(),
                outgoing: VecDeque::new(),
                events: VecDeque::new(),
                counters: Counters::default(),
                requests: 0,
                bytes: 0,
            },
        }
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "mutations")]
    pub fn break_rule(&mut self, rule: Rule) {
        self.cx.rules.break_one(rule);
        self.cx.tickets = Tickets::new(&self.cx.config, &self.cx.rules);
    }

    /// Handles a received datagram.
    pub fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.cx.counters.received += 1;
        let key = self.cx.config.key.clone();
        match open_question(&key, packet) {
            Ok(opened) => self.handle_question(now, from, &opened.header, &opened.body),
            Err(PacketError::Foreign) => self.cx.counters.foreign += 1,
            Err(PacketError::Unauthentic) => self.cx.counters.unauthentic += 1,
            Err(PacketError::Malformed) => self.cx.counters.malformed += 1,
        }
    }

    fn handle_question(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        question: &ClientBody<'_>,
    ) {
        let cx = &mut self.cx;
        if header.port != cx.config.port {
            cx.counters.misdirected += 1;
            return;
        }
        if *question == ClientBody::Hello {
            return cx.welcome(now, from, header);
        }
        match (self.sessions.admit(cx, now, from, header, question), question.sequence()) {
            (Ok(session), _) => session.handle_question(cx, now, header.number, question),
            (Err(NotAdmitted::Refused(why)), Some(sequence)) => {
                cx.refuse(now, from, header, sequence, why);
            }
            // `Ended` has no answer in any case.
            (Err(NotAdmitted::Refused(_)), None) => cx.counters.stale += 1,
            (Err(NotAdmitted::Dropped), _) => {}
        }
    }

    /// Replies to a request.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply(&mut self, now: Time, id: RequestId, body: Bytes) -> Result<(), ReplyError> {
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(ReplyError::TooLong { bytes: body.len() });
        }
        let session = self.sessions.get_mut(id.session).ok_or(ReplyError::NotWaiting)?;
        session.reply(&mut self.cx, now, id.sequence, body)
    }

    /// Gives a request up without a reply. Its caller's call ends with
    /// [`CallError::Abandoned`](crate::CallError::Abandoned).
    ///
    /// # Errors
    /// [`ReplyError::NotWaiting`].
    pub fn abandon(&mut self, id: RequestId) -> Result<(), ReplyError> {
        let session = self.sessions.get_mut(id.session).ok_or(ReplyError::NotWaiting)?;
        session.abandon(&mut self.cx, id.sequence)
    }

    /// Handles the timers that are due, as [`poll_timeout`](Self::poll_timeout) announced.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.cx.timers.pop(now) {
            match timer {
                Timer::Acknowledge(id) => {
                    self.with_session(id.session, |it, cx| it.acknowledge(cx, now, id.sequence));
                }
                Timer::Release(id) => {
                    self.with_session(id.session, |it, cx| it.release(cx, now, id.sequence));
                }
                Timer::Idle(key) => self.sessions.end_if_idle(&mut self.cx, now, key),
            }
        }
    }

    /// Passes the timer of a session's request to `handle`.
    fn with_session(&mut self, key: SessionKey, handle: impl FnOnce(&mut Session, &mut Context)) {
        match self.sessions.get_mut(key) {
            Some(session) => handle(session, &mut self.cx),
            None => debug_assert!(false, "the timers of a session's requests end with it"),
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.cx.outgoing.pop_front()
    }

    /// Returns the next event for the service.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.cx.events.pop_front()
    }

    /// Returns the time for the next [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.cx.timers.next()
    }

    /// Returns the counters since the server's start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.cx.counters
    }

    /// Returns the numbers of objects that the server holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sessions: self.sessions.len(),
            requests: self.cx.requests,
            bytes: self.cx.bytes,
            timers: self.cx.timers.len(),
        }
    }
}

impl Context {
    fn welcome(&mut self, now: Time, from: &Address, header: &Header) {
        let ticket = self.tickets.issue(now, header.client, from);
        let terms = self.config.limits.terms();
        self.answer(
            from,
            &Header { ticket, ..*header },
            Duration::ZERO,
            &ServerBody::Welcome(terms),
        );
    }

    /// Refuses a request. If the session is missing, the refusal has the ticket for a new one.
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
            &ServerBody::Refused { sequence, why, terms },
        );
    }

    fn answer(&mut self, to: &Address, header: &Header, held: Duration, answer: &ServerBody<'_>) {
        let header = Header { epoch: self.config.epoch, ..*header };
        let mut packet = Vec::new();
        seal_answer(&self.config.key, &header, held, answer, &mut packet);
        self.counters.sent += 1;
        self.outgoing.push_back(Transmit { to: to.clone(), packet });
    }

    /// Returns the end of a client's patience, which is at most as long as a session is kept.
    fn until(&self, now: Time, patience: Duration) -> Time {
        now + patience.min(self.config.limits.session_idle) + self.config.limits.patience_slack
    }
}
