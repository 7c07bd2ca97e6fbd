//! The Info Agent: shares lots out over the nodes.
//!
//! An Info Agent sees the inbox, all lots and all nodes. It *cuts* lots from the head of the inbox,
//! each for a node that could work on it. And it *assigns* lots that have become ready again. Each
//! lot goes to the node with most credit.
//!
//! Info Agents take turns, lot by lot, and stand in for one that does not act; see [`turns`]. The
//! agent whose turn the next lot is cuts that lot and, of a backlog, those behind it in one go.
//! When the agents disagree for a moment, the spool decides: it cuts the next lot and no other.
//!
//! ```text
//!  notice, renewal ──▶ see (one look: directory and overview)
//!                     │
//!                     ▼
//!                    plan ──▶ deal (assign, cut: one step) ──▶ the assignment tells the Scheduler
//!                     │
//!                     └─ nothing to do: wait for notices
//! ```
//!
//! - While no Mail Agent or no Scheduler is alive, mail waits in the inbox.
//! - An idle node, which has credit and no lots, gets the whole inbox at once, however little that
//!   is. So a single message leaves quickly. While all nodes with credit are busy, the inbox
//!   gathers a whole lot, or lingers for `linger`. While no node has credit, the inbox fills: a
//!   backlog takes least memory there.
//! - The age of the inbox is its head's age or the time since this agent first saw mail in it,
//!   whichever is more. The former depends on the submitter's clock.
//!
//! The agent keeps the last view (`seen`), whether it must look again (`look`), and the deal it is
//! at work on (`deal`). It notes its own deals in the view, which may then serve again instead of a
//! look:
//!
//! ```text
//!          see                         something to do                     asked
//!   no view ──▶ view, nothing to do ────────────────▶ view, deal decided ───▶ view, deal asked
//!    ▲            ▲  │ │ a message, another's cut: noted ▲                        │
//!    │            │  │ └────────── decide again ────────┘                        │
//!    │            │  └ other notices, a lease's renewal, a lot overdue: see        │
//!    │            └──────── outcome as expected: it is noted, decide again ──────┤
//!    └────── another agent has acted: see; the lease has lapsed: see once it is held again
//! ```
//!
//! So a message that finds an idle node needs no look, and neither does the next lot of a backlog.
//! A view that serves again is at most a third of a lease old, since each renewal brings a new one.
//! Nodes whose lease may have ended since are left out of it. The spool checks each decision again,
//! and the next look corrects the view.

mod plan;
pub mod turns;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use notices::Notice;
use spool::{Cut, LotNumber, NodeId};

use plan::{ASSIGN_LIMIT, Plan, plan};
pub use plan::{Deal, Terms};
use turns::Turns;

use crate::lease::{LeaseAnswer, LeaseChange, LeaseQuestion, Member};
use crate::machine::{Action, Ask, Input, Machine, Ticket, earliest};
use crate::membership::Membership;
use crate::view::{Inbox, MailAgentState, View};

/// Questions of an Info Agent to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfoQuestion {
    /// A question about the lease, to the directory.
    Lease(LeaseQuestion),
    /// A question for directory and overview.
    See,
    /// Lots to assign, then to cut, in this order.
    Deal(Deal),
}

/// Answers of the spool to an Info Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfoAnswer {
    /// Answer to `Lease`.
    Lease(LeaseAnswer),
    /// Answer to `See`.
    Seen(View),
    /// Answer to `Deal`.
    Dealt(Dealt),
}

/// Outcome of a deal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// Number of the ready lots that are now assigned as planned.
    pub assigned: usize,
    /// Outcome of each cut, in the order of the deal.
    pub cut: Vec<Cut>,
}

/// The machine of an Info Agent; see the module.
#[derive(Debug)]
pub struct Info {
    membership: Membership,
    terms: Terms,
    work: Ask,
    look: Look,
    seen: Option<Seen>,
    /// Time at which this agent first saw mail in the inbox, since it was last empty.
    waiting_since: Option<Instant>,
    deal: Dealing,
    turns: Turns,
    /// The last assignment by any agent: the node, and the number of messages if the lot is small.
    assigned: Option<(NodeId, Option<u64>)>,
}

