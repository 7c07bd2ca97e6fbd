//! Random calls, whose arguments are small numbers. Some calls choose among existing objects, such
//! as the messages that can be committed; [`resolve`] finds their arguments.

use std::time::Duration;

use proptest::prelude::*;
use spool::model::Model;
use spool::{
    Act, AgentId, AgentKind, Commit, CommitNumber, Damage, Deferral, Domain, Epoch, FencingToken,
    Generation, LotNumber, MessageId, MessagePlace, NodeId, Placed, Registration, Rename, Rest,
    Start, Supervision, Tenured, Unfit,
};

use crate::common::{NOW_MS, id, node, queue_id};
use crate::step::Step;

const IDS: u32 = 20;
const QUEUE_IDS: u32 = 5;
const NODES: u32 = 3;
const TWO_DAYS_MS: u64 = 2 * 24 * 3600 * 1000;

/// Caller of a Mail Agent's function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller {
    /// The Mail Agent that arrived last.
    Latest,
    /// A Mail Agent that arrived before the latest, was stopped, and goes on.
    Earlier,
    /// A Mail Agent that has not arrived yet.
    Next,
}

/// Choice of the messages for a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// The fitting message of this rank; if none fits, the message of this number.
    One(u32),
    /// All fitting messages.
    All,
}

/// A call before its arguments are found. Numbers are ranks among the fitting objects.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Submit(u32),
    SubmitMalformed,
    Disown(u32),
    DisownOld(u32),
    /// Size, node (0 is none), and the error in the lot's number.
    Cut(u32, u32, i64),
    Tidy,
    Assign(Which, u32),
    Pull(Which, u32),
    /// Message, node (`None`: the one that has its lot), first queue id, error in the epoch.
    Commit(Which, Option<u32>, u32, u64),
    Park(Which, u32, u64),
    Refuse(u32, u64, bool),
    Settle(Which),
    Uncommit(Which),
    Absent(Which, u64),
    Rename(u32, u32),
    Defer(Which, u64),
    Obey(Which),
    /// A call about a committed message that names another id, queue id or node.
    Misplaced(u32, u32, u32, u32),
    Attend(u32, u64),
    Operate(Act, Which),
    /// An act on a message at a place where it is not.
    OperateElsewhere(Act, u32, u32),
    Retry(Which),
    Drop(Which),
    Reassign(u32),
    HandBack(u32),
    Arrive(u32),
    /// Node, grace (ms), whether its Mail Agent lives.
    Lose(u32, u64, bool),
    /// Agent, generation, kind, term (ms).
    Register(u32, u64, AgentKind, u64),
    Renew(u32, u64, u64),
    Leave(u32, u64),
    /// Node, and whether it is drained or no longer so.
    Drain(u32, bool),
    /// Agent, start, taken.
    Suspect(u32, u64, u64),
    /// Agent, start, the Scheduler seen, the next Scheduler.
    Supervise(u32, u64, u32, u32),
    Reap,
    FlushFunctions,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![Just(Act::Delete), Just(Act::Hold), Just(Act::Release), Just(Act::Requeue)]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![6 => (1..=IDS).prop_map(Which::One), 1 => Just(Which::All)]
}

/// Returns the error in an epoch: mostly none, sometimes that of a stale or future tenure.
fn off() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(0), 1 => 1..=2_u64]
}

fn agent_kind() -> impl Strategy<Value = AgentKind> {
    prop_oneof![
        1 => Just(AgentKind::Info),
        1 => Just(AgentKind::Scheduler),
        3 => Just(AgentKind::Mail),
    ]
}

/// Returns the time before a call, milliseconds.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..=3_u64, 2 => 50..=400_u64, 1 => 59_000..=70_000_u64]
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![8 => Just(Caller::Latest), 1 => Just(Caller::Earlier), 1 => Just(Caller::Next)]
}

/// Returns calls, each with the time that passes before it and the caller.
pub(crate) fn calls(count: usize) -> impl Strategy<Value = Vec<(u64, Caller, Call)>> {
    prop::collection::vec((pause(), caller(), call()), count)
}

