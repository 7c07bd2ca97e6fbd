//! Operators' orders for mail that this node has.
//!
//! An operator can't reach mail that is committed to a node, since its file is in that node's
//! Postfix. Redis notes the order, and the node's Mail Agent has pickup-rs carry it out.
//!
//! ```text
//!  notice, a recovery, ─▶ ask Redis ─▶ tracked files ─▶ pickup-rs ─operated─▶ report
//!  a second later                                                  (order ends)
//! ```
//!
//! While orders are left, the agent asks for them every second. So any step may fail: the next
//! round carries the order out, or finds it carried out. An order for a message that was sent
//! meanwhile ends with the message's settlement.
//!
//! A prepared file is withdrawn instead: see [`super::recovery`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use handoff::protocol::{NewName, Ordered, Request};
use postfix_wire::QueueId;
use spool::{Act, FencingToken, MessageId};

use super::errand::Errand;
use super::phase::Phase;
use super::releases::QUEUE_IDS_PER_REQUEST;
use super::report::Rename;
use super::{Mail, MailQuestion};
use crate::machine::Ticket;

/// Time between two rounds; longer than pickup-rs takes for some thousands of orders.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Orders under way; see the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    look: Errand,
    again_at: Option<Instant>,
    /// Orders that pickup-rs has not answered. One file may have several, since an operator may
    /// change an order before its answer.
    under_way: BTreeMap<(QueueId, Act), MessageId>,
}

impl Orders {
    /// Makes the question for orders due.
    pub(super) fn look(&mut self) {
        self.look.want();
    }

    /// Has the question for orders put again if it had this ticket. Returns whether it had.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        self.look.failed(ticket)
    }

    /// Notes that pickup-rs has gone and will not answer.
    pub(super) fn lost_sight(&mut self) {
        self.under_way.clear();
    }

    /// Whether pickup-rs was asked to carry out an order, and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.again_at
    }

    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        if self.again_at.is_some_and(|when| when <= now) {
            self.again_at = None;
            self.look.want();
        }
    }
}

impl Mail {
    /// Returns the question for orders, if it is due. Must be called only in phases after a
    /// comparison, which may still release files.
    pub(super) fn orders_question(
        &mut self,
        token: &FencingToken,
    ) -> Option<(MailQuestion, Ticket)> {
        if !self.orders.look.is_due() {
            return None;
        }
        let (_, membership) = self.membership.as_mut()?;
        Some((MailQuestion::Orders(token.clone()), membership.ask(self.orders.look.put())))
    }

    pub(super) fn orders_answered(
        &mut self,
        now: Instant,
        ticket: Ticket,
        orders: &BTreeMap<MessageId, Act>,
    ) {
        if !self.orders.look.close(ticket) || orders.is_empty() {
            return;
        }
        self.orders.again_at = Some(now + AGAIN_AFTER);
        if !matches!(self.phase, Phase::Deciding { .. } | Phase::Serving(_)) {
            return;
        }
        let mut by_act: BTreeMap<Act, Vec<Ordered>> = BTreeMap::new();
        for (queue_id, id, act) in self.ledger.tracked_of(orders) {
            self.orders.under_way.insert((queue_id.clone(), act), id);
            by_act.entry(act).or_default().push(Ordered { queue_id, id });
        }
        for (act, messages) in by_act {
            tracing::info!(%act, messages = messages.len(), "operators' orders sent to pickup-rs");
            for some in messages.chunks(QUEUE_IDS_PER_REQUEST) {
                self.link.send(Request::Operate { act, messages: some.to_vec() });
            }
        }
    }

    /// Notes new names that files got by an order. The names reach Redis before any other entry
    /// about these files.
    pub(super) fn renamed_by_order(&mut self, act: Act, renamed: &[NewName]) {
        for NewName { was, now } in renamed {
            let asked = self.orders.under_way.remove(&(was.clone(), act));
            if let Some(id) = asked.or_else(|| self.ledger.tracked(was)) {
                self.orders.under_way.insert((now.clone(), act), id);
                let (was, now) = (was.clone(), now.clone());
                self.ledger.rename(Rename { id, was, now: now.clone() });
                self.ledger.ours(&now, id);
            }
        }
    }

