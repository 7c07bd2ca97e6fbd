//! The spool and the directory in memory: what `optimus.lua` promises, said once more and plainly.
//! One file, because it is read beside `optimus.lua`, which is one too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use agents::mail::Inventory;
use agents::mail::feeding::{FeedKey, OwnLot};
use agents::mail::report::{Committed, Owned, Parking, Rename, Renamed, Report};
use agents::view::View;
use postfix_wire::QueueId;
use spool::{
    Act, Agent, AgentId, AgentKind, CommitNumber, Cut, Directory, Disowned, Domain, Epoch,
    FencingToken, Inbox, Lane, LotNumber, MessageId, NodeId, NodeLoad, Overview, ReadyLot, Rest,
    Start,
};

use agents::lease::{LeaseAnswer, LeaseQuestion};

/// Less than half of the window of a node that is alone.
const WINDOW_SHARED: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
enum LotState {
    Ready,
    Assigned(NodeId),
    Parked(Domain),
}

#[derive(Debug)]
struct Lot {
    state: LotState,
    epoch: u64,
    ids: BTreeSet<MessageId>,
}

/// Commits of a node.
#[derive(Debug, Default, Clone, Copy)]
struct Numbers {
    last: CommitNumber,
    mark: CommitNumber,
    floor: CommitNumber,
}

#[derive(Debug, Default)]
pub(crate) struct Redis {
    pub now_ms: u64,
    pub lot_size: usize,
    pub lease_ms: u64,
    /// With when each came.
    inbox: VecDeque<(MessageId, u64)>,
    pub disowned: BTreeSet<MessageId>,
    stored: BTreeSet<MessageId>,
    done: BTreeSet<MessageId>,
    pub quarantine: BTreeSet<MessageId>,
    lots: BTreeMap<u64, Lot>,
    next_lot: u64,
    /// The Mail Agent that arrived last for a node, and when.
    arrived: BTreeMap<NodeId, (Start, u64)>,
    mail: BTreeMap<NodeId, BTreeMap<QueueId, Owned>>,
    numbers: BTreeMap<NodeId, Numbers>,
    deferred: BTreeMap<MessageId, Rest>,
    held: BTreeSet<MessageId>,
    /// Messages that were deleted here, and not by a node.
    pub deleted: BTreeSet<MessageId>,
    /// For messages in the inbox, and for committed ones.
    inbox_orders: BTreeMap<MessageId, Act>,
    node_orders: BTreeMap<MessageId, Act>,
    agents: BTreeMap<AgentId, Agent>,
    gone: BTreeMap<AgentId, Agent>,
    starts: u64,
    /// Number of messages that have been parked so far.
    pub parked: usize,
    /// Notices that have been published since they were last taken.
    pub published: Vec<String>,
}

impl Redis {
    pub(crate) fn submit(&mut self, id: MessageId) {
        self.inbox.push_back((id, self.now_ms));
        self.published.push("inbox".to_owned());
    }

    pub(crate) fn disown(&mut self, id: MessageId) -> Disowned {
        let is_ordered = self.inbox_orders.contains_key(&id);
        if self.stored.contains(&id) || self.done.contains(&id) || is_ordered {
            return Disowned::Known;
        }
        self.disowned.insert(id);
        Disowned::Disowned
    }

