//! Sending of the client's packets, and their repetition.

use std::time::Duration;

use super::call::{Call, CallId, Phase, Sent, Session};
use super::peer::Greeting;
use super::{Client, Event, Place, Timer};
use crate::fragments::Flight;
use crate::packet::{Ask, Fragment, Question, Ranges, Request, chunk_bytes};
use crate::rtt::RoundTrip;
use crate::{Address, CallError, PacketNumber, Port, Progress, Time};

/// Shortest pause before a request is repeated that was refused for want of room.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause. Nothing tells the client when calls end and make room.
const LONGEST_BUSY_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// Sends what can be sent: finds the server, greets it, begins waiting calls.
    pub(super) fn proceed(&mut self, now: Time, port: Port) {
        self.hurry_lowest(now, port);
        let Some(peer) = self.peers.get(&port) else { return };
        if peer.waiting.is_empty() {
            return;
        }
        if peer.address.is_none() {
            self.find(port);
        } else if let Some(session) = peer.usable_session(now) {
            self.begin_waiting(now, port, session);
        } else if peer.greeting.is_none() {
            self.greet(now, port, 0);
        }
    }

    /// Repeats the lowest call at once when the floor has risen and the call waits for room. From
    /// this packet the server learns the floor, releases replies, and so has room for the call.
    fn hurry_lowest(&mut self, now: Time, port: Port) {
        let Some(peer) = self.peers.get_mut(&port) else { return };
        let floor = peer.floor();
        let risen = std::mem::replace(&mut peer.last_floor, floor) < floor;
        if let Some(call) =
            peer.calls.get(&floor).filter(|call| risen && call.busy > 0 && call.resting)
        {
            self.timers.set(Timer::Retry(call.id), now);
        }
    }

    /// Notes the server's address, the first one or another.
    pub(super) fn move_to(&mut self, now: Time, port: Port, address: Address) {
        let Some(peer) = self.peers.get_mut(&port) else { return };
        let limits = &self.config.limits;
        peer.address = Some(address);
        peer.round_trip = RoundTrip::new(limits.rto_initial, limits.rto_max);
        if let Some(greeting) = peer.greeting {
            self.greet(now, port, greeting.unanswered);
        }
    }

    fn find(&mut self, port: Port) {
        if let Some(peer) = self.peers.get_mut(&port).filter(|peer| !peer.finding) {
            peer.finding = true;
            self.events.push_back(Event::Lookup { port });
        }
    }

    fn greet(&mut self, now: Time, port: Port, unanswered: u32) {
        let nothing = Session { epoch: crate::Epoch(0), ticket: crate::Ticket::default() };
        let Some(number) = self.send(now, port, nothing, &Question::Hello) else { return };
        let Some(peer) = self.peers.get_mut(&port) else { return };
        let first = peer.greeting.map_or(number, |greeting| greeting.first);
        peer.greeting = Some(Greeting { first, number, unanswered });
        self.timers.set(Timer::Greet(port), now + peer.round_trip.timeout(unanswered));
    }

    pub(super) fn repeat_greeting(&mut self, now: Time, port: Port) {
        let Some(peer) = self.peers.get_mut(&port) else { return };
        let Some(greeting) = peer.greeting else { return };
        let unanswered = greeting.unanswered + 1;
        if peer.waiting.is_empty() {
            peer.greeting = None;
            return;
        }
        if unanswered > self.config.limits.retransmissions {
            peer.greeting = None;
            peer.address = None;
            let error =
                CallError::ServerDown { transmissions: unanswered, progress: Progress::Unsent };
            return self.end_unsent(port, &error);
        }
        self.suspect(port, unanswered);
        self.counters.repeated += 1;
        self.greet(now, port, unanswered);
    }

    /// Looks a server up again when half of the retransmissions are unanswered: it may have moved.
    fn suspect(&mut self, port: Port, unanswered: u32) {
        if unanswered == self.config.limits.retransmissions.div_ceil(2) {
            self.find(port);
        }
    }

    fn begin_waiting(&mut self, now: Time, port: Port, session: Session) {
        while let Some(peer) = self.peers.get_mut(&port) {
            let Some(sequence) = peer.waiting.front().copied() else { return };
            if sequence.0 - peer.floor().0 >= self.config.limits.calls_ahead as u64 {
                return;
            }
            peer.waiting.pop_front();
            let place = Place { port, sequence };
            // The limit's timer is about to end this call, after a pause or together with others.
            if peer.calls.get(&sequence).is_none_or(|call| call.deadline <= now) {
                continue;
            }
            self.begin(place, session);
            self.send_request(now, place);
        }
    }

    /// Begins to send a call. The size of a request's fragments is decided once.
    fn begin(&mut self, place: Place, session: Session) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let datagram_bytes =
            peer.address.as_ref().map_or(0, |address| self.config.limits.datagram_bytes(address));
        let chunk_bytes = u32::try_from(chunk_bytes(datagram_bytes)).unwrap_or(u32::MAX);
        let (first, credit_bytes) = (peer.next_number, peer.down.bytes());
        let Some(call) = peer.calls.get_mut(&place.sequence) else { return };
        let count = Fragment::of(&call.body, chunk_bytes, 0).map_or(1, |fragment| fragment.count());
        let flight = (count > 1).then(|| Flight::new(count));
        call.sent = Some(Sent { session, first, newest: first, answered: None });
        call.credit_bytes = credit_bytes;
        peer.enter(place.sequence, Phase::Sending { flight, chunk_bytes, reported: 0 });
    }

    /// Sends a request, or as much of it as the window allows, and sets the timer. While more of it
    /// is left, the server reports half of the fragments as they arrive, so the rest follows before
    /// the window is empty.
    pub(super) fn send_request(&mut self, now: Time, place: Place) {
        let (indices, more) = self.next_fragments(place);
        let half = indices.len().div_ceil(2);
        for (position, index) in indices.iter().enumerate() {
            let report = more && position + 1 == half || position + 1 == indices.len();
            self.send_fragment(now, place, *index, report);
        }
        self.set_retry(now, place);
    }

    /// Returns the fragments that may leave now, and whether more must follow.
    fn next_fragments(&mut self, place: Place) -> (Vec<u32>, bool) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return (Vec::new(), false) };
        let sharers = peer.large_requests();
        match peer.calls.get_mut(&place.sequence) {
            Some(Call {
                phase: Phase::Sending { flight: Some(flight), chunk_bytes, .. },
                busy,
                ..
            }) => {
                // A server that had no room gets one fragment.
                let most = if *busy > 0 { 1 } else { peer.up.fragments(*chunk_bytes, sharers) };
                let indices = departures(flight, most);
                (indices, !flight.has_departed())
            }
            Some(Call { phase: Phase::Sending { flight: None, .. }, .. }) => (vec![0], false),
            _ => (Vec::new(), false),
        }
    }

    fn send_fragment(&mut self, now: Time, place: Place, index: u32, report: bool) {
        let patience = self.patience(now, place);
        let Some(peer) = self.peers.get(&place.port) else { return };
        let (Some(call), Some(address)) = (peer.calls.get(&place.sequence), &peer.address) else {
            return;
        };
        let (Phase::Sending { chunk_bytes, .. }, Some(sent)) = (&call.phase, call.sent) else {
            return;
        };
        let body = call.body.clone();
        let Some(fragment) = Fragment::of(&body, *chunk_bytes, index) else { return };
        let request = Request {
            sequence: place.sequence,
            floor: peer.floor(),
            patience,
            limit: call.deadline.since(now),
            credit_bytes: call.credit_bytes,
            datagram_bytes: u32::try_from(self.config.limits.datagram_bytes(address))
                .unwrap_or(u32::MAX),
            report,
            fragment,
        };
        let number = self.send(now, place.port, sent.session, &Question::Request(request));
        self.note_sent(place, number);
    }

    /// Asks for the state of a request, or for fragments of its reply.
    pub(super) fn send_ask(&mut self, now: Time, place: Place, wanted: Ranges) {
        let patience = self.patience(now, place);
        let Some(peer) = self.peers.get(&place.port) else { return };
        let Some(sent) = peer.calls.get(&place.sequence).and_then(|call| call.sent) else { return };
        let ask = Ask { sequence: place.sequence, floor: peer.floor(), patience, wanted };
        let number = self.send(now, place.port, sent.session, &Question::Ask(ask));
        self.note_sent(place, number);
    }

    /// Asks for as many fragments of a reply as the window allows.
    pub(super) fn ask_for_more(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let sharers = peer.large_replies();
        let Some(Call { phase: Phase::Receiving { flight, chunk_bytes, .. }, .. }) =
            peer.calls.get_mut(&place.sequence)
        else {
            return;
        };
        let departed = departures(flight, peer.down.fragments(*chunk_bytes, sharers));
        let wanted = Ranges::from_indices(departed.clone());
        for index in departed.into_iter().filter(|index| !wanted.contains(*index)) {
            flight.call_back(index);
        }
        if !wanted.is_empty() {
            self.send_ask(now, place, wanted);
        }
    }

    /// Tells the server which replies it needn't keep, when they are many or large.
    pub(super) fn report_ended(&mut self, now: Time, port: Port) {
        let Some(peer) = self.peers.get_mut(&port) else { return };
        let Some((session, sequences)) = peer.ended.take_if_many() else { return };
        let floor = peer.floor();
        self.send(now, port, session, &Question::Ended { floor, sequences });
    }

    pub(super) fn send_cancel(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let floor = peer.floor();
        let Some(cancelling) = peer.cancels.get_mut(&place.sequence) else { return };
        let (session, again) =
            (cancelling.session, peer.round_trip.timeout(cancelling.transmissions));
        cancelling.transmissions += 1;
        self.timers.set(Timer::Cancel(place), now + again);
        self.send(now, place.port, session, &Question::Cancel { sequence: place.sequence, floor });
    }

    pub(super) fn repeat_cancel(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let transmissions =
            peer.cancels.get(&place.sequence).map_or(0, |cancelling| cancelling.transmissions);
        if transmissions < self.config.limits.cancellations {
            self.counters.repeated += 1;
            self.send_cancel(now, place);
        } else {
            peer.cancels.remove(&place.sequence);
        }
    }

    /// Handles a call's timer: nothing came, or the next heartbeat is due.
    pub(super) fn retry(&mut self, now: Time, id: CallId) {
        let Some(place) = self.calls.get(&id).copied() else { return };
        let most = self.config.limits.retransmissions;
        let Some(call) = self.call_at(place) else { return };
        call.unanswered = if call.resting { 0 } else { call.unanswered + 1 };
        call.resting = false;
        let (unanswered, progress) = (call.unanswered, call.progress());
        if unanswered > most {
            return self.give_server_up(now, place, unanswered, progress);
        }
        self.suspect(place.port, unanswered);
        self.counters.repeated += 1;
        self.repeat(now, place);
    }

    /// Ends a call to a server that is down. The next call greets the server first, since its next
    /// generation may answer.
    fn give_server_up(&mut self, now: Time, place: Place, transmissions: u32, progress: Progress) {
        let session = self.call_at(place).and_then(|call| call.sent).map(|sent| sent.session);
        self.end(place, Err(CallError::ServerDown { transmissions, progress }));
        if let Some(peer) = self.peers.get_mut(&place.port)
            && peer.session.is_some_and(|open| Some(open.session) == session)
        {
            peer.session = None;
        }
        self.proceed(now, place.port);
    }

    pub(super) fn repeat(&mut self, now: Time, place: Place) {
        let Some(peer) = self.peers.get_mut(&place.port) else { return };
        let Some(call) = peer.calls.get_mut(&place.sequence) else { return };
        match &mut call.phase {
            Phase::Waiting => return,
            Phase::Sending { flight, chunk_bytes, .. } => {
                if let Some(flight) = flight {
                    flight.lose_all();
                    if call.busy == 0 {
                        peer.up.timed_out(*chunk_bytes);
                    }
                }
                return self.send_request(now, place);
            }
            Phase::Asking => self.send_ask(now, place, Ranges::default()),
            Phase::Receiving { flight, chunk_bytes, .. } => {
                flight.lose_all();
                peer.down.timed_out(*chunk_bytes);
                self.ask_for_more(now, place);
            }
        }
        self.set_retry(now, place);
    }

    /// Sets a call's timer for its phase.
    pub(super) fn set_retry(&mut self, now: Time, place: Place) {
        let heartbeat = self.config.limits.heartbeat;
        let Some(peer) = self.peers.get(&place.port) else { return };
        let Some(call) = peer.calls.get(&place.sequence) else { return };
        let pause = match call.resting {
            true if call.busy > 0 => {
                peer.round_trip.timeout(call.busy).clamp(BUSY_PAUSE, LONGEST_BUSY_PAUSE)
            }
            true => heartbeat,
            false => peer.round_trip.timeout(call.unanswered),
        };
        self.timers.set(Timer::Retry(call.id), now + pause);
    }

    /// Returns the longest time without a packet of this call while its reply is still wanted.
    fn patience(&self, now: Time, place: Place) -> Duration {
        let limits = &self.config.limits;
        let Some(peer) = self.peers.get(&place.port) else { return Duration::ZERO };
        let left =
            peer.calls.get(&place.sequence).map_or(Duration::ZERO, |call| call.deadline.since(now));
        left.min(limits.heartbeat + peer.round_trip.schedule(limits.retransmissions + 1))
    }

    fn note_sent(&mut self, place: Place, number: Option<PacketNumber>) {
        let sent = self.call_at(place).and_then(|call| call.sent.as_mut());
        if let (Some(number), Some(sent)) = (number, sent) {
            sent.newest = number;
        }
    }
}

/// Returns the fragments that may leave until so many are under way.
fn departures(flight: &mut Flight, most: u32) -> Vec<u32> {
    let mut indices = Vec::new();
    while flight.away() < most {
        let Some(index) = flight.depart() else { break };
        indices.push(index);
    }
    indices
}
