//! The Scheduler Agent: looks after Mail Agents.
//!
//! A Scheduler passes notices of assignments on to the Mail Agents it looks after, and watches the
//! leases of all Mail Agents. When a lease ends, that node's uncommitted lots are taken from it and
//! go to others, but not sooner than [`Patience`] after Redis was started or has failed over. Each
//! lot gets a new epoch, so that later calls of the node are fenced. When the Mail Agent has been
//! gone for `grace`, others send what was committed to the node again. The same holds for a node
//! whose Mail Agent lives and can take no mail, since its Postfix may be dead: the spool knows
//! whether the Postfix was there within the grace. Several Schedulers may order this at once,
//! because the spool does it once.
//!
//! A Scheduler probes the Mail Agents that it looks after while they have lots (`probing.rs`). One
//! that falls silent is *suspect*: the directory ends its lease, and its lots move at once.
//!
//! A Scheduler looks at every renewal of its own lease, when the earliest lease of a Mail Agent
//! ends, on a notice that an agent came or left, and every 20 s. The directory says which Mail
//! Agents it looks after, and the Schedulers share them out (`supervision.rs`).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use notices::Notice;
use spool::{AgentId, AgentKind, NodeId, Supervision, Suspected, Taken};

use crate::lease::{LeaseAnswer, LeaseChange, LeaseQuestion, Member};
use crate::machine::{Action, Ask, Input, Machine, Ticket, earliest};
use crate::membership::Membership;
use crate::peer::{CallEnd, Peer, Request};
use crate::probing::Probing;
use crate::supervision;
use crate::view::{MailAgentState, Node, View};

/// Questions of a Scheduler to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchedulerQuestion {
    /// A question about the lease, to the directory.
    Lease(LeaseQuestion),
    /// A question for directory and overview, once ended leases are off the list.
    See,
    /// A Mail Agent that doesn't answer, whose lease must end.
    Suspect(Peer),
    /// Mail Agents that get another Scheduler.
    Supervise(Vec<Supervision>),
    /// Mail to take from dead nodes.
    Rescue(Rescue),
}

/// Answers of the spool to a Scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchedulerAnswer {
    /// Answer to `Lease`.
    Lease(LeaseAnswer),
    /// Answer to `See`.
    Seen(View),
    /// Answer to `Suspect`.
    Suspected(AgentId, Suspected),
    /// Answer to `Supervise`: the number of agents that have another Scheduler now.
    Supervised(usize),
    /// Answer to `Rescue`.
    Rescued(Rescued),
}

/// Nodes from which mail must be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rescue {
    /// Nodes whose uncommitted lots go to others.
    pub reassign: Vec<NodeId>,
    /// Nodes whose committed mail others send again, if the spool finds them lost.
    pub lose: Vec<Loss>,
}

/// A node that may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Name of the node.
    pub node: NodeId,
    /// Whether the node's Mail Agent lives.
    pub has_agent: bool,
}

/// Outcome of a rescue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Lots that are ready again.
    pub lots: u64,
    /// Messages taken from dead nodes, by what became of them.
    pub taken: Taken,
}

/// Time for which Schedulers must have watched before a node may be taken mail from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Time before uncommitted lots are reassigned. Redis may be another server since, which lacks
    /// commits of the old one. A living node makes them again, unless its lots are taken from it
    /// first.
    pub reassign: Duration,
    /// Time before committed mail is sent again: servers that went down together come back
    /// together.
    pub lose: Duration,
}

/// Time in which living agents have found a Redis that is back, and hold their leases again. Their
/// pauses between attempts are a second at most.
const RETURN: Duration = Duration::from_secs(5);

