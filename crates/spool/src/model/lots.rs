//! Submission, lots, quarantine, and the loss of a node.

use std::cmp::Ordering;
use std::time::Duration;

use super::{Done, Fate, Lot, LotState, Model};
use crate::{
    Act, Assigned, CommitNumber, Cut, Disowned, Domain, Dropped, Epoch, Lost, LotNumber, MessageId,
    MessagePlace, NodeId, Rest, Retried, SmallLot, Taken,
};

/// Age up to which an id can be disowned, milliseconds.
const DISOWN_MS: u64 = 24 * 3600 * 1000;

impl Model {
    /// Appends a message to the inbox, without the submitter's notice.
    pub fn submit(&mut self, id: MessageId) {
        self.inbox.push_back(Some(id));
    }

    /// Appends a malformed entry to the inbox.
    pub fn submit_malformed(&mut self) {
        self.inbox.push_back(None);
    }

    /// Models `Spool::disown`.
    pub fn disown(&mut self, id: MessageId) -> Disowned {
        let is_known = self.is_stored(id) || self.inbox_orders.contains_key(&id);
        match self.done.get(&id) {
            Some(Done::Disowned) => Disowned::Disowned,
            Some(_) => Disowned::Known,
            None if is_known => Disowned::Known,
            None if id.unix_ms() < self.now_ms.saturating_sub(DISOWN_MS) => Disowned::TooLate,
            None => {
                self.done.insert(id, Done::Disowned);
                Disowned::Disowned
            }
        }
    }

    /// Models `Spool::cut`.
    pub fn cut(&mut self, lot: LotNumber, size: u32, to: Option<&NodeId>) -> Cut {
        match lot.0.cmp(&(self.lots_made + 1)) {
            Ordering::Less => return Cut::Already,
            Ordering::Greater => return Cut::Early,
            Ordering::Equal => (),
        }
        let mut fresh: Vec<MessageId> = Vec::new();
        for _ in 0..(size as usize).min(self.inbox.len()) {
            let entry = self.inbox.pop_front().flatten();
            if let Some(id) = self.take_in(entry).filter(|id| !fresh.contains(id)) {
                fresh.push(id);
            }
        }
        let (messages, left) = (fresh.len() as u64, self.inbox.len() as u64);
        if fresh.is_empty() {
            return Cut::Nothing { left };
        }
        let contents = match fresh.len() {
            0..=SmallLot::MESSAGES_MAX => format!(" {}", SmallLot { lot, ids: fresh.clone() }),
            _ => String::new(),
        };
        let n = self
            .new_lot(to.map_or(LotState::Ready, |node| LotState::Assigned(node.clone())), fresh);
        self.publish(match to {
            Some(node) => format!("assigned {node}{contents}"),
            None => format!("ready {n}"),
        });
        self.publish(format!("cut {n}"));
        Cut::Cut { messages, left }
    }

    /// Notes that an entry has left the inbox. Returns its message if that belongs in a lot.
    fn take_in(&mut self, entry: Option<MessageId>) -> Option<MessageId> {
        self.taken += 1;
        let Some(id) = entry else {
            self.malformed += 1;
            return None;
        };
        let order = self.inbox_orders.remove(&id);
        if self.is_stored(id) || self.is_remembered(id) {
            return None;
        }
        (self.carry_out(id, order) == Fate::Sent).then_some(id)
    }

    /// Models `Spool::tidy`.
    pub fn tidy(&mut self) -> u64 {
        let mut count = 0;
        while let Some(&entry) = self.inbox.front() {
            let belongs_in_a_lot = |id: MessageId| {
                !self.inbox_orders.contains_key(&id)
                    && !self.is_stored(id)
                    && !self.is_remembered(id)
            };
            if entry.is_some_and(belongs_in_a_lot) {
                break;
            }
            self.inbox.pop_front();
            self.take_in(entry);
            count += 1;
        }
        count
    }

    /// Carries an order out for a message that was taken from its place. Returns whether the order
    /// stops the message.
    pub(super) fn carry_out(&mut self, id: MessageId, order: Option<Act>) -> Fate {
        match order {
            Some(Act::Delete) => {
                self.done.insert(id, Done::Deleted);
                Fate::Deleted
            }
            Some(Act::Hold) => {
                self.held.insert(id);
                Fate::Held
            }
            Some(Act::Release | Act::Requeue) | None => Fate::Sent,
        }
    }

    pub(super) fn new_lot(&mut self, state: LotState, ids: Vec<MessageId>) -> u64 {
        self.lots_made += 1;
        self.lots.insert(self.lots_made, Lot { state, epoch: 1, ids });
        self.lots_made
    }

    /// Makes a ready lot of these messages, if there are any.
    pub(super) fn make_ready(&mut self, ids: Vec<MessageId>) {
        if !ids.is_empty() {
            let n = self.new_lot(LotState::Ready, ids);
            self.publish(format!("ready {n}"));
        }
    }

    pub(super) fn take_out(&mut self, n: u64, id: MessageId) {
        let Some(lot) = self.lots.get_mut(&n) else { return };
        lot.ids.retain(|it| *it != id);
        if lot.ids.is_empty() {
            self.lots.remove(&n);
            self.end_empty_lanes();
        }
    }

