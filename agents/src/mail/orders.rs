//! Operators' orders for mail that this node has.
//!
//! An operator can't reach mail that a node has committed: its file is in that node's Postfix. The
//! order is noted in Redis, and here it is carried out.
//!
//! ```text
//!  notice, a recovery, ─▶ ask Redis ─▶ tracked files ─▶ pickup-rs ─operated─▶ report
//!  a second later                                                  (order ends)
//! ```
//!
//! Orders are looked for again while there is any. So nothing rests on a step: what pickup-rs could
//! not do, or did and nobody heard of, is done or found done the next time. An order for a message
//! that was sent meanwhile ends with the message's settlement.
//!
//! A file that nobody has released yet is no matter of Postfix's: see [`super::recovery`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use handoff::protocol::{NewName, Ordered, Request};
use postfix_wire::QueueId;
use spool::{Act, FencingToken, MessageId};

use super::errand::Errand;
use super::phase::Phase;
use super::releases::QUEUE_IDS_PER_REQUEST;
use super::report::Rename;
use super::{Mail, Question};
use crate::machine::Ticket;

/// Longer than carrying out some thousands takes.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    look: Errand,
    again_at: Option<Instant>,
    /// Files that pickup-rs was asked to do something to, and has not answered for.
    under_way: BTreeMap<QueueId, MessageId>,
}

impl Orders {
    /// There may be orders that nobody here knows.
    pub(super) fn look(&mut self) {
        self.look.want();
    }

    /// Whether this question for orders failed; if so, it is put again.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        self.look.failed(ticket)
    }

    /// pickup-rs has gone, and will not answer.
    pub(super) fn lost_sight(&mut self) {
        self.under_way.clear();
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
    /// Asks for orders, in phases in which the disk is compared: a file that isn't may be released
    /// by the comparison, and can't be operated on before.
    pub(super) fn orders_question(&mut self, token: &FencingToken) -> Option<(Question, Ticket)> {
        if !self.orders.look.is_due() {
            return None;
        }
        let (_, membership) = self.membership.as_mut()?;
        Some((Question::Orders(token.clone()), membership.ask(self.orders.look.put())))
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
            self.orders.under_way.insert(queue_id.clone(), id);
            by_act.entry(act).or_default().push(Ordered { queue_id, id });
        }
        for (act, messages) in by_act {
            tracing::info!(%act, messages = messages.len(), "operators' orders");
            for some in messages.chunks(QUEUE_IDS_PER_REQUEST) {
                self.link.send(Request::Operate { act, messages: some.to_vec() });
            }
        }
    }

    /// Notes the other names of released files. Redis is told of these before anything else about
    /// these files.
    pub(super) fn renamed_by_order(&mut self, renamed: &[NewName]) {
        for NewName { was, now } in renamed {
            if let Some(id) = self.orders.under_way.remove(was) {
                self.orders.under_way.insert(now.clone(), id);
                let (was, now) = (was.clone(), now.clone());
                self.ledger.rename(Rename { id, was, now: now.clone() });
                self.ledger.ours(&now, id);
            }
        }
    }

    /// Notes what pickup-rs has done. Absent files have been settled, or will be.
    pub(super) fn operated(&mut self, act: Act, done: Vec<QueueId>, absent: &[QueueId]) {
        for queue_id in done {
            if let Some(id) = self.orders.under_way.remove(&queue_id) {
                self.ledger.obeyed(queue_id, id, act);
            }
        }
        absent.iter().for_each(|queue_id| _ = self.orders.under_way.remove(queue_id));
    }
}