    /// Sets a comparison if another process has renamed one of this node's files. pickup-rs only
    /// compares inodes; a comparison reads the message id from the file.
    pub(super) fn renamed_by_others(&mut self, now: Instant, renamed: &[NewName]) {
        if renamed.iter().any(|it| self.ledger.tracked(&it.was).is_some()) {
            self.compare_soon(now);
        }
    }

    /// Notes the orders that pickup-rs has carried out. Absent files have been settled, or will be.
    pub(super) fn operated(&mut self, act: Act, done: Vec<QueueId>, absent: Vec<QueueId>) {
        for queue_id in done {
            if let Some(id) = self.orders.under_way.remove(&(queue_id.clone(), act)) {
                self.ledger.obeyed(queue_id, id, act);
            }
        }
        for queue_id in absent {
            self.orders.under_way.remove(&(queue_id, act));
        }
    }
}

#[cfg(test)]
mod tests {
    use handoff::protocol::Reply;
    use spool::Generation;

    use super::super::MailConfig;
    use super::super::report::{FlushHint, Held, MailReport};
    use super::super::samples::{id, queue_id};
    use super::*;
    use crate::machine::Tickets;

    fn mail(now: Instant) -> Mail {
        let (generation, term) = (Generation::from_parts(1, 1), Duration::from_secs(1));
        let mut mail =
            Mail::new(MailConfig { generation, name: String::new(), term, window: 1 }, now);
        mail.phase = Phase::Deciding { leave_by: None };
        mail.ledger.ours(&queue_id(1), id(1));
        mail
    }

    fn ordered(mail: &mut Mail, now: Instant, tickets: &mut Tickets, act: Act) {
        mail.orders.look.want();
        let ticket = mail.orders.look.put().open(tickets);
        mail.orders_answered(now, ticket, &BTreeMap::from([(id(1), act)]));
    }

    fn operated(act: Act, name: u64, renamed: Vec<NewName>) -> Reply {
        Reply::Operated { act, done: vec![queue_id(name)], absent: Vec::new(), renamed }
    }

    fn told(mail: &mut Mail, now: Instant) -> MailReport {
        mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap()
    }

    fn new_name() -> NewName {
        NewName { was: queue_id(1), now: queue_id(2) }
    }

    fn rename() -> Rename {
        Rename { id: id(1), was: queue_id(1), now: queue_id(2) }
    }

    #[test]
    fn an_order_that_is_changed_before_its_answer_leaves_the_new_one_heard() {
        let (now, mut tickets) = (Instant::now(), Tickets::default());
        let mut mail = mail(now);
        ordered(&mut mail, now, &mut tickets, Act::Hold);
        ordered(&mut mail, now, &mut tickets, Act::Release);
        mail.heard(now, operated(Act::Hold, 1, Vec::new()));
        mail.heard(now, operated(Act::Release, 2, vec![new_name()]));
        let report = told(&mut mail, now);
        assert_eq!(report.renames, [rename()]);
        let obeyed = [(queue_id(1), id(1), Act::Hold), (queue_id(2), id(1), Act::Release)];
        assert_eq!(report.obeyed, obeyed);
        assert_eq!(mail.ledger.known(), BTreeMap::from([(queue_id(2), id(1))]));
    }

    #[test]
    fn a_new_name_is_noted_though_the_order_was_answered_before() {
        let (now, mut tickets) = (Instant::now(), Tickets::default());
        let mut mail = mail(now);
        ordered(&mut mail, now, &mut tickets, Act::Release);
        mail.heard(now, operated(Act::Release, 1, Vec::new()));
        mail.heard(now, operated(Act::Release, 2, vec![new_name()]));
        assert_eq!(told(&mut mail, now).renames, [rename()]);
        assert_eq!(mail.ledger.known(), BTreeMap::from([(queue_id(2), id(1))]));
    }
}
