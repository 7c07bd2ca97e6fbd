//! A plain model of the library, without Redis. One file of more than 500 lines, because it is read
//! beside `optimus.lua`, which is one too.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spool::{Act, NodeLoad};

use crate::common::{id, node, queue_id};

/// Next attempt that stands for "on hold".
pub(crate) const ON_HOLD: u64 = 3;

/// A call with small numbers for its arguments. Some variants choose among what is there, as one of
/// the messages that can be committed; [`Model::resolve`] finds their arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Submit(u32),
    Disown(u32),
    /// Submits a malformed entry.
    SubmitMalformed,
    /// Makes the next lot of at most so many entries, for this node; 0 is none.
    CutNext(u32, u32),
    Cut(u64, u32, u32),
    AssignReady(u32, u32),
    Assign(u64, u32),
    /// Assigned message by its rank, node (`None`: the one that has its lot), queue id, error in
    /// the epoch.
    Commit(u32, Option<u32>, u32, u64),
    CommitUnder {
        id: u32,
        node: u32,
        lot: u64,
        epoch: u64,
        queue_id: u32,
    },
    /// Assigned message by its rank, destination, error in the epoch.
    Park(u32, u32, u64),
    ParkUnder {
        id: u32,
        node: u32,
        lot: u64,
        epoch: u64,
        to: u32,
    },
    SettleCommitted(u32),
    UncommitCommitted(u32),
    Uncommit(u32, u32, u32),
    Settle(u32, u32, u32),
    /// Node and mark.
    Attend(u32, u64),
    /// Committed message by its rank, and the mark.
    AbsentCommitted(u32, u64),
    Absent(u32, u32, u32, u64),
    /// Committed message by its rank, and its new queue id.
    RenameCommitted(u32, u32),
    Rename(u32, u32, u32, u32),
    DeferCommitted(u32, u64),
    Defer(u32, u32, u32),
    DeferUntil(u32, u32, u32, u64),
    Refuse(u32, u64),
    RefuseUnder {
        id: u32,
        node: u32,
        lot: u64,
        epoch: u64,
    },
    /// Assigned message by its rank, reported as missing; error in the epoch.
    RefuseMissing(u32, u64),
    RefuseMissingUnder {
        id: u32,
        node: u32,
        lot: u64,
        epoch: u64,
    },
    /// Message in quarantine by its rank.
    RetryQuarantined(u32),
    Retry(u32),
    DropQuarantined(u32),
    Drop(u32),
    Reassign(u32),
    Arrive(u32),
    /// Node, and whether a node that has ever arrived is kept.
    Lose(u32, bool),
    /// Act on a message by its rank, named by its place.
    OperateSeen(Act, u32),
    Operate(Act, u32, Seen),
    Tidy,
    /// Order at a node by its rank.
    ObeyOrdered(u32),
    /// Node, queue id, id, act.
    Obey(u32, u32, u32, Act),
    /// One of the lots that aren't assigned.
    PullReady(u32, u32),
    Pull(u64, u32),
    HandBack(u32),
    /// The call of a Mail Agent, by an earlier one of its node.
    BySuperseded(Box<Call>),
    FlushFunctions,
}

/// Place where an operator has seen a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Inbox,
    Lot(u64),
    Mail(u32, u32),
    Held,
    Quarantine,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    Assigned(u32),
    /// Waits in the lane of this destination.
    Parked(u32),
}