/// The last view, with the deals since.
#[derive(Debug)]
struct Seen {
    view: View,
    at: Instant,
}

#[derive(Debug)]
enum Dealing {
    No,
    /// A deal that is decided, and not yet asked of the spool.
    Decided(Deal),
    /// A deal that is asked of the spool, and not yet answered.
    Asked(Deal),
}

impl Seen {
    /// Notes one more message in the inbox, and leaves out nodes that may be dead by now.
    fn note_arrival(&mut self, now: Instant) {
        let age = now - self.at;
        let may_live = |agent: &MailAgentState| match agent {
            MailAgentState::Alive { lease_left, .. } => *lease_left > age,
            _ => false,
        };
        self.view.nodes.retain(|node| may_live(&node.agent));
        self.view.inbox.count += 1;
    }

    /// Notes another agent's cut, which has taken all mail that fits into a lot, unless the lot is
    /// known to be smaller.
    fn note_cut(&mut self, lot: LotNumber, of: Option<(NodeId, Option<u64>)>, lot_size: u64) {
        let inbox = &mut self.view.inbox;
        let (node, count) = of.map_or((None, None), |(node, count)| (Some(node), count));
        let count = count.unwrap_or(lot_size).min(inbox.count);
        *inbox = Inbox {
            count: inbox.count - count,
            age: Duration::ZERO,
            next_lot: LotNumber(lot.0 + 1),
        };
        if let Some(node) = node {
            self.view.assign(&node, count);
        }
    }

    /// Notes a deal in the view. Returns whether its outcome was as expected.
    fn note(&mut self, deal: &Deal, dealt: &Dealt) -> bool {
        let view = &mut self.view;
        for (lot, node) in &deal.assign {
            let count = view.ready.iter().find(|it| it.lot == *lot).map_or(1, |it| it.count);
            view.ready.retain(|it| it.lot != *lot);
            view.assign(node, count);
        }
        for ((lot, node), cut) in deal.cut.iter().zip(&dealt.cut) {
            match *cut {
                Cut::Cut { messages, left } => {
                    view.assign(node, messages);
                    (view.inbox.count, view.inbox.next_lot) = (left, LotNumber(lot.0 + 1));
                }
                Cut::Nothing { left } => view.inbox.count = left,
                Cut::Already | Cut::Early => return false,
            }
        }
        dealt.assigned == deal.assign.len()
    }
}

impl View {
    fn assign(&mut self, node: &NodeId, count: u64) {
        for node in self.nodes.iter_mut().filter(|it| it.node == *node) {
            node.lots += 1;
            node.pending += count;
        }
    }
}

/// The view on which a decision rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// A view that has just come.
    Fresh,
    /// An older view, with what has been noted since.
    Noted,
}

/// Whether and when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    No,
    Now,
    At(Instant),
}

impl Info {
    /// Makes an Info Agent that holds its lease for `term` at a time.
    pub fn new(member: Member, term: Duration, terms: Terms) -> Self {
        Self {
            membership: Membership::new(member, term, 0),
            terms,
            work: Ask::default(),
            look: Look::No,
            seen: None,
            waiting_since: None,
            deal: Dealing::No,
            turns: Turns::default(),
            assigned: None,
        }
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: InfoAnswer) {
        self.membership.redis_works();
        match answer {
            InfoAnswer::Lease(answer) => match self.membership.answered(now, ticket, answer) {
                Some(LeaseChange::Began | LeaseChange::Continues) => self.look = Look::Now,
                Some(LeaseChange::Lapsed | LeaseChange::Waits) => {
                    (self.seen, self.waiting_since) = (None, None);
                    self.turns.forget();
                }
                Some(LeaseChange::Superseded | LeaseChange::Left) | None => (),
            },
            InfoAnswer::Seen(view) if self.work.close(ticket) => {
                self.turns.seen(&view);
                self.seen = Some(Seen { view, at: now });
                self.decide(now, Basis::Fresh);
            }
            InfoAnswer::Dealt(dealt) if self.work.close(ticket) => self.dealt(now, &dealt),
            InfoAnswer::Seen(_) | InfoAnswer::Dealt(_) => (),
        }
    }

