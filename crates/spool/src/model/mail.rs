//! Calls of a Mail Agent, under its fencing token.

use postfix_wire::QueueId;

use super::{Done, Fate, LotState, Model, Owned};
use crate::{
    Absent, Act, Arrived, Assigned, Commit, CommitNumber, Committed, Damage, Deferral, Deferred,
    Domain, Epoch, FencingToken, LotNumber, MessageId, NodeId, Obeyed, Parked, Placed, Refused,
    Rename, Renamed, Settled, SpoolError, Tenured, Uncommitted,
};

/// Reason why a message isn't the caller's.
enum NotYours {
    Fenced,
    Settled,
    Unknown,
}

impl Model {
    /// Models `Spool::arrive`.
    pub fn arrive(&mut self, token: &FencingToken) -> Arrived {
        if self.expect_latest(token).is_err() {
            return Arrived::Superseded;
        }
        let (last, seen_ms) = self.arrived.get(&token.node).copied().unwrap_or_default();
        if last == token.start && seen_ms >= self.now_ms {
            return Arrived::Already;
        }
        self.arrived.insert(token.node.clone(), (token.start, seen_ms.max(self.now_ms)));
        Arrived::Arrived
    }

    /// Models `Spool::hand_back`.
    pub fn hand_back(&mut self, token: &FencingToken) -> Result<u64, SpoolError> {
        self.expect_latest(token)?;
        Ok(self.reassign(&token.node))
    }

    /// Models `Spool::pull`.
    pub fn pull(
        &mut self,
        token: &FencingToken,
        lots: &[LotNumber],
    ) -> Result<Vec<Assigned>, SpoolError> {
        self.expect_latest(token)?;
        Ok(lots.iter().map(|lot| self.assign_one(*lot, &token.node)).collect())
    }

    /// Models `Spool::commit_numbered`.
    pub fn commit_numbered(
        &mut self,
        token: &FencingToken,
        messages: &[Commit],
    ) -> Result<Vec<(Committed, CommitNumber)>, SpoolError> {
        self.expect_latest(token)?;
        Ok(messages.iter().map(|it| self.commit_one(&token.node, it)).collect())
    }

    fn commit_one(&mut self, node: &NodeId, it: &Commit) -> (Committed, CommitNumber) {
        let before = self.owned(node, &it.queue_id);
        if let Some(owned) = before.filter(|owned| owned.id == it.id) {
            let is_stopped = self.node_orders.get(&it.id).is_some_and(|act| act.stops());
            let outcome = if is_stopped { Committed::Ordered } else { Committed::Already };
            return (outcome, owned.number);
        }
        let refused = |outcome| (outcome, CommitNumber(0));
        if !self.holds(node, it.id, (it.lot, it.epoch)) {
            return refused(match self.not_yours(it.id) {
                NotYours::Fenced => Committed::Fenced,
                NotYours::Settled => Committed::Settled,
                NotYours::Unknown => Committed::Unknown,
            });
        }
        if before.is_some() {
            return refused(Committed::Occupied);
        }
        let number = self.enter(node, &it.queue_id, it.id);
        self.take_out(it.lot.0, it.id);
        (Committed::Committed, number)
    }

    fn enter(&mut self, node: &NodeId, queue_id: &QueueId, id: MessageId) -> CommitNumber {
        let last = &mut self.numbers.entry(node.clone()).or_default().last;
        last.0 += 1;
        let owned = Owned { id, number: *last };
        self.mail.entry(node.clone()).or_default().insert(queue_id.clone(), owned);
        owned.number
    }

    /// Returns whether the message is in that lot, and the lot is the node's under that epoch.
    fn holds(&self, node: &NodeId, id: MessageId, (lot, epoch): (LotNumber, Epoch)) -> bool {
        self.lots.get(&lot.0).is_some_and(|it| {
            it.state == LotState::Assigned(node.clone())
                && it.epoch == epoch.0
                && it.ids.contains(&id)
        })
    }

    fn not_yours(&self, id: MessageId) -> NotYours {
        match self.is_stored(id) {
            true => NotYours::Fenced,
            false if self.is_remembered(id) => NotYours::Settled,
            false => NotYours::Unknown,
        }
    }