#[derive(Debug)]
struct Lot {
    state: State,
    epoch: u64,
    ids: BTreeSet<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Entries of the inbox; `None` is a malformed one.
    inbox: VecDeque<Option<u32>>,
    malformed: usize,
    taken: usize,
    pushed: BTreeSet<u32>,
    arrived: BTreeSet<u32>,
    lots: BTreeMap<u64, Lot>,
    lots_made: u64,
    /// (node, queue id) -> id
    mail: BTreeMap<(u32, u32), u32>,
    /// (node, queue id) -> number of the commit
    numbers: BTreeMap<(u32, u32), u64>,
    /// node -> last number, mark, floor
    disks: BTreeMap<u32, (u64, u64, u64)>,
    /// id -> next attempt
    deferred: BTreeMap<u32, u64>,
    quarantine: BTreeSet<u32>,
    held: BTreeSet<u32>,
    /// Orders for messages in the inbox.
    inbox_orders: BTreeMap<u32, Act>,
    node_orders: BTreeMap<u32, Act>,
    /// s: settled or dropped, x: deleted by an operator, d: disowned.
    done: BTreeMap<u32, char>,
}

/// Returns the item of this rank, counted around; `None` if there are none.
fn nth<T: Copy>(n: u32, among: &[T]) -> Option<T> {
    (!among.is_empty()).then(|| among[n as usize % among.len()])
}

impl Model {
    fn lot_of(&self, id: u32) -> Option<u64> {
        self.lots.iter().find(|(_, lot)| lot.ids.contains(&id)).map(|(&n, _)| n)
    }

    fn place_of(&self, id: u32) -> Option<(u32, u32)> {
        self.mail.iter().find(|&(_, &it)| it == id).map(|(&place, _)| place)
    }

    fn is_stored(&self, id: u32) -> bool {
        self.lot_of(id).is_some()
            || self.place_of(id).is_some()
            || self.quarantine.contains(&id)
            || self.held.contains(&id)
    }

    /// Returns the call with its arguments, which depend on the present state.
    pub(crate) fn resolve(&self, call: &Call) -> Call {
        match *call {
            Call::BySuperseded(ref call) => Call::BySuperseded(Box::new(self.resolve(call))),
            Call::PullReady(n, node) => Call::Pull(nth(n, &self.ready()).unwrap_or(n.into()), node),
            Call::CutNext(size, node) => Call::Cut(self.lots_made + 1, size, node),
            Call::AssignReady(n, node) => {
                Call::Assign(nth(n, &self.ready()).unwrap_or(n.into()), node)
            }
            Call::Commit(n, node, queue_id, off) => {
                let id = nth(n, &self.assigned()).unwrap_or(n);
                let (lot, holder, epoch) = self.tenure(id);
                Call::CommitUnder {
                    id,
                    node: node.unwrap_or(holder),
                    lot,
                    epoch: epoch + off,
                    queue_id,
                }
            }
            Call::Park(n, to, off) => {
                let id = nth(n, &self.assigned()).unwrap_or(n);
                let (lot, node, epoch) = self.tenure(id);
                Call::ParkUnder { id, node, lot, epoch: epoch + off, to }
            }
            Call::UncommitCommitted(n) => {
                let ((node, queue_id), id) = self.committed(n);
                Call::Uncommit(node, queue_id, id)
            }
            Call::SettleCommitted(n) => {
                let ((node, queue_id), id) = self.committed(n);
                Call::Settle(node, queue_id, id)
            }
            Call::AbsentCommitted(n, mark) => {
                let ((node, queue_id), id) = self.committed(n);
                Call::Absent(node, queue_id, id, mark)
            }
            Call::RenameCommitted(n, now) => {
                let ((node, queue_id), id) = self.committed(n);
                Call::Rename(node, queue_id, id, now)
            }
            Call::DeferCommitted(n, ms) => {
                let ((node, queue_id), id) = self.committed(n);
                Call::DeferUntil(node, queue_id, id, ms)
            }
            Call::Defer(node, queue_id, id) => Call::DeferUntil(node, queue_id, id, 7),
            Call::Refuse(n, off) => {
                let id = nth(n, &self.assigned()).unwrap_or(n);
                let (lot, node, epoch) = self.tenure(id);
                Call::RefuseUnder { id, node, lot, epoch: epoch + off }
            }
            Call::RefuseMissing(n, off) => {
                let id = nth(n, &self.assigned()).unwrap_or(n);
                let (lot, node, epoch) = self.tenure(id);
                Call::RefuseMissingUnder { id, node, lot, epoch: epoch + off }
            }
            Call::ObeyOrdered(n) => {
                let orders: Vec<_> = self.node_orders.iter().map(|(&id, &act)| (id, act)).collect();
                let (id, act) = nth(n, &orders).unwrap_or((n, Act::Delete));
                let at = self.mail.iter().find(|(_, it)| **it == id).map_or((1, 1), |(at, _)| *at);
                Call::Obey(at.0, at.1, id, act)
            }
            Call::RetryQuarantined(n) => Call::Retry(self.quarantined(n)),
            Call::DropQuarantined(n) => Call::Drop(self.quarantined(n)),
            Call::OperateSeen(act, n) => {
                let (id, seen) = nth(n, &self.seen()).unwrap_or((n, Seen::Quarantine));
                Call::Operate(act, id, seen)
            }
            ref other => other.clone(),
        }
    }

