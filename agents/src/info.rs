//! The Info Agent: shares lots out over the nodes.
//!
//! It sees all lots and all nodes, and does two things with them. It *closes* the open lot when somebody could work on it
//! or it has waited long enough, and it *assigns* ready lots, each to the node with most credit. Info Agents are ranked by
//! when they started; of k of them, lot n belongs to the one of rank n mod k, so that each lot is dealt by one, and a dead
//! one's lots by the others as soon as its lease is over, since rank is only counted among the living.
//!
//! ```text
//!  news, renewal ──▶ see (one look: directory and overview)
//!                     │
//!                     ▼
//!                    plan ──▶ deal (close, assign: one step) ──▶ the Scheduler is told by the assignment itself
//!                     │
//!                     └─ nothing to do: wait for news
//! ```
//!
//! - No Mail Agent or no Scheduler alive: lots wait.
//! - An idle node (credit, and nothing left to feed) gets the open lot at once, however small; that is what makes a single
//!   message quick. While all nodes with credit are busy the open lot gathers messages for `linger`. While no node has
//!   credit it just fills.
//! - The last view is kept for one thing: news of a newly opened lot completes it, so that a message that finds an idle
//!   node needs no look. That view may be a third of a lease old; as with any, what is decided by it is looked at again by
//!   the spool, and the next look corrects the rest.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use spool::{AgentId, LotNumber, NodeId};

use crate::lease::{Change, LeaseAnswer, LeaseQuestion, Member};
use crate::machine::{Action, Ask, Input, Machine, Ticket};
use crate::membership::Membership;
use crate::news::News;
use crate::view::{Agent, OpenLot, View};