    pub(crate) fn cut(&mut self, lot: LotNumber, node: &NodeId) -> Cut {
        if lot.0 != self.next_lot + 1 {
            return if lot.0 <= self.next_lot { Cut::Already } else { Cut::Early };
        }
        let count = self.lot_size.min(self.inbox.len());
        let taken: Vec<MessageId> = self.inbox.drain(..count).map(|(id, _)| id).collect();
        let is_known = |id: &MessageId| {
            self.stored.contains(id) || self.done.contains(id) || self.disowned.contains(id)
        };
        let mut fresh: BTreeSet<MessageId> = taken.into_iter().filter(|id| !is_known(id)).collect();
        let orders: BTreeMap<MessageId, Act> =
            fresh.iter().filter_map(|id| self.inbox_orders.remove_entry(id)).collect();
        for (id, act) in orders {
            fresh.remove(&id);
            self.carry_out(id, Some(act));
        }
        let (messages, left) = (fresh.len() as u64, self.inbox.len() as u64);
        if fresh.is_empty() {
            return Cut::Nothing { left };
        }
        self.stored.extend(&fresh);
        self.new_lot(LotState::Assigned(node.clone()), fresh);
        self.published.push(format!("assigned {node}"));
        self.published.push(format!("cut {lot}"));
        Cut::Cut { messages, left }
    }

    /// Whether the message is not sent for that.
    fn carry_out(&mut self, id: MessageId, order: Option<Act>) -> bool {
        match order {
            Some(Act::Delete) => {
                self.stored.remove(&id);
                self.done.insert(id);
                self.deleted.insert(id);
            }
            Some(Act::Hold) => {
                self.stored.insert(id);
                self.held.insert(id);
            }
            Some(Act::Release | Act::Requeue) | None => return false,
        }
        true
    }

    /// An operator does this to a message, wherever it is.
    pub(crate) fn operate(&mut self, act: Act, id: MessageId) {
        let node = self
            .mail
            .iter()
            .find(|(_, mail)| mail.values().any(|it| it.id == id))
            .map(|(node, _)| node);
        if let Some(node) = node {
            if self.node_orders.get(&id) != Some(&Act::Delete) {
                self.published.push(format!("ordered {node}"));
                self.node_orders.insert(id, act);
            }
        } else if self.stored.contains(&id) {
            self.operate_here(act, id);
        } else if self.inbox.iter().any(|(it, _)| *it == id) && !self.is_remembered(id) {
            let before = self.inbox_orders.get(&id);
            match act {
                _ if before == Some(&Act::Delete) => (),
                Act::Delete | Act::Hold => drop(self.inbox_orders.insert(id, act)),
                Act::Release | Act::Requeue => drop(self.inbox_orders.remove(&id)),
            }
        }
    }

    fn is_remembered(&self, id: MessageId) -> bool {
        self.done.contains(&id) || self.disowned.contains(&id)
    }

    fn operate_here(&mut self, act: Act, id: MessageId) {
        let lot = self.lots.iter().find(|(_, lot)| lot.ids.contains(&id)).map(|(n, _)| *n);
        let is_held = self.held.contains(&id);
        if self.quarantine.contains(&id)
            || (act == Act::Hold && is_held)
            || (act == Act::Release && !is_held)
        {
            return;
        }
        self.held.remove(&id);
        if let Some(n) = lot {
            self.take_out(FeedKey { lot: LotNumber(n), epoch: Epoch(0), id });
        }
        if !self.carry_out(id, Some(act)) {
            let n = self.new_lot(LotState::Ready, BTreeSet::from([id]));
            self.published.push(format!("ready {n}"));
        }
    }

    fn new_lot(&mut self, state: LotState, ids: BTreeSet<MessageId>) -> u64 {
        self.next_lot += 1;
        self.lots.insert(self.next_lot, Lot { state, epoch: 1, ids });
        self.next_lot
    }

    pub(crate) fn assign(&mut self, lot: LotNumber, node: &NodeId) -> bool {
        let Some(it) = self.lots.get_mut(&lot.0) else { return false };
        if !matches!(it.state, LotState::Assigned(_)) {
            it.state = LotState::Assigned(node.clone());
            self.published.push(format!("assigned {node}"));
        }
        it.state == LotState::Assigned(node.clone())
    }

    pub(crate) fn fetch(&self, node: &NodeId) -> Vec<OwnLot> {
        let ours =
            self.lots.iter().filter(|(_, lot)| lot.state == LotState::Assigned(node.clone()));
        let own = |(n, lot): (&u64, &Lot)| OwnLot {
            lot: LotNumber(*n),
            epoch: Epoch(lot.epoch),
            ids: lot.ids.iter().copied().collect(),
        };
        ours.map(own).collect()
    }