    /// Decides by the last view. For another agent this one acts only by a fresh view.
    fn decide(&mut self, now: Instant, basis: Basis) {
        let Some(mut seen) = self.seen.take() else {
            return debug_assert!(false, "a decision follows a view");
        };
        seen.view.inbox.age = self.waited(now, seen.view.inbox);
        let (view, me) = (&seen.view, &self.membership.lease.member().agent);
        let Plan { deal: all, look_again } = plan(view, self.terms, |_| true);
        let lingers = look_again.map(|wait| (view.inbox.next_lot, now + wait));
        self.turns.note(now, view, me, all.turns(), lingers);
        let turns = &self.turns;
        let is_mine = |lot| {
            turns.is_mine(view, me, lot)
                || (basis == Basis::Fresh && turns.is_overdue(now, view, me, lot))
        };
        let Plan { deal, look_again } = plan(view, self.terms, is_mine);
        if let (Look::No | Look::At(_), Some(wait)) = (self.look, look_again) {
            self.look = Look::At(now + wait);
        }
        self.deal = if deal.is_empty() { Dealing::No } else { Dealing::Decided(deal) };
        self.seen = Some(seen);
    }

    /// Returns the time for which the inbox has had mail.
    fn waited(&mut self, now: Instant, inbox: Inbox) -> Duration {
        if inbox.count == 0 {
            self.waiting_since = None;
            return Duration::ZERO;
        }
        // An age above `linger` makes no difference.
        let by_its_clock = now.checked_sub(inbox.age.min(self.terms.linger)).unwrap_or(now);
        let since = self.waiting_since.map_or(by_its_clock, |since| since.min(by_its_clock));
        self.waiting_since = Some(since);
        now - since
    }

    /// Takes the outcome of a deal. If it is as expected, the view shows the work that is left.
    /// Otherwise another agent has acted, and a look is needed. But after a deal without any effect
    /// there is no look, since an immediate one would change nothing.
    fn dealt(&mut self, now: Instant, dealt: &Dealt) {
        let Dealing::Asked(deal) = std::mem::replace(&mut self.deal, Dealing::No) else {
            return debug_assert!(false, "a deal that is answered was asked");
        };
        if !deal.cut.is_empty() {
            self.waiting_since = None;
        }
        self.note_silence(&deal, dealt);
        self.turns.done(deal.turns());
        if deal.assign.len() >= ASSIGN_LIMIT {
            self.look = Look::Now;
        }
        match self.seen.as_mut().map(|seen| seen.note(&deal, dealt)) {
            Some(true) if self.look != Look::Now => {
                if let Some(seen) = &mut self.seen {
                    seen.view.inbox.age = Duration::ZERO;
                }
                self.decide(now, Basis::Noted);
            }
            Some(true) => (),
            Some(false) | None => {
                self.seen = None;
                if dealt.assigned > 0 || !deal.cut.is_empty() {
                    self.look = Look::Now;
                }
            }
        }
    }

    /// Notes the agents for which this one has acted.
    fn note_silence(&mut self, deal: &Deal, dealt: &Dealt) {
        let Some(Seen { view, .. }) = &self.seen else { return };
        let me = &self.membership.lease.member().agent;
        let is_cut = matches!(dealt.cut.first(), Some(Cut::Cut { .. }));
        let cut = deal.cut.first().filter(|_| is_cut);
        let assigned = deal.assign.iter().filter(|_| dealt.assigned == deal.assign.len());
        for (lot, _) in assigned.chain(cut) {
            self.turns.acted(view, me, *lot);
        }
    }

    /// Whether the last view may serve for a decision now.
    fn is_free(&self) -> bool {
        !self.work.is_open() && matches!(self.deal, Dealing::No) && self.look != Look::Now
    }

    /// Takes a notice of a message. The last view, with that message, may suffice to decide.
    fn arrived(&mut self, now: Instant) {
        let is_free = self.is_free();
        match self.seen.as_mut().filter(|_| is_free) {
            Some(seen) => {
                seen.note_arrival(now);
                self.decide(now, Basis::Noted);
            }
            None => self.look = Look::Now,
        }
    }

