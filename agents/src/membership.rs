//! Membership in the directory, the part that all agents share. A membership holds a lease, puts
//! one question of a kind at a time, and leaves Redis alone after a failure. It announces the start
//! and the end of its agent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use notices::Notice;
use sansio::{Backoff, Policy};
use spool::{AgentId, Start};

use crate::lease::{Lease, LeaseAnswer, LeaseChange, LeaseQuestion, Member};
use crate::machine::{Action, Ask, End, Ticket, Tickets, earliest};
use crate::peer::{CallNumber, Reply, Request};

/// Pauses in which an agent leaves Redis alone.
const REDIS: Policy = Policy::from_millis(20, 1_000);

/// The shared part of an agent; see the module.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) lease: Lease,
    ask: Ask,
    tickets: Tickets,
    /// Start of the present tenure, and the last ticket from before it.
    tenure: Option<(Start, Ticket)>,
    redis: Backoff,
    tell: Option<Notice>,
    replies: VecDeque<(CallNumber, Reply)>,
    /// Time when the agent ends without an answer from Redis.
    leave_by: Option<Instant>,
    ended: Option<End>,
}

impl Membership {
    pub(crate) fn new(member: Member, term: Duration, capacity: u32) -> Self {
        Self {
            lease: Lease::new(member, term, capacity),
            ask: Ask::default(),
            tickets: Tickets::default(),
            tenure: None,
            redis: Backoff::new(REDIS),
            tell: None,
            replies: VecDeque::new(),
            leave_by: None,
            ended: None,
        }
    }

    /// Takes a call by another agent, which is answered at the next poll.
    pub(crate) fn called(&mut self, call: CallNumber, request: &Request) {
        let reply = match request {
            Request::Probe => Reply::Here { has_lots: false },
        };
        self.replies.push_back((call, reply));
    }

    /// Takes a notice that an agent has left. If it is this one, another agent takes it for dead.
    pub(crate) fn left(&mut self, agent: &AgentId) {
        if *agent == self.lease.member().agent {
            self.lease.doubt();
        }
    }

    /// Opens a question of the agent's own.
    pub(crate) fn ask(&mut self, ask: &mut Ask) -> Ticket {
        ask.open(&mut self.tickets)
    }