    fn quarantined(&self, n: u32) -> u32 {
        nth(n, &self.quarantine.iter().copied().collect::<Vec<_>>()).unwrap_or(n)
    }

    /// Returns the lots that are ready or parked.
    fn ready(&self) -> Vec<u64> {
        let waits = |lot: &Lot| !matches!(lot.state, State::Assigned(_));
        self.lots.iter().filter(|(_, lot)| waits(lot)).map(|(&n, _)| n).collect()
    }

    fn assigned(&self) -> Vec<u32> {
        let its = |lot: &&Lot| matches!(lot.state, State::Assigned(_));
        self.lots.values().filter(its).flat_map(|lot| lot.ids.iter().copied()).collect()
    }

    fn committed(&self, n: u32) -> ((u32, u32), u32) {
        let mail: Vec<_> = self.mail.iter().map(|(&place, &id)| (place, id)).collect();
        nth(n, &mail).unwrap_or(((1, 1), n))
    }

    /// Returns lot, node and epoch under which an id may be committed; invented ones, if it may
    /// not.
    fn tenure(&self, id: u32) -> (u64, u32, u64) {
        let lot = self.lot_of(id).unwrap_or(1);
        match self.lots.get(&lot) {
            Some(Lot { state: State::Assigned(node), epoch, .. }) => (lot, *node, *epoch),
            Some(other) => (lot, 1, other.epoch),
            None => (lot, 1, 1),
        }
    }

    /// Carries the call out, and returns the answer that the library should give.
    pub(crate) fn apply(&mut self, call: &Call) -> String {
        match *call {
            Call::Submit(id) => {
                self.inbox.push_back(Some(id));
                self.pushed.insert(id);
                String::new()
            }
            Call::SubmitMalformed => {
                self.inbox.push_back(None);
                String::new()
            }
            Call::Disown(id) => self.disown(id).into(),
            Call::Cut(n, size, node) => self.cut(n, size, node),
            Call::BySuperseded(_) => "superseded".into(),
            Call::Assign(n, node) | Call::Pull(n, node) => self.assign(n, node),
            Call::CommitUnder { id, node, lot, epoch, queue_id } => {
                self.commit(id, node, (lot, epoch), queue_id).into()
            }
            Call::ParkUnder { id, node, lot, epoch, to } => {
                self.park(id, node, (lot, epoch), to).into()
            }
            Call::Settle(node, queue_id, id) => self.settle(node, queue_id, id).into(),
            Call::Uncommit(node, queue_id, id) => self.uncommit(node, queue_id, id).into(),
            Call::Attend(node, mark) => self.attend(node, mark).to_string(),
            Call::Absent(node, queue_id, id, mark) => self.absent(node, queue_id, id, mark).into(),
            Call::Rename(node, queue_id, id, now) => self.rename((node, queue_id), id, now),
            Call::DeferUntil(node, queue_id, id, ms) => self.defer(node, queue_id, id, ms).into(),
            Call::RefuseUnder { id, node, lot, epoch } => {
                self.refuse(id, node, (lot, epoch)).into()
            }
            // Redis has each message of a lot.
            Call::RefuseMissingUnder { id, node, lot, epoch }
                if self.holds(id, node, (lot, epoch)) =>
            {
                "present".into()
            }
            Call::RefuseMissingUnder { id, .. } if self.quarantine.contains(&id) => {
                "already".into()
            }
            Call::RefuseMissingUnder { id, .. } => self.not_yours(id).into(),
            Call::Retry(id) => self.retry(id).into(),
            Call::Drop(id) => self.drop(id).into(),
            Call::Operate(act, id, seen) => self.operate(act, id, seen).into(),
            Call::Tidy => self.tidy().to_string(),
            Call::Obey(node, queue_id, id, act) => self.obey(node, queue_id, id, act).into(),
            Call::Reassign(node) | Call::HandBack(node) => self.reassign(node).to_string(),
            Call::Arrive(node) => {
                if self.arrived.insert(node) { "arrived" } else { "already" }.into()
            }
            Call::Lose(node, true) if self.arrived.contains(&node) => "alive".into(),
            Call::Lose(node, _) => self.lose(node).to_string(),
            Call::FlushFunctions => String::new(),
            ref other => unreachable!("not resolved: {other:?}"),
        }
    }

