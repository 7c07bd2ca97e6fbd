//! The spool and the directory in memory: `spool::model`, which is checked against Redis, behind
//! the machines' questions.

use std::collections::BTreeSet;
use std::time::Duration;

use agents::lease::{LeaseAnswer, LeaseQuestion, Member};
use agents::mail::feeding::{FeedKey, OwnLot};
use agents::mail::report::{MailReport, Owned};
use agents::mail::{self, Inventory};
use agents::scheduler::Loss;
use agents::view::View;
use postfix_wire::QueueId;
use spool::model::Model;
use spool::{
    Act, AgentKind, CommitNumber, Cut, Deferral, FencingToken, Lost, LotNumber, MessageId, NodeId,
    Obeyed, Parked, Placed, Refused, Registration, SpoolError, Taken,
};

/// Most messages at one of several nodes; less than half of a lone node's window.
const WINDOW_SHARED: u32 = 5;

#[derive(Debug)]
pub(crate) struct Redis {
    pub spool: Model,
    pub lot_size: u32,
    pub lease_ms: u64,
    /// Messages that nodes deleted by an operator's order.
    deleted_by_nodes: BTreeSet<MessageId>,
    /// Number of messages that have been parked so far.
    pub parked: usize,
}

impl Redis {
    pub(crate) fn new(now_ms: u64, lot_size: u32, lease_ms: u64) -> Self {
        let spool = Model::at(now_ms);
        Self { spool, lot_size, lease_ms, deleted_by_nodes: BTreeSet::new(), parked: 0 }
    }

    /// Carries out an operator's act on a message, wherever the message is.
    pub(crate) fn operate(&mut self, act: Act, id: MessageId) {
        if let Some(place) = self.spool.place_of(id) {
            self.spool.operate(act, &[(id, place)]);
        }
    }

    /// Returns the messages that were deleted in Redis, and not by a node.
    pub(crate) fn deleted(&self) -> BTreeSet<MessageId> {
        &self.spool.deleted() - &self.deleted_by_nodes
    }

    /// Assigns a lot. Returns whether the node has the lot now.
    pub(crate) fn assign(&mut self, lot: LotNumber, node: &NodeId) -> bool {
        let answers = self.spool.assign(&[(lot, node.clone())]);
        matches!(answers[..], [spool::Assigned::Assigned(_) | spool::Assigned::Already(_)])
    }

    pub(crate) fn cut(&mut self, lot: LotNumber, node: &NodeId) -> Cut {
        self.spool.cut(lot, self.lot_size, Some(node))
    }

    pub(crate) fn lose(&mut self, Loss { node, has_agent }: &Loss, grace: Duration) -> Taken {
        match self.spool.lose(node, grace, *has_agent) {
            Lost::Lost(taken) => taken,
            Lost::Alive => Taken::default(),
        }
    }

    pub(crate) fn fetch(&self, token: &FencingToken) -> Result<Vec<OwnLot>, SpoolError> {
        let own = |it: spool::AssignedLot| OwnLot { lot: it.lot, epoch: it.epoch, ids: it.ids };
        Ok(self.spool.fetch(token)?.into_iter().map(own).collect())
    }

    pub(crate) fn inventory(&mut self, token: &FencingToken) -> Result<Inventory, SpoolError> {
        if self.spool.arrive(token) == spool::Arrived::Superseded {
            return Err(SpoolError::Superseded);
        }
        let owned =
            |(it, number): (Placed, CommitNumber)| (it.queue_id, Owned { id: it.id, number });
        let committed = self.spool.inventory_numbered(&token.node).into_iter().map(owned).collect();
        let orders = self.spool.orders_of(&token.node).into_iter();
        let stopped = orders.filter(|(_, act)| act.stops()).map(|(id, _)| id).collect();
        Ok(Inventory { committed, stopped, resting: self.spool.resting(&token.node) })
    }

