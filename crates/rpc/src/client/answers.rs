//! The client's treatment of answers.
//!
//! An answer counts only if it is for this generation of the client, in the call's session, and to
//! one of the call's own packets. A packet that a network, an earlier generation or an eavesdropper
//! sends again goes no further.

use std::time::Duration;

use super::call::{Call, Phase, Session};
use super::peer::Open;
use super::{Client, Place, Timer};
use crate::fragments::{Assembly, Flight};
use crate::packet::{Answer, Fragment, Got, Header, PacketError, Refusal, Terms, open_answer};
use crate::rules::Rule;
use crate::window::Window;
use crate::{Address, CallError, PacketNumber, Time};

impl Client {
    /// Handles a datagram that came.
    pub fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]) {
        self.counters.received += 1;
        let key = self.config.key.clone();
        match open_answer(&key, packet) {
            Ok(opened) => self.handle_answer(now, from, &opened.header, opened.held, &opened.body),
            Err(PacketError::Foreign) => self.counters.foreign += 1,
            Err(PacketError::Unauthentic) => self.counters.unauthentic += 1,
            Err(PacketError::Malformed) => self.counters.malformed += 1,
        }
    }

    fn handle_answer(
        &mut self,
        now: Time,
        from: &Address,
        header: &Header,
        held: Duration,
        answer: &Answer<'_>,
    ) {
        let ours = header.client == self.config.identity;
        if !ours
            && (self.rules.obey(Rule::ClientGeneration)
                || header.client.id != self.config.identity.id)
        {
            self.counters.orphaned += 1;
            return;
        }
        let is_secret = self.config.key.is_secret();
        let Some(peer) = self
            .peers
            .get_mut(&header.port)
            .filter(|peer| is_secret || peer.address.as_ref() == Some(from))
        else {
            self.counters.stray += 1;
            return;
        };
        peer.measure(now, header.number, held);
        match answer {
            Answer::Welcome(terms) => self.handle_welcome(now, header, *terms),
            Answer::Reply { sequence, fragment } => {
                if let Some(place) = self.place(header, *sequence) {
                    self.handle_reply(now, place, fragment);
                }
            }
            Answer::Working { sequence } => {
                if let Some(place) = self.place(header, *sequence) {
                    self.handle_working(now, place, header);
                }
            }
            Answer::Got(got) => {
                if let Some(place) = self.place(header, got.sequence) {
                    self.handle_got(now, place, got);
                }
            }
            Answer::Refused { sequence, why, terms } => {
                let place = Place { port: header.port, sequence: *sequence };
                self.handle_refused(now, place, header, *why, *terms);
            }
        }
    }

    fn handle_welcome(&mut self, now: Time, header: &Header, terms: Terms) {
        let Some(peer) = self.peers.get_mut(&header.port) else { return };
        if peer
            .greeting
            .is_none_or(|greeting| !(greeting.first..=greeting.number).contains(&header.number))
        {
            self.counters.stray += 1;
            return;
        }
        peer.greeting = None;
        self.timers.cancel(Timer::Greet(header.port));
        self.open_session(now, header, terms);
        self.proceed(now, header.port);
    }

    fn open_session(&mut self, now: Time, header: &Header, terms: Terms) {
        let most = self.config.limits.window_bytes;
        let Some(peer) = self.peers.get_mut(&header.port) else { return };
        let session = Session { epoch: header.epoch, ticket: header.ticket };
        peer.session = Some(Open::new(now, session, terms));
        peer.up = Window::new(most.min(terms.window_bytes));
    }

    /// Returns the call that an answer is for.
    fn place(&mut self, header: &Header, sequence: crate::Sequence) -> Option<Place> {
        let strict = self.rules.obey(Rule::AnswersTheCall);
        let place = Place { port: header.port, sequence };
        let sent = self.call_at(place).and_then(|call| call.sent);
        let session = Session { epoch: header.epoch, ticket: header.ticket };
        let answers = sent.is_some_and(|sent| {
            !strict || (sent.session == session && sent.includes(header.number))
        });
        if !answers {
            self.counters.stray += 1;
        }
        answers.then_some(place)
    }

    fn handle_reply(&mut self, now: Time, place: Place, fragment: &Fragment<'_>) {
        self.touch(now, place);
        if fragment.count() == 1 {
            return self.finish(now, place, fragment.data.to_vec().into());
        }
        self.receive(place, fragment);
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let sharers = peer.large_replies();
        let Some(call) = peer.calls.get_mut(&place.sequence) else { return };
        let Phase::Receiving { assembly, flight, chunk_bytes } = &mut call.phase else { return };
        if !assembly.fits(fragment) || !assembly.add(fragment) {
            return;
        }
        let loss = flight.arrive(fragment.index).loss;
        peer.down.arrived(*chunk_bytes);
        if loss {
            peer.down.lost(*chunk_bytes);
        }
        if assembly.is_complete() {
            return self.finish_assembled(now, place);
        }
        let short = flight.away() <= peer.down.fragments(*chunk_bytes, sharers) / 2;
        call.hear();
        if loss || short {
            self.ask_for_more(now, place);
        }
        self.set_retry(now, place);
    }

    /// Begins a reply of several fragments. The first ones are under way already, as the request
    /// allowed.
    fn receive(&mut self, place: Place, fragment: &Fragment<'_>) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let Some(call) = peer.calls.get_mut(&place.sequence).filter(|call| !call.is_receiving())
        else {
            return;
        };
        let mut flight = Flight::new(fragment.count());
        for _ in 0..(call.credit_bytes / fragment.chunk_bytes).max(1) {
            flight.depart();
        }
        call.received = true;
        let (assembly, chunk_bytes) = (Assembly::of(fragment), fragment.chunk_bytes);
        peer.enter(place.sequence, Phase::Receiving { assembly, flight, chunk_bytes });
        peer.unreceived.remove(&place.sequence);
    }

    fn finish_assembled(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        if let Some(Phase::Receiving { assembly, .. }) = peer.enter(place.sequence, Phase::Waiting)
        {
            self.finish(now, place, assembly.into_message());
        }
    }

    fn finish(&mut self, now: Time, place: Place, reply: bytes::Bytes) {
        self.end(place, Ok(reply));
        self.report_ended(now, place.port);
        self.proceed(now, place.port);
    }

    fn handle_working(&mut self, now: Time, place: Place, header: &Header) {
        self.touch(now, place);
        let Some(call) = self.call_at(place) else { return };
        if call.is_receiving() || !call.is_news(header.number) {
            return;
        }
        call.hear();
        call.received = true;
        call.resting = true;
        if let Some(peer) = self.peers.get_mut(&place.port) {
            peer.enter(place.sequence, Phase::Asking);
            peer.unreceived.remove(&place.sequence);
        }
        self.set_retry(now, place);
        self.proceed(now, place.port);
    }

    fn handle_got(&mut self, now: Time, place: Place, got: &Got) {
        self.touch(now, place);
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let Some(call) = peer.calls.get_mut(&place.sequence) else { return };
        let Phase::Sending { flight: Some(flight), chunk_bytes, reported } = &mut call.phase else {
            return;
        };
        let count = flight.count();
        let below = *reported..got.next.clamp(*reported, count);
        *reported = below.end;
        let (mut news, mut loss) = (false, false);
        for index in
            below.chain(got.beyond.indices().take_while(|index| *index < count)).chain([got.newest])
        {
            let arrival = flight.arrive(index);
            loss |= arrival.loss;
            if arrival.new {
                news = true;
                peer.up.arrived(*chunk_bytes);
            }
        }
        if loss {
            peer.up.lost(*chunk_bytes);
        }
        if news {
            call.hear();
            peer.unreceived.remove(&place.sequence);
            self.send_request(now, place);
            self.proceed(now, place.port);
        }
    }

    fn handle_refused(
        &mut self,
        now: Time,
        place: Place,
        header: &Header,
        why: Refusal,
        terms: Terms,
    ) {
        let Some(sent) = self
            .call_at(place)
            .and_then(|call| call.sent)
            .filter(|sent| sent.includes(header.number))
        else {
            return self.end_cancel(place, why);
        };
        match why {
            Refusal::Epoch | Refusal::NoSession => {
                self.lose_session(now, place, sent.session, header, terms);
            }
            Refusal::Gone => self.end(place, Err(CallError::Forgotten)),
            Refusal::Busy => self.back_off(now, place, header.number),
            Refusal::Abandoned => self.end(place, Err(CallError::Abandoned)),
            Refusal::TooLong => {
                let bytes = self.call_at(place).map_or(0, |call| call.body.len());
                self.end(place, Err(CallError::TooLongForServer { bytes }));
            }
            Refusal::Cancelled => self.counters.stray += 1,
        }
        self.proceed(now, place.port);
    }

    /// Ends the calls in a session that the server doesn't have: their outcome is unknown.
    fn lose_session(
        &mut self,
        now: Time,
        place: Place,
        lost: Session,
        header: &Header,
        terms: Terms,
    ) {
        let current =
            self.peers.get(&place.port).and_then(|peer| peer.session).map(|open| open.session);
        if current == Some(lost) {
            self.open_session(now, header, terms);
        }
        if !self.rules.obey(Rule::StayInSession) {
            return self.resend(now, place, Session { epoch: header.epoch, ticket: header.ticket });
        }
        let restarted = header.epoch != lost.epoch;
        let error = if restarted {
            CallError::ServerRestarted { now: header.epoch }
        } else {
            CallError::Forgotten
        };
        self.end_session(place.port, lost, &error);
    }

    /// Repeats a request in another session, which no correct client does.
    fn resend(&mut self, now: Time, place: Place, session: Session) {
        if let Some(sent) = self.call_at(place).and_then(|call| call.sent.as_mut()) {
            sent.session = session;
        }
        self.repeat(now, place);
    }

    /// Takes a refusal for want of room. It counts once for all packets sent so far, and not if the
    /// server has taken the request since.
    fn back_off(&mut self, now: Time, place: Place, number: PacketNumber) {
        let Some(call) = self.call_at(place).filter(|call| !call.received) else { return };
        if !call.is_news(number) {
            return;
        }
        if let Some(sent) = call.sent.as_mut() {
            sent.answered = Some(sent.newest);
        }
        call.busy += 1;
        call.unanswered = 0;
        call.resting = true;
        self.set_retry(now, place);
    }

    /// Ends a cancellation that the server knows. If it knows no session, the request may be on its
    /// way to open one.
    fn end_cancel(&mut self, place: Place, why: Refusal) {
        if why == Refusal::NoSession {
            return;
        }
        let cancelled =
            self.peers.get_mut(&place.port).and_then(|peer| peer.cancels.remove(&place.sequence));
        match cancelled {
            Some(_) => self.timers.cancel(Timer::Cancel(place)),
            None => self.counters.stray += 1,
        }
    }

    /// Notes that the server was heard in a call's session.
    fn touch(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        peer.used = now;
        let session = peer
            .calls
            .get(&place.sequence)
            .and_then(|call: &Call| call.sent)
            .map(|sent| sent.session);
        if let Some(open) = peer.session.as_mut().filter(|open| Some(open.session) == session) {
            open.used = now;
        }
    }
}