/// Plans the rescue that a view calls for. No node is lost while no other one takes mail: nobody
/// could send its mail, and once it is back it sends the mail itself.
pub fn plan(view: &View, patience: Patience) -> Rescue {
    let mut rescue = Rescue::default();
    let takes_mail =
        |node: &Node| matches!(node.agent, MailAgentState::Alive { capacity: 1.., .. });
    let may_lose = view.watched >= patience.lose && view.nodes.iter().any(takes_mail);
    for node in &view.nodes {
        let has_agent = node.is_alive();
        if node.lots > 0 && !has_agent && view.watched >= patience.reassign {
            rescue.reassign.push(node.node.clone());
        }
        let may_be_lost = match node.agent {
            MailAgentState::Ended(ago) => ago >= patience.lose,
            // The directory forgets an agent after 30 days. The spool knows when the node was seen.
            MailAgentState::Unknown => true,
            // The agent can't take mail. The spool knows when its Postfix was seen.
            MailAgentState::Alive { capacity, .. } => capacity == 0,
        };
        if node.committed > 0 && may_be_lost && may_lose {
            rescue.lose.push(Loss { node: node.node.clone(), has_agent });
        }
    }
    rescue
}

/// The machine of a Scheduler; see the module.
#[derive(Debug)]
pub struct Scheduler {
    membership: Membership,
    patience: Patience,
    work: Ask,
    must_look: bool,
    look_at: Option<Instant>,
    /// A rescue that is decided, and not yet asked of the spool.
    rescue: Option<Rescue>,
    /// Outcome of the slices so far that wasn't logged yet.
    rescued: Rescued,
    probing: Probing,
    /// Suspect Mail Agents, for whom the directory wasn't asked yet.
    suspects: Vec<Peer>,
    /// Mail Agents that get another Scheduler, for whom the directory wasn't asked yet.
    supervise: Vec<Supervision>,
    /// Nodes with a live Mail Agent.
    alive: BTreeSet<NodeId>,
    /// Nodes that another Scheduler looks after. This one looks after all others, also unknown
    /// ones.
    others: Vec<NodeId>,
    tell: Vec<Notice>,
}

impl Scheduler {
    /// Makes a Scheduler that holds its lease for `term` at a time.
    pub fn new(member: Member, term: Duration, grace: Duration) -> Self {
        Self {
            membership: Membership::new(member, term, 0),
            patience: Patience { reassign: RETURN, lose: grace },
            work: Ask::default(),
            must_look: false,
            look_at: None,
            rescue: None,
            rescued: Rescued::default(),
            probing: Probing::default(),
            suspects: Vec::new(),
            supervise: Vec::new(),
            alive: BTreeSet::new(),
            others: Vec::new(),
            tell: Vec::new(),
        }
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: SchedulerAnswer) {
        self.membership.redis_works();
        match answer {
            SchedulerAnswer::Lease(answer) => match self.membership.answered(now, ticket, answer) {
                Some(LeaseChange::Began | LeaseChange::Continues) => self.must_look = true,
                Some(
                    LeaseChange::Lapsed
                    | LeaseChange::Waits
                    | LeaseChange::Superseded
                    | LeaseChange::Left,
                )
                | None => {}
            },
            SchedulerAnswer::Seen(view) if self.work.close(ticket) => self.seen(now, &view),
            SchedulerAnswer::Rescued(rescued) if self.work.close(ticket) => self.rescued(rescued),
            SchedulerAnswer::Suspected(agent, outcome) if self.work.close(ticket) => {
                if outcome == Suspected::Ended {
                    tracing::warn!(%agent, "Mail Agent suspect: no reply to probes; lots taken");
                    self.tell.push(Notice::Left(AgentKind::Mail, agent));
                }
                self.must_look = true;
            }
            SchedulerAnswer::Supervised(count) if self.work.close(ticket) => {
                if count > 0 {
                    let me = self.membership.lease.member().agent.clone();
                    tracing::info!(count, "Mail Agents have another Scheduler");
                    // The others look, too.
                    self.tell.push(Notice::Born(AgentKind::Scheduler, me));
                }
                self.must_look = true;
            }
            SchedulerAnswer::Seen(_)
            | SchedulerAnswer::Suspected(..)
            | SchedulerAnswer::Supervised(_)
            | SchedulerAnswer::Rescued(_) => (),
        }
    }

    /// Takes one slice's outcome. More may be left, until a slice takes nothing.
    fn rescued(&mut self, slice: Rescued) {
        if slice == Rescued::default() {
            return self.tell_rescued();
        }
        self.rescued.lots += slice.lots;
        self.rescued.taken += slice.taken;
        self.must_look = true;
    }

