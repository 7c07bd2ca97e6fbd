//! Handling of a single request.

use std::time::Duration;

use bytes::Bytes;

use super::session::{Asked, Entry, RequestId, State};
use super::{CancelReason, Event, ReplyError, Server, Timer, answering};
use crate::fragments::Assembly;
use crate::packet::{
    Answer, Ask, Fragment, Got, Header, Question, Ranges, Refusal, Request, chunk_bytes,
};
use crate::rules::Rule;
use crate::{ACK_WITHIN, Address, MAX_MESSAGE_BYTES, Time};

impl Server {
    /// Replies to a request.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply(&mut self, now: Time, id: RequestId, body: Bytes) -> Result<(), ReplyError> {
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(ReplyError::TooLong { bytes: body.len() });
        }
        let bytes = body.len();
        let entry = self.entry(id).ok_or(ReplyError::NotWaiting)?;
        let State::Executing { body_bytes } = entry.state else {
            return Err(ReplyError::NotWaiting);
        };
        entry.state = State::Done { reply: body };
        self.give_back(id, body_bytes);
        self.keep(id, bytes);
        self.timers.cancel(Timer::Acknowledge(id));
        self.send_reply(now, id, None);
        if !self.rules.obey(Rule::KeepReplies) {
            self.remove(id);
        }
        Ok(())
    }

    /// Gives a request up without a reply. Its caller's call ends with
    /// [`CallError::Abandoned`](crate::CallError::Abandoned).
    ///
    /// # Errors
    /// [`ReplyError::NotWaiting`].
    pub fn abandon(&mut self, id: RequestId) -> Result<(), ReplyError> {
        let entry = self.entry(id).ok_or(ReplyError::NotWaiting)?;
        let State::Executing { body_bytes } = entry.state else {
            return Err(ReplyError::NotWaiting);
        };
        entry.state = State::Ended { why: Refusal::Abandoned };
        let asked = entry.asked;
        self.give_back(id, body_bytes);
        self.timers.cancel(Timer::Acknowledge(id));
        self.refuse_request(id, asked, Refusal::Abandoned);
        Ok(())
    }

    pub(super) fn handle_admitted(
        &mut self,
        now: Time,
        id: RequestId,
        header: &Header,
        question: &Question<'_>,
    ) {
        let asked = Asked { number: header.number, at: now };
        if let Some(until) = patience(question).map(|patience| self.until(now, patience))
            && let Some(entry) = self.entry(id)
        {
            entry.asked = asked;
            entry.until = until;
        }
        match question {
            Question::Request(request) => self.handle_request(now, id, asked, request),
            Question::Ask(ask) => self.handle_ask(now, id, asked, ask),
            Question::Cancel { .. } => self.handle_cancel(id, asked),
            Question::Hello | Question::Ended { .. } => {}
        }
    }

    fn handle_request(&mut self, now: Time, id: RequestId, asked: Asked, request: &Request<'_>) {
        let broken = !self.rules.obey(Rule::DuplicateTable) && request.fragment.count() == 1;
        match self.entry(id).map(|entry| &entry.state) {
            Some(State::Arriving { .. }) => self.handle_fragment(now, id, request),
            Some(_) if !broken => {
                self.counters.repeated += 1;
                self.tell(now, id, None);
            }
            _ => match self.may_begin(id, request) {
                Ok(()) => self.begin(now, id, asked, request),
                Err(why) => self.refuse_request(id, asked, why),
            },
        }
    }

    /// Returns whether there is room for a new request.
    fn may_begin(&self, id: RequestId, request: &Request<'_>) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get(&id.session) else { return Err(Refusal::Gone) };
        let total_bytes = request.fragment.total_bytes as usize;
        let ahead = id.sequence.0.saturating_sub(session.floor().0);
        if id.sequence < session.floor() && self.rules.obey(Rule::Floor) {
            Err(Refusal::Gone)
        } else if total_bytes > limits.longest_request() {
            Err(Refusal::TooLong)
        } else if self.requests >= limits.requests || self.bytes + total_bytes > limits.bytes {
            Err(Refusal::Busy)
        } else if ahead == 0 {
            // The floor waits for this request, and the replies that fill the session wait for the
            // floor.
            Ok(())
        } else if ahead >= limits.requests_per_session as u64
            || session.len() >= limits.requests_per_session
            || session.bytes + total_bytes > limits.bytes_per_session
        {
            Err(Refusal::Busy)
        } else {
            Ok(())
        }
    }

    fn begin(&mut self, now: Time, id: RequestId, asked: Asked, request: &Request<'_>) {
        let assembly = Assembly::of(&request.fragment);
        let until = self.until(now, request.patience);
        let Some(session) = self.sessions.get_mut(&id.session) else { return };
        let datagram_bytes = self
            .config
            .limits
            .datagram_bytes(&session.address)
            .min(request.datagram_bytes as usize);
        let bytes = assembly.bytes();
        self.requests += 1;
        let entry = Entry {
            state: State::Arriving { assembly },
            acknowledged: false,
            asked,
            until,
            credit_bytes: request.credit_bytes,
            chunk_bytes: u32::try_from(chunk_bytes(datagram_bytes)).unwrap_or(u32::MAX),
        };
        session.insert(id.sequence, entry);
        self.keep(id, bytes);
        if self.rules.obey(Rule::Patience) {
            self.timers.set(Timer::Release(id), until);
        }
        self.handle_fragment(now, id, request);
    }

    fn handle_fragment(&mut self, now: Time, id: RequestId, request: &Request<'_>) {
        let Some(Entry { state: State::Arriving { assembly }, .. }) = self.entry(id) else {
            return;
        };
        if !assembly.fits(&request.fragment) {
            self.counters.malformed += 1;
            return;
        }
        let overtook = request.fragment.index > assembly.end();
        let new = assembly.add(&request.fragment);
        if assembly.is_complete() {
            return self.execute(now, id, request.limit);
        }
        if !new || overtook || request.report {
            self.report(now, id, request.fragment.index);
        }
    }

    fn execute(&mut self, now: Time, id: RequestId, limit: Duration) {
        let Some(entry) = self.entry(id) else { return };
        let executing = State::Executing { body_bytes: entry.bytes() };
        let State::Arriving { mut assembly } = std::mem::replace(&mut entry.state, executing)
        else {
            return;
        };
        self.counters.executed += 1;
        self.timers.set(Timer::Acknowledge(id), now + ACK_WITHIN);
        self.events.push_back(Event::Request {
            id,
            client: id.session.client,
            body: assembly.take_message(),
            limit,
        });
    }

    fn handle_ask(&mut self, now: Time, id: RequestId, asked: Asked, ask: &Ask) {
        match self.entry(id) {
            Some(_) => {
                self.counters.repeated += 1;
                self.tell(now, id, Some(&ask.wanted));
            }
            None => self.refuse_request(id, asked, Refusal::Gone),
        }
    }

    /// Cancels a request. One that was cancelled before it came must not be executed when it comes.
    fn handle_cancel(&mut self, id: RequestId, asked: Asked) {
        if self.entry(id).is_some() {
            self.end(id, CancelReason::Caller);
        } else {
            self.remember_cancelled(id, asked);
        }
        self.refuse_request(id, asked, Refusal::Cancelled);
    }

    fn remember_cancelled(&mut self, id: RequestId, asked: Asked) {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(&id.session) else { return };
        let ahead = id.sequence.0.checked_sub(session.floor().0);
        let known_to_come = ahead.is_some_and(|ahead| ahead < limits.requests_per_session as u64);
        if known_to_come && self.requests < limits.requests {
            let state = State::Ended { why: Refusal::Gone };
            let (until, acknowledged) = (asked.at, false);
            session.insert(
                id.sequence,
                Entry { state, acknowledged, asked, until, credit_bytes: 0, chunk_bytes: 0 },
            );
            self.requests += 1;
        }
    }

    /// Forgets replies that have arrived.
    pub(super) fn handle_ended(&mut self, id: RequestId) {
        if let Some(Entry { state: State::Done { .. }, .. }) = self.entry(id) {
            self.end(id, CancelReason::Caller);
        }
    }

    /// Tells the client the state of its request, or sends the `wanted` fragments of the reply.
    fn tell(&mut self, now: Time, id: RequestId, wanted: Option<&Ranges>) {
        let Some(entry) = self.entry(id) else { return };
        let asked = entry.asked;
        match &mut entry.state {
            State::Arriving { assembly } => {
                let newest = assembly.end().saturating_sub(1);
                self.report(now, id, newest);
            }
            State::Executing { .. } => {
                entry.acknowledged = true;
                self.answer_request(now, id, &Answer::Working { sequence: id.sequence });
            }
            State::Done { .. } => self.send_reply(now, id, wanted),
            State::Ended { why } => {
                let why = *why;
                self.refuse_request(id, asked, why);
            }
        }
    }

    fn report(&mut self, now: Time, id: RequestId, newest: u32) {
        let Some(Entry { state: State::Arriving { assembly }, acknowledged, .. }) = self.entry(id)
        else {
            return;
        };
        *acknowledged = true;
        let got =
            Got { sequence: id.sequence, newest, next: assembly.next(), beyond: assembly.beyond() };
        self.answer_request(now, id, &Answer::Got(got));
    }

    /// Sends the late acknowledgement.
    pub(super) fn acknowledge(&mut self, now: Time, id: RequestId) {
        if let Some(Entry { state: State::Executing { .. }, acknowledged: false, .. }) =
            self.entry(id)
        {
            self.tell(now, id, None);
        }
    }

    /// Sends the wanted fragments of a reply, or its beginning.
    fn send_reply(&mut self, now: Time, id: RequestId, wanted: Option<&Ranges>) {
        let burst_bytes = self.config.limits.burst_bytes;
        let Some(entry) = self.entry(id) else { return };
        let State::Done { reply } = &entry.state else { return };
        entry.acknowledged |= reply.len() > entry.chunk_bytes as usize;
        let (reply, chunk_bytes) = (reply.clone(), entry.chunk_bytes);
        let most = |bytes: u32| (bytes.min(burst_bytes) / chunk_bytes).max(1);
        let first = 0..most(entry.credit_bytes);
        let indices: Vec<u32> = match wanted.filter(|wanted| !wanted.is_empty()) {
            Some(wanted) => wanted.indices().take(most(burst_bytes) as usize).collect(),
            None => first.collect(),
        };
        for fragment in indices.into_iter().map_while(|index| piece(&reply, chunk_bytes, index)) {
            self.answer_request(now, id, &Answer::Reply { sequence: id.sequence, fragment });
        }
    }

    /// Releases a request at the end of the client's patience, unless the client has asked again.
    pub(super) fn release(&mut self, now: Time, id: RequestId) {
        let Some(until) = self.entry(id).map(|entry| entry.until) else { return };
        if now < until {
            self.timers.set(Timer::Release(id), until);
        } else {
            self.end(id, CancelReason::ClientSilent);
        }
    }

    /// Ends a request whose reply isn't awaited any more. It stays known as ended until the floor
    /// has passed it.
    fn end(&mut self, id: RequestId, why: CancelReason) {
        let Some(session) = self.sessions.get_mut(&id.session) else { return };
        let Some(mut entry) = session.remove(id.sequence) else { return };
        let above = id.sequence >= session.floor() && self.rules.obey(Rule::RememberEnded);
        self.forget(id, &entry, why);
        if above && let Some(session) = self.sessions.get_mut(&id.session) {
            if entry.is_open() {
                entry.state = State::Ended { why: Refusal::Gone };
            }
            entry.acknowledged = false;
            session.insert(id.sequence, entry);
            self.requests += 1;
        }
    }

    fn remove(&mut self, id: RequestId) {
        let entry =
            self.sessions.get_mut(&id.session).and_then(|session| session.remove(id.sequence));
        if let Some(entry) = entry {
            self.forget(id, &entry, CancelReason::Caller);
        }
    }

    /// Gives back the room of an entry that has left its session.
    pub(super) fn forget(&mut self, id: RequestId, entry: &Entry, why: CancelReason) {
        self.give_back(id, entry.bytes());
        self.requests -= 1;
        self.timers.cancel(Timer::Acknowledge(id));
        self.timers.cancel(Timer::Release(id));
        if let State::Executing { .. } = entry.state {
            self.counters.cancelled += 1;
            self.events.push_back(Event::Cancelled { id, why });
        }
    }

    /// Returns the end of a client's patience. A client can't keep anything for longer than a
    /// session.
    fn until(&self, now: Time, patience: Duration) -> Time {
        now + patience.min(self.config.limits.session_idle) + self.config.limits.patience_slack
    }

    fn keep(&mut self, id: RequestId, bytes: usize) {
        self.bytes += bytes;
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.bytes += bytes;
        }
    }

    fn give_back(&mut self, id: RequestId, bytes: usize) {
        self.bytes -= bytes;
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.bytes -= bytes;
        }
    }

    fn answer_request(&mut self, now: Time, id: RequestId, answer: &Answer<'_>) {
        let Some((address, asked)) = self.whereabouts(id) else { return };
        let header = answering(id, &self.config, asked.number);
        self.answer(&address, &header, now.since(asked.at), answer);
    }

    fn refuse_request(&mut self, id: RequestId, asked: Asked, why: Refusal) {
        let Some(session) = self.sessions.get(&id.session) else { return };
        let address = session.address.clone();
        let header = answering(id, &self.config, asked.number);
        self.refuse(asked.at, &address, &header, id.sequence, why);
    }

    fn whereabouts(&mut self, id: RequestId) -> Option<(Address, Asked)> {
        let session = self.sessions.get_mut(&id.session)?;
        let address = session.address.clone();
        session.entry(id.sequence).map(|entry| (address, entry.asked))
    }

    fn entry(&mut self, id: RequestId) -> Option<&mut Entry> {
        self.sessions.get_mut(&id.session)?.entry(id.sequence)
    }
}

fn patience(question: &Question<'_>) -> Option<Duration> {
    match question {
        Question::Request(request) => Some(request.patience),
        Question::Ask(ask) => Some(ask.patience),
        Question::Hello | Question::Cancel { .. } | Question::Ended { .. } => None,
    }
}

/// Returns a fragment of a reply; an empty reply has one.
fn piece(reply: &Bytes, chunk_bytes: u32, index: u32) -> Option<Fragment<'_>> {
    Fragment::of(reply, chunk_bytes, index).filter(|fragment| fragment.index < fragment.count())
}
