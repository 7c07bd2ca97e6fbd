//! The client's treatment of answers.
//!
//! An answer counts only if it is for this generation of the client, in the call's session, and to
//! one of the call's own packets. So packets that a network, an earlier generation or an
//! eavesdropper repeats are dropped.

use bytes::Bytes;

use super::call::{Call, CallPhase, CallSession};
use super::conversation::Conversation;
use super::peer::Peer;
use super::{Client, Context};
use crate::fragments::{Assembly, Flight};
use crate::packet::{
    Fragment, Got, Header, Opened, PacketError, Refusal, ServerBody, Terms, open_answer,
};
use crate::rules::Rule;
use crate::{Address, CallError, PacketNumber, Sequence, Time};

/// Result of an answer for its call.
enum CallOutcome {
    /// The call goes on, without a change for other calls.
    Open,
    /// The server has more of the request than was known, so the floor may have risen.
    Received,
    Ended(Result<Bytes, CallError>),
}

impl Client {
    /// Handles a received datagram.
    pub fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.cx.counters.received += 1;
        let key = self.cx.config.key.clone();
        match open_answer(&key, packet) {
            Ok(opened) => self.handle_answer(now, from, &opened),
            Err(PacketError::Foreign) => self.cx.counters.foreign += 1,
            Err(PacketError::Unauthentic) => self.cx.counters.unauthentic += 1,
            Err(PacketError::Malformed) => self.cx.counters.malformed += 1,
        }
    }

    fn handle_answer(&mut self, now: Time, from: &Address, opened: &Opened<ServerBody<'_>>) {
        let (cx, header) = (&mut self.cx, &opened.header);
        if !cx.is_for_this_generation(header) {
            cx.counters.orphaned += 1;
            return;
        }
        let is_secret = cx.config.key.is_secret();
        match self.conversations.get_mut(&header.port) {
            Some(conversation) if is_secret || conversation.peer.is_at(from) => {
                conversation.peer.measure(now, header.number, opened.held);
                conversation.handle_answer(cx, now, header, &opened.body);
            }
            _ => cx.counters.stray += 1,
        }
    }
}

impl Context {
    fn is_for_this_generation(&self, header: &Header) -> bool {
        let is_enough = !self.rules.obey(Rule::ClientGeneration);
        header.client == self.config.identity
            || (is_enough && header.client.id == self.config.identity.id)
    }

    /// Returns whether the header answers a packet of this call.
    fn is_answer_to(&self, call: &Call, header: &Header) -> bool {
        let strict = self.rules.obey(Rule::AnswersTheCall);
        call.sent.is_some_and(|sent| {
            !strict || (sent.session == CallSession::of(header) && sent.includes(header.number))
        })
    }
}

impl Conversation {
    fn handle_answer(
        &mut self,
        cx: &mut Context,
        now: Time,
        header: &Header,
        answer: &ServerBody<'_>,
    ) {
        match answer {
            ServerBody::Welcome(terms) => self.handle_welcome(cx, now, header, *terms),
            ServerBody::Reply { sequence, fragment } => {
                self.answer_call(cx, now, header, *sequence, |peer, cx, call| {
                    peer.handle_reply(cx, now, call, fragment)
                });
            }
            ServerBody::Working { sequence } => {
                self.answer_call(cx, now, header, *sequence, |peer, cx, call| {
                    peer.handle_working(cx, now, call, header.number)
                });
            }
            ServerBody::Got(got) => {
                self.answer_call(cx, now, header, got.sequence, |peer, cx, call| {
                    peer.handle_got(cx, now, call, got)
                });
            }
            ServerBody::Refused { sequence, why, terms } => {
                self.handle_refused(cx, now, header, *sequence, (*why, *terms));
            }
        }
    }

    fn handle_welcome(&mut self, cx: &mut Context, now: Time, header: &Header, terms: Terms) {
        if self.peer.takes_welcome(cx, now, header, terms) {
            self.proceed(cx, now);
        } else {
            cx.counters.stray += 1;
        }
    }