    pub(crate) fn reassign(&mut self, node: &NodeId) -> u64 {
        let mut count = 0;
        for (n, lot) in
            self.lots.iter_mut().filter(|(_, lot)| lot.state == LotState::Assigned(node.clone()))
        {
            lot.state = LotState::Ready;
            lot.epoch += 1;
            count += 1;
            self.published.push(format!("ready {n}"));
        }
        count
    }

    /// Whether a later Mail Agent of the node has arrived.
    pub(crate) fn is_superseded(&self, token: &FencingToken) -> bool {
        self.arrived.get(&token.node).is_some_and(|(start, _)| *start > token.start)
    }

    pub(crate) fn arrive(&mut self, token: &FencingToken) {
        if !self.is_superseded(token) {
            self.arrived.insert(token.node.clone(), (token.start, self.now_ms));
        }
    }

    pub(crate) fn lose(&mut self, node: &NodeId, grace: Duration) -> u64 {
        let is_back = |(_, seen): &(Start, u64)| u128::from(self.now_ms - seen) < grace.as_millis();
        if self.arrived.get(node).is_some_and(is_back) {
            return 0;
        }
        let mail = self.mail.remove(node).unwrap_or_default();
        let ids: BTreeSet<MessageId> = mail.into_values().map(|it| it.id).collect();
        self.make_again(ids) as u64
    }

    /// Carries out operators' orders first.
    fn make_again(&mut self, mut ids: BTreeSet<MessageId>) -> usize {
        ids.iter().for_each(|id| _ = self.deferred.remove(id));
        let orders: BTreeMap<MessageId, Act> =
            ids.iter().filter_map(|id| self.node_orders.remove_entry(id)).collect();
        for (id, act) in orders {
            if self.carry_out(id, Some(act)) {
                ids.remove(&id);
            }
        }
        let count = ids.len();
        if count > 0 {
            let n = self.new_lot(LotState::Ready, ids);
            self.published.push(format!("ready {n}"));
        }
        count
    }

    pub(crate) fn inventory(&self, node: &NodeId) -> Inventory {
        let committed = self.mail.get(node).cloned().unwrap_or_default();
        let stopped =
            self.orders(node).into_iter().filter(|(_, act)| act.stops()).map(|(id, _)| id);
        Inventory { stopped: stopped.collect(), committed, resting: self.resting() }
    }

    pub(crate) fn orders(&self, node: &NodeId) -> BTreeMap<MessageId, Act> {
        let owned = self.mail.get(node).into_iter().flat_map(BTreeMap::values);
        owned.filter_map(|it| Some((it.id, *self.node_orders.get(&it.id)?))).collect()
    }

