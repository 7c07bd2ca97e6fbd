//! Handling of a single request.
//!
//! A [`packet::Request`] is a received packet: a whole request, or a fragment of one, possibly a
//! copy. A [`SessionRequest`] is the session's record of the request. Functions of [`Session`]
//! find, add and remove requests; those of [`SessionClient`] change one and answer its client.

use std::time::Duration;

use bytes::Bytes;

use super::session::{Asked, RequestPhase, Session, SessionClient, SessionRequest};
use super::{CancelReason, Context, Event, ReplyError, Timer};
use crate::fragments::Assembly;
use crate::packet::{
    self, Ask, ClientBody, Fragment, Got, Ranges, Refusal, ServerBody, chunk_bytes,
};
use crate::rules::Rule;
use crate::{ACK_WITHIN, PacketNumber, Sequence, Time};

impl Session {
    /// Handles a question that was admitted.
    pub(super) fn handle_question(
        &mut self,
        cx: &mut Context,
        now: Time,
        number: PacketNumber,
        question: &ClientBody<'_>,
    ) {
        let asked = Asked { number, at: now };
        match question {
            ClientBody::Hello => debug_assert!(false, "a `Hello` needs no session"),
            ClientBody::Request(request) => {
                self.raise_floor(cx, request.floor);
                self.handle_request(cx, asked, request);
            }
            ClientBody::Ask(ask) => {
                self.raise_floor(cx, ask.floor);
                self.handle_ask(cx, asked, ask);
            }
            ClientBody::Cancel { sequence, floor } => {
                self.raise_floor(cx, *floor);
                self.handle_cancel(cx, asked, *sequence);
            }
            ClientBody::Ended { floor, sequences } => {
                self.raise_floor(cx, *floor);
                sequences.iter().for_each(|sequence| self.handle_ended(cx, *sequence));
            }
        }
    }

    /// Raises the floor of the session. Requests below it that haven't been acknowledged have ended
    /// at the client.
    fn raise_floor(&mut self, cx: &mut Context, floor: Sequence) {
        for request in self.requests.raise(floor) {
            self.peer.forget(cx, &request, CancelReason::Caller);
        }
    }

    /// Handles a packet with a known or an unknown request, or with a fragment of one.
    fn handle_request(&mut self, cx: &mut Context, asked: Asked, packet: &packet::RequestPart<'_>) {
        let executes_again = packet.fragment.count() == 1 && !cx.rules.obey(Rule::DuplicateTable);
        match self.requests.get_mut(packet.sequence) {
            Some(request) if request.is_arriving() || !executes_again => {
                request.asked_again(asked, cx.until(asked.at, packet.patience));
                self.peer.handle_known(cx, request, packet);
            }
            _ => match self.may_begin(cx, packet) {
                Ok(()) => self.add(cx, asked, packet),
                Err(why) => self.peer.refuse(cx, asked, packet.sequence, why),
            },
        }
    }

    /// Returns the refusal of a new request for which there is no room.
    fn may_begin(&self, cx: &Context, packet: &packet::RequestPart<'_>) -> Result<(), Refusal> {
        let (limits, floor) = (&cx.config.limits, self.requests.floor());
        let total_bytes = packet.fragment.total_bytes as usize;
        let ahead = packet.sequence.0.saturating_sub(floor.0);
        if packet.sequence < floor && cx.rules.obey(Rule::Floor) {
            Err(Refusal::Gone)
        } else if total_bytes > limits.longest_request() {
            Err(Refusal::TooLong)
        } else if cx.requests >= limits.requests || cx.bytes + total_bytes > limits.bytes {
            Err(Refusal::Busy)
        } else if ahead == 0 {
            // The session's limits don't hold for a request at the floor, which alone can raise the
            // floor and so release the replies that fill the session.
            Ok(())
        } else if ahead >= limits.requests_per_session as u64
            || self.requests.len() >= limits.requests_per_session
            || self.peer.bytes + total_bytes > limits.bytes_per_session
        {
            Err(Refusal::Busy)
        } else {
            Ok(())
        }
    }