    /// Takes a notice of a cut, perhaps by another agent: the next turn may be this agent's.
    fn cut(&mut self, now: Instant, lot: LotNumber) {
        let (next_lot, assigned) = (LotNumber(lot.0 + 1), self.assigned.take());
        let asked = match &self.deal {
            Dealing::Asked(deal) => deal.cut.as_slice(),
            Dealing::No | Dealing::Decided(_) => &[],
        };
        let is_ours = asked.iter().any(|(it, _)| *it == lot);
        let is_free = self.is_free();
        match &mut self.seen {
            Some(seen) if is_ours || seen.view.inbox.next_lot >= next_lot => (),
            Some(seen) => {
                seen.note_cut(lot, assigned, self.terms.lot_size);
                self.waiting_since = None;
                let me = &self.membership.lease.member().agent;
                if self.turns.is_mine(&seen.view, me, next_lot) {
                    self.look = Look::Now;
                } else if is_free {
                    self.decide(now, Basis::Noted);
                }
            }
            None => self.look = Look::Now,
        }
    }

    /// Returns the time at which another agent's lot is overdue.
    fn overdue(&self) -> Option<Instant> {
        let seen = self.seen.as_ref().filter(|_| self.is_free())?;
        self.turns.due(&seen.view, &self.membership.lease.member().agent)
    }

    fn failed(&mut self, now: Instant, ticket: Ticket) {
        if self.work.close(ticket) {
            self.deal = Dealing::No;
            self.look = Look::Now;
        } else if !self.membership.failed(now, ticket) {
            return;
        }
        self.membership.redis_failed(now);
    }

    fn next_question(&mut self, now: Instant) -> Option<InfoQuestion> {
        if let Dealing::Decided(deal) = &self.deal {
            let deal = deal.clone();
            self.deal = Dealing::Asked(deal.clone());
            return Some(InfoQuestion::Deal(deal));
        }
        let is_time = match self.look {
            Look::Now => true,
            Look::At(when) => when <= now,
            Look::No => false,
        };
        if !is_time && self.overdue().is_none_or(|when| when > now) {
            return None;
        }
        self.look = Look::No;
        Some(InfoQuestion::See)
    }
}

impl Machine for Info {
    type Question = InfoQuestion;
    type Answer = InfoAnswer;
    type Event = Infallible;
    type Order = Infallible;

    fn handle(&mut self, now: Instant, input: Input<InfoAnswer>) {
        match input {
            Input::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Input::Failed(ticket) => self.failed(now, ticket),
            Input::Notice(Notice::Fetch(_) | Notice::Ordered(_)) => (),
            // The notice of a cut follows.
            Input::Notice(Notice::Assigned(node, lot)) => {
                self.assigned = Some((node, lot.map(|lot| lot.ids.len() as u64)));
            }
            Input::Notice(Notice::Inbox) => self.arrived(now),
            Input::Notice(Notice::Cut(lot)) => self.cut(now, lot),
            Input::Notice(
                Notice::Ready(_) | Notice::Credit(_) | Notice::Born(..) | Notice::Left(..),
            )
            | Input::Listening
            | Input::OtherServer => self.look = Look::Now,
            Input::Called(call, request) => self.membership.called(call, &request),
            Input::CallEnded(..) => debug_assert!(false, "an Info Agent calls nobody"),
            Input::Link(never) => match never {},
            Input::Drain => self.membership.leave(now),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Action<InfoQuestion>> {
        if let Some(action) = self.membership.poll(now, InfoQuestion::Lease) {
            return Some(action);
        }
        if self.work.is_open() || !self.membership.may_work(now) {
            return None;
        }
        let question = self.next_question(now)?;
        Some(Action::Ask(self.membership.ask(&mut self.work), question))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let look = match self.look {
            Look::At(when) if !self.work.is_open() => Some(when),
            Look::At(_) | Look::Now | Look::No => None,
        };
        let overdue = self.overdue().filter(|_| !self.work.is_open());
        self.membership.timeout(earliest([look, overdue]))
    }
}

#[cfg(test)]
mod tests;
