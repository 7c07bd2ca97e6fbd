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
//! From any state a call ends with a [`CallError`]: at its time limit, by cancellation, after too
//! many unanswered transmissions, or when the server has forgotten the request. If the caller's
//! will or limit ends a call, it is *cancelled* at the server too.
//!
//! The table has the phases, divided by whether the server is found, has refused because it had no
//! room (*refused*), or left a heartbeat unanswered. An input without a row changes nothing and
//! sends nothing; a test compares the table with the code. For *Got* and the fragments, the request
//! and the reply have two fragments.
//!
//! | phase | input | then | outputs |
//! |---|---|---|---|
//! | Waiting, not found | server is found | Waiting, greeting | Hello |
//! | any Waiting | port has no server | Ended: NoSuchPort | |
//! | Waiting, greeting | Welcome | Sending | Request |
//! | Waiting, greeting | timer | same | Hello |
//! | Waiting, greeting | server is silent | Ended: ServerDown | |
//! | Waiting, behind | earlier call ends | Sending | Request |
//! | Sending; Asking, unanswered | Working | Asking | |
//! | Sending | Busy | Sending, refused | |
//! | Sending, refused | Got | Sending | |
//! | any Sending | timer | same | Request |
//! | any Asking | timer | Asking, unanswered | Ask |
//! | any Sending; Asking | first fragment; last fragment | Receiving | |
//! | Receiving | timer | same | Ask |
//! | Receiving | last fragment | Ended: reply | |
//! | any but Waiting | Reply | Ended: reply | |
//! | any but Waiting | Gone; NoSession | Ended: Forgotten | |
//! | any but Waiting | Epoch | Ended: ServerRestarted | |
//! | any but Waiting | TooLong | Ended: TooLongForServer | |
//! | any but Waiting | Abandoned | Ended: Abandoned | |
//! | any but Waiting | server is silent | Ended: ServerDown | |
//! | any Waiting | limit passes | Ended: TimedOut | |
//! | Sending, refused | limit passes | Ended: Busy | Cancel |
//! | Sending; Asking; Asking, unanswered; Receiving | limit passes | Ended: TimedOut | Cancel |
//! | any Waiting | caller cancels | Ended: Cancelled | |
//! | any but Waiting | caller cancels | Ended: Cancelled | Cancel |

mod answers;
mod call;
mod cancelling;
mod config;
mod conversation;
mod peer;
mod reaching;
mod sending;
#[cfg(test)]
mod table;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sansio::Timers;

pub use call::CallId;
pub use config::{Config, Limits};

use crate::rules::{Rule, Rules};
use crate::{Address, CallError, MAX_MESSAGE_BYTES, PacketNumber, Port, Sequence, Time, Transmit};
use call::Call;
use conversation::Conversation;
use peer::Peer;

/// Core of the client. See [the module](self).
#[derive(Debug)]
pub struct Client {
    conversations: BTreeMap<Port, Conversation>,
    cx: Context,
    next_call: u64,
    /// Number of the first packet to a new server: higher than any number sent to a forgotten
    /// server.
    next_number: PacketNumber,
}

/// Data that all conversations share: their configuration, and the queues of their outputs.
#[derive(Debug)]
struct Context {
    config: Config,
    rules: Rules,
    /// Open calls by id, for their timers and for the caller.
    keys: BTreeMap<CallId, CallKey>,
    timers: Timers<Timer>,
    outgoing: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

/// A call's port and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct CallKey {
    port: Port,
    sequence: Sequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// Time limit of a call.
    Limit(CallId),
    /// Retransmission or heartbeat of a call.
    Retry(CallId),
    Cancel(CallKey),
    Greet(Port),
    Idle(Port),
}

/// Event for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The caller must find the port's address, and pass it to [`Client::handle_found`].
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
    /// Packets received for an earlier generation of this client.
    pub orphaned: u64,
    /// Answers to no packet of an open call: late, copied, or sent again.
    pub stray: u64,
    /// Answers to an open call without news: overtaken, or doubled.
    pub stale: u64,
    /// Packets not sent, because the server was down and isn't found again yet.
    pub unaddressed: u64,
    /// Results of lookups of a server that the client had forgotten meanwhile.
    pub found_late: u64,
}

/// Numbers of the objects that a client holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Servers that the client knows.
    pub servers: usize,
    /// Calls that are open.
    pub calls: usize,
    /// Ended calls of which the client is telling a server.
    pub cancels: usize,
    /// Timers that are set.
    pub timers: usize,
}

