//! The Info Agent: shares lots out over the nodes.
//!
//! An Info Agent sees the inbox, all lots and all nodes. It *cuts* lots from the head of the inbox,
//! each for a node that could work on it. And it *assigns* lots that have become ready again. Each
//! lot goes to the node with most credit.
//!
//! Info Agents are ranked by the time of their start, and only live ones count. Of k agents, lot n
//! belongs to the one of rank n mod k. So one agent assigns each ready lot, and a dead agent's lots
//! fall to the others as soon as its lease is over.
//!
//! At the inbox the agents take turns. The agent to which the next lot belongs cuts that lot and,
//! of a backlog, those behind it in one go. When the agents disagree for a moment, the spool
//! decides: it cuts the next lot and no other.
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
//!    ▲            ▲  │ │ event of a message: counted    ▲                         │
//!    │            │  │ └────────── decide again ───────┘                         │
//!    │            │  └ other notices, a lease's renewal: see                       │
//!    │            └──────── outcome as expected: it is noted, decide again ──────┤
//!    └────── another agent has acted: see; the lease has lapsed: see once it is held again
//! ```
//!
//! So a message that finds an idle node needs no look, and neither does the next lot of a backlog.
//! A view that serves again is at most a third of a lease old, since each renewal brings a new one.
//! Nodes whose lease may have ended since are left out of it. The spool checks each decision again,
//! and the next look corrects the view.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use notices::Notice;
use spool::{AgentId, Cut, LotNumber, NodeId};

use crate::lease::{Change, LeaseAnswer, LeaseQuestion, Member};
use crate::machine::{Action, Ask, Input, Machine, Ticket};
use crate::membership::Membership;
use crate::view::{Agent, Inbox, View};

/// Questions of an Info Agent to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A question about the lease, to the directory.
    Lease(LeaseQuestion),
    /// A question for directory and overview.
    See,
    /// Lots to assign, then to cut, in this order.
    Deal(Deal),
}

/// Answers of the spool to an Info Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
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

/// Limits by which lots are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Messages in a full lot.
    pub lot_size: u64,
    /// Longest time for which fewer messages wait while every node is busy.
    pub linger: Duration,
}

/// Lots to assign and to cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deal {
    /// Ready lots, each with the node that gets it.
    pub assign: Vec<(LotNumber, NodeId)>,
    /// Lots to cut from the inbox, each with the node that gets it.
    pub cut: Vec<(LotNumber, NodeId)>,
}

/// Consequences of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Lots to assign and to cut now.
    pub deal: Deal,
    /// Time until the inbox has lingered, if it waits for that.
    pub look_again: Option<Duration>,
}

/// Most ready lots in one deal: some milliseconds of Redis's one thread.
const ASSIGN_LIMIT: usize = 64;
/// Most cuts in one deal, and so in one turn: each moves up to some megabytes.
const CUT_LIMIT: usize = 16;

/// Plans what `me` should do about the lots of a view.
pub fn plan(view: &View, me: &AgentId, terms: Terms) -> Plan {
    if view.schedulers.is_empty() {
        return Plan::default();
    }
    let is_mine = |lot| is_mine(view, me, lot);
    let mut candidates = Candidates::of(view);
    let mut assign = Vec::new();
    for ready in view.ready.iter().filter(|ready| is_mine(ready.lot)).take(ASSIGN_LIMIT) {
        let Some(node) = candidates.assign(ready.count) else { break };
        assign.push((ready.lot, node));
    }
    let (cut, look_again) = cuts(view.inbox, terms, &mut candidates, is_mine);
    Plan { deal: Deal { assign, cut }, look_again }
}

/// Whether the lot belongs to `me`, who may assign it or begin a turn at the inbox with it.
fn is_mine(view: &View, me: &AgentId, lot: LotNumber) -> bool {
    let rank = view.infos.iter().position(|info| info == me);
    rank.is_some_and(|rank| lot.0 % view.infos.len() as u64 == rank as u64)
}

/// Plans as many cuts as are due and nodes have credit for, if it is this agent's turn. Also
/// returns the time until the rest is due. Only the first lot must be this agent's. The others are
/// safe in any case, since the spool cuts only the next lot.
fn cuts(
    inbox: Inbox,
    terms: Terms,
    candidates: &mut Candidates,
    is_mine: impl Fn(LotNumber) -> bool,
) -> (Vec<(LotNumber, NodeId)>, Option<Duration>) {
    let Inbox { count: mut left, mut age, next_lot: mut lot } = inbox;
    let mut cut = Vec::new();
    if !is_mine(lot) {
        return (cut, None);
    }
    while left > 0 && cut.len() < CUT_LIMIT {
        if left < terms.lot_size && age < terms.linger && !candidates.somebody_is_idle() {
            return (cut, candidates.somebody_has_credit().then(|| terms.linger - age));
        }
        let Some(node) = candidates.assign(left.min(terms.lot_size)) else { break };
        cut.push((lot, node));
        // Mail behind a whole lot may be young.
        (left, age, lot) =
            (left.saturating_sub(terms.lot_size), Duration::ZERO, LotNumber(lot.0 + 1));
    }
    (cut, None)
}

/// The live nodes, each with its credit.
struct Candidates(Vec<Candidate>);

struct Candidate {
    node: NodeId,
    credit: u64,
    lots: usize,
}

impl Candidates {
    fn of(view: &View) -> Self {
        let alive = view.nodes.iter().filter(|node| node.is_alive());
        Self(
            alive
                .map(|it| Candidate { node: it.node.clone(), credit: it.credit(), lots: it.lots })
                .collect(),
        )
    }

