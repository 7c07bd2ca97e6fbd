//! Operators' acts.

use std::collections::BTreeSet;

use super::{Done, LotState, Model};
use crate::{Act, MessageId, MessagePlace, NodeId, Operated};

impl Model {
    /// Models `Spool::operate`.
    pub fn operate(&mut self, act: Act, messages: &[(MessageId, MessagePlace)]) -> Vec<Operated> {
        let (mut again, mut ordered) = (Vec::new(), BTreeSet::new());
        let mut answers = Vec::new();
        for (id, place) in messages {
            let answer = self.operate_one(act, *id, place, &again);
            match answer {
                Operated::Released | Operated::Requeued if *place != MessagePlace::Inbox => {
                    self.take_from(*id, place);
                    again.push(*id);
                }
                Operated::Ordered => ordered.extend(node_of(place)),
                _ => (),
            }
            answers.push(answer);
        }
        self.make_ready(again);
        ordered.iter().for_each(|node| self.publish(format!("ordered {node}")));
        answers
    }

    /// Carries one act out. `moved` has the messages that this call took from their places before.
    fn operate_one(
        &mut self,
        act: Act,
        id: MessageId,
        place: &MessagePlace,
        moved: &[MessageId],
    ) -> Operated {
        if moved.contains(&id) {
            return Operated::Moved;
        }
        if !self.is_at(id, place) {
            return self.not_there(id, act);
        }
        match (act, place) {
            (_, MessagePlace::Inbox) => self.order_in_inbox(act, id),
            (_, MessagePlace::Committed(..)) => self.order_at_node(act, id),
            (Act::Delete, _) => {
                self.take_from(id, place);
                self.done.insert(id, Done::Deleted);
                Operated::Deleted
            }
            (Act::Hold | Act::Release, MessagePlace::Quarantine(_)) => Operated::Kept,
            (Act::Hold, MessagePlace::Held) => Operated::Already,
            (Act::Hold, _) => {
                self.take_from(id, place);
                self.held.insert(id);
                Operated::Held
            }
            (Act::Release, MessagePlace::Held) => Operated::Released,
            (Act::Release, _) => Operated::Already,
            (Act::Requeue, MessagePlace::Ready(lot) | MessagePlace::Assigned(_, lot))
                if !matches!(self.lots[&lot.0].state, LotState::Assigned(_)) =>
            {
                Operated::Already
            }
            (Act::Requeue, _) => Operated::Requeued,
        }
    }

    fn is_at(&self, id: MessageId, place: &MessagePlace) -> bool {
        match place {
            MessagePlace::Inbox => !self.is_stored(id) && !self.is_remembered(id),
            MessagePlace::Ready(lot) | MessagePlace::Assigned(_, lot) => {
                self.lot_of(id) == Some(lot.0)
            }
            MessagePlace::Committed(node, queue_id) => self.is_committed_as(node, queue_id, id),
            MessagePlace::Held => self.held.contains(&id),
            MessagePlace::Quarantine(_) => self.quarantine.contains_key(&id),
        }
    }

    fn not_there(&self, id: MessageId, act: Act) -> Operated {
        match self.done.get(&id) {
            _ if self.is_stored(id) => Operated::Moved,
            Some(Done::Deleted) if act == Act::Delete => Operated::Already,
            Some(_) => Operated::Gone,
            None => Operated::Unknown,
        }
    }

    fn take_from(&mut self, id: MessageId, place: &MessagePlace) {
        match place {
            MessagePlace::Ready(lot) | MessagePlace::Assigned(_, lot) => self.take_out(lot.0, id),
            MessagePlace::Held
            | MessagePlace::Quarantine(_)
            | MessagePlace::Inbox
            | MessagePlace::Committed(..) => {
                self.held.remove(&id);
                self.quarantine.remove(&id);
            }
        }
    }

    fn order_at_node(&mut self, act: Act, id: MessageId) -> Operated {
        if self.node_orders.get(&id) == Some(&Act::Delete) {
            return after_deletion(act);
        }
        self.node_orders.insert(id, act);
        Operated::Ordered
    }

    fn order_in_inbox(&mut self, act: Act, id: MessageId) -> Operated {
        let before = self.inbox_orders.get(&id).copied();
        if before == Some(Act::Delete) {
            return after_deletion(act);
        }
        match act {
            Act::Delete | Act::Hold => _ = self.inbox_orders.insert(id, act),
            Act::Release | Act::Requeue => _ = self.inbox_orders.remove(&id),
        }
        match (act, before) {
            (Act::Hold, Some(Act::Hold)) | (Act::Release | Act::Requeue, None) => Operated::Already,
            (Act::Delete, _) => Operated::Deleted,
            (Act::Hold, _) => Operated::Held,
            (Act::Release, _) => Operated::Released,
            (Act::Requeue, _) => Operated::Requeued,
        }
    }
}

/// Returns the answer to an act on a message with an order to delete it, which is final.
fn after_deletion(act: Act) -> Operated {
    if act == Act::Delete { Operated::Already } else { Operated::Gone }
}

fn node_of(place: &MessagePlace) -> Option<NodeId> {
    match place {
        MessagePlace::Committed(node, _) => Some(node.clone()),
        _ => None,
    }
}