    /// Passes an answer to its call, and carries out the outcome.
    fn answer_call(
        &mut self,
        cx: &mut Context,
        now: Time,
        header: &Header,
        sequence: Sequence,
        handle: impl FnOnce(&mut Peer, &mut Context, &mut Call) -> CallOutcome,
    ) {
        let call = self.calls.get_mut(&sequence).filter(|call| cx.is_answer_to(call, header));
        let Some(call) = call else {
            cx.counters.stray += 1;
            return;
        };
        self.peer.touch(now, call);
        match handle(&mut self.peer, cx, call) {
            CallOutcome::Open => {}
            CallOutcome::Received => self.proceed(cx, now),
            CallOutcome::Ended(result) => {
                self.end(cx, sequence, result);
                self.peer.report_ended(cx, now);
                self.proceed(cx, now);
            }
        }
    }

    /// Handles the refusal of a request, or of a cancellation.
    fn handle_refused(
        &mut self,
        cx: &mut Context,
        now: Time,
        header: &Header,
        sequence: Sequence,
        (why, terms): (Refusal, Terms),
    ) {
        let call = self.calls.get_mut(&sequence);
        let sent = call.as_ref().and_then(|call| call.sent);
        let (Some(call), Some(sent)) = (call, sent.filter(|sent| sent.includes(header.number)))
        else {
            return self.peer.end_cancel(cx, sequence, why);
        };
        match why {
            Refusal::Epoch | Refusal::NoSession => {
                self.peer.replace_session(cx, now, sent.session, header, terms);
                if cx.rules.obey(Rule::StayInSession) {
                    self.end_session(cx, sent.session, &error_of_lost(sent.session, header));
                } else {
                    self.peer.resend(cx, now, call, CallSession::of(header));
                }
            }
            Refusal::Busy => self.peer.back_off(cx, now, call, header.number),
            Refusal::Gone => self.end(cx, sequence, Err(CallError::Forgotten)),
            Refusal::Abandoned => self.end(cx, sequence, Err(CallError::Abandoned)),
            Refusal::TooLong => {
                let bytes = call.body.len();
                self.end(cx, sequence, Err(CallError::TooLongForServer { bytes }));
            }
            Refusal::Cancelled => cx.counters.stray += 1,
        }
        self.proceed(cx, now);
    }
}

/// Returns the error of a call whose session the server doesn't have. The request may have been
/// executed.
fn error_of_lost(session: CallSession, header: &Header) -> CallError {
    if header.epoch == session.epoch {
        CallError::Forgotten
    } else {
        CallError::ServerRestarted { now: header.epoch }
    }
}

impl Peer {
    /// Notes that an answer came in a call's session.
    fn touch(&mut self, now: Time, call: &Call) {
        self.used = now;
        let current = self.session.as_mut();
        if let Some(current) = current.filter(|it| Some(it.session) == call.session()) {
            current.used = now;
        }
    }

    fn handle_reply(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        fragment: &Fragment<'_>,
    ) -> CallOutcome {
        if fragment.count() == 1 {
            return CallOutcome::Ended(Ok(fragment.data.to_vec().into()));
        }
        if !call.is_receiving() {
            self.begin_receiving(call, fragment);
        }
        self.handle_fragment(cx, now, call, fragment)
    }

    /// Begins a reply of several fragments. The first fragments are under way already, as the
    /// request allowed.
    fn begin_receiving(&mut self, call: &mut Call, fragment: &Fragment<'_>) {
        let mut flight = Flight::new(fragment.count());
        for _ in 0..(call.credit_bytes / fragment.chunk_bytes).max(1) {
            flight.depart();
        }
        call.received = true;
        self.unreceived.remove(&call.sequence);
        let (assembly, chunk_bytes) = (Assembly::of(fragment), fragment.chunk_bytes);
        self.enter(call, CallPhase::Receiving { assembly, flight, chunk_bytes });
    }