    /// Adds a request, and executes it if it is complete.
    fn add(&mut self, cx: &mut Context, asked: Asked, packet: &packet::RequestPart<'_>) {
        let until = cx.until(asked.at, packet.patience);
        let datagram_bytes =
            cx.config.limits.datagram_bytes(&self.peer.address).min(packet.datagram_bytes as usize);
        let (request, before) = self.requests.insert(SessionRequest {
            sequence: packet.sequence,
            phase: RequestPhase::Arriving { assembly: Assembly::of(&packet.fragment) },
            acknowledged: false,
            asked,
            until,
            credit_bytes: packet.credit_bytes,
            chunk_bytes: u32::try_from(chunk_bytes(datagram_bytes)).unwrap_or(u32::MAX),
        });
        if let Some(before) = before {
            debug_assert!(!cx.rules.obey(Rule::DuplicateTable), "a known request begins once");
            self.peer.release(cx, before.bytes());
            cx.requests -= 1;
        }
        cx.requests += 1;
        self.peer.keep(cx, request.bytes());
        if cx.rules.obey(Rule::Patience) {
            cx.timers.set(Timer::Release(self.peer.id_of(packet.sequence)), until);
        }
        self.peer.handle_fragment(cx, request, packet);
    }

    fn handle_ask(&mut self, cx: &mut Context, asked: Asked, ask: &Ask) {
        match self.requests.get_mut(ask.sequence) {
            Some(request) => {
                request.asked_again(asked, cx.until(asked.at, ask.patience));
                cx.counters.repeated += 1;
                self.peer.tell(cx, asked.at, request, Some(&ask.wanted));
            }
            None => self.peer.refuse(cx, asked, ask.sequence, Refusal::Gone),
        }
    }

    /// Cancels a request. A request whose cancellation overtakes it must not be executed when it
    /// comes.
    fn handle_cancel(&mut self, cx: &mut Context, asked: Asked, sequence: Sequence) {
        match self.requests.remove(sequence) {
            Some(request) => self.end(cx, request, CancelReason::Caller),
            None => self.remember_cancelled(cx, asked, sequence),
        }
        self.peer.refuse(cx, asked, sequence, Refusal::Cancelled);
    }

    fn remember_cancelled(&mut self, cx: &mut Context, asked: Asked, sequence: Sequence) {
        let limits = &cx.config.limits;
        let ahead = sequence.0.checked_sub(self.requests.floor().0);
        let known_to_come = ahead.is_some_and(|ahead| ahead < limits.requests_per_session as u64);
        if known_to_come && cx.requests < limits.requests {
            self.requests.insert(SessionRequest {
                sequence,
                phase: RequestPhase::Ended { why: Refusal::Gone },
                acknowledged: false,
                asked,
                until: asked.at,
                credit_bytes: 0,
                chunk_bytes: 0,
            });
            cx.requests += 1;
        }
    }

    /// Forgets a reply that has arrived.
    fn handle_ended(&mut self, cx: &mut Context, sequence: Sequence) {
        match self.requests.remove_done(sequence) {
            Some(request) => self.end(cx, request, CancelReason::Caller),
            None => cx.counters.stale += 1,
        }
    }

    /// Replies to a request: see [`Server::reply`](super::Server::reply).
    pub(super) fn reply(
        &mut self,
        cx: &mut Context,
        now: Time,
        sequence: Sequence,
        reply: Bytes,
    ) -> Result<(), ReplyError> {
        let request = self.requests.executing(sequence).ok_or(ReplyError::NotWaiting)?;
        cx.timers.cancel(Timer::Acknowledge(self.peer.id_of(sequence)));
        self.peer.enter(cx, request, RequestPhase::Done { reply });
        self.peer.send_reply(cx, now, request, None);
        if !cx.rules.obey(Rule::KeepReplies)
            && let Some(request) = self.requests.remove(sequence)
        {
            self.peer.forget(cx, &request, CancelReason::Caller);
        }
        Ok(())
    }

    /// Gives a request up: see [`Server::abandon`](super::Server::abandon).
    pub(super) fn abandon(
        &mut self,
        cx: &mut Context,
        sequence: Sequence,
    ) -> Result<(), ReplyError> {
        let request = self.requests.executing(sequence).ok_or(ReplyError::NotWaiting)?;
        cx.timers.cancel(Timer::Acknowledge(self.peer.id_of(sequence)));
        self.peer.enter(cx, request, RequestPhase::Ended { why: Refusal::Abandoned });
        self.peer.refuse(cx, request.asked, sequence, Refusal::Abandoned);
        Ok(())
    }

