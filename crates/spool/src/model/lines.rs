//! The model's data as lines, for comparison: a script in `tests/machine` makes the same lines from
//! Redis's keys.

use std::collections::BTreeSet;

use super::{Done, LotState, Model, Rest};
use crate::MessageId;

/// Score that stands for "on hold" in Redis.
const ON_HOLD: &str = "inf";

impl Model {
    /// Returns the data that Redis should hold, as sorted lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.lines_of_lots();
        lines.extend(self.lines_of_nodes());
        lines.extend(self.quarantine.iter().map(|(id, why)| format!("quarantine {id} {why}")));
        lines.extend(self.quarantine.keys().map(|id| format!("why {id}")));
        lines.extend(self.held.iter().map(|id| format!("held {id}")));
        lines.extend(self.inbox_orders.iter().map(|(id, act)| format!("inbox-order {id} {act}")));
        lines.extend(self.inbox_orders.keys().map(|id| format!("inbox-ordered {id}")));
        lines.extend(self.done.iter().map(|(id, how)| match how {
            Done::Disowned => format!("disowned {id}"),
            Done::Settled => format!("done {id} s"),
            Done::Deleted => format!("done {id} d"),
        }));
        lines.extend(self.inbox.iter().map(|it| match it {
            Some(id) => format!("inbox {id}"),
            None => "inbox malformed".to_owned(),
        }));
        lines.push(format!("malformed {}", self.malformed));
        lines.push(format!("taken {}", self.taken));
        lines.extend(self.stored().iter().map(|id| format!("message {id}")));
        lines.sort();
        lines
    }

    fn lines_of_lots(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (n, lot) in &self.lots {
            let (state, holder) = match &lot.state {
                LotState::Ready => ("ready", String::new()),
                LotState::Assigned(node) => ("assigned", format!(" {node}")),
                LotState::Parked(to) => ("parked", format!(" {to}")),
            };
            lines.push(format!("lot {n} {state} {}{holder}", lot.epoch));
            lines.push(format!("{state} {n}{holder}"));
            lines.extend(lot.ids.iter().map(|id| format!("in {n} {id}")));
        }
        lines.extend(self.lanes.iter().map(|(to, since_ms)| format!("lane {to} {since_ms}")));
        lines
    }

    fn lines_of_nodes(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.busy_nodes().iter().map(|node| format!("node {node}")).collect();
        for (node, mail) in &self.mail {
            for (queue_id, it) in mail {
                lines.push(format!("mail {node} {queue_id} {} {}", it.id, it.number));
                lines.extend(self.deferred.get(&it.id).map(|rest| match rest {
                    Rest::Until(ms) => format!("deferred {node} {} {ms}", it.id),
                    Rest::OnHold => format!("deferred {node} {} {ON_HOLD}", it.id),
                }));
            }
            for (id, act) in self.orders_of(node) {
                lines.push(format!("node-order {node} {id} {act}"));
                lines.push(format!("ordered {node} {id}"));
            }
        }
        lines
    }

    fn stored(&self) -> BTreeSet<MessageId> {
        let in_lots = self.lots.values().flat_map(|lot| &lot.ids);
        let committed = self.mail.values().flat_map(|mail| mail.values().map(|it| &it.id));
        in_lots.chain(committed).chain(self.quarantine.keys()).chain(&self.held).copied().collect()
    }
}