    fn handle_fragment(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        fragment: &Fragment<'_>,
    ) -> CallOutcome {
        let sharers = self.large_replies();
        let CallPhase::Receiving { assembly, flight, chunk_bytes } = &mut call.phase else {
            debug_assert!(false, "the first fragment begins the reply");
            return CallOutcome::Open;
        };
        if !assembly.fits(fragment) {
            cx.counters.malformed += 1;
            return CallOutcome::Open;
        }
        if !assembly.add(fragment) {
            cx.counters.stale += 1;
            return CallOutcome::Open;
        }
        let loss = flight.arrive(fragment.index).loss;
        self.down.arrived(*chunk_bytes);
        if loss {
            self.down.lost(*chunk_bytes);
        }
        if assembly.is_complete() {
            return CallOutcome::Ended(Ok(assembly.take_message()));
        }
        let short = flight.away() <= self.down.fragments(*chunk_bytes, sharers) / 2;
        call.hear();
        if loss || short {
            self.ask_for_more(cx, now, call);
        }
        self.set_retry(cx, now, call);
        CallOutcome::Open
    }

    fn handle_working(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        number: PacketNumber,
    ) -> CallOutcome {
        if call.is_receiving() || !call.is_news(number) {
            cx.counters.stale += 1;
            return CallOutcome::Open;
        }
        call.hear();
        call.received = true;
        call.paused = true;
        self.unreceived.remove(&call.sequence);
        self.enter(call, CallPhase::Asking);
        self.set_retry(cx, now, call);
        CallOutcome::Received
    }

    fn handle_got(
        &mut self,
        cx: &mut Context,
        now: Time,
        call: &mut Call,
        got: &Got,
    ) -> CallOutcome {
        let is_news = self.note_arrived(call, got);
        if !is_news {
            cx.counters.stale += 1;
            return CallOutcome::Open;
        }
        call.hear();
        self.unreceived.remove(&call.sequence);
        self.send_request(cx, now, call);
        CallOutcome::Received
    }

    /// Notes fragments of a request that have arrived. Returns whether any of them is new.
    fn note_arrived(&mut self, call: &mut Call, got: &Got) -> bool {
        let CallPhase::Sending { flight: Some(flight), chunk_bytes, reported } = &mut call.phase
        else {
            return false;
        };
        let count = flight.count();
        let below = *reported..got.next.clamp(*reported, count);
        debug_assert!(*reported <= below.end, "what has arrived stays so");
        *reported = below.end;
        let beyond = got.beyond.indices().take_while(|index| *index < count);
        let (mut news, mut loss) = (false, false);
        for index in below.chain(beyond).chain([got.newest]) {
            let arrival = flight.arrive(index);
            loss |= arrival.loss;
            if arrival.new {
                news = true;
                self.up.arrived(*chunk_bytes);
            }
        }
        if loss {
            self.up.lost(*chunk_bytes);
        }
        news
    }

    /// Takes the refusal of a server without room. Refusals of all packets sent so far count once,
    /// and not at all if the server has taken the request since.
    fn back_off(&mut self, cx: &mut Context, now: Time, call: &mut Call, number: PacketNumber) {
        if call.received || !call.is_news(number) {
            cx.counters.stale += 1;
            return;
        }
        if let Some(sent) = call.sent.as_mut() {
            sent.answered = Some(sent.newest);
        }
        call.busy += 1;
        call.unanswered = 0;
        call.paused = true;
        self.set_retry(cx, now, call);
    }

    /// Repeats a request in another session, which no correct client does.
    fn resend(&mut self, cx: &mut Context, now: Time, call: &mut Call, session: CallSession) {
        if let Some(sent) = call.sent.as_mut() {
            sent.session = session;
        }
        self.repeat(cx, now, call);
    }
}