    fn tell_rescued(&mut self) {
        let rescued = std::mem::take(&mut self.rescued);
        if rescued != Rescued::default() {
            let Rescued { lots, taken: Taken { resent, held, deleted } } = rescued;
            tracing::warn!(
                lots_reassigned = lots,
                messages_resent = resent,
                messages_held = held,
                messages_deleted = deleted,
                "mail taken from dead nodes"
            );
        }
    }

    fn seen(&mut self, now: Instant, view: &View) {
        let me: &AgentId = &self.membership.lease.member().agent;
        self.supervise = supervision::part_of(view, me);
        let is_others = |node: &NodeId| view.scheduler_of(node).is_some_and(|it| it != me);
        self.others = view.nodes.iter().map(|it| it.node.clone()).filter(is_others).collect();
        self.look_at = Some(now + next_look(view));
        let alive = || view.nodes.iter().filter(|it| it.is_alive());
        self.alive = alive().map(|it| it.node.clone()).collect();
        let is_alone = self.alive.len() == 1;
        let is_ward = |node: &&Node| !is_alone && !self.others.contains(&node.node);
        let ward = |node: &Node| node.peer.clone().map(|peer| (peer, node.lots > 0));
        self.probing.seen(now, alive().filter(is_ward).filter_map(ward));
        let mut rescue = plan(view, self.patience);
        // A node without a live Scheduler is everybody's.
        rescue.lose.retain(|it| !self.others.contains(&it.node));
        self.rescue = (rescue != Rescue::default()).then_some(rescue);
        if self.rescue.is_none() {
            self.tell_rescued();
        }
    }

    fn failed(&mut self, now: Instant, ticket: Ticket) {
        if self.work.close(ticket) {
            self.must_look = true;
        } else if !self.membership.failed(now, ticket) {
            return;
        }
        self.membership.redis_failed(now);
    }

    /// Returns whether this Scheduler holds its lease, also while Redis is away.
    fn may_probe(&self) -> bool {
        self.membership.lease.is_wanted() && self.membership.lease.is_held()
    }

    fn probe(&mut self, now: Instant) -> Option<(Ticket, Peer)> {
        if !self.may_probe() {
            return None;
        }
        let membership = &mut self.membership;
        self.probing.poll(now, |ask| membership.ask(ask))
    }

    fn call_ended(&mut self, now: Instant, ticket: Ticket, end: &CallEnd) {
        let suspect = self.probing.ended(now, ticket, end);
        self.suspects.extend(suspect.filter(|it| !self.suspects.contains(it)));
    }

    fn heard(&mut self, now: Instant, notice: Notice) {
        if let Notice::Assigned(node, _) = &notice {
            self.probing.assigned(now, &node.clone().into());
            // An Info Agent with an older view has assigned the lot.
            self.must_look |= !self.alive.contains(node);
        }
        match notice {
            // A small lot is in the notice, which the Mail Agent has read.
            Notice::Assigned(node, None) if !self.others.contains(&node) => {
                if !self.tell.contains(&Notice::Fetch(node.clone())) {
                    self.tell.push(Notice::Fetch(node));
                }
            }
            Notice::Born(..) | Notice::Left(..) => self.must_look = true,
            Notice::Assigned(..)
            | Notice::Ordered(_)
            | Notice::Fetch(_)
            | Notice::Inbox
            | Notice::Cut(_)
            | Notice::Ready(_)
            | Notice::Credit(_) => (),
        }
    }

    fn next_question(&mut self, now: Instant) -> Option<SchedulerQuestion> {
        while let Some(suspect) = self.suspects.pop() {
            if !self.probing.is_suspect(&suspect) {
                continue;
            }
            self.probing.suspected(now, &suspect);
            return Some(SchedulerQuestion::Suspect(suspect));
        }
        if let Some(rescue) = self.rescue.take() {
            return Some(SchedulerQuestion::Rescue(rescue));
        }
        if !self.supervise.is_empty() {
            return Some(SchedulerQuestion::Supervise(std::mem::take(&mut self.supervise)));
        }
        if !self.must_look && self.look_at.is_none_or(|when| when > now) {
            return None;
        }
        self.must_look = false;
        self.look_at = None;
        Some(SchedulerQuestion::See)
    }
}