    fn cut(&mut self, n: u64, size: u32, node: u32) -> String {
        match n.cmp(&(self.lots_made + 1)) {
            Ordering::Less => return "already".into(),
            Ordering::Greater => return "early".into(),
            Ordering::Equal => (),
        }
        let mut fresh = BTreeSet::new();
        for _ in 0..(size as usize).min(self.inbox.len()) {
            let entry = self.inbox.pop_front().unwrap();
            fresh.extend(self.take_in(entry));
        }
        let (count, left) = (fresh.len(), self.inbox.len());
        if count == 0 {
            return format!("nothing {left}");
        }
        let state = if node == 0 { State::Ready } else { State::Assigned(node) };
        self.new_lot(state, fresh);
        format!("cut {count} {left}")
    }

    /// Removes an entry from the inbox. Returns its message if it belongs in a lot.
    fn take_in(&mut self, entry: Option<u32>) -> Option<u32> {
        self.taken += 1;
        let Some(id) = entry else {
            self.malformed += 1;
            return None;
        };
        let order = self.inbox_orders.remove(&id);
        if self.is_stored(id) || self.done.contains_key(&id) {
            return None;
        }
        match order {
            Some(Act::Delete) => drop(self.done.insert(id, 'x')),
            Some(_) => drop(self.held.insert(id)),
            None => return Some(id),
        }
        None
    }

    fn tidy(&mut self) -> usize {
        let mut count = 0;
        while let Some(&entry) = self.inbox.front() {
            let is_fresh = |id: u32| {
                !self.inbox_orders.contains_key(&id)
                    && !self.is_stored(id)
                    && !self.done.contains_key(&id)
            };
            if entry.is_some_and(is_fresh) {
                break;
            }
            self.inbox.pop_front();
            self.take_in(entry);
            count += 1;
        }
        count
    }

    fn seen(&self) -> Vec<(u32, Seen)> {
        let waits = |id: &u32| !self.is_stored(*id) && !self.done.contains_key(id);
        let inbox = self.inbox.iter().flatten().copied().filter(waits).map(|id| (id, Seen::Inbox));
        let lots = self
            .lots
            .iter()
            .flat_map(|(&n, lot)| lot.ids.iter().map(move |&id| (id, Seen::Lot(n))));
        let mail =
            self.mail.iter().map(|(&(node, queue_id), &id)| (id, Seen::Mail(node, queue_id)));
        let held = self.held.iter().map(|&id| (id, Seen::Held));
        let quarantine = self.quarantine.iter().map(|&id| (id, Seen::Quarantine));
        inbox.chain(lots).chain(mail).chain(held).chain(quarantine).collect()
    }