fn call() -> impl Strategy<Value = Call> {
    let of_a_few = prop_oneof![2 => of_others(), 1 => of_the_directory()];
    prop_oneof![4 => on_the_way(), 4 => of_a_mail_agent(), 3 => of_a_few]
}

fn on_the_way() -> impl Strategy<Value = Call> {
    let (id, node) = (1..=IDS, 1..=NODES);
    prop_oneof![
        14 => id.clone().prop_map(Call::Submit),
        1 => Just(Call::SubmitMalformed),
        1 => id.clone().prop_map(Call::Disown),
        1 => id.prop_map(Call::DisownOld),
        6 => (1..=4_u32, 0..=NODES).prop_map(|(size, node)| Call::Cut(size, node, 0)),
        1 => (1..=4_u32, 0..=NODES, prop_oneof![Just(-1_i64), Just(1)])
            .prop_map(|(size, node, off)| Call::Cut(size, node, off)),
        10 => (which(), node.clone()).prop_map(|(which, node)| Call::Assign(which, node)),
        2 => node.prop_map(Call::Reassign),
    ]
}

fn of_a_mail_agent() -> impl Strategy<Value = Call> {
    let (id, node, queue_id) = (1..=IDS, 1..=NODES, 1..=QUEUE_IDS);
    let elsewhere = (id.clone(), node.clone(), queue_id.clone(), 0..7_u32);
    prop_oneof![
        18 => (which(), queue_id.clone(), off())
            .prop_map(|(which, q, off)| Call::Commit(which, None, q, off)),
        2 => (which(), node.clone(), queue_id.clone())
            .prop_map(|(which, node, q)| Call::Commit(which, Some(node), q, 0)),
        8 => (which(), 1..=3_u32, off()).prop_map(|(which, to, off)| Call::Park(which, to, off)),
        4 => (id.clone(), off(), any::<bool>())
            .prop_map(|(id, off, is_missing)| Call::Refuse(id, off, is_missing)),
        6 => which().prop_map(Call::Settle),
        3 => which().prop_map(Call::Uncommit),
        5 => (which(), 0..=20_u64).prop_map(|(which, mark)| Call::Absent(which, mark)),
        5 => (id, queue_id).prop_map(|(id, q)| Call::Rename(id, q)),
        5 => (which(), 1..=3_u64).prop_map(|(which, ms)| Call::Defer(which, ms)),
        4 => which().prop_map(Call::Obey),
        6 => elsewhere.prop_map(|(id, node, q, what)| Call::Misplaced(id, node, q, what)),
        3 => (node.clone(), 0..=20_u64).prop_map(|(node, mark)| Call::Attend(node, mark)),
        3 => (which(), node.clone()).prop_map(|(which, node)| Call::Pull(which, node)),
        1 => node.clone().prop_map(Call::HandBack),
        2 => node.prop_map(Call::Arrive),
    ]
}

fn of_others() -> impl Strategy<Value = Call> {
    let (id, node) = (1..=IDS, 1..=NODES);
    prop_oneof![
        9 => (act(), which()).prop_map(|(act, which)| Call::Operate(act, which)),
        3 => (act(), id, 0..5_u32).prop_map(|(act, id, at)| Call::OperateElsewhere(act, id, at)),
        3 => which().prop_map(Call::Retry),
        2 => which().prop_map(Call::Drop),
        2 => (node, prop_oneof![Just(0), Just(100), Just(60_000_u64)], any::<bool>())
            .prop_map(|(node, grace_ms, has_agent)| Call::Lose(node, grace_ms, has_agent)),
        1 => Just(Call::Tidy),
        1 => Just(Call::FlushFunctions),
    ]
}

fn of_the_directory() -> impl Strategy<Value = Call> {
    let (agent, generation) = (1..=3_u32, 1..=3_u64);
    let term_ms = || prop_oneof![Just(200_u64), Just(100_000)];
    prop_oneof![
        4 => (agent.clone(), generation.clone(), agent_kind(), term_ms())
            .prop_map(|(agent, g, kind, ms)| Call::Register(agent, g, kind, ms)),
        3 => (agent.clone(), generation.clone(), term_ms())
            .prop_map(|(agent, g, ms)| Call::Renew(agent, g, ms)),
        2 => (agent.clone(), generation).prop_map(|(agent, g)| Call::Leave(agent, g)),
        2 => (agent.clone(), off(), off()).prop_map(|(agent, a, b)| Call::Suspect(agent, a, b)),
        3 => (agent.clone(), off(), 0..=3_u32, agent)
            .prop_map(|(agent, off, from, to)| Call::Supervise(agent, off, from, to)),
        2 => (1..=NODES, any::<bool>()).prop_map(|(node, is_on)| Call::Drain(node, is_on)),
        2 => Just(Call::Reap),
    ]
}

