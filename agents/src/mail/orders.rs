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

use pickup_rs::protocol::{Ordered, Request};
use postfix_wire::QueueId;
use spool::{Act, FencingToken, MessageId};

use super::{Mail, QUEUE_IDS_PER_REQUEST, Question};
use crate::machine::Ticket;

/// Longer than carrying out some thousands takes.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    must_look: bool,
    again_at: Option<Instant>,
    /// What pickup-rs was asked to do, and has not answered for.
    under_way: BTreeMap<QueueId, MessageId>,
}

impl Orders {
    /// There may be orders that nobody here knows.
    pub(super) fn look(&mut self) {
        self.must_look = true;
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
            self.must_look = true;
        }
    }
}

impl Mail {
    /// What is not recovered yet may be released by the recovery, and can't be operated on before.
    pub(super) fn orders_question(&mut self, token: &FencingToken) -> Option<(Question, Ticket)> {
        let may_ask = self.is_recovered() && self.link.is_up() && !self.asks.orders.is_open();
        if !may_ask || !std::mem::take(&mut self.orders.must_look) {
            return None;
        }
        self.ask(|asks| &mut asks.orders, Question::Orders(token.clone()))
    }

    pub(super) fn orders_answered(&mut self, now: Instant, orders: &BTreeMap<MessageId, Act>) {
        if orders.is_empty() {
            return;
        }
        self.orders.again_at = Some(now + AGAIN_AFTER);
        if !self.is_recovered() || !self.link.is_up() {
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

    /// What is absent has been settled, or will be.
    pub(super) fn operated(&mut self, act: Act, done: Vec<QueueId>, absent: &[QueueId]) {
        for queue_id in done {
            if let Some(id) = self.orders.under_way.remove(&queue_id) {
                self.ledger.obeyed(queue_id, id, act);
            }
        }
        absent.iter().for_each(|queue_id| _ = self.orders.under_way.remove(queue_id));
    }
}
