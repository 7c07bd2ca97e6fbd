//! The table of sessions, with the rules for admitting packets and for ending sessions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use super::session::{Session, SessionKey};
use super::{CancelReason, Context, Timer};
use crate::packet::{ClientBody, Header, Refusal};
use crate::rules::Rule;
use crate::{Address, ClientGeneration, ClientId, Identity, Time};

/// All sessions, and the clients that have them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    table: HashMap<SessionKey, Session>,
    clients: HashMap<ClientId, KnownClient>,
}

/// A client with a session.
#[derive(Debug)]
struct KnownClient {
    newest: ClientGeneration,
    sessions: usize,
}

/// Reason for which a packet doesn't reach its session.
pub(super) enum NotAdmitted {
    Refused(Refusal),
    /// The packet was counted, and gets no answer.
    Dropped,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.table.get_mut(&key)
    }

    /// Returns the session of a packet; opens a session if the ticket and the limits allow.
    pub(super) fn admit(
        &mut self,
        cx: &mut Context,
        now: Time,
        from: &Address,
        header: &Header,
        question: &ClientBody<'_>,
    ) -> Result<&mut Session, NotAdmitted> {
        if header.epoch != cx.config.epoch && cx.rules.obey(Rule::ServerEpoch) {
            return Err(NotAdmitted::Refused(Refusal::Epoch));
        }
        let key = SessionKey::of(header);
        if !self.table.contains_key(&key) {
            return self.open(cx, now, from, header, question);
        }
        let Some(session) = self.table.get_mut(&key) else { unreachable!("it is in the table") };
        if session.peer.has_seen(header.number) && cx.rules.obey(Rule::Replay) {
            cx.counters.replayed += 1;
            return Err(NotAdmitted::Dropped);
        }
        if session.peer.address != *from && cx.rules.obey(Rule::TicketProof) {
            cx.counters.misplaced += 1;
            return Err(NotAdmitted::Dropped);
        }
        session.peer.heard(now, header.number);
        Ok(session)
    }

    /// Opens the session of a request whose ticket is young.
    fn open(
        &mut self,
        cx: &mut Context,
        now: Time,
        from: &Address,
        header: &Header,
        question: &ClientBody<'_>,
    ) -> Result<&mut Session, NotAdmitted> {
        let ClientBody::Request(request) = question else {
            return Err(NotAdmitted::Refused(Refusal::NoSession));
        };
        let (ticket, client) = (header.ticket, header.client);
        if cx.rules.obey(Rule::TicketProof) && !cx.tickets.is_ours(ticket, client, from) {
            cx.counters.misplaced += 1;
            return Err(NotAdmitted::Dropped);
        }
        if cx.rules.obey(Rule::TicketAge) && !cx.tickets.is_young(ticket, now) {
            return Err(NotAdmitted::Refused(Refusal::NoSession));
        }
        self.admit_generation(cx, client)?;
        let key = SessionKey::of(header);
        cx.timers.set(Timer::Idle(key), now + idle(cx));
        let session = Session::open(now, key, from.clone(), header.number, request.floor);
        Ok(self.table.entry(key).insert_entry(session).into_mut())
    }

    /// Counts a session for the client, and ends its earlier generations.
    fn admit_generation(&mut self, cx: &mut Context, client: Identity) -> Result<(), NotAdmitted> {
        let full = self.table.len() >= cx.config.limits.sessions;
        match self.clients.get(&client.id) {
            Some(known)
                if known.newest > client.generation && cx.rules.obey(Rule::NewestGeneration) =>
            {
                cx.counters.orphaned += 1;
                return Err(NotAdmitted::Dropped);
            }
            Some(known) if known.newest < client.generation => {
                self.end_earlier_generations(cx, client);
            }
            Some(known) if known.sessions >= cx.config.limits.sessions_per_client => {
                return Err(NotAdmitted::Refused(Refusal::Busy));
            }
            _ if full => return Err(NotAdmitted::Refused(Refusal::Busy)),
            _ => {}
        }
        let first = KnownClient { newest: client.generation, sessions: 0 };
        let known = self.clients.entry(client.id).or_insert(first);
        known.newest = client.generation;
        known.sessions += 1;
        Ok(())
    }

    /// Ends the sessions of a client's earlier generations. No request is executed twice after
    /// that: packets of those generations are refused while the newer session lives, and the newer
    /// session outlives their tickets.
    fn end_earlier_generations(&mut self, cx: &mut Context, client: Identity) {
        let is_earlier = |key: &&SessionKey| {
            key.client.id == client.id && key.client.generation < client.generation
        };
        let earlier: Vec<SessionKey> = self.table.keys().filter(is_earlier).copied().collect();
        for key in earlier {
            if let Some(session) = self.table.remove(&key) {
                self.ended(cx, key, session, CancelReason::ClientRestarted);
            }
        }
    }

    /// Handles a session's timer.
    pub(super) fn end_if_idle(&mut self, cx: &mut Context, now: Time, key: SessionKey) {
        let Entry::Occupied(entry) = self.table.entry(key) else {
            return debug_assert!(false, "the timer of a session ends with it");
        };
        let idle = idle(cx);
        let until = entry.get().peer.last_heard + idle;
        if entry.get().requests.has_open() {
            cx.timers.set(Timer::Idle(key), now + idle);
        } else if now < until {
            cx.timers.set(Timer::Idle(key), until);
        } else {
            let session = entry.remove();
            self.ended(cx, key, session, CancelReason::ClientSilent);
        }
    }

    /// Ends a session that has left the table, and its requests.
    fn ended(&mut self, cx: &mut Context, key: SessionKey, session: Session, why: CancelReason) {
        session.end_all(cx, why);
        cx.timers.cancel(Timer::Idle(key));
        let Entry::Occupied(mut known) = self.clients.entry(key.client.id) else {
            return debug_assert!(false, "a client with a session is known");
        };
        known.get_mut().sessions -= 1;
        if known.get().sessions == 0 {
            known.remove();
        }
        let is_empty = (cx.requests, cx.bytes) == (0, 0);
        debug_assert!(is_empty || !self.table.is_empty(), "requests are in sessions");
    }
}

/// Returns the time for which a session is kept after its last packet.
fn idle(cx: &Context) -> Duration {
    if cx.rules.obey(Rule::OutliveTicket) {
        cx.config.limits.session_idle
    } else {
        cx.config.limits.session_idle / 8
    }
}