impl Client {
    /// Returns a client without calls.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            conversations: BTreeMap::new(),
            next_call: 0,
            next_number: PacketNumber(config.first_number),
            cx: Context {
                config,
                rules: Rules::default(),
                keys: BTreeMap::new(),
                timers: Timers::new(),
                outgoing: VecDeque::new(),
                events: VecDeque::new(),
                counters: Counters::default(),
            },
        }
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "mutations")]
    pub fn break_rule(&mut self, rule: Rule) {
        self.cx.rules.break_one(rule);
    }

    /// Sends a request to the server that `port` names. [`Event::Ended`] follows, within `limit`.
    ///
    /// # Errors
    /// [`CallError::TooManyCalls`] and [`CallError::TooLong`]: no call was begun.
    pub fn call(
        &mut self,
        now: Time,
        port: Port,
        body: Bytes,
        limit: Duration,
    ) -> Result<CallId, CallError> {
        let open = self.cx.keys.len();
        if open >= self.cx.config.limits.calls {
            return Err(CallError::TooManyCalls { open });
        }
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(CallError::TooLong { bytes: body.len() });
        }
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.cx.counters.calls += 1;
        if self.cx.rules.obey(Rule::TimeLimit) {
            self.cx.timers.set(Timer::Limit(id), now + limit);
        }
        let (cx, number) = (&mut self.cx, self.next_number);
        let conversation = self.conversations.entry(port).or_insert_with(|| {
            cx.timers.set(Timer::Idle(port), now + cx.config.limits.idle);
            Conversation::new(Peer::new(now, port, &cx.config.limits, number))
        });
        conversation.add(cx, now, id, body, now + limit);
        conversation.proceed(cx, now);
        Ok(id)
    }

    /// Ends a call, if it hasn't ended, with [`CallError::Cancelled`], and tells the server.
    pub fn cancel(&mut self, now: Time, call: CallId) {
        if let Some((conversation, cx, sequence)) = self.find_call(call) {
            let why = |call: &Call| CallError::Cancelled(call.progress());
            conversation.give_up(cx, now, sequence, why);
        }
    }

    /// Handles the answer to [`Event::Lookup`]; `None` means that the port has no server.
    pub fn handle_found(&mut self, now: Time, port: Port, address: Option<Address>) {
        match self.conversations.get_mut(&port) {
            Some(conversation) => conversation.found(&mut self.cx, now, address),
            None => self.cx.counters.found_late += 1,
        }
    }

    /// Handles the timers that are due, as [`poll_timeout`](Self::poll_timeout) announced.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.cx.timers.pop(now) {
            match timer {
                Timer::Limit(call) => self.end_at_limit(now, call),
                Timer::Retry(call) => self.retry(now, call),
                Timer::Cancel(CallKey { port, sequence }) => {
                    self.with_server(port, |it, cx| it.peer.repeat_cancel(cx, now, sequence));
                }
                Timer::Greet(port) => self.with_server(port, |it, cx| it.repeat_greeting(cx, now)),
                Timer::Idle(port) => self.end_if_idle(now, port),
            }
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.cx.outgoing.pop_front()
    }

    /// Returns the next event for the caller.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.cx.events.pop_front()
    }

    /// Returns the time for the next [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.cx.timers.next()
    }

    /// Returns the counters since the client's start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.cx.counters
    }

    /// Returns the numbers of objects that the client holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let cancels = self.conversations.values().map(|it| it.peer.cancels.len()).sum();
        Usage {
            servers: self.conversations.len(),
            calls: self.cx.keys.len(),
            cancels,
            timers: self.cx.timers.len(),
        }
    }

    fn end_at_limit(&mut self, now: Time, id: CallId) {
        let Some((conversation, cx, sequence)) = self.find_call(id) else {
            return debug_assert!(false, "the timer of a limit ends with its call");
        };
        conversation.give_up(cx, now, sequence, |call| match call.busy {
            0 => CallError::TimedOut(call.progress()),
            _ => CallError::Busy,
        });
    }

    fn retry(&mut self, now: Time, id: CallId) {
        match self.find_call(id) {
            Some((conversation, cx, sequence)) => conversation.retry(cx, now, sequence),
            None => debug_assert!(false, "a call's timer ends with it"),
        }
    }

    /// Forgets a server that has had no call or answer for a while.
    fn end_if_idle(&mut self, now: Time, port: Port) {
        let Entry::Occupied(entry) = self.conversations.entry(port) else {
            return debug_assert!(false, "the timer of a server ends with it");
        };
        let idle = self.cx.config.limits.idle;
        let Conversation { peer, calls } = entry.get();
        let until = peer.used + idle;
        if calls.is_empty() && peer.cancels.is_empty() && until <= now {
            self.next_number = self.next_number.max(peer.next_number);
            self.cx.timers.cancel(Timer::Greet(port));
            entry.remove();
        } else {
            self.cx.timers.set(Timer::Idle(port), until.max(now + idle / 2));
        }
    }

    /// Returns the conversation and the sequence of a call; `None` if the call has ended.
    fn find_call(&mut self, id: CallId) -> Option<(&mut Conversation, &mut Context, Sequence)> {
        let CallKey { port, sequence } = *self.cx.keys.get(&id)?;
        let conversation = self.conversations.get_mut(&port);
        debug_assert!(conversation.is_some(), "a server with an open call is known");
        Some((conversation?, &mut self.cx, sequence))
    }

    /// Has a server's timer handled.
    fn with_server(&mut self, port: Port, handle: impl FnOnce(&mut Conversation, &mut Context)) {
        match self.conversations.get_mut(&port) {
            Some(conversation) => handle(conversation, &mut self.cx),
            None => debug_assert!(false, "the timers of a server end with it"),
        }
    }
}