    /// Sends the late acknowledgement, unless the client has asked meanwhile and knows.
    pub(super) fn acknowledge(&mut self, cx: &mut Context, now: Time, sequence: Sequence) {
        match self.requests.get_mut(sequence) {
            Some(request) => {
                debug_assert!(request.is_executing(), "the timer ends with the execution");
                if !request.acknowledged {
                    self.peer.tell(cx, now, request, None);
                }
            }
            None => debug_assert!(false, "the timers of a request end with it"),
        }
    }

    /// Releases a request at the end of the client's patience, unless the client has asked again.
    pub(super) fn release(&mut self, cx: &mut Context, now: Time, sequence: Sequence) {
        let Some(request) = self.requests.get_mut(sequence) else {
            return debug_assert!(false, "the timers of a request end with it");
        };
        let until = request.until;
        if now < until {
            cx.timers.set(Timer::Release(self.peer.id_of(sequence)), until);
        } else if let Some(request) = self.requests.remove(sequence) {
            self.end(cx, request, CancelReason::ClientSilent);
        }
    }

    /// Ends a request that was taken from the table, because no caller awaits its reply any more.
    /// The request stays known as ended until the floor has passed it.
    fn end(&mut self, cx: &mut Context, mut request: SessionRequest, why: CancelReason) {
        let above = request.sequence >= self.requests.floor();
        self.peer.forget(cx, &request, why);
        if above && cx.rules.obey(Rule::RememberEnded) {
            if request.is_open() {
                request.phase = RequestPhase::Ended { why: Refusal::Gone };
            }
            request.acknowledged = false;
            self.requests.insert(request);
            cx.requests += 1;
        }
    }

    /// Ends all requests of the session, which has ended.
    pub(super) fn end_all(mut self, cx: &mut Context, why: CancelReason) {
        for request in self.requests.drain() {
            self.peer.forget(cx, &request, why);
        }
        debug_assert_eq!(self.peer.bytes, 0, "no request is left that could keep them");
    }
}

impl SessionRequest {
    /// Notes a question about the request, after which the client may ask again until `until`.
    fn asked_again(&mut self, asked: Asked, until: Time) {
        self.asked = asked;
        self.until = until;
    }
}

impl SessionClient {
    /// Handles a packet of a known request.
    fn handle_known(
        &mut self,
        cx: &mut Context,
        request: &mut SessionRequest,
        packet: &packet::RequestPart<'_>,
    ) {
        if request.is_arriving() {
            self.handle_fragment(cx, request, packet);
        } else {
            cx.counters.repeated += 1;
            self.tell(cx, request.asked.at, request, None);
        }
    }

    fn handle_fragment(
        &mut self,
        cx: &mut Context,
        request: &mut SessionRequest,
        packet: &packet::RequestPart<'_>,
    ) {
        let RequestPhase::Arriving { assembly } = &mut request.phase else {
            return debug_assert!(false, "only a request that arrives takes fragments");
        };
        if !assembly.fits(&packet.fragment) {
            cx.counters.malformed += 1;
            return;
        }
        let overtook = packet.fragment.index > assembly.end();
        let new = assembly.add(&packet.fragment);
        if assembly.is_complete() {
            let (body, body_bytes) = (assembly.take_message(), assembly.bytes());
            self.enter(cx, request, RequestPhase::Executing { body_bytes });
            self.execute(cx, request, body, packet.limit);
        } else if !new || overtook || packet.report {
            self.report(cx, request.asked.at, request, packet.fragment.index);
        }
    }

    /// Gives a complete request to the service, once.
    fn execute(&self, cx: &mut Context, request: &SessionRequest, body: Bytes, limit: Duration) {
        let id = self.id_of(request.sequence);
        cx.counters.executed += 1;
        cx.timers.set(Timer::Acknowledge(id), request.asked.at + ACK_WITHIN);
        cx.events.push_back(Event::Request { id, client: self.key.client, body, limit });
    }