    /// Models `Spool::park`.
    pub fn park(
        &mut self,
        token: &FencingToken,
        to: &Domain,
        messages: &[Tenured],
    ) -> Result<Vec<Parked>, SpoolError> {
        self.expect_latest(token)?;
        let mut lot = None;
        let answers = messages.iter().map(|it| self.park_one(&token.node, to, it, &mut lot));
        Ok(answers.collect())
    }

    /// Puts a message into the parked lot of this call, which is made when first needed.
    fn park_one(
        &mut self,
        node: &NodeId,
        to: &Domain,
        it: &Tenured,
        parked: &mut Option<u64>,
    ) -> Parked {
        if !self.holds(node, it.id, (it.lot, it.epoch)) {
            return match self.not_yours(it.id) {
                NotYours::Fenced => Parked::Fenced,
                NotYours::Settled => Parked::Settled,
                NotYours::Unknown => Parked::Unknown,
            };
        }
        let n = *parked.get_or_insert_with(|| {
            self.lanes.entry(to.clone()).or_insert(self.now_ms);
            self.new_lot(LotState::Parked(to.clone()), Vec::new())
        });
        self.lots.entry(n).and_modify(|lot| lot.ids.push(it.id));
        self.take_out(it.lot.0, it.id);
        Parked::Parked
    }

    /// Models `Spool::settle`.
    pub fn settle(
        &mut self,
        token: &FencingToken,
        messages: &[Placed],
    ) -> Result<Vec<Settled>, SpoolError> {
        self.expect_latest(token)?;
        let settle = |it: &Placed| match self.is_committed_as(&token.node, &it.queue_id, it.id) {
            true => {
                self.erase(&token.node, it, Done::Settled);
                Settled::Settled
            }
            false if self.is_remembered(it.id) => Settled::Already,
            false => Settled::Unknown,
        };
        Ok(messages.iter().map(settle).collect())
    }

    fn erase(&mut self, node: &NodeId, it: &Placed, how: Done) {
        self.remove_file(node, &it.queue_id);
        self.deferred.remove(&it.id);
        self.node_orders.remove(&it.id);
        self.done.insert(it.id, how);
    }

    fn remove_file(&mut self, node: &NodeId, queue_id: &QueueId) {
        self.mail.entry(node.clone()).and_modify(|mail| _ = mail.remove(queue_id));
    }

    /// Models `Spool::uncommit`, for either evidence.
    pub fn uncommit(
        &mut self,
        token: &FencingToken,
        messages: &[Placed],
    ) -> Result<Vec<Uncommitted>, SpoolError> {
        self.expect_latest(token)?;
        let (mut answers, mut resent) = (Vec::new(), Vec::new());
        for it in messages {
            if !self.is_committed_as(&token.node, &it.queue_id, it.id) {
                answers.push(Uncommitted::Already);
                continue;
            }
            self.remove_file(&token.node, &it.queue_id);
            answers.push(match self.put_back(it.id, &mut resent) {
                Fate::Sent => Uncommitted::Uncommitted,
                Fate::Held => Uncommitted::Held,
                Fate::Deleted => Uncommitted::Deleted,
            });
        }
        self.make_ready(resent);
        Ok(answers)
    }

    /// Models `Spool::absent`.
    pub fn absent(
        &mut self,
        token: &FencingToken,
        mark: CommitNumber,
        messages: &[Placed],
    ) -> Result<Vec<Absent>, SpoolError> {
        self.expect_latest(token)?;
        let floor = self.floor(&token.node);
        let (mut answers, mut resent) = (Vec::new(), Vec::new());
        for it in messages {
            let owned = self.owned(&token.node, &it.queue_id).filter(|owned| owned.id == it.id);
            answers.push(match owned {
                None => Absent::Already,
                Some(owned) if owned.number > floor && owned.number <= mark => {
                    self.erase(&token.node, it, Done::Settled);
                    Absent::Settled
                }
                Some(_) => {
                    self.remove_file(&token.node, &it.queue_id);
                    match self.put_back(it.id, &mut resent) {
                        Fate::Sent => Absent::Resent,
                        Fate::Held => Absent::Held,
                        Fate::Deleted => Absent::Deleted,
                    }
                }
            });
        }
        self.make_ready(resent);
        Ok(answers)
    }