/// What it asks the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// For the directory.
    Lease(LeaseQuestion),
    /// Directory and overview.
    See,
    /// Close, then assign, in this order.
    Deal(Deal),
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Lease`.
    Lease(LeaseAnswer),
    /// To `See`.
    Seen(View),
    /// To `Deal`: how many of its lots are now where they should be.
    Dealt(usize),
}

/// What is to be done about the lots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deal {
    /// The open lot, if it is to be closed.
    pub close: Option<LotNumber>,
    /// Who gets what.
    pub assign: Vec<(LotNumber, NodeId)>,
}

impl Deal {
    fn steps(&self) -> usize {
        usize::from(self.close.is_some()) + self.assign.len()
    }
}

/// A view's consequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub deal: Deal,
    /// How long until the open lot has lingered, if it waits for that.
    pub look_again: Option<Duration>,
}

/// Most lots in one deal: some milliseconds of Redis's one thread.
const DEAL_LIMIT: usize = 64;

/// What should happen, seen by `me`.
pub fn plan(view: &View, me: &AgentId, linger: Duration) -> Plan {
    let Some(rank) = view.infos.iter().position(|info| info == me) else { return Plan::default() };
    if view.schedulers.is_empty() {
        return Plan::default();
    }
    let is_mine = |lot: LotNumber| lot.0 % view.infos.len() as u64 == rank as u64;
    let mut hands = Hands::of(view);
    let mut deal = Deal::default();
    for ready in view.ready.iter().filter(|ready| is_mine(ready.lot)).take(DEAL_LIMIT) {
        let Some(node) = hands.give(ready.count) else { break };
        deal.assign.push((ready.lot, node));
    }
    let mut look_again = None;
    if let Some(open) = view.open.filter(|open| is_mine(open.lot) && open.count > 0) {
        if hands.somebody_is_idle() || (open.age >= linger && hands.somebody_has_credit()) {
            deal.close = Some(open.lot);
            deal.assign.extend(hands.give(open.count).map(|node| (open.lot, node)));
        } else if hands.somebody_has_credit() {
            look_again = Some(linger - open.age);
        }
    }
    Plan { deal, look_again }
}

/// The live nodes and what each can still take.
struct Hands(Vec<Hand>);

struct Hand {
    node: NodeId,
    credit: u64,
    lots: usize,
}

impl Hands {
    fn of(view: &View) -> Self {
        let alive = view.nodes.iter().filter(|node| node.is_alive());
        Self(alive.map(|it| Hand { node: it.node.clone(), credit: it.credit(), lots: it.lots }).collect())
    }

    /// To the node with most credit; of equals, to the one with fewest lots.
    fn give(&mut self, count: u64) -> Option<NodeId> {
        let best = |hand: &&mut Hand| (hand.credit, std::cmp::Reverse(hand.lots));
        let hand = self.0.iter_mut().filter(|hand| hand.credit > 0).max_by_key(best)?;
        hand.credit = hand.credit.saturating_sub(count);
        hand.lots += 1;
        Some(hand.node.clone())
    }

    fn somebody_is_idle(&self) -> bool {
        self.0.iter().any(|hand| hand.credit > 0 && hand.lots == 0)
    }

    fn somebody_has_credit(&self) -> bool {
        self.0.iter().any(|hand| hand.credit > 0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Info {
    membership: Membership,
    linger: Duration,
    work: Ask,
    look: Look,
    seen: Option<Seen>,
    deal: Dealing,
}

/// The last view, with what has been dealt since.
#[derive(Debug)]
struct Seen {
    view: View,
    at: Instant,
}

#[derive(Debug)]
enum Dealing {
    No,
    /// Decided and not yet asked for.
    Decided(Deal),
    /// Asked for.
    Asked(Deal),
}

impl Seen {
    /// As it would be now, if this lot has just been opened. Who may be dead by now isn't in it.
    fn with_open(&self, now: Instant, lot: LotNumber) -> View {
        let age = now - self.at;
        let mut view = self.view.clone();
        view.nodes.retain(|node| matches!(node.agent, Agent::Alive { lease_left, .. } if lease_left > age));
        view.open = Some(OpenLot { lot, count: 1, age: Duration::ZERO });
        view
    }
}

impl View {
    /// As after this deal.
    fn note(&mut self, deal: &Deal) {
        for (lot, node) in &deal.assign {
            let ready = self.ready.iter().find(|it| it.lot == *lot).map_or(1, |it| it.count);
            self.ready.retain(|it| it.lot != *lot);
            for node in self.nodes.iter_mut().filter(|it| it.node == *node) {
                node.lots += 1;
                node.pending += ready;
            }
        }
        if deal.close.is_some() {
            self.open = None;
        }
    }
}

/// Whether to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    No,
    Now,
    At(Instant),
}

impl Info {
    /// A new Info Agent, holding its lease for `term` at a time.
    pub fn new(member: Member, term: Duration, linger: Duration) -> Self {
        let membership = Membership::new(member, term, 0);
        Self { membership, linger, work: Ask::default(), look: Look::No, seen: None, deal: Dealing::No }
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        self.membership.redis_works();
        match answer {
            Answer::Lease(answer) => match self.membership.answered(now, ticket, answer) {
                Some(Change::Began | Change::Continues) => self.look = Look::Now,
                Some(Change::Lapsed | Change::Waits) => self.seen = None,
                Some(Change::Superseded | Change::Left) | None => (),
            },
            Answer::Seen(view) if self.work.close(ticket) => {
                self.decide(now, &view);
                self.seen = Some(Seen { view, at: now });
            }
            Answer::Dealt(dealt) if self.work.close(ticket) => self.dealt(dealt),
            Answer::Seen(_) | Answer::Dealt(_) => (),
        }
    }

    fn decide(&mut self, now: Instant, view: &View) {
        let Plan { deal, look_again } = plan(view, &self.membership.lease.member().agent, self.linger);
        if let (Look::No | Look::At(_), Some(wait)) = (self.look, look_again) {
            self.look = Look::At(now + wait);
        }
        self.deal = if deal == Deal::default() { Dealing::No } else { Dealing::Decided(deal) };
    }

    /// What could not be dealt now can't be a moment later; what is left because a deal is limited can.
    fn dealt(&mut self, dealt: usize) {
        let Dealing::Asked(deal) = std::mem::replace(&mut self.deal, Dealing::No) else { return };
        let is_as_seen = dealt == deal.steps();
        if let Some(seen) = self.seen.as_mut().filter(|_| is_as_seen) {
            seen.view.note(&deal);
        }
        if (dealt > 0 && !is_as_seen) || deal.assign.len() >= DEAL_LIMIT {
            self.look = Look::Now;
        }
    }

    /// A lot has been opened: the last view, completed by that, may be all it takes.
    fn opened(&mut self, now: Instant, lot: LotNumber) {
        let is_free = !self.work.is_open() && matches!(self.deal, Dealing::No) && self.look != Look::Now;
        match self.seen.as_ref().filter(|_| is_free).map(|seen| seen.with_open(now, lot)) {
            Some(view) => self.decide(now, &view),
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
            Input::News(News::Fetch(_) | News::Assigned(_)) => (),
            Input::News(News::Open(lot)) => self.opened(now, lot),
            Input::News(News::Ready(_) | News::Credit(_) | News::Born(..) | News::Left(..))
            | Input::Listening => self.look = Look::Now,
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
mod tests {
    use super::*;
    use crate::view::{Node, ReadyLot};

    const LINGER: Duration = Duration::from_millis(200);

    fn node(name: &str, capacity: u32, committed: u64, lots: usize) -> Node {
        let agent = Agent::Alive { capacity, lease_left: LINGER };
        Node { node: name.parse().unwrap(), agent, lots, pending: 0, committed, deferred: 0 }
    }

    fn agents(names: &[&str]) -> Vec<AgentId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn view(infos: &[&str], nodes: Vec<Node>, ready: &[u64]) -> View {
        let ready = ready.iter().map(|&n| ReadyLot { lot: LotNumber(n), count: 100 }).collect();
        View { infos: agents(infos), schedulers: agents(&["s"]), nodes, ready, ..View::default() }
    }

    fn open(count: u64, age_ms: u64) -> Option<OpenLot> {
        Some(OpenLot { lot: LotNumber(9), count, age: Duration::from_millis(age_ms) })
    }

    fn deal(view: &View, me: &str) -> Vec<(u64, String)> {
        let deal = plan(view, &me.parse().unwrap(), LINGER).deal;
        deal.assign.into_iter().map(|(lot, node)| (lot.0, node.to_string())).collect()
    }

    fn to(lots: &[(u64, &str)]) -> Vec<(u64, String)> {
        lots.iter().map(|(lot, node)| (*lot, (*node).to_owned())).collect()
    }

    #[test]
    fn each_info_agent_deals_the_lots_its_rank_falls_to_and_none_is_dealt_twice() {
        let view = view(&["a", "b", "c"], vec![node("n", 10_000, 0, 0)], &[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(deal(&view, "a"), to(&[(3, "n"), (6, "n")]));
        assert_eq!(deal(&view, "b"), to(&[(1, "n"), (4, "n"), (7, "n")]));
        assert_eq!(deal(&view, "c"), to(&[(2, "n"), (5, "n")]));
        assert_eq!(deal(&view, "else"), to(&[]));
    }

    #[test]
    fn when_one_is_gone_the_rest_have_its_lots() {
        let view = view(&["b", "c"], vec![node("n", 10_000, 0, 0)], &[1, 2, 3, 4]);
        assert_eq!(deal(&view, "b"), to(&[(2, "n"), (4, "n")]));
        assert_eq!(deal(&view, "c"), to(&[(1, "n"), (3, "n")]));
    }

    #[test]
    fn lots_go_to_whom_has_most_credit_at_each_step() {
        let nodes = vec![node("x", 250, 0, 0), node("y", 400, 0, 0)];
        let view = view(&["a"], nodes, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let dealt = deal(&view, "a");
        assert_eq!(dealt[..3], to(&[(1, "y"), (2, "y"), (3, "x")])[..]);
        // Nobody takes more when he has no credit left; the last lot may go beyond it.
        let times = |node: &str| dealt.iter().filter(|(_, it)| it == node).count();
        assert_eq!((times("x"), times("y"), dealt.len()), (3, 4, 7));
    }

    #[test]
    fn without_a_mail_agent_or_a_scheduler_lots_wait() {
        assert_eq!(deal(&view(&["a"], vec![], &[1]), "a"), to(&[]));
        let dead = Node { agent: Agent::Ended(LINGER), ..node("n", 0, 0, 0) };
        assert_eq!(deal(&view(&["a"], vec![dead], &[1]), "a"), to(&[]));
        let alone = View { schedulers: vec![], ..view(&["a"], vec![node("n", 10, 0, 0)], &[1]) };
        assert_eq!(deal(&alone, "a"), to(&[]));
    }

    #[test]
    fn an_idle_node_gets_the_open_lot_at_once_however_small() {
        let view = View { open: open(1, 0), ..view(&["a"], vec![node("n", 10, 5, 0)], &[]) };
        let plan = plan(&view, &"a".parse().unwrap(), LINGER);
        assert_eq!(plan.deal.close, Some(LotNumber(9)));
        assert_eq!(plan.deal.assign, [(LotNumber(9), "n".parse().unwrap())]);
    }

    #[test]
    fn while_all_are_busy_the_open_lot_lingers_and_then_goes() {
        let busy = |age_ms| View { open: open(1, age_ms), ..view(&["a"], vec![node("n", 10, 5, 1)], &[]) };
        let young = plan(&busy(150), &"a".parse().unwrap(), LINGER);
        assert_eq!((young.deal.close, young.look_again), (None, Some(Duration::from_millis(50))));
        assert_eq!(plan(&busy(200), &"a".parse().unwrap(), LINGER).deal.close, Some(LotNumber(9)));
    }

    #[test]
    fn while_nobody_has_credit_the_open_lot_just_fills() {
        let view = View { open: open(1, 999), ..view(&["a"], vec![node("n", 10, 10, 0)], &[]) };
        assert_eq!(plan(&view, &"a".parse().unwrap(), LINGER), Plan::default());
    }

    #[test]
    fn deferred_mail_takes_no_credit() {
        let waiting = Node { deferred: 10, ..node("n", 10, 10, 0) };
        assert_eq!(deal(&view(&["a"], vec![waiting], &[1]), "a"), to(&[(1, "n")]));
    }
}