    /// Gives a lot to the node with most credit; of equals, to the one with fewest lots.
    fn assign(&mut self, count: u64) -> Option<NodeId> {
        let best =
            |candidate: &&mut Candidate| (candidate.credit, std::cmp::Reverse(candidate.lots));
        let candidate =
            self.0.iter_mut().filter(|candidate| candidate.credit > 0).max_by_key(best)?;
        candidate.credit = candidate.credit.saturating_sub(count);
        candidate.lots += 1;
        Some(candidate.node.clone())
    }

    fn somebody_is_idle(&self) -> bool {
        self.0.iter().any(|candidate| candidate.credit > 0 && candidate.lots == 0)
    }

    fn somebody_has_credit(&self) -> bool {
        self.0.iter().any(|candidate| candidate.credit > 0)
    }
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
        let may_live =
            |agent: &Agent| matches!(agent, Agent::Alive { lease_left, .. } if *lease_left > age);
        self.view.nodes.retain(|node| may_live(&node.agent));
        self.view.inbox.count += 1;
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
        }
    }

    fn me(&self) -> &AgentId {
        &self.membership.lease.member().agent
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        self.membership.redis_works();
        match answer {
            Answer::Lease(answer) => match self.membership.answered(now, ticket, answer) {
                Some(Change::Began | Change::Continues) => self.look = Look::Now,
                Some(Change::Lapsed | Change::Waits) => {
                    (self.seen, self.waiting_since) = (None, None);
                }
                Some(Change::Superseded | Change::Left) | None => (),
            },
            Answer::Seen(view) if self.work.close(ticket) => {
                self.seen = Some(Seen { view, at: now });
                self.decide(now);
            }
            Answer::Dealt(dealt) if self.work.close(ticket) => self.dealt(now, &dealt),
            Answer::Seen(_) | Answer::Dealt(_) => (),
        }
    }

    /// Decides by the last view.
    fn decide(&mut self, now: Instant) {
        let Some(mut seen) = self.seen.take() else {
            return debug_assert!(false, "a decision follows a view");
        };
        seen.view.inbox.age = self.waited(now, seen.view.inbox);
        let Plan { deal, look_again } = plan(&seen.view, self.me(), self.terms);
        if let (Look::No | Look::At(_), Some(wait)) = (self.look, look_again) {
            self.look = Look::At(now + wait);
        }
        self.deal = if deal == Deal::default() { Dealing::No } else { Dealing::Decided(deal) };
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
        if deal.assign.len() >= ASSIGN_LIMIT {
            self.look = Look::Now;
        }
        match self.seen.as_mut().map(|seen| seen.note(&deal, dealt)) {
            Some(true) if self.look != Look::Now => {
                if let Some(seen) = &mut self.seen {
                    seen.view.inbox.age = Duration::ZERO;
                }
                self.decide(now);
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

    /// Takes a notice of a message. The last view, with that message, may suffice to decide.
    fn arrived(&mut self, now: Instant) {
        let is_free =
            !self.work.is_open() && matches!(self.deal, Dealing::No) && self.look != Look::Now;
        match self.seen.as_mut().filter(|_| is_free) {
            Some(seen) => {
                seen.note_arrival(now);
                self.decide(now);
            }
            None => self.look = Look::Now,
        }
    }

    /// Takes a notice of a cut, perhaps by another agent: the next turn may be this agent's.
    fn cut(&mut self, lot: LotNumber) {
        let next_lot = LotNumber(lot.0 + 1);
        let asked = match &self.deal {
            Dealing::Asked(deal) => deal.cut.as_slice(),
            Dealing::No | Dealing::Decided(_) => &[],
        };
        let is_ours = asked.iter().any(|(it, _)| *it == lot);
        match &mut self.seen {
            Some(seen) if is_ours || seen.view.inbox.next_lot >= next_lot => (),
            Some(seen) => {
                seen.view.inbox.next_lot = next_lot;
                if is_mine(&seen.view, &self.membership.lease.member().agent, next_lot) {
                    self.look = Look::Now;
                }
            }
            None => self.look = Look::Now,
        }
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

    fn next_question(&mut self, now: Instant) -> Option<Question> {
        if let Dealing::Decided(deal) = &self.deal {
            let deal = deal.clone();
            self.deal = Dealing::Asked(deal.clone());
            return Some(Question::Deal(deal));
        }
        match self.look {
            Look::At(when) if when > now => return None,
            Look::No => return None,
            Look::Now | Look::At(_) => self.look = Look::No,
        }
        Some(Question::See)
    }
}

impl Machine for Info {
    type Question = Question;
    type Answer = Answer;
    type Event = Infallible;
    type Order = Infallible;

    fn handle(&mut self, now: Instant, input: Input<Answer>) {
        match input {
            Input::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Input::Failed(ticket) => self.failed(now, ticket),
            Input::Notice(Notice::Fetch(_) | Notice::Assigned(..) | Notice::Ordered(_)) => (),
            Input::Notice(Notice::Inbox) => self.arrived(now),
            Input::Notice(Notice::Cut(lot)) => self.cut(lot),
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

    fn poll(&mut self, now: Instant) -> Option<Action<Question>> {
        if let Some(action) = self.membership.poll(now, Question::Lease) {
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
        self.membership.timeout(look)
    }
}

#[cfg(test)]
mod tests;