    fn floor(&self, node: &NodeId) -> CommitNumber {
        self.numbers.get(node).copied().unwrap_or_default().floor
    }

    /// Models `Spool::rename`.
    pub fn rename(
        &mut self,
        token: &FencingToken,
        files: &[Rename],
    ) -> Result<Vec<(Renamed, CommitNumber)>, SpoolError> {
        self.expect_latest(token)?;
        Ok(files.iter().map(|it| self.rename_one(&token.node, it)).collect())
    }

    fn rename_one(&mut self, node: &NodeId, it: &Rename) -> (Renamed, CommitNumber) {
        let floor = self.floor(node);
        let there = self.owned(node, &it.now);
        let noted = there.filter(|owned| owned.id == it.id);
        if let Some(owned) = noted.filter(|owned| it.was != it.now || owned.number > floor) {
            return (Renamed::Already, owned.number);
        }
        let Some(owned) = self.owned(node, &it.was).filter(|owned| owned.id == it.id) else {
            return (Renamed::Unknown, CommitNumber(0));
        };
        if there.is_some_and(|there| there.id != it.id) {
            return (Renamed::Occupied, CommitNumber(0));
        }
        self.remove_file(node, &it.was);
        if owned.number <= floor {
            return (Renamed::Renamed, self.enter(node, &it.now, it.id));
        }
        self.mail.entry(node.clone()).or_default().insert(it.now.clone(), owned);
        (Renamed::Renamed, owned.number)
    }

    /// Models `Spool::defer`.
    pub fn defer(
        &mut self,
        token: &FencingToken,
        messages: &[Deferral],
    ) -> Result<Vec<Deferred>, SpoolError> {
        self.expect_latest(token)?;
        let defer = |it: &Deferral| match self.is_committed_as(&token.node, &it.queue_id, it.id) {
            false => Deferred::Unknown,
            true if self.deferred.insert(it.id, it.rest) == Some(it.rest) => Deferred::Already,
            true => Deferred::Deferred,
        };
        Ok(messages.iter().map(defer).collect())
    }

    /// Models `Spool::refuse`.
    pub fn refuse(
        &mut self,
        token: &FencingToken,
        id: MessageId,
        (lot, epoch): (LotNumber, Epoch),
        reason: &str,
    ) -> Result<Refused, SpoolError> {
        self.expect_latest(token)?;
        if !self.holds(&token.node, id, (lot, epoch)) {
            return Ok(match self.not_yours(id) {
                NotYours::Fenced if self.quarantine.contains_key(&id) => Refused::Already,
                NotYours::Fenced => Refused::Fenced,
                NotYours::Settled => Refused::Settled,
                NotYours::Unknown => Refused::Unknown,
            });
        }
        // In the model, Redis has each message of a lot.
        if reason == Damage::Missing.to_string() {
            return Ok(Refused::Present);
        }
        self.quarantine.insert(id, reason.to_owned());
        self.take_out(lot.0, id);
        Ok(Refused::Refused)
    }

    /// Models `Spool::obey`.
    pub fn obey(
        &mut self,
        token: &FencingToken,
        orders: &[(Placed, Act)],
    ) -> Result<Vec<Obeyed>, SpoolError> {
        self.expect_latest(token)?;
        Ok(orders.iter().map(|(it, act)| self.obey_one(&token.node, it, *act)).collect())
    }

    fn obey_one(&mut self, node: &NodeId, it: &Placed, act: Act) -> Obeyed {
        let is_ours = self.is_committed_as(node, &it.queue_id, it.id);
        if !is_ours || self.node_orders.get(&it.id) != Some(&act) {
            return Obeyed::Already;
        }
        match act {
            Act::Delete => self.erase(node, it, Done::Deleted),
            Act::Hold | Act::Release | Act::Requeue => _ = self.node_orders.remove(&it.id),
        }
        Obeyed::Obeyed
    }
}