    fn end_empty_lanes(&mut self) {
        let lots = &self.lots;
        let has_lots = |to: &Domain| {
            lots.values().any(|it| matches!(&it.state, LotState::Parked(lane) if lane == to))
        };
        self.lanes.retain(|to, _| has_lots(to));
    }

    /// Models `Spool::assign`.
    pub fn assign(&mut self, lots: &[(LotNumber, NodeId)]) -> Vec<Assigned> {
        lots.iter().map(|(lot, node)| self.assign_one(*lot, node)).collect()
    }

    pub(super) fn assign_one(&mut self, lot: LotNumber, node: &NodeId) -> Assigned {
        let Some(it) = self.lots.get_mut(&lot.0) else { return Assigned::Gone };
        let epoch = Epoch(it.epoch);
        match &it.state {
            LotState::Assigned(holder) if holder == node => Assigned::Already(epoch),
            LotState::Assigned(_) => Assigned::Taken,
            LotState::Ready | LotState::Parked(_) => {
                it.state = LotState::Assigned(node.clone());
                self.end_empty_lanes();
                self.publish(format!("assigned {node}"));
                Assigned::Assigned(epoch)
            }
        }
    }

    /// Models `Spool::reassign`.
    pub fn reassign(&mut self, node: &NodeId) -> u64 {
        let its = LotState::Assigned(node.clone());
        let mut notices = Vec::new();
        for (n, lot) in self.lots.iter_mut().filter(|(_, lot)| lot.state == its) {
            (lot.state, lot.epoch) = (LotState::Ready, lot.epoch + 1);
            notices.push(format!("ready {n}"));
        }
        let count = notices.len() as u64;
        self.published.extend(notices);
        count
    }

    /// Models `Spool::lose`.
    pub fn lose(&mut self, node: &NodeId, grace: Duration, has_agent: bool) -> Lost {
        let arrived_ms = self.arrived.get(node).map(|(_, seen_ms)| *seen_ms);
        let attended_ms = self.attended_ms.get(node).copied();
        if has_agent && attended_ms.is_none() {
            return Lost::Alive;
        }
        let seen_ms = arrived_ms.max(attended_ms).unwrap_or_default();
        if Duration::from_millis(self.now_ms.saturating_sub(seen_ms)) < grace {
            return Lost::Alive;
        }
        let mail = self.mail.remove(node).unwrap_or_default();
        let mut ids: Vec<MessageId> = mail.into_values().map(|it| it.id).collect();
        ids.sort_unstable();
        let (mut taken, mut resent) = (Taken::default(), Vec::new());
        for id in ids {
            match self.put_back(id, &mut resent) {
                Fate::Sent => taken.resent += 1,
                Fate::Held => taken.held += 1,
                Fate::Deleted => taken.deleted += 1,
            }
        }
        self.make_ready(resent);
        Lost::Lost(taken)
    }

    /// Adds a message that was committed to those that must be sent again, or carries an operator's
    /// order out. A message that was on hold stays so without an order. The caller puts `resent`
    /// into a lot.
    pub(super) fn put_back(&mut self, id: MessageId, resent: &mut Vec<MessageId>) -> Fate {
        let rest = self.deferred.remove(&id);
        let hold = (rest == Some(Rest::OnHold)).then_some(Act::Hold);
        let order = self.node_orders.remove(&id).or(hold);
        let fate = self.carry_out(id, order);
        if fate == Fate::Sent {
            resent.push(id);
        }
        fate
    }

    /// Models `Spool::retry_quarantined`.
    pub fn retry_quarantined(&mut self, ids: &[MessageId]) -> Vec<Retried> {
        let mut moved = Vec::new();
        let mut retry = |id: MessageId| match self.place_of(id) {
            _ if moved.contains(&id) => Retried::Already,
            Some(MessagePlace::Quarantine(_)) => {
                self.quarantine.remove(&id);
                moved.push(id);
                Retried::Retried
            }
            None | Some(MessagePlace::Inbox) if self.is_remembered(id) => Retried::Settled,
            None | Some(MessagePlace::Inbox) => Retried::Unknown,
            Some(_) => Retried::Already,
        };
        let answers = ids.iter().map(|id| retry(*id)).collect();
        self.make_ready(moved);
        answers
    }

    /// Models `Spool::drop_quarantined`.
    pub fn drop_quarantined(&mut self, ids: &[MessageId]) -> Vec<Dropped> {
        let drop = |id: &MessageId| match self.place_of(*id) {
            Some(MessagePlace::Quarantine(_)) => {
                self.quarantine.remove(id);
                self.done.insert(*id, Done::Settled);
                Dropped::Dropped
            }
            None | Some(MessagePlace::Inbox) if self.is_remembered(*id) => Dropped::Already,
            None | Some(MessagePlace::Inbox) => Dropped::Unknown,
            Some(_) => Dropped::Kept,
        };
        ids.iter().map(drop).collect()
    }

    /// Models `Spool::attend` by the only queue directory of a node, live until now. Returns the
    /// floor.
    pub fn attend(&mut self, node: &NodeId, mark: CommitNumber) -> CommitNumber {
        self.attended_ms.insert(node.clone(), self.now_ms);
        let it = self.numbers.entry(node.clone()).or_default();
        if mark < it.mark {
            it.floor = it.last;
        }
        (it.last, it.mark) = (it.last.max(mark), mark);
        it.floor
    }
}
