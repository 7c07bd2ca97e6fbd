//! The server's half of the protocol.

use std::collections::BTreeMap;

use crate::words::{Answer, Bounds, IDLE, Name, PATIENCE, Question, Rule, TICKET_YOUTH, Ticket};

/// One generation of the server, and the world's knowledge of all its generations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) epoch: u8,
    /// Time since the generation's start. So a ticket of an earlier generation can look young, or
    /// come from the future.
    pub(crate) now: u8,
    pub(crate) sessions: BTreeMap<Key, Session>,
    /// Number of tickets that may still be issued: a bound of the search.
    pub(crate) tickets_left: u8,
    /// Number of executions of each request, over all generations.
    pub(crate) executed: BTreeMap<Name, u8>,
}

/// A client's generation and a ticket.
pub(crate) type Key = (u8, Ticket);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) heard: u8,
    pub(crate) floor: u8,
    pub(crate) requests: BTreeMap<u8, Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// Fragments of the request are missing; `got` has a bit for each arrived one.
    Arriving {
        got: u8,
        acknowledged: bool,
    },
    Executing {
        of: Name,
        attempt: u8,
        heard: u8,
        acknowledged: bool,
    },
    Done {
        of: Name,
        attempt: u8,
        heard: u8,
        acknowledged: bool,
    },
    /// The request has ended; the entry is its tombstone.
    Dead,
}

/// Result of opening or finding a session.
type Admitted<T> = Result<T, Option<Answer>>;

impl Server {
    pub(crate) fn new(tickets: u8) -> Self {
        Self {
            epoch: 1,
            now: 0,
            sessions: BTreeMap::new(),
            tickets_left: tickets,
            executed: BTreeMap::new(),
        }
    }

    pub(crate) fn crash(&mut self) {
        self.epoch += 1;
        self.now = 0;
        self.sessions.clear();
    }

    pub(crate) fn handle(
        &mut self,
        bounds: &Bounds,
        generation: u8,
        question: Question,
    ) -> Option<Answer> {
        match question {
            Question::Hello => {
                if !bounds.obeys(Rule::EarlierGenerationGoesLate) {
                    self.sessions.retain(|key, _| key.0 >= generation);
                }
                self.issue().map(|ticket| Answer::Welcome { ticket })
            }
            Question::Request { ticket, sequence, floor, .. }
            | Question::Ask { ticket, sequence, floor }
            | Question::Cancel { ticket, sequence, floor }
            | Question::Ended { ticket, sequence, floor } => {
                let key = match self.admit(bounds, generation, ticket, sequence, &question) {
                    Ok(key) => key,
                    Err(refused) => return refused,
                };
                self.raise_floor(bounds, key, floor);
                self.in_session(bounds, key, (generation, sequence), question)
            }
        }
    }

    fn issue(&mut self) -> Option<Ticket> {
        self.tickets_left = self.tickets_left.checked_sub(1)?;
        Some(Ticket { epoch: self.epoch, issued: self.now })
    }

    /// Finds the session or opens it. The epoch is compared first.
    fn admit(
        &mut self,
        bounds: &Bounds,
        generation: u8,
        ticket: Ticket,
        sequence: u8,
        question: &Question,
    ) -> Admitted<Key> {
        if self.is_too_long(bounds, question) && !bounds.obeys(Rule::EpochBeforeLength) {
            return Err(Some(Answer::TooLong { ticket, sequence }));
        }
        let key = (if bounds.obeys(Rule::ClientGeneration) { generation } else { 1 }, ticket);
        let restarted = ticket.epoch != self.epoch && bounds.obeys(Rule::ServerEpoch);
        if !restarted && self.sessions.contains_key(&key) {
            return Ok(key);
        }
        let opens = matches!(question, Question::Request { .. }) && self.is_young(bounds, ticket);
        if restarted || !opens {
            let fresh = self.issue();
            return Err(Some(Answer::NoSession { ticket, sequence, epoch: self.epoch, fresh }));
        }
        self.open(bounds, key)
    }

