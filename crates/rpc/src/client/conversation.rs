//! One server with the open calls to it, and the decision which call goes on or ends.
//!
//! Functions of [`Conversation`] find, add and remove calls; those of [`Peer`], in the other files
//! of this folder, change one call, or send its packets.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::call::{Call, CallId, CallSession};
use super::peer::{Cancelling, Peer};
use super::{CallKey, Context, Timer};
use crate::{Address, CallError, Sequence, Time};

/// A server and the open calls to it. Server and calls are separate fields, so that a function can
/// change a call and its server together.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) peer: Peer,
    pub(super) calls: BTreeMap<Sequence, Call>,
}

impl Conversation {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, calls: BTreeMap::new() }
    }

    /// Adds a call, which waits behind the others.
    pub(super) fn add(
        &mut self,
        cx: &mut Context,
        now: Time,
        id: CallId,
        body: Bytes,
        deadline: Time,
    ) {
        let sequence = self.peer.add(now);
        cx.keys.insert(id, CallKey { port: self.peer.port, sequence });
        self.calls.insert(sequence, Call::new(id, sequence, body, deadline));
    }

    /// Advances the waiting calls: finds the server, greets it, and sends their requests.
    pub(super) fn proceed(&mut self, cx: &mut Context, now: Time) {
        self.hurry_lowest(cx, now);
        if !self.peer.waiting.is_empty() {
            if self.peer.address.is_none() {
                self.peer.find(cx);
            } else if let Some(session) = self.peer.usable_session(now) {
                self.send_waiting(cx, now, session);
            } else if self.peer.greeting.is_none() {
                self.peer.greet(cx, now, 0);
            }
        }
        self.assert_sound();
    }

    /// Repeats the lowest call at once when the floor has risen and the call waits for room. From
    /// the packet the server learns the floor, releases replies, and so has room for the call.
    fn hurry_lowest(&mut self, cx: &mut Context, now: Time) {
        let floor = self.peer.floor();
        if !self.peer.has_risen() {
            return;
        }
        // If all calls are received, the floor is above them.
        if let Some(call) = self.calls.get(&floor).filter(|call| call.busy > 0 && call.paused) {
            cx.timers.set(Timer::Retry(call.id), now);
        }
    }

    /// Sends waiting calls, as many as may run ahead of the floor.
    fn send_waiting(&mut self, cx: &mut Context, now: Time, session: CallSession) {
        while let Some(sequence) = self.peer.next_waiting(&cx.config.limits) {
            let Some(call) = self.calls.get_mut(&sequence) else {
                debug_assert!(false, "a call that waits is open");
                continue;
            };
            // A call whose deadline has passed is about to be ended by its limit's timer.
            if call.deadline > now {
                self.peer.send_first(cx, now, call, session);
            }
        }
    }

    /// Takes the result of a lookup: the server's address, or `None`.
    pub(super) fn found(&mut self, cx: &mut Context, now: Time, address: Option<Address>) {
        self.peer.finding = false;
        match address {
            None => self.end_unsent(cx, &CallError::NoSuchPort(self.peer.port)),
            Some(address) if self.peer.address.as_ref() == Some(&address) => {}
            Some(address) => {
                self.peer.move_to(cx, now, address);
                self.proceed(cx, now);
            }
        }
    }

    /// Handles a call's timer: no answer came, or the next heartbeat is due.
    pub(super) fn retry(&mut self, cx: &mut Context, now: Time, sequence: Sequence) {
        let Some(call) = self.calls.get_mut(&sequence) else {
            return debug_assert!(false, "a call's timer ends with it");
        };
        if let Err(error) = self.peer.retry(cx, now, call) {
            self.end(cx, sequence, Err(error));
            self.proceed(cx, now);
        }
    }

    /// Handles the greeting's timer.
    pub(super) fn repeat_greeting(&mut self, cx: &mut Context, now: Time) {
        if let Err(error) = self.peer.repeat_greeting(cx, now) {
            self.end_unsent(cx, &error);
        }
    }

    /// Ends a call by the caller's will or limit, and tells the server if the server may have the
    /// request.
    pub(super) fn give_up(
        &mut self,
        cx: &mut Context,
        now: Time,
        sequence: Sequence,
        why: impl FnOnce(&Call) -> CallError,
    ) {
        let Some(call) = self.calls.remove(&sequence) else {
            return debug_assert!(false, "the key of a call ends with it");
        };
        let (error, session) = (why(&call), call.session());
        self.peer.end(cx, call, Err(error));
        if let Some(session) = session
            && self.peer.cancels.len() < cx.config.limits.cancels
        {
            let cancelling = Cancelling { session, transmissions: 0 };
            self.peer.send_cancel(cx, now, sequence, cancelling);
        }
        self.proceed(cx, now);
    }

    /// Ends an open call.
    pub(super) fn end(
        &mut self,
        cx: &mut Context,
        sequence: Sequence,
        result: Result<Bytes, CallError>,
    ) {
        match self.calls.remove(&sequence) {
            Some(call) => self.peer.end(cx, call, result),
            None => debug_assert!(false, "a call ends once"),
        }
    }

    /// Ends all waiting calls, none of which was sent.
    fn end_unsent(&mut self, cx: &mut Context, error: &CallError) {
        for sequence in std::mem::take(&mut self.peer.waiting) {
            self.end(cx, sequence, Err(error.clone()));
        }
    }

    /// Ends all calls that were first sent in a session that the server no longer has.
    pub(super) fn end_session(
        &mut self,
        cx: &mut Context,
        session: CallSession,
        error: &CallError,
    ) {
        let is_inside = |(_, call): &(Sequence, Call)| call.session() == Some(session);
        let (ended, open) = std::mem::take(&mut self.calls).into_iter().partition(is_inside);
        self.calls = open;
        for call in BTreeMap::<_, Call>::into_values(ended) {
            self.peer.end(cx, call, Err(error.clone()));
        }
    }

    /// Checks the numbers that are kept about the calls.
    fn assert_sound(&self) {
        let Peer { waiting, unreceived, .. } = &self.peer;
        debug_assert_eq!(self.peer.open(), self.calls.len(), "each call is in one phase");
        debug_assert!(waiting.len() <= unreceived.len(), "a call that waits isn't received");
        debug_assert!(unreceived.len() <= self.calls.len(), "calls below the floor have ended");
    }
}