impl Which {
    /// Returns the chosen candidates; the result of `other` if there is no candidate.
    fn of<T: Clone>(self, candidates: &[T], other: impl FnOnce(u32) -> T) -> Vec<T> {
        match self {
            Self::One(n) if candidates.is_empty() => vec![other(n)],
            Self::All if candidates.is_empty() => vec![other(1)],
            Self::All => candidates.to_vec(),
            Self::One(n) => vec![candidates[n as usize % candidates.len()].clone()],
        }
    }
}

/// State from which calls choose, and the caller.
struct Choice<'a> {
    model: &'a Model,
    caller: Caller,
}

/// Finds a call's arguments.
pub(crate) fn resolve(model: &Model, caller: Caller, call: &Call) -> Step {
    let it = Choice { model, caller };
    match *call {
        Call::Submit(n) => Step::Submit(id(n)),
        Call::SubmitMalformed => Step::SubmitMalformed,
        Call::Disown(n) => Step::Disown(id(n)),
        Call::DisownOld(n) => Step::Disown(MessageId::from_parts(NOW_MS - TWO_DAYS_MS, n.into())),
        Call::Cut(size, node, off) => {
            let next = model.overview().inbox.next_lot.0;
            Step::Cut(LotNumber(next.saturating_add_signed(off)), size, some_node(node))
        }
        Call::Tidy => Step::Tidy,
        Call::Assign(which, n) => {
            Step::Assign(it.unassigned(which).into_iter().map(|lot| (lot, named(n))).collect())
        }
        Call::Pull(which, n) => Step::Pull(it.token(&named(n)), it.unassigned(which)),
        Call::Commit(which, to, q, off) => it.commit(which, to, q, off),
        Call::Park(which, to, off) => it.park(which, to, off),
        Call::Refuse(n, off, is_missing) => it.refuse(n, off, is_missing),
        Call::Settle(which) => {
            let (token, files) = it.files(which);
            Step::Settle(token, files)
        }
        Call::Uncommit(which) => {
            let (token, files) = it.files(which);
            Step::Uncommit(token, files)
        }
        Call::Absent(which, mark) => {
            let (token, files) = it.files(which);
            Step::Absent(token, CommitNumber(mark), files)
        }
        Call::Rename(n, q) => {
            let (token, files) = it.files(Which::One(n));
            let rename = |it: Placed| Rename { id: it.id, was: it.queue_id, now: queue_id(q) };
            Step::Rename(token, files.into_iter().map(rename).collect())
        }
        Call::Defer(which, ms) => it.defer(which, ms),
        Call::Obey(which) => it.obey(which),
        Call::Misplaced(n, at, q, what) => it.misplaced(n, &named(at), q, what),
        Call::Attend(n, mark) => Step::Attend(named(n), CommitNumber(mark)),
        Call::Operate(act, which) => Step::Operate(act, it.seen(which)),
        Call::OperateElsewhere(act, n, at) => Step::Operate(act, vec![it.elsewhere(n, at)]),
        Call::Retry(which) => Step::Retry(it.quarantined(which)),
        Call::Drop(which) => Step::Drop(it.quarantined(which)),
        Call::Reassign(n) => Step::Reassign(named(n)),
        Call::HandBack(n) => Step::HandBack(it.token(&named(n))),
        Call::Arrive(n) => Step::Arrive(it.token(&named(n))),
        Call::Lose(n, grace_ms, has_agent) => {
            Step::Lose(named(n), Duration::from_millis(grace_ms), has_agent)
        }
        Call::Register(n, generation, kind, term_ms) => {
            Step::Register(registration(n, generation, kind, term_ms))
        }
        Call::Renew(n, generation, term_ms) => {
            Step::Renew(agent(n), generation_of(generation), Duration::from_millis(term_ms))
        }
        Call::Leave(n, generation) => Step::Leave(agent(n), generation_of(generation)),
        Call::Suspect(n, start_off, taken_off) => {
            let directory = model.directory();
            let is_it = |it: &&spool::Agent| it.agent == agent(n);
            let seen = directory.leases.iter().chain(&directory.gone).find(is_it);
            let (start, taken) = seen.map_or((0, 0), |it| (it.start.0, it.taken));
            Step::Suspect(agent(n), Start(start + start_off), taken + taken_off)
        }
        Call::Supervise(n, off, from, to) => {
            let directory = model.directory();
            let is_it = |it: &&spool::Agent| it.agent == agent(n);
            let seen = directory.leases.iter().chain(&directory.gone).find(is_it);
            let last = seen.and_then(|it| it.scheduler.clone());
            Step::Supervise(vec![Supervision {
                agent: agent(n),
                start: Start(seen.map_or(0, |it| it.start.0) + off),
                from: if from == 0 { last } else { Some(agent(from)) },
                to: agent(to),
            }])
        }
        Call::Drain(n, true) => Step::Drain(named(n)),
        Call::Drain(n, false) => Step::Undrain(named(n)),
        Call::Reap => Step::Reap,
        Call::FlushFunctions => Step::FlushFunctions,
    }
}