    /// Opens a session. Sessions of earlier generations end; packets of earlier generations get no
    /// answer.
    fn open(&mut self, bounds: &Bounds, key: Key) -> Admitted<Key> {
        let later_is_known = self.sessions.keys().any(|known| known.0 > key.0);
        if later_is_known && bounds.obeys(Rule::EarlierGenerationIsRefused) {
            return Err(None);
        }
        self.sessions.retain(|known, _| known.0 >= key.0);
        self.sessions.insert(key, Session { heard: self.now, floor: 0, requests: BTreeMap::new() });
        Ok(key)
    }

    fn is_too_long(&self, bounds: &Bounds, question: &Question) -> bool {
        self.epoch >= bounds.too_long_from && matches!(question, Question::Request { .. })
    }

    /// Returns whether a ticket is young. From the first tick in which its session may be
    /// forgotten, the ticket is old.
    fn is_young(&self, bounds: &Bounds, ticket: Ticket) -> bool {
        let age = self.now.saturating_sub(ticket.issued);
        !bounds.obeys(Rule::TicketAge)
            || age < TICKET_YOUTH
            || (age == TICKET_YOUTH && !bounds.obeys(Rule::TicketAgeIsExclusive))
    }

    /// Raises the floor. Requests below it are removed, unless they were acknowledged.
    fn raise_floor(&mut self, bounds: &Bounds, key: Key, floor: u8) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let floor = floor.max(session.floor);
        session.floor = floor;
        let late = |entry: &Entry| {
            entry.is_acknowledged() && bounds.obeys(Rule::AcknowledgedOutlivesFloor)
        };
        session.requests.retain(|sequence, entry| *sequence >= floor || late(entry));
    }

    fn in_session(
        &mut self,
        bounds: &Bounds,
        key: Key,
        of: Name,
        question: Question,
    ) -> Option<Answer> {
        let (now, (ticket, sequence)) = (self.now, (key.1, of.1));
        let too_long = self.is_too_long(bounds, &question);
        let session = self.sessions.get_mut(&key)?;
        session.heard = now;
        let known = session.requests.contains_key(&sequence);
        match question {
            Question::Hello => None,
            Question::Cancel { .. } => {
                session.cancel(bounds, sequence);
                Some(Answer::Cancelled { ticket, sequence, begun: self.executed.contains_key(&of) })
            }
            Question::Ended { .. } => {
                session.reply_arrived(bounds, sequence);
                None
            }
            _ if !known && sequence < session.floor && bounds.obeys(Rule::Floor) => {
                Some(Answer::Gone { ticket, sequence })
            }
            Question::Ask { .. } => session.asked(ticket, sequence, now),
            Question::Request { .. } if too_long && !known => {
                Some(Answer::TooLong { ticket, sequence })
            }
            Question::Request { attempt, fragment, .. } => {
                self.request(bounds, key, of, attempt, fragment)
            }
        }
    }

    fn request(
        &mut self,
        bounds: &Bounds,
        key: Key,
        of: Name,
        attempt: u8,
        fragment: u8,
    ) -> Option<Answer> {
        let (now, (ticket, sequence)) = (self.now, (key.1, of.1));
        let session = self.sessions.get_mut(&key)?;
        let known =
            session.requests.get(&sequence).copied().filter(|_| bounds.obeys(Rule::DuplicateTable));
        let Entry::Arriving { got, .. } =
            known.unwrap_or(Entry::Arriving { got: 0, acknowledged: false })
        else {
            return session.tell(ticket, sequence, Some(attempt), now);
        };
        let got = got | 1 << fragment;
        if got + 1 < 1 << bounds.fragments {
            session.requests.insert(sequence, Entry::Arriving { got, acknowledged: true });
            return Some(Answer::Got { ticket, sequence });
        } else {
            let acknowledged = bounds.fragments > 1;
            let executing = Entry::Executing { of, attempt, heard: now, acknowledged };
            session.requests.insert(sequence, executing);
            // Counting no further than two keeps the search finite when a rule is broken.
            let times = self.executed.entry(of).or_default();
            *times = 2.min(*times + 1);
        }
        None
    }

    /// Finishes a request with its reply.
    pub(crate) fn finish(&mut self, key: Key, sequence: u8) -> Option<Answer> {
        let (now, ticket) = (self.now, key.1);
        let entry = self.sessions.get_mut(&key)?.requests.get_mut(&sequence)?;
        let Entry::Executing { of, attempt, acknowledged, .. } = *entry else { return None };
        *entry = Entry::Done { of, attempt, heard: now, acknowledged };
        Some(Answer::Reply { ticket, sequence, attempt, of, cached: false })
    }

    /// Releases a request at the end of its patience or later: drops its reply, or cancels its
    /// execution.
    pub(crate) fn release(&mut self, bounds: &Bounds, key: Key, sequence: u8) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(entry) = session.requests.get(&sequence) else { return };
        if entry.heard().is_none_or(|heard| self.now < heard + PATIENCE) {
            return;
        }
        session.requests.remove(&sequence);
        if sequence >= session.floor && bounds.obeys(Rule::Tombstones) {
            session.requests.insert(sequence, Entry::Dead);
        }
    }

    /// Forgets a session once it was silent for long enough.
    pub(crate) fn forget(&mut self, bounds: &Bounds, key: Key) {
        let idle = if bounds.obeys(Rule::SessionOutlivesTicket) { IDLE } else { 0 };
        if self.sessions.get(&key).is_some_and(|session| self.now >= session.heard + idle) {
            self.sessions.remove(&key);
        }
    }
}

