//! Sending of requests and of questions about them, and their repetition.

use std::time::Duration;

use super::call::{Call, CallPhase, CallSession, Sent};
use super::peer::Peer;
use super::{Context, Timer};
use crate::fragments::Flight;
use crate::packet::{Ask, ClientBody, Fragment, Ranges, RequestPart, chunk_bytes};
use crate::{CallError, Time};

/// Shortest pause before the client repeats a request for which the server had no room.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause: no packet tells the client when calls of others make room.
const LONGEST_BUSY_PAUSE: Duration = Duration::from_millis(500);

impl Peer {
    /// Sends a waiting call for the first time, and so fixes the size of its fragments.
    pub(super) fn send_first(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        session: CallSession,
    ) {
        let datagram_bytes = self.datagram_bytes(cx);
        let chunk_bytes = u32::try_from(chunk_bytes(datagram_bytes)).unwrap_or(u32::MAX);
        let count = Fragment::of(&call.body, chunk_bytes, 0).map_or(1, |fragment| fragment.count());
        let flight = (count > 1).then(|| Flight::new(count));
        let first = self.next_number;
        call.sent = Some(Sent { session, first, newest: first, answered: None });
        call.credit_bytes = self.down.bytes();
        self.enter(call, CallPhase::Sending { flight, chunk_bytes, reported: 0 });
        self.send_request(cx, now, call);
    }

    /// Sends a request, or as much of it as the window allows, and sets the timer. While a rest is
    /// left, the server reports half of the fragments as they arrive, so the rest follows before
    /// the window is empty.
    pub(super) fn send_request(&mut self, cx: &mut Context, now: Time, call: &mut Call) {
        let (indices, more) = self.next_fragments(call);
        let half = indices.len().div_ceil(2);
        for (position, index) in indices.iter().enumerate() {
            let report = more && position + 1 == half || position + 1 == indices.len();
            self.send_fragment(cx, now, call, *index, report);
        }
        self.set_retry(cx, now, call);
    }

    /// Returns the fragments that may leave now, and whether more must follow.
    fn next_fragments(&self, call: &mut Call) -> (Vec<u32>, bool) {
        match &mut call.phase {
            CallPhase::Sending { flight: None, .. } => (vec![0], false),
            CallPhase::Sending { flight: Some(flight), chunk_bytes, .. } => {
                let window = self.up.fragments(*chunk_bytes, self.large_requests());
                // A server that had no room gets one fragment, to ask again.
                let most = if call.busy > 0 { 1 } else { window };
                let indices = departures(flight, most);
                (indices, !flight.has_departed())
            }
            CallPhase::Waiting | CallPhase::Asking | CallPhase::Receiving { .. } => {
                debug_assert!(false, "the server has the request, or there is no session for it");
                (Vec::new(), false)
            }
        }
    }

    fn send_fragment(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        index: u32,
        report: bool,
    ) {
        let (CallPhase::Sending { chunk_bytes, .. }, Some(sent)) = (&call.phase, call.sent) else {
            return debug_assert!(false, "a request is sent in a session");
        };
        let Some(fragment) = Fragment::of(&call.body, *chunk_bytes, index) else {
            return debug_assert!(false, "a flight has the fragments of its message");
        };
        let request = RequestPart {
            sequence: call.sequence,
            floor: self.floor(),
            patience: self.patience(cx, now, call),
            limit: call.deadline.since(now),
            credit_bytes: call.credit_bytes,
            datagram_bytes: u32::try_from(self.datagram_bytes(cx)).unwrap_or(u32::MAX),
            report,
            fragment,
        };
        if let Some(number) = self.send(cx, now, sent.session, &ClientBody::Request(request)) {
            call.departed(number);
        }
    }

    /// Asks for the state of a request, or for fragments of its reply.
    fn send_ask(&mut self, cx: &mut Context, now: Time, call: &mut Call, wanted: Ranges) {
        let Some(session) = call.session() else {
            return debug_assert!(false, "a server is asked about what it was sent");
        };
        let (floor, patience) = (self.floor(), self.patience(cx, now, call));
        let ask = Ask { sequence: call.sequence, floor, patience, wanted };
        if let Some(number) = self.send(cx, now, session, &ClientBody::Ask(ask)) {
            call.departed(number);
        }
    }