impl Choice<'_> {
    fn token(&self, node: &NodeId) -> FencingToken {
        let last = self.model.last_start(node).0;
        let start = match self.caller {
            Caller::Latest => last.max(1),
            Caller::Earlier => last.saturating_sub(1),
            Caller::Next => last + 1,
        };
        FencingToken { node: node.clone(), start: Start(start) }
    }

    fn unassigned(&self, which: Which) -> Vec<LotNumber> {
        which.of(&self.model.unassigned(), |n| LotNumber(n.into()))
    }

    fn quarantined(&self, which: Which) -> Vec<MessageId> {
        which.of(&self.model.quarantined().into_iter().collect::<Vec<_>>(), id)
    }

    /// Returns messages in lots of one node, with their tenures.
    fn tenured(&self, which: Which, off: u64) -> (NodeId, Vec<Tenured>) {
        let invented = |n| (named(1), Tenured { id: id(n), lot: LotNumber(1), epoch: Epoch(1) });
        let mut found = which.of(&self.model.assigned(), invented);
        let node = found[0].0.clone();
        found.retain(|(holder, _)| *holder == node);
        let wrong = |it: Tenured| Tenured { epoch: Epoch(it.epoch.0 + off), ..it };
        (node, found.into_iter().map(|(_, it)| wrong(it)).collect())
    }

    fn commit(&self, which: Which, to: Option<u32>, q: u32, off: u64) -> Step {
        let (holder, found) = self.tenured(which, off);
        let commit = |(n, it): (usize, Tenured)| {
            let queue_id = queue_id((q + n as u32 - 1) % QUEUE_IDS + 1);
            Commit { id: it.id, lot: it.lot, epoch: it.epoch, queue_id }
        };
        let node = to.map_or(holder, named);
        Step::Commit(self.token(&node), found.into_iter().enumerate().map(commit).collect())
    }

    fn park(&self, which: Which, to: u32, off: u64) -> Step {
        let (node, found) = self.tenured(which, off);
        Step::Park(self.token(&node), domain(to), found)
    }

    fn refuse(&self, n: u32, off: u64, is_missing: bool) -> Step {
        let (node, found) = self.tenured(Which::One(n), off);
        let Tenured { id, lot, epoch } = found[0];
        let why = if is_missing { Damage::Missing.to_string() } else { "why".to_owned() };
        Step::Refuse(self.token(&node), id, (lot, epoch), why)
    }

    /// Returns committed files of one node.
    fn files(&self, which: Which) -> (FencingToken, Vec<Placed>) {
        let of = |n| {
            let node = named(n);
            let files = self.model.inventory_numbered(&node).into_iter();
            files.map(|(it, _)| (node.clone(), it)).collect::<Vec<_>>()
        };
        let all: Vec<_> = (1..=NODES).flat_map(of).collect();
        let invented = |n| (named(1), Placed { queue_id: queue_id(1), id: id(n) });
        let mut found = which.of(&all, invented);
        let node = found[0].0.clone();
        found.retain(|(owner, _)| *owner == node);
        (self.token(&node), found.into_iter().map(|(_, it)| it).collect())
    }

    fn defer(&self, which: Which, ms: u64) -> Step {
        let (token, files) = self.files(which);
        let rest = if ms == 3 { Rest::OnHold } else { Rest::Until(ms) };
        let defer = |it: Placed| Deferral { queue_id: it.queue_id, id: it.id, rest };
        Step::Defer(token, files.into_iter().map(defer).collect())
    }

    fn obey(&self, which: Which) -> Step {
        let (token, files) = self.files(Which::All);
        let orders = self.model.orders_of(&token.node);
        let ordered: Vec<(Placed, Act)> =
            files.into_iter().filter_map(|it| Some((it.clone(), *orders.get(&it.id)?))).collect();
        let invented = |n| (Placed { queue_id: queue_id(1), id: id(n) }, Act::Delete);
        Step::Obey(token, which.of(&ordered, invented))
    }

    fn misplaced(&self, n: u32, node: &NodeId, q: u32, what: u32) -> Step {
        let (token, it) = (self.token(node), Placed { queue_id: queue_id(q), id: id(n) });
        let (lot, epoch) = (LotNumber((n % 6 + 1).into()), Epoch((q % 2 + 1).into()));
        let (id, queue_id) = (it.id, it.queue_id.clone());
        match what {
            0 => Step::Settle(token, vec![it]),
            1 => Step::Uncommit(token, vec![it]),
            2 => Step::Absent(token, CommitNumber(9), vec![it]),
            3 => Step::Defer(token, vec![Deferral { queue_id, id, rest: Rest::Until(7) }]),
            4 => Step::Rename(
                token,
                vec![Rename { id, now: crate::common::queue_id(1), was: queue_id }],
            ),
            5 => Step::Commit(token, vec![Commit { id, lot, epoch, queue_id }]),
            _ => Step::Obey(token, vec![(it, Act::Hold)]),
        }
    }

    /// Returns a message with a place where it may not be. A message that was never in the inbox
    /// never gets that place, since nobody can have seen the message there.
    fn elsewhere(&self, n: u32, at: u32) -> (MessageId, MessagePlace) {
        let is_known = self.model.place_of(id(n)).is_some();
        (id(n), place(if is_known { at } else { at.max(1) }))
    }

    /// Returns messages with their places. Of several messages the first comes twice, since its
    /// second turn must find it gone from its place.
    fn seen(&self, which: Which) -> Vec<(MessageId, MessagePlace)> {
        let seen = |n| Some((id(n), self.model.place_of(id(n))?));
        let all: Vec<_> = (1..=IDS).filter_map(seen).collect();
        let mut found = which.of(&all, |n| (id(n), MessagePlace::Held));
        found.extend(found.first().cloned().filter(|_| found.len() > 1));
        found
    }
}

fn named(n: u32) -> NodeId {
    node(&format!("n{n}"))
}

fn some_node(n: u32) -> Option<NodeId> {
    (n > 0).then(|| named(n))
}

fn domain(n: u32) -> Domain {
    format!("d{n}").parse().unwrap()
}

fn place(n: u32) -> MessagePlace {
    match n {
        0 => MessagePlace::Inbox,
        1 => MessagePlace::Ready(LotNumber(1)),
        2 => MessagePlace::Committed(named(1), queue_id(1)),
        3 => MessagePlace::Held,
        _ => MessagePlace::Quarantine(String::new()),
    }
}

fn agent(n: u32) -> AgentId {
    named(n).into()
}

fn generation_of(n: u64) -> Generation {
    Generation::from_parts(n, 0)
}

fn registration(n: u32, generation: u64, kind: AgentKind, term_ms: u64) -> Registration {
    Registration {
        agent: agent(n),
        kind,
        generation: generation_of(generation),
        lease: Duration::from_millis(term_ms),
        name: format!("host {n}"),
        capacity: n,
        address: (n > 1).then(|| format!("127.0.0.1:{n}")),
        unfit: (generation == 2).then_some(Unfit::Room),
    }
}