    /// Carries a report out, in the driver's order.
    pub(crate) fn report(
        &mut self,
        token: &FencingToken,
        report: MailReport,
    ) -> Result<mail::MailAnswer, SpoolError> {
        let spool = &mut self.spool;
        let renames: Vec<_> = report.renames.into_iter().map(Into::into).collect();
        let renamed = spool.rename(token, &renames)?;
        self.obey(token, report.obeyed)?;
        let spool = &mut self.spool;
        let settled = spool.settle(token, &placed(report.settles))?;
        spool.uncommit(token, &placed(report.uncommits))?;
        spool.absent(token, report.mark, &placed(report.absents))?;
        let commits: Vec<_> = report.commits.into_iter().map(Into::into).collect();
        let committed = spool.commit_numbered(token, &commits)?;
        let deferral = |(queue_id, id, rest)| Deferral { queue_id, id, rest };
        let deferrals: Vec<_> = report.deferrals.into_iter().map(deferral).collect();
        spool.defer(token, &deferrals)?;
        let present = self.refuse(token, &report.refusals)?;
        for parking in report.parks {
            let keys: Vec<_> = parking.keys.into_iter().map(Into::into).collect();
            let parked = self.spool.park(token, &parking.to, &keys)?;
            self.parked += parked.iter().filter(|it| **it == Parked::Parked).count();
        }
        Ok(mail::MailAnswer::Reported {
            commits: committed.into_iter().map(Into::into).collect(),
            renames: renamed.into_iter().map(Into::into).collect(),
            present,
            has_unknown: settled.contains(&spool::Settled::Unknown),
        })
    }

    fn obey(
        &mut self,
        token: &FencingToken,
        obeyed: Vec<(QueueId, MessageId, Act)>,
    ) -> Result<(), SpoolError> {
        for (queue_id, id, act) in obeyed {
            let answer = self.spool.obey(token, &[(Placed { queue_id, id }, act)])?;
            if act == Act::Delete && answer == [Obeyed::Obeyed] {
                self.deleted_by_nodes.insert(id);
            }
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        token: &FencingToken,
        refusals: &[(FeedKey, String)],
    ) -> Result<BTreeSet<FeedKey>, SpoolError> {
        let mut present = BTreeSet::new();
        for (key, why) in refusals {
            if self.spool.refuse(token, key.id, (key.lot, key.epoch), why)? == Refused::Present {
                present.insert(*key);
            }
        }
        Ok(present)
    }

    pub(crate) fn lease(&mut self, question: LeaseQuestion) -> LeaseAnswer {
        let lease = Duration::from_millis(self.lease_ms);
        match question {
            LeaseQuestion::Take { member, capacity, unfit, is_callable } => {
                let Member { agent, kind, generation, name } = member;
                let address = is_callable.then(|| "192.0.2.1:1".to_owned());
                let registration =
                    Registration { agent, kind, generation, lease, name, capacity, address, unfit };
                self.spool.register(&registration).into()
            }
            LeaseQuestion::Renew(Member { agent, generation, .. }) => {
                self.spool.renew(&agent, generation, lease).into()
            }
            LeaseQuestion::Leave(Member { agent, generation, .. }) => {
                self.spool.leave(&agent, generation);
                LeaseAnswer::Left
            }
        }
    }

    /// Returns the number of lots that a node has.
    pub(crate) fn lots_of(&self, node: &NodeId) -> u64 {
        let nodes = self.spool.overview().nodes;
        nodes.into_iter().find(|it| it.node == *node).map_or(0, |it| it.lots)
    }

    pub(crate) fn see(&self) -> View {
        View::of(&self.spool.directory(), &self.spool.overview(), WINDOW_SHARED)
    }

    /// Whether an operator lets the node take no mail.
    pub(crate) fn is_drained(&self, node: &NodeId) -> bool {
        self.spool.directory().drained.contains_key(node)
    }

    /// Returns the most messages that a node may have in flight, if that is less than its window.
    pub(crate) fn window(&self) -> u32 {
        let is_alone = self.spool.directory().alive(AgentKind::Mail).len() <= 1;
        if is_alone { u32::MAX } else { WINDOW_SHARED }
    }
}

fn placed(files: Vec<(QueueId, MessageId)>) -> Vec<Placed> {
    files.into_iter().map(|(queue_id, id)| Placed { queue_id, id }).collect()
}