    /// Takes the answer to a lease question. Returns `None` for a late answer.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: LeaseAnswer,
    ) -> Option<LeaseChange> {
        if !self.ask.close(ticket) {
            return None;
        }
        let change = self.lease.answer(now, answer);
        let Member { agent, kind, .. } = self.lease.member();
        match change {
            LeaseChange::Began => {
                self.tell = Some(Notice::Born(*kind, agent.clone()));
                self.note_tenure();
            }
            LeaseChange::Continues => (),
            LeaseChange::Lapsed => tracing::warn!(%kind, %agent, "lease lapsed"),
            LeaseChange::Waits => tracing::warn!(%kind, %agent, "name held by another live agent"),
            LeaseChange::Superseded => self.ended = Some(End::Superseded),
            LeaseChange::Left => self.tell = Some(Notice::Left(*kind, agent.clone())),
        }
        Some(change)
    }

    fn note_tenure(&mut self) {
        let start = self.lease.start();
        if self.tenure.map(|(start, _)| start) != start {
            self.tenure = start.map(|start| (start, self.tickets.last()));
        }
    }

    /// Whether the question was put in the agent's present tenure.
    pub(crate) fn is_of_this_tenure(&self, ticket: Ticket) -> bool {
        self.tenure.is_none_or(|(_, before)| ticket > before)
    }

    /// Drops the lease, after another question has shown that the agent lost it.
    pub(crate) fn lapse(&mut self) -> Option<LeaseChange> {
        let lapsed = self.lease.is_held().then(|| self.lease.lapse());
        if lapsed.is_some() {
            self.ask.forget();
        }
        lapsed
    }

    /// Notes that Redis has answered.
    pub(crate) fn redis_works(&mut self) {
        self.redis.succeeded();
    }

    /// Notes that a question failed: Redis is left alone for a while.
    pub(crate) fn redis_failed(&mut self, now: Instant) {
        self.redis.failed(now);
    }

    /// Has the failed question put again, if it was about the lease. Returns whether it was.
    pub(crate) fn failed(&mut self, now: Instant, ticket: Ticket) -> bool {
        let was_ours = self.ask.close(ticket);
        if was_ours {
            self.lease.failed(now);
        }
        was_ours
    }

    /// Gives the lease up, and then ends the agent. Without Redis the agent ends after a term, when
    /// the lease has run out by itself.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.lease.leave();
        self.leave_by.get_or_insert(now + self.lease.term());
    }

    /// Ends the agent, for this reason.
    pub(crate) fn end(&mut self, end: End) {
        self.ended.get_or_insert(end);
    }

    /// Whether no question has failed since Redis last answered.
    pub(crate) fn may_ask(&self) -> bool {
        self.redis.until().is_none()
    }

    /// Whether Redis must be left alone for now.
    pub(crate) fn is_waiting(&mut self, now: Instant) -> bool {
        self.redis.blocks(now)
    }

    /// Whether the agent may ask for its work: it holds its lease, wants to keep it, and need not
    /// leave Redis alone.
    pub(crate) fn may_work(&mut self, now: Instant) -> bool {
        self.lease.is_wanted() && self.lease.is_held() && !self.redis.blocks(now)
    }

    /// Returns the action that comes before any work. `lease` wraps a lease question in the agent's
    /// own.
    pub(crate) fn poll<Q, L>(
        &mut self,
        now: Instant,
        lease: impl Fn(LeaseQuestion) -> Q,
    ) -> Option<Action<Q, L>> {
        if let Some((call, reply)) = self.replies.pop_front() {
            return Some(Action::Reply(call, reply));
        }
        if let Some(notice) = self.tell.take() {
            return Some(Action::Tell(notice));
        }
        let is_over = self.lease.is_over() && !self.ask.is_open();
        if is_over || self.leave_by.is_some_and(|when| when <= now) {
            self.end(End::Drained);
        }
        if let Some(end) = self.ended {
            return Some(Action::End(end));
        }
        if self.redis.blocks(now) || self.ask.is_open() {
            return None;
        }
        let question = self.lease.poll(now)?;
        Some(Action::Ask(self.ask.open(&mut self.tickets), lease(question)))
    }

    /// Returns the time of the next poll: the end of a pause of Redis, or else the time at which
    /// the lease or the agent's `work` is due.
    pub(crate) fn timeout(&self, work: Option<Instant>) -> Option<Instant> {
        let work = work.filter(|_| self.lease.is_wanted() && self.lease.is_held());
        let due = self.redis.until().or_else(|| earliest([self.lease.due(), work]));
        earliest([due, self.leave_by])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const TERM: Duration = Duration::from_millis(300);

    fn asked(membership: &mut Membership, now: Instant) -> Option<(Ticket, LeaseQuestion)> {
        match membership.poll::<_, Infallible>(now, |question| question) {
            Some(Action::Ask(ticket, question)) => Some((ticket, question)),
            _ => None,
        }
    }

    /// Checks a question that was put under one start and refused when the agent had another one.
    #[test]
    fn a_question_belongs_to_the_tenure_in_which_it_was_put() {
        let member = Member {
            agent: "a".parse().unwrap(),
            kind: spool::AgentKind::Mail,
            generation: spool::Generation::from_parts(1, 1),
            name: String::new(),
        };
        let (mut membership, now) = (Membership::new(member, TERM, 0), Instant::now());
        let take = |membership: &mut Membership, start| {
            let (ticket, _) = asked(membership, now).unwrap();
            membership.answered(now, ticket, LeaseAnswer::Taken(Start(start)));
            membership.poll::<_, Infallible>(now, |question| question);
        };
        take(&mut membership, 1);
        let first = membership.ask(&mut Ask::default());
        assert!(membership.is_of_this_tenure(first));
        membership.lapse();
        take(&mut membership, 1);
        assert!(membership.is_of_this_tenure(first), "the start is the same");
        membership.lapse();
        take(&mut membership, 2);
        let second = membership.ask(&mut Ask::default());
        let of_this = [first, second].map(|ticket| membership.is_of_this_tenure(ticket));
        assert_eq!(of_this, [false, true]);
    }

    #[test]
    fn without_redis_an_agent_that_wants_to_leave_ends_when_its_lease_does() {
        let agent = "a".parse().unwrap();
        let generation = spool::Generation::from_parts(1, 1);
        let member =
            Member { agent, kind: spool::AgentKind::Info, generation, name: String::new() };
        let (mut membership, now) = (Membership::new(member, TERM, 0), Instant::now());
        let (ticket, _) = asked(&mut membership, now).unwrap();
        membership.answered(now, ticket, LeaseAnswer::Taken(Start(1)));
        membership.poll::<_, Infallible>(now, |question| question);
        membership.leave(now);
        let (ticket, question) = asked(&mut membership, now).unwrap();
        assert!(matches!(question, LeaseQuestion::Leave(_)));
        assert!(membership.failed(now, ticket));
        membership.redis_failed(now + TERM);
        assert_eq!(membership.timeout(None), Some(now + TERM));
        let last = membership.poll::<_, Infallible>(now + TERM, |question| question);
        assert_eq!(last, Some(Action::End(End::Drained)));
    }
}