    fn operate(&mut self, act: Act, id: u32, seen: Seen) -> &'static str {
        let is_there = match seen {
            Seen::Inbox => !self.is_stored(id) && !self.done.contains_key(&id),
            Seen::Lot(n) => self.lot_of(id) == Some(n),
            Seen::Mail(node, queue_id) => self.mail.get(&(node, queue_id)) == Some(&id),
            Seen::Held => self.held.contains(&id),
            Seen::Quarantine => self.quarantine.contains(&id),
        };
        match (act, seen) {
            _ if !is_there => match self.not_yours(id) {
                "fenced" => "moved",
                "settled" if act == Act::Delete && self.done[&id] == 'x' => "already",
                "settled" => "gone",
                other => other,
            },
            (_, Seen::Inbox | Seen::Mail(..)) => self.order(act, id, seen),
            (Act::Delete, _) => {
                self.leave(id, seen);
                self.done.insert(id, 'x');
                "delete"
            }
            (Act::Hold, Seen::Held) => "already",
            (Act::Hold | Act::Release, Seen::Quarantine) => "kept",
            (Act::Hold, _) => {
                self.leave(id, seen);
                self.held.insert(id);
                "hold"
            }
            (Act::Release, Seen::Lot(_)) => "already",
            (Act::Requeue, Seen::Lot(n)) if !matches!(self.lots[&n].state, State::Assigned(_)) => {
                "already"
            }
            (Act::Release | Act::Requeue, _) => {
                self.leave(id, seen);
                self.new_lot(State::Ready, BTreeSet::from([id]));
                act.as_str()
            }
        }
    }

    fn leave(&mut self, id: u32, seen: Seen) {
        match seen {
            Seen::Lot(n) => self.take_out(n, id),
            _ => {
                self.held.remove(&id);
                self.quarantine.remove(&id);
            }
        }
    }

    fn order(&mut self, act: Act, id: u32, seen: Seen) -> &'static str {
        let is_inbox = seen == Seen::Inbox;
        let orders = if is_inbox { &mut self.inbox_orders } else { &mut self.node_orders };
        let before = orders.get(&id).copied();
        match (before, act) {
            (Some(Act::Delete), Act::Delete) => return "already",
            (Some(Act::Delete), _) => return "gone",
            _ if !is_inbox => drop(orders.insert(id, act)),
            (_, Act::Delete | Act::Hold) => drop(orders.insert(id, act)),
            (_, Act::Release | Act::Requeue) => drop(orders.remove(&id)),
        }
        match (before, act) {
            _ if !is_inbox => "ordered",
            (Some(Act::Hold), Act::Hold) | (None, Act::Release | Act::Requeue) => "already",
            _ => act.as_str(),
        }
    }

    fn new_lot(&mut self, state: State, ids: BTreeSet<u32>) -> u64 {
        self.lots_made += 1;
        self.lots.insert(self.lots_made, Lot { state, epoch: 1, ids });
        self.lots_made
    }

    fn disown(&mut self, id: u32) -> &'static str {
        let is_known = self.is_stored(id) || self.inbox_orders.contains_key(&id);
        if is_known || self.done.get(&id).is_some_and(|it| *it != 'd') {
            return "known";
        }
        self.done.insert(id, 'd');
        "disowned"
    }

    fn assign(&mut self, n: u64, node: u32) -> String {
        let Some(lot) = self.lots.get_mut(&n) else { return "gone".into() };
        match lot.state {
            State::Assigned(holder) if holder == node => format!("already {}", lot.epoch),
            State::Assigned(_) => "taken".into(),
            State::Ready | State::Parked(_) => {
                lot.state = State::Assigned(node);
                format!("assigned {}", lot.epoch)
            }
        }
    }

    fn holds(&self, id: u32, node: u32, (n, epoch): (u64, u64)) -> bool {
        let is_it = |lot: &Lot| {
            lot.state == State::Assigned(node) && lot.epoch == epoch && lot.ids.contains(&id)
        };
        self.lots.get(&n).is_some_and(is_it)
    }

    fn not_yours(&self, id: u32) -> &'static str {
        match self.is_stored(id) {
            true => "fenced",
            false if self.done.contains_key(&id) => "settled",
            false => "unknown",
        }
    }

    fn take_out(&mut self, n: u64, id: u32) {
        let lot = self.lots.get_mut(&n).unwrap();
        lot.ids.remove(&id);
        if lot.ids.is_empty() {
            self.lots.remove(&n);
        }
    }

    fn commit(&mut self, id: u32, node: u32, tenure: (u64, u64), queue_id: u32) -> &'static str {
        if self.mail.get(&(node, queue_id)) == Some(&id) {
            let is_stopped = self.node_orders.get(&id).is_some_and(|act| act.stops());
            return if is_stopped { "ordered" } else { "already" };
        }
        if !self.holds(id, node, tenure) {
            return self.not_yours(id);
        }
        if self.mail.contains_key(&(node, queue_id)) {
            return "occupied";
        }
        self.enter((node, queue_id), id);
        self.take_out(tenure.0, id);
        "committed"
    }

    fn enter(&mut self, place: (u32, u32), id: u32) -> u64 {
        let (last, ..) = self.disks.entry(place.0).or_default();
        *last += 1;
        self.mail.insert(place, id);
        self.numbers.insert(place, *last);
        *last
    }

    fn attend(&mut self, node: u32, mark: u64) -> u64 {
        let (last, before, floor) = self.disks.entry(node).or_default();
        if mark < *before {
            *floor = *last;
        }
        (*last, *before) = ((*last).max(mark), mark);
        *floor
    }

    fn absent(&mut self, node: u32, queue_id: u32, id: u32, mark: u64) -> &'static str {
        if self.mail.get(&(node, queue_id)) != Some(&id) {
            return "already";
        }
        let (number, floor) = (self.numbers[&(node, queue_id)], self.disks[&node].2);
        if number > floor && number <= mark {
            return self.settle(node, queue_id, id);
        }
        self.uncommit(node, queue_id, id);
        "resent"
    }

    fn rename(&mut self, was: (u32, u32), id: u32, now: u32) -> String {
        let now = (was.0, now);
        let floor = self.disks.get(&was.0).map_or(0, |disk| disk.2);
        let there = self.mail.get(&now).copied();
        match there {
            Some(it) if it == id && (was != now || self.numbers[&now] > floor) => {
                return format!("already {}", self.numbers[&now]);
            }
            _ if self.mail.get(&was) != Some(&id) => return "unknown 0".into(),
            Some(it) if it != id => return "occupied 0".into(),
            _ => (),
        }
        self.mail.remove(&was);
        let number = self.numbers[&was];
        if number <= floor {
            return format!("renamed {}", self.enter(now, id));
        }
        self.mail.insert(now, id);
        self.numbers.insert(now, number);
        format!("renamed {number}")
    }

    fn park(&mut self, id: u32, node: u32, tenure: (u64, u64), to: u32) -> &'static str {
        if !self.holds(id, node, tenure) {
            return self.not_yours(id);
        }
        self.take_out(tenure.0, id);
        self.new_lot(State::Parked(to), BTreeSet::from([id]));
        "parked"
    }

    fn settle(&mut self, node: u32, queue_id: u32, id: u32) -> &'static str {
        if self.mail.get(&(node, queue_id)) != Some(&id) {
            return if self.done.contains_key(&id) { "already" } else { "unknown" };
        }
        self.mail.remove(&(node, queue_id));
        self.deferred.remove(&id);
        self.node_orders.remove(&id);
        self.done.insert(id, 's');
        "settled"
    }

    fn obey(&mut self, node: u32, queue_id: u32, id: u32, act: Act) -> &'static str {
        if self.mail.get(&(node, queue_id)) != Some(&id) || self.node_orders.get(&id) != Some(&act)
        {
            return "already";
        }
        self.node_orders.remove(&id);
        if act == Act::Delete {
            self.mail.remove(&(node, queue_id));
            self.deferred.remove(&id);
            self.done.insert(id, 'x');
        }
        "obeyed"
    }

    fn uncommit(&mut self, node: u32, queue_id: u32, id: u32) -> &'static str {
        if self.mail.get(&(node, queue_id)) != Some(&id) {
            return "already";
        }
        self.mail.remove(&(node, queue_id));
        self.make_again(BTreeSet::from([id]));
        "uncommitted"
    }

    fn defer(&mut self, node: u32, queue_id: u32, id: u32, ms: u64) -> &'static str {
        if self.mail.get(&(node, queue_id)) != Some(&id) {
            return "unknown";
        }
        if self.deferred.insert(id, ms) == Some(ms) { "already" } else { "deferred" }
    }

    fn refuse(&mut self, id: u32, node: u32, tenure: (u64, u64)) -> &'static str {
        if self.holds(id, node, tenure) {
            self.quarantine.insert(id);
            self.take_out(tenure.0, id);
            return "refused";
        }
        if self.quarantine.contains(&id) { "already" } else { self.not_yours(id) }
    }

    fn retry(&mut self, id: u32) -> &'static str {
        match () {
            () if self.quarantine.remove(&id) => {
                self.new_lot(State::Ready, BTreeSet::from([id]));
                "retried"
            }
            () if self.is_stored(id) => "already",
            () if self.done.contains_key(&id) => "settled",
            () => "unknown",
        }
    }

    fn drop(&mut self, id: u32) -> &'static str {
        match () {
            () if self.quarantine.remove(&id) => {
                self.done.insert(id, 's');
                "dropped"
            }
            () if self.is_stored(id) => "kept",
            () if self.done.contains_key(&id) => "already",
            () => "unknown",
        }
    }

    fn reassign(&mut self, node: u32) -> usize {
        let its = |lot: &&mut Lot| lot.state == State::Assigned(node);
        let mut moved = 0;
        for lot in self.lots.values_mut().filter(its) {
            (lot.state, lot.epoch) = (State::Ready, lot.epoch + 1);
            moved += 1;
        }
        moved
    }

    fn lose(&mut self, node: u32) -> usize {
        let lost: BTreeSet<u32> =
            self.mail.iter().filter(|(place, _)| place.0 == node).map(|(_, &id)| id).collect();
        self.mail.retain(|place, _| place.0 != node);
        let count = lost.len();
        self.make_again(lost);
        count
    }

    /// Puts committed messages where an operator's order says, or else into a new lot.
    fn make_again(&mut self, lost: BTreeSet<u32>) {
        self.deferred.retain(|id, _| !lost.contains(id));
        let mut resent = BTreeSet::new();
        for id in lost {
            match self.node_orders.remove(&id) {
                Some(Act::Delete) => drop(self.done.insert(id, 'x')),
                Some(Act::Hold) => drop(self.held.insert(id)),
                Some(Act::Release | Act::Requeue) | None => drop(resent.insert(id)),
            }
        }
        if !resent.is_empty() {
            self.new_lot(State::Ready, resent);
        }
    }

    /// Returns everything that Redis should hold, one line each, sorted.
    pub(crate) fn dump(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (n, lot) in &self.lots {
            let (state, holder) = match lot.state {
                State::Ready => ("ready", String::new()),
                State::Assigned(holder) => ("assigned", format!(" n{holder}")),
                State::Parked(to) => ("parked", format!(" d{to}")),
            };
            lines.push(format!("lot {n} {state} {}{holder}", lot.epoch));
            lines.push(format!("{state} {n}{holder}"));
            lines.extend(lot.ids.iter().map(|&it| format!("in {n} {}", id(it))));
        }
        let mail = self.mail.iter().map(|(place, it)| (place, self.numbers[place], id(*it)));
        lines.extend(
            mail.map(|((n, q), number, it)| format!("mail n{n} {} {it} {number}", queue_id(*q))),
        );
        lines.extend(
            self.deferred
                .iter()
                .map(|(&it, &ms)| {
                    (
                        it,
                        self.place_of(it).unwrap().0,
                        if ms == ON_HOLD { "inf".into() } else { ms.to_string() },
                    )
                })
                .map(|(it, node, score)| format!("deferred n{node} {} {score}", id(it))),
        );
        lines.extend(self.lanes().iter().map(|to| format!("lane d{to}")));
        lines.extend(self.quarantine.iter().map(|&it| format!("quarantine {} why", id(it))));
        lines.extend(self.quarantine.iter().map(|&it| format!("why {}", id(it))));
        lines.extend(self.held.iter().map(|&it| format!("held {}", id(it))));
        lines.extend(
            self.inbox_orders.iter().map(|(&it, act)| format!("inbox-order {} {act}", id(it))),
        );
        lines.extend(self.inbox_orders.keys().map(|&it| format!("inbox-ordered {}", id(it))));
        for (&it, act) in &self.node_orders {
            let node = self.place_of(it).unwrap().0;
            lines.push(format!("node-order n{node} {} {act}", id(it)));
            lines.push(format!("ordered n{node} {}", id(it)));
        }
        let word = |what| if what == 'd' { "disowned" } else { "done" };
        lines.extend(self.done.iter().map(|(&it, &what)| format!("{} {}", word(what), id(it))));
        lines.extend(self.inbox.iter().map(|it| match it {
            Some(it) => format!("inbox {}", id(*it)),
            None => "inbox malformed".to_owned(),
        }));
        lines.push(format!("malformed {}", self.malformed));
        lines.push(format!("taken {}", self.taken));
        lines.extend(self.stored().iter().map(|&it| format!("message {}", id(it))));
        lines.extend(self.busy_nodes().iter().map(|n| format!("node n{n}")));
        lines.sort();
        lines
    }

    fn stored(&self) -> BTreeSet<u32> {
        let in_lots = self.lots.values().flat_map(|lot| lot.ids.iter());
        in_lots
            .chain(self.mail.values())
            .chain(&self.quarantine)
            .chain(&self.held)
            .copied()
            .collect()
    }

    fn lanes(&self) -> BTreeSet<u32> {
        let to = |lot: &Lot| match lot.state {
            State::Parked(to) => Some(to),
            State::Ready | State::Assigned(_) => None,
        };
        self.lots.values().filter_map(to).collect()
    }

    fn busy_nodes(&self) -> BTreeSet<u32> {
        let holders = self.lots.values().filter_map(|lot| match lot.state {
            State::Assigned(node) => Some(node),
            _ => None,
        });
        holders.chain(self.mail.keys().map(|place| place.0)).collect()
    }

    /// Returns the nodes' part of the expected overview.
    pub(crate) fn loads(&self) -> Vec<NodeLoad> {
        let describe = |n: u32| {
            let lots = || self.lots.values().filter(move |lot| lot.state == State::Assigned(n));
            let committed: Vec<u32> =
                self.mail.iter().filter(|it| it.0.0 == n).map(|(_, &id)| id).collect();
            let resting = |on_hold| {
                let its =
                    |id: &&u32| self.deferred.get(id).is_some_and(|&ms| (ms == ON_HOLD) == on_hold);
                committed.iter().filter(its).count() as u64
            };
            NodeLoad {
                node: node(&format!("n{n}")),
                lots: lots().count() as u64,
                pending: lots().map(|lot| lot.ids.len() as u64).sum(),
                committed: committed.len() as u64,
                deferred: resting(false),
                on_hold: resting(true),
            }
        };
        self.busy_nodes().into_iter().map(describe).collect()
    }

    /// Returns every id that was ever submitted or disowned.
    pub(crate) fn known_ids(&self) -> BTreeSet<String> {
        self.pushed.iter().chain(self.done.keys()).map(|&it| id(it).to_string()).collect()
    }
}