    pub(crate) fn is_committed(&self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> bool {
        self.number(node, queue_id, id).is_some()
    }

    fn number(&self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> Option<CommitNumber> {
        let owned = self.mail.get(node)?.get(queue_id)?;
        (owned.id == id).then_some(owned.number)
    }

    fn enter(&mut self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> CommitNumber {
        let last = &mut self.numbers.entry(node.clone()).or_default().last;
        last.0 += 1;
        let owned = Owned { id, number: *last };
        self.mail.entry(node.clone()).or_default().insert(queue_id.clone(), owned);
        owned.number
    }

    pub(crate) fn attend(&mut self, node: &NodeId, mark: CommitNumber) -> CommitNumber {
        let numbers = self.numbers.entry(node.clone()).or_default();
        if mark < numbers.mark {
            numbers.floor = numbers.last;
        }
        (numbers.mark, numbers.last) = (mark, numbers.last.max(mark));
        numbers.floor
    }

    fn absent(&mut self, node: &NodeId, mark: CommitNumber, files: &[(QueueId, MessageId)]) {
        let floor = self.numbers.get(node).copied().unwrap_or_default().floor;
        let is_proven = |number: CommitNumber| number > floor && number <= mark;
        let (settled, resent): (Vec<_>, Vec<_>) = files
            .iter()
            .filter(|(queue_id, id)| self.is_committed(node, queue_id, *id))
            .cloned()
            .partition(|(queue_id, id)| self.number(node, queue_id, *id).is_some_and(is_proven));
        settled.iter().for_each(|(queue_id, id)| self.erase(node, queue_id, *id));
        self.uncommit(node, &resent);
    }

    fn rename(&mut self, node: &NodeId, it: &Rename) -> Renamed {
        let floor = self.numbers.get(node).copied().unwrap_or_default().floor;
        let there = self.mail.get(node).and_then(|mail| mail.get(&it.now)).copied();
        match there {
            Some(owned) if owned.id == it.id && (it.was != it.now || owned.number > floor) => {
                return Renamed::Noted(owned.number);
            }
            Some(owned) if owned.id != it.id => return Renamed::Occupied,
            _ => (),
        }
        let Some(number) = self.number(node, &it.was, it.id) else { return Renamed::Unknown };
        let mail = self.mail.entry(node.clone()).or_default();
        mail.remove(&it.was);
        if number <= floor {
            return Renamed::Noted(self.enter(node, &it.now, it.id));
        }
        mail.insert(it.now.clone(), Owned { id: it.id, number });
        Renamed::Noted(number)
    }

    pub(crate) fn report(
        &mut self,
        node: &NodeId,
        report: &Report,
    ) -> (Vec<Committed>, Vec<Renamed>) {
        let renamed = report.renames.iter().map(|it| self.rename(node, it)).collect();
        for (queue_id, id, act) in &report.obeyed {
            if self.is_committed(node, queue_id, *id) && self.node_orders.get(id) == Some(act) {
                self.node_orders.remove(id);
                if *act == Act::Delete {
                    self.erase(node, queue_id, *id);
                }
            }
        }
        for (queue_id, id) in &report.settles {
            if self.is_committed(node, queue_id, *id) {
                self.erase(node, queue_id, *id);
            }
        }
        self.uncommit(node, &report.uncommits);
        self.absent(node, report.mark, &report.absents);
        for (queue_id, id, rest) in &report.deferrals {
            if self.is_committed(node, queue_id, *id) {
                self.deferred.insert(*id, *rest);
            }
        }
        report.parks.iter().for_each(|it| self.park(node, it));
        for (key, _) in &report.refusals {
            if self.holds(node, *key) {
                self.take_out(*key);
                self.quarantine.insert(key.id);
            }
        }
        (report.commits.iter().map(|it| self.commit(node, it.key, &it.queue_id)).collect(), renamed)
    }

    fn park(&mut self, node: &NodeId, parking: &Parking) {
        let held: Vec<FeedKey> =
            parking.keys.iter().filter(|it| self.holds(node, **it)).copied().collect();
        held.iter().for_each(|key| self.take_out(*key));
        if !held.is_empty() {
            let ids = held.into_iter().map(|key| key.id).collect();
            self.new_lot(LotState::Parked(parking.to.clone()), ids);
            self.parked += parking.keys.len();
        }
    }

    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: BTreeMap<Domain, Lane> = BTreeMap::new();
        for (n, lot) in &self.lots {
            if let LotState::Parked(to) = &lot.state {
                let lane = lanes.entry(to.clone()).or_insert_with(|| Lane {
                    to: to.clone(),
                    lots_total: 0,
                    lots: Vec::new(),
                });
                lane.lots_total += 1;
                lane.lots.push(ReadyLot { lot: LotNumber(*n), messages: lot.ids.len() as u64 });
            }
        }
        lanes.into_values().collect()
    }

    pub(crate) fn resting(&self) -> BTreeSet<MessageId> {
        self.deferred.keys().copied().collect()
    }

    fn uncommit(&mut self, node: &NodeId, files: &[(QueueId, MessageId)]) {
        let committed: Vec<_> = files
            .iter()
            .filter(|(queue_id, id)| self.is_committed(node, queue_id, *id))
            .cloned()
            .collect();
        for (queue_id, _) in &committed {
            self.mail.entry(node.clone()).or_default().remove(queue_id);
        }
        self.make_again(committed.into_iter().map(|(_, id)| id).collect());
    }

    fn erase(&mut self, node: &NodeId, queue_id: &QueueId, id: MessageId) {
        self.done.insert(id);
        self.stored.remove(&id);
        self.deferred.remove(&id);
        self.node_orders.remove(&id);
        self.mail.entry(node.clone()).or_default().remove(queue_id);
    }

    fn commit(&mut self, node: &NodeId, key: FeedKey, queue_id: &QueueId) -> Committed {
        if let Some(number) = self.number(node, queue_id, key.id) {
            let is_stopped = self.node_orders.get(&key.id).is_some_and(|act| act.stops());
            return if is_stopped { Committed::Ordered(number) } else { Committed::Ours(number) };
        }
        if self.holds(node, key) {
            if self.mail.entry(node.clone()).or_default().contains_key(queue_id) {
                return Committed::Occupied;
            }
            self.take_out(key);
            return Committed::Ours(self.enter(node, queue_id, key.id));
        }
        match key.id {
            id if self.stored.contains(&id) => Committed::Fenced,
            id if self.done.contains(&id) => Committed::Settled,
            _ => Committed::Unknown,
        }
    }

    fn holds(&self, node: &NodeId, key: FeedKey) -> bool {
        self.lots.get(&key.lot.0).is_some_and(|lot| {
            lot.state == LotState::Assigned(node.clone())
                && lot.epoch == key.epoch.0
                && lot.ids.contains(&key.id)
        })
    }

    fn take_out(&mut self, key: FeedKey) {
        let Some(lot) = self.lots.get_mut(&key.lot.0) else { return };
        lot.ids.remove(&key.id);
        if lot.ids.is_empty() {
            self.lots.remove(&key.lot.0);
        }
    }

    pub(crate) fn lease(&mut self, question: LeaseQuestion) -> LeaseAnswer {
        match question {
            LeaseQuestion::Take { member, capacity } => {
                let before =
                    self.agents.get(&member.agent).or_else(|| self.gone.get(&member.agent));
                let is_later = |it: &&Agent| {
                    it.generation > member.generation && it.lease_ends_ms > self.now_ms
                };
                if before.is_some_and(|it| is_later(&it)) {
                    return LeaseAnswer::Superseded;
                }
                let same =
                    before.filter(|it| it.generation == member.generation).map(|it| it.start);
                let start = same.unwrap_or_else(|| {
                    self.starts = (self.starts + 1).max(self.now_ms);
                    Start(self.starts)
                });
                let lease_ends_ms = self.now_ms + self.lease_ms;
                let agents::lease::Member { agent, kind, generation, name } = member;
                self.gone.remove(&agent);
                let entry = Agent {
                    agent: agent.clone(),
                    lease_ends_ms,
                    kind,
                    generation,
                    start,
                    name,
                    capacity,
                };
                self.agents.insert(agent, entry);
                LeaseAnswer::Taken(start)
            }
            LeaseQuestion::Renew(member) => match self.agents.get_mut(&member.agent) {
                Some(it) if it.generation != member.generation => LeaseAnswer::Superseded,
                Some(it) if it.lease_ends_ms > self.now_ms => {
                    it.lease_ends_ms = self.now_ms + self.lease_ms;
                    LeaseAnswer::Renewed
                }
                Some(_) | None => LeaseAnswer::Lapsed,
            },
            LeaseQuestion::Leave(member) => {
                if self
                    .agents
                    .get(&member.agent)
                    .is_some_and(|it| it.generation == member.generation)
                {
                    self.end_lease(&member.agent, self.now_ms);
                }
                LeaseAnswer::Left
            }
        }
    }

    fn end_lease(&mut self, agent: &AgentId, ended_ms: u64) {
        let Some(mut it) = self.agents.remove(agent) else { return };
        if it.kind == AgentKind::Mail {
            it.lease_ends_ms = ended_ms;
            self.gone.insert(agent.clone(), it);
        }
    }

    pub(crate) fn reap(&mut self) {
        let over = |it: &&Agent| it.lease_ends_ms <= self.now_ms;
        let ended: Vec<_> = self
            .agents
            .values()
            .filter(over)
            .map(|it| (it.agent.clone(), it.lease_ends_ms))
            .collect();
        ended.iter().for_each(|(agent, ended_ms)| self.end_lease(agent, *ended_ms));
    }

    pub(crate) fn see(&self) -> View {
        let directory = Directory {
            now_ms: self.now_ms,
            leases: self.agents.values().cloned().collect(),
            gone: self.gone.values().cloned().collect(),
        };
        View::of(&directory, &self.overview(), WINDOW_SHARED)
    }

    /// The most that a node may hold, if not its own window.
    pub(crate) fn window(&self) -> u32 {
        let is_alive = |it: &&Agent| it.kind == AgentKind::Mail && it.lease_ends_ms > self.now_ms;
        if self.agents.values().filter(is_alive).count() > 1 { WINDOW_SHARED } else { u32::MAX }
    }

    fn overview(&self) -> Overview {
        let count = |lot: &Lot| lot.ids.len() as u64;
        let mut overview = Overview {
            now_ms: self.now_ms,
            inbox: Inbox {
                entries: self.inbox.len() as u64,
                oldest_ms: self.inbox.front().map(|(_, since_ms)| *since_ms),
                malformed: 0,
                next_lot: LotNumber(self.next_lot + 1),
            },
            ready_lots: 0,
            ready: Vec::new(),
            quarantine: 0,
            nodes: Vec::new(),
        };
        let mut nodes: BTreeMap<NodeId, NodeLoad> = BTreeMap::new();
        let idle = |node: &NodeId| NodeLoad {
            node: node.clone(),
            lots: 0,
            pending: 0,
            committed: 0,
            deferred: 0,
            on_hold: 0,
        };
        for (n, lot) in &self.lots {
            let (number, messages) = (LotNumber(*n), count(lot));
            match &lot.state {
                LotState::Ready => overview.ready.push(ReadyLot { lot: number, messages }),
                LotState::Parked(_) => (),
                LotState::Assigned(node) => {
                    let load = nodes.entry(node.clone()).or_insert_with(|| idle(node));
                    load.lots += 1;
                    load.pending += messages;
                }
            }
        }
        for (node, mail) in self.mail.iter().filter(|(_, mail)| !mail.is_empty()) {
            let load = nodes.entry(node.clone()).or_insert_with(|| idle(node));
            load.committed = mail.len() as u64;
            let rest = mail.values().filter_map(|it| self.deferred.get(&it.id));
            let (on_hold, deferred): (Vec<&Rest>, Vec<&Rest>) =
                rest.partition(|rest| **rest == Rest::OnHold);
            (load.deferred, load.on_hold) = (deferred.len() as u64, on_hold.len() as u64);
        }
        overview.ready_lots = overview.ready.len() as u64;
        overview.nodes = nodes.into_values().collect();
        overview
    }

    /// Nothing in the inbox or any lot, nothing committed or on hold, and no order.
    pub(crate) fn is_empty(&self) -> bool {
        let has_orders = !self.inbox_orders.is_empty() || !self.node_orders.is_empty();
        let has_mail = self.mail.values().any(|mail| !mail.is_empty()) || !self.held.is_empty();
        self.inbox.is_empty() && self.lots.is_empty() && !has_mail && !has_orders
    }
}