    /// Asks for as many fragments of a reply as the window allows.
    pub(super) fn ask_for_more(&mut self, cx: &mut Context, now: Time, call: &mut Call) {
        let sharers = self.large_replies();
        let CallPhase::Receiving { flight, chunk_bytes, .. } = &mut call.phase else {
            return debug_assert!(false, "a reply has begun");
        };
        let departed = departures(flight, self.down.fragments(*chunk_bytes, sharers));
        let wanted = Ranges::from_indices(departed.clone());
        for index in departed.into_iter().filter(|index| !wanted.contains(*index)) {
            flight.call_back(index);
        }
        if !wanted.is_empty() {
            self.send_ask(cx, now, call, wanted);
        }
    }

    /// Handles a call's timer: no answer came, or the next heartbeat is due.
    ///
    /// # Errors
    /// The server is down. The next call greets the server first, since its next generation may
    /// answer.
    pub(super) fn retry(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
    ) -> Result<(), CallError> {
        call.unanswered = if call.paused { 0 } else { call.unanswered + 1 };
        call.paused = false;
        let transmissions = call.unanswered;
        if transmissions > cx.config.limits.retransmissions {
            if self.session.map(|current| current.session) == call.session() {
                self.session = None;
            }
            return Err(CallError::ServerDown { transmissions, progress: call.progress() });
        }
        self.suspect(cx, transmissions);
        cx.counters.repeated += 1;
        self.repeat(cx, now, call);
        Ok(())
    }

    /// Sends the unanswered packets again, and sets the timer.
    pub(super) fn repeat(&mut self, cx: &mut Context, now: Time, call: &mut Call) {
        match &mut call.phase {
            CallPhase::Waiting => {
                debug_assert!(false, "a call that waits has no timer but its limit");
            }
            CallPhase::Sending { flight, chunk_bytes, .. } => {
                if let Some(flight) = flight {
                    flight.lose_all();
                    if call.busy == 0 {
                        self.up.timed_out(*chunk_bytes);
                    }
                }
                self.send_request(cx, now, call);
            }
            CallPhase::Asking => {
                self.send_ask(cx, now, call, Ranges::default());
                self.set_retry(cx, now, call);
            }
            CallPhase::Receiving { flight, chunk_bytes, .. } => {
                flight.lose_all();
                self.down.timed_out(*chunk_bytes);
                self.ask_for_more(cx, now, call);
                self.set_retry(cx, now, call);
            }
        }
    }

    /// Sets a call's timer for its phase.
    pub(super) fn set_retry(&self, cx: &mut Context, now: Time, call: &Call) {
        let pause = match call.paused {
            true if call.busy > 0 => {
                self.round_trip.timeout(call.busy).clamp(BUSY_PAUSE, LONGEST_BUSY_PAUSE)
            }
            true => cx.config.limits.heartbeat,
            false => self.round_trip.timeout(call.unanswered),
        };
        cx.timers.set(Timer::Retry(call.id), now + pause);
    }

    /// Returns the longest silence about this call while its reply is still wanted.
    fn patience(&self, cx: &Context, now: Time, call: &Call) -> Duration {
        let limits = &cx.config.limits;
        let silence = limits.heartbeat + self.round_trip.schedule(limits.retransmissions + 1);
        call.deadline.since(now).min(silence)
    }

    fn datagram_bytes(&self, cx: &Context) -> usize {
        self.address.as_ref().map_or(0, |address| cx.config.limits.datagram_bytes(address))
    }
}

/// Returns the fragments that may leave until `most` are under way.
fn departures(flight: &mut Flight, most: u32) -> Vec<u32> {
    let before = flight.away();
    let mut indices = Vec::new();
    while flight.away() < most {
        let Some(index) = flight.depart() else { break };
        indices.push(index);
    }
    debug_assert!(flight.away() <= before.max(most), "no more leave than the window has room for");
    indices
}