impl Session {
    /// Answers a question about a request. A client asks only about received requests, so an
    /// unknown request was given up.
    fn asked(&mut self, ticket: Ticket, sequence: u8, now: u8) -> Option<Answer> {
        if self.requests.contains_key(&sequence) {
            self.tell(ticket, sequence, None, now)
        } else {
            Some(Answer::Gone { ticket, sequence })
        }
    }

    /// Cancels a request. A request below the floor needs no tombstone.
    fn cancel(&mut self, bounds: &Bounds, sequence: u8) {
        let known = self.requests.remove(&sequence).is_some();
        if sequence >= self.floor && (known || bounds.obeys(Rule::CancelLeavesTombstone)) {
            self.requests.insert(sequence, Entry::Dead);
        }
    }

    /// Releases a reply that has arrived.
    fn reply_arrived(&mut self, bounds: &Bounds, sequence: u8) {
        if let Some(Entry::Done { .. }) = self.requests.get(&sequence) {
            self.cancel(bounds, sequence);
        }
    }

    /// Returns the answer to a question about a known request.
    fn tell(&mut self, ticket: Ticket, sequence: u8, asked: Option<u8>, now: u8) -> Option<Answer> {
        match self.requests.get_mut(&sequence)? {
            Entry::Arriving { .. } => None,
            Entry::Executing { attempt, heard, acknowledged, .. } => {
                *attempt = asked.unwrap_or(*attempt).max(*attempt);
                (*heard, *acknowledged) = (now, true);
                Some(Answer::Working { ticket, sequence })
            }
            Entry::Done { of, attempt, heard, .. } => {
                *heard = now;
                let attempt = asked.unwrap_or(*attempt);
                Some(Answer::Reply { ticket, sequence, attempt, of: *of, cached: true })
            }
            Entry::Dead => Some(Answer::Gone { ticket, sequence }),
        }
    }
}

impl Entry {
    fn heard(&self) -> Option<u8> {
        match self {
            Self::Executing { heard, .. } | Self::Done { heard, .. } => Some(*heard),
            Self::Arriving { .. } | Self::Dead => None,
        }
    }

    fn is_acknowledged(&self) -> bool {
        match self {
            Self::Arriving { acknowledged, .. }
            | Self::Executing { acknowledged, .. }
            | Self::Done { acknowledged, .. } => *acknowledged,
            Self::Dead => false,
        }
    }
}