/// Time added to a lease's end, so that the lease is over when the Scheduler looks. Redis keeps
/// leases in whole milliseconds.
const LEASE_GRAIN: Duration = Duration::from_millis(2);

/// Longest pause between two looks. `reap` in `optimus.lua` takes a pause of more than a minute for
/// an absence of all Schedulers, in which no node's grace passes.
const LOOK_PAUSE: Duration = Duration::from_secs(20);

/// Returns the time until the next look that no event causes.
fn next_look(view: &View) -> Duration {
    next_end(view).map_or(LOOK_PAUSE, |left| left.min(LOOK_PAUSE))
}

/// Returns the time until the first Mail Agent's lease ends, unless it is renewed.
fn next_end(view: &View) -> Option<Duration> {
    let left = view.nodes.iter().filter_map(|node| match node.agent {
        MailAgentState::Alive { lease_left, .. } => Some(lease_left),
        MailAgentState::Ended(_) | MailAgentState::Unknown => None,
    });
    left.min().map(|left| left + LEASE_GRAIN)
}

impl Machine for Scheduler {
    type Question = SchedulerQuestion;
    type Answer = SchedulerAnswer;
    type Event = Infallible;
    type Order = Infallible;

    fn handle(&mut self, now: Instant, input: Input<SchedulerAnswer>) {
        match input {
            Input::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Input::Failed(ticket) => self.failed(now, ticket),
            Input::Notice(notice) => self.heard(now, notice),
            Input::Listening | Input::OtherServer => self.must_look = true,
            Input::Called(call, request) => self.membership.called(call, &request),
            Input::CallEnded(ticket, end) => self.call_ended(now, ticket, &end),
            Input::Link(never) => match never {},
            Input::Drain => self.membership.leave(now),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Action<SchedulerQuestion>> {
        if let Some(notice) = self.tell.pop() {
            return Some(Action::Tell(notice));
        }
        if let Some(action) = self.membership.poll(now, SchedulerQuestion::Lease) {
            return Some(action);
        }
        if let Some((ticket, peer)) = self.probe(now) {
            return Some(Action::Call(ticket, peer, Request::Probe));
        }
        if self.work.is_open() || !self.membership.may_work(now) {
            return None;
        }
        let question = self.next_question(now)?;
        Some(Action::Ask(self.membership.ask(&mut self.work), question))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.probing.due().filter(|_| self.may_probe());
        let work = self.membership.timeout(self.look_at.filter(|_| !self.work.is_open()));
        earliest([work, probe])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Node;

    const GRACE: Duration = Duration::from_secs(100);

    fn node(name: &str, agent: MailAgentState, lots: usize, committed: u64) -> Node {
        Node {
            node: name.parse().unwrap(),
            agent,
            lots,
            pending: lots as u64,
            committed,
            deferred: 0,
            on_hold: 0,
            peer: None,
            start: None,
            scheduler: None,
        }
    }

    #[test]
    fn a_node_is_lost_by_its_own_scheduler_or_else_by_all() {
        let me: AgentId = "me".parse().unwrap();
        for (of, asks) in [("me", true), ("other", false), ("gone", true)] {
            let lost = Node { scheduler: Some(of.parse().unwrap()), ..node("n", ended(200), 0, 3) };
            // A node is lost only while another one takes mail.
            let alive = MailAgentState::Alive { capacity: 1, lease_left: GRACE };
            let nodes = vec![lost, node("m", alive, 0, 0)];
            let schedulers = vec![me.clone(), "other".parse().unwrap()];
            let view = View { nodes, schedulers, watched: GRACE, ..View::default() };
            let (kind, generation) = (AgentKind::Scheduler, spool::Generation::from_parts(1, 1));
            let member = Member { agent: me.clone(), kind, generation, name: String::new() };
            let mut scheduler = Scheduler::new(member, Duration::from_secs(5), GRACE);
            scheduler.seen(Instant::now(), &view);
            assert_eq!(scheduler.rescue.is_some(), asks, "{of}");
        }
    }

    fn ended(seconds: u64) -> MailAgentState {
        MailAgentState::Ended(Duration::from_secs(seconds))
    }

    fn rescue(node: Node) -> (usize, usize) {
        rescue_watched(node, GRACE)
    }

    fn rescue_watched(one: Node, watched: Duration) -> (usize, usize) {
        let alive = MailAgentState::Alive { capacity: 1, lease_left: Duration::from_secs(1) };
        rescue_of(vec![one, node("other", alive, 0, 0)], watched)
    }

    fn rescue_of(nodes: Vec<Node>, watched: Duration) -> (usize, usize) {
        let patience = Patience { reassign: RETURN, lose: GRACE };
        let rescue = plan(&View { nodes, watched, ..View::default() }, patience);
        (rescue.reassign.len(), rescue.lose.len())
    }

    /// Checks the case of one host whose Postfix was stopped for longer than the grace.
    #[test]
    fn no_node_is_lost_while_no_other_one_takes_mail() {
        let unable = MailAgentState::Alive { capacity: 0, lease_left: Duration::from_millis(1) };
        assert_eq!(rescue_of(vec![node("n", unable, 0, 3)], GRACE), (0, 0));
        let nodes = vec![node("n", unable, 0, 3), node("m", unable, 0, 3)];
        assert_eq!(rescue_of(nodes, GRACE), (0, 0));
        let nodes = vec![node("n", MailAgentState::Unknown, 1, 3), node("m", ended(100), 1, 3)];
        assert_eq!(rescue_of(nodes, GRACE), (2, 0), "a lot that is ready can be taken later");
    }

    #[test]
    fn a_living_node_keeps_all_it_has() {
        let alive = MailAgentState::Alive { capacity: 1, lease_left: Duration::from_millis(1) };
        assert_eq!(rescue(node("n", alive, 3, 3)), (0, 0));
    }

    #[test]
    fn the_spool_is_asked_whether_a_node_is_lost_whose_mail_agent_can_take_no_mail() {
        let unable = MailAgentState::Alive { capacity: 0, lease_left: Duration::from_millis(1) };
        assert_eq!(rescue(node("n", unable, 3, 3)), (0, 1));
        assert_eq!(rescue(node("n", unable, 3, 0)), (0, 0));
        let watched = GRACE - Duration::from_secs(1);
        assert_eq!(rescue_watched(node("n", unable, 3, 3), watched), (0, 0));
    }

    #[test]
    fn a_dead_node_s_lots_are_taken_at_once_and_its_committed_mail_after_the_grace() {
        assert_eq!(rescue(node("n", ended(0), 3, 3)), (1, 0));
        assert_eq!(rescue(node("n", ended(99), 0, 3)), (0, 0));
        assert_eq!(rescue(node("n", ended(100), 0, 3)), (0, 1));
        assert_eq!(rescue(node("n", ended(100), 0, 0)), (0, 0));
        let watched = GRACE - Duration::from_secs(1);
        assert_eq!(rescue_watched(node("n", ended(100), 1, 1), watched), (1, 0));
    }

    /// Redis may have failed over, and the agent had no time to come back.
    #[test]
    fn lots_are_reassigned_only_when_schedulers_have_watched_for_some_time() {
        let watched = RETURN - Duration::from_millis(1);
        assert_eq!(rescue_watched(node("n", ended(100), 1, 1), watched), (0, 0));
        assert_eq!(rescue_watched(node("n", MailAgentState::Unknown, 1, 1), watched), (0, 0));
        assert_eq!(rescue_watched(node("n", ended(100), 1, 1), RETURN), (1, 0));
    }

    #[test]
    fn the_spool_is_asked_whether_a_node_that_the_directory_does_not_know_is_lost() {
        assert_eq!(rescue(node("n", MailAgentState::Unknown, 1, 1)), (1, 1));
    }

    /// Leases may last for an hour.
    #[test]
    fn a_scheduler_looks_often_enough_to_count_as_watching() {
        let alive = |lease_left| node("n", MailAgentState::Alive { capacity: 1, lease_left }, 0, 0);
        let of = |nodes| next_look(&View { nodes, ..View::default() });
        assert_eq!(of(vec![alive(Duration::from_secs(3_600))]), LOOK_PAUSE);
        assert_eq!(of(Vec::new()), LOOK_PAUSE);
        assert!(of(vec![alive(Duration::from_secs(1))]) < Duration::from_secs(2));
    }
}