    /// Tells the client the state of its request, or sends the `wanted` fragments of the reply.
    fn tell(
        &self,
        cx: &mut Context,
        now: Time,
        request: &mut SessionRequest,
        wanted: Option<&Ranges>,
    ) {
        match &request.phase {
            RequestPhase::Arriving { assembly } => {
                let newest = assembly.end().saturating_sub(1);
                self.report(cx, now, request, newest);
            }
            RequestPhase::Executing { .. } => {
                request.acknowledged = true;
                self.answer(cx, now, request, &ServerBody::Working { sequence: request.sequence });
            }
            RequestPhase::Done { .. } => self.send_reply(cx, now, request, wanted),
            RequestPhase::Ended { why } => self.refuse(cx, request.asked, request.sequence, *why),
        }
    }

    /// Reports the fragments that have arrived.
    fn report(&self, cx: &mut Context, now: Time, request: &mut SessionRequest, newest: u32) {
        let RequestPhase::Arriving { assembly } = &request.phase else {
            return debug_assert!(false, "only a request that arrives has fragments");
        };
        let (next, beyond) = (assembly.next(), assembly.beyond());
        let got = Got { sequence: request.sequence, newest, next, beyond };
        request.acknowledged = true;
        self.answer(cx, now, request, &ServerBody::Got(got));
    }

    /// Sends the wanted fragments of a reply, or its beginning.
    fn send_reply(
        &self,
        cx: &mut Context,
        now: Time,
        request: &mut SessionRequest,
        wanted: Option<&Ranges>,
    ) {
        let burst_bytes = cx.config.limits.burst_bytes;
        let (sequence, chunk_bytes) = (request.sequence, request.chunk_bytes);
        let RequestPhase::Done { reply } = &request.phase else {
            return debug_assert!(false, "only a request that is done has a reply");
        };
        request.acknowledged |= reply.len() > chunk_bytes as usize;
        let most = |bytes: u32| (bytes.min(burst_bytes) / chunk_bytes).max(1);
        let first = 0..most(request.credit_bytes);
        let indices: Vec<u32> = match wanted.filter(|wanted| !wanted.is_empty()) {
            Some(wanted) => wanted.indices().take(most(burst_bytes) as usize).collect(),
            None => first.collect(),
        };
        for fragment in indices.into_iter().map_while(|index| piece(reply, chunk_bytes, index)) {
            self.answer(cx, now, request, &ServerBody::Reply { sequence, fragment });
        }
    }

    /// Changes a request's phase, and counts the bytes that the session keeps for it.
    fn enter(&mut self, cx: &mut Context, request: &mut SessionRequest, phase: RequestPhase) {
        debug_assert!(request.phase.leads_to(&phase), "{:?} to {phase:?}", request.phase);
        self.release(cx, request.bytes());
        request.phase = phase;
        self.keep(cx, request.bytes());
    }

    /// Releases the timers and bytes of a request that was taken from its session.
    fn forget(&mut self, cx: &mut Context, request: &SessionRequest, why: CancelReason) {
        let id = self.id_of(request.sequence);
        self.release(cx, request.bytes());
        cx.requests -= 1;
        cx.timers.cancel(Timer::Acknowledge(id));
        cx.timers.cancel(Timer::Release(id));
        if request.is_executing() {
            cx.counters.cancelled += 1;
            cx.events.push_back(Event::Cancelled { id, why });
        }
    }

    fn keep(&mut self, cx: &mut Context, bytes: usize) {
        cx.bytes += bytes;
        self.bytes += bytes;
    }

    fn release(&mut self, cx: &mut Context, bytes: usize) {
        debug_assert!(
            bytes <= self.bytes && self.bytes <= cx.bytes,
            "only kept bytes are released"
        );
        cx.bytes -= bytes;
        self.bytes -= bytes;
    }

    fn answer(
        &self,
        cx: &mut Context,
        now: Time,
        request: &SessionRequest,
        answer: &ServerBody<'_>,
    ) {
        let Asked { number, at } = request.asked;
        let header = self.header(&cx.config, number);
        cx.answer(&self.address, &header, now.since(at), answer);
    }

    fn refuse(&self, cx: &mut Context, asked: Asked, sequence: Sequence, why: Refusal) {
        let header = self.header(&cx.config, asked.number);
        cx.refuse(asked.at, &self.address, &header, sequence, why);
    }
}

/// Returns a fragment of a reply; an empty reply has one.
fn piece(reply: &Bytes, chunk_bytes: u32, index: u32) -> Option<Fragment<'_>> {
    Fragment::of(reply, chunk_bytes, index).filter(|fragment| fragment.index < fragment.count())
}
