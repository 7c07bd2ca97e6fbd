//! Functions and calls that only read.

use std::collections::{BTreeMap, BTreeSet};

use postfix_wire::QueueId;

use super::{Done, Lot, LotState, Model, Owned};
use crate::{
    Act, AssignedLot, CommitNumber, Domain, Epoch, FencingToken, Inbox, Lane, LotNumber, MessageId,
    NodeId, NodeLoad, Overview, Placed, ReadyLot, Rest, SpoolError, Tenured,
};

impl Model {
    /// Models `Spool::fetch`.
    pub fn fetch(&self, token: &FencingToken) -> Result<Vec<AssignedLot>, SpoolError> {
        self.expect_latest(token)?;
        let own = |(&n, lot): (&u64, &Lot)| AssignedLot {
            lot: LotNumber(n),
            epoch: Epoch(lot.epoch),
            ids: lot.ids.clone(),
        };
        Ok(self.lots_of(&token.node).map(own).collect())
    }

    fn lots_of(&self, node: &NodeId) -> impl Iterator<Item = (&u64, &Lot)> {
        let its = LotState::Assigned(node.clone());
        self.lots.iter().filter(move |(_, lot)| lot.state == its)
    }

    /// Models `Spool::inventory_numbered`.
    pub fn inventory_numbered(&self, node: &NodeId) -> Vec<(Placed, CommitNumber)> {
        let placed = |(queue_id, it): (&QueueId, &Owned)| {
            (Placed { queue_id: queue_id.clone(), id: it.id }, it.number)
        };
        self.mail.get(node).into_iter().flatten().map(placed).collect()
    }

    fn committed_to(&self, node: &NodeId) -> impl Iterator<Item = MessageId> {
        self.mail.get(node).into_iter().flat_map(BTreeMap::values).map(|it| it.id)
    }

    /// Models `Spool::resting`.
    pub fn resting(&self, node: &NodeId) -> BTreeMap<MessageId, Rest> {
        self.committed_to(node).filter_map(|id| Some((id, *self.deferred.get(&id)?))).collect()
    }

    /// Models `Spool::orders_of`.
    pub fn orders_of(&self, node: &NodeId) -> BTreeMap<MessageId, Act> {
        let order = |id: MessageId| Some((id, *self.node_orders.get(&id)?));
        self.committed_to(node).filter_map(order).collect()
    }

    /// Models `Spool::lanes`, with all lots.
    pub fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<(&u64, &Domain)> = self.lanes.iter().map(|it| (it.1, it.0)).collect();
        lanes.sort();
        lanes.into_iter().map(|(_, to)| self.lane(to)).collect()
    }

    fn lane(&self, to: &Domain) -> Lane {
        let its = LotState::Parked(to.clone());
        let lots = self.described(&its);
        Lane { to: to.clone(), lots_total: lots.len() as u64, lots }
    }

    fn described(&self, state: &LotState) -> Vec<ReadyLot> {
        let lots = self.lots.iter().filter(|(_, lot)| lot.state == *state);
        let describe = |(&n, lot): (&u64, &Lot)| ReadyLot {
            lot: LotNumber(n),
            messages: lot.ids.len() as u64,
        };
        lots.map(describe).collect()
    }

    /// Models `Spool::overview`, with all ready lots. Nodes are in the order of their names.
    pub fn overview(&self) -> Overview {
        let ready = self.described(&LotState::Ready);
        Overview {
            now_ms: self.now_ms,
            inbox: Inbox {
                entries: self.inbox.len() as u64,
                oldest_ms: self.inbox.front().copied().flatten().map(MessageId::unix_ms),
                malformed: self.malformed as u64,
                next_lot: LotNumber(self.lots_made + 1),
            },
            ready_lots: ready.len() as u64,
            ready,
            quarantine: self.quarantine.len() as u64,
            nodes: self.busy_nodes().iter().map(|node| self.load(node)).collect(),
        }
    }

    /// Returns the nodes that have lots or committed messages.
    pub(super) fn busy_nodes(&self) -> BTreeSet<NodeId> {
        let holders = self.lots.values().filter_map(|lot| match &lot.state {
            LotState::Assigned(node) => Some(node),
            LotState::Ready | LotState::Parked(_) => None,
        });
        let owners = self.mail.iter().filter(|(_, mail)| !mail.is_empty()).map(|(node, _)| node);
        holders.chain(owners).cloned().collect()
    }

    fn load(&self, node: &NodeId) -> NodeLoad {
        let rests: Vec<&Rest> =
            self.committed_to(node).filter_map(|id| self.deferred.get(&id)).collect();
        let on_hold = rests.iter().filter(|rest| ***rest == Rest::OnHold).count() as u64;
        NodeLoad {
            node: node.clone(),
            lots: self.lots_of(node).count() as u64,
            pending: self.lots_of(node).map(|(_, lot)| lot.ids.len() as u64).sum(),
            committed: self.committed_to(node).count() as u64,
            deferred: rests.len() as u64 - on_hold,
            on_hold,
        }
    }

    /// Returns whether this message is committed to the node as this file.
    pub fn is_committed(&self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> bool {
        self.is_committed_as(node, queue_id, id)
    }

    /// Returns whether the message was settled, or dropped from quarantine.
    pub fn is_settled(&self, id: MessageId) -> bool {
        self.done.get(&id) == Some(&Done::Settled)
    }

    /// Returns the messages that were deleted, by Redis or by an order to a node.
    pub fn deleted(&self) -> BTreeSet<MessageId> {
        self.ended(Done::Deleted)
    }

    /// Returns the disowned ids.
    pub fn disowned(&self) -> BTreeSet<MessageId> {
        self.ended(Done::Disowned)
    }

    fn ended(&self, how: Done) -> BTreeSet<MessageId> {
        self.done.iter().filter(|(_, it)| **it == how).map(|(id, _)| *id).collect()
    }

    /// Returns the messages in quarantine.
    pub fn quarantined(&self) -> BTreeSet<MessageId> {
        self.quarantine.keys().copied().collect()
    }

    /// Returns whether no message is in the inbox, in a lot, held or committed, and no order
    /// stands.
    pub fn is_empty(&self) -> bool {
        let has_orders = !self.inbox_orders.is_empty() || !self.node_orders.is_empty();
        let has_mail = self.mail.values().any(|mail| !mail.is_empty()) || !self.held.is_empty();
        self.inbox.is_empty() && self.lots.is_empty() && !has_mail && !has_orders
    }

    /// Returns messages in assigned lots, with the node and the tenure under which each may be
    /// committed.
    pub fn assigned(&self) -> Vec<(NodeId, Tenured)> {
        let mut found = Vec::new();
        for (&n, lot) in &self.lots {
            if let LotState::Assigned(node) = &lot.state {
                let (lot_number, epoch) = (LotNumber(n), Epoch(lot.epoch));
                let tenured =
                    |id: &MessageId| (node.clone(), Tenured { id: *id, lot: lot_number, epoch });
                found.extend(lot.ids.iter().map(tenured));
            }
        }
        found
    }

    /// Returns the lots that are ready or parked.
    pub fn unassigned(&self) -> Vec<LotNumber> {
        let waits = |lot: &Lot| !matches!(lot.state, LotState::Assigned(_));
        self.lots.iter().filter(|(_, lot)| waits(lot)).map(|(&n, _)| LotNumber(n)).collect()
    }
}
