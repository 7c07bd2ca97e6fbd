//! Operators' orders for files that Postfix has.
//!
//! An order changes names in several folders, which must be synced before it is reported. A thread
//! does that, while the service goes on:
//!
//! ```text
//!  order ─▶ carried out ─▶ waiting ─▶ being synced ─▶ reported
//!                             └── while another sync runs
//! ```
//!
//! Events about files of an order wait until it is reported. Otherwise the Mail Agent would hear of
//! a file by a name that it doesn't know, or settle a message that an order has deleted.

use std::collections::HashSet;
use std::io;

use handoff::protocol::{NewName, Ordered, Reply};
use postfix_wire::QueueId;
use queue::Operation;
use spool::Act;
use tracing::{error_span, info, warn};

use super::moving::NotMoved;
use super::{Service, ServiceEvent};
use crate::session::SessionId;
use crate::tracker::FileEvent;

/// Orders of one request, carried out and not yet safe on disk.
#[derive(Debug)]
struct CarriedOut {
    session: SessionId,
    act: Act,
    done: Vec<QueueId>,
    absent: Vec<QueueId>,
    renamed: Vec<NewName>,
}

impl CarriedOut {
    /// Returns the names that the orders have given, taken or kept.
    fn names(&self) -> impl Iterator<Item = &QueueId> {
        self.renamed.iter().map(|it| &it.was).chain(&self.done)
    }
}

/// Orders that are not reported yet; see the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    syncing: Vec<CarriedOut>,
    waiting: Vec<CarriedOut>,
    /// Names of the files of all these orders.
    names: HashSet<QueueId>,
    held_back: Vec<FileEvent>,
}

impl Orders {
    /// Whether all orders are reported.
    pub(super) fn is_empty(&self) -> bool {
        self.syncing.is_empty() && self.waiting.is_empty()
    }

    /// Keeps an event about a file of an order that is not reported yet. Returns any other event.
    pub(super) fn hold_back(&mut self, event: FileEvent) -> Option<FileEvent> {
        if !self.names.contains(event.queue_id()) {
            return Some(event);
        }
        self.held_back.push(event);
        None
    }

    fn add(&mut self, it: CarriedOut) {
        self.names.extend(it.names().cloned());
        self.waiting.push(it);
    }

    /// Returns the names to sync now, unless a sync is under way or nothing waits.
    fn next_sync(&mut self) -> Option<Vec<QueueId>> {
        if !self.syncing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.syncing = std::mem::take(&mut self.waiting);
        Some(self.syncing.iter().flat_map(CarriedOut::names).cloned().collect())
    }

    /// Returns the orders whose sync has ended.
    fn synced(&mut self) -> Vec<CarriedOut> {
        let synced = std::mem::take(&mut self.syncing);
        self.names = self.waiting.iter().flat_map(CarriedOut::names).cloned().collect();
        synced
    }
}

/// Returns stock postsuper's log words for an act.
fn words(act: Act) -> &'static str {
    match act {
        Act::Delete => "removed",
        Act::Hold => "placed on hold",
        Act::Release => "released from hold",
        Act::Requeue => "requeued",
    }
}

impl Service {
    /// Carries out orders. They are reported once they are safe.
    pub(super) fn operate(&mut self, session: SessionId, act: Act, messages: Vec<Ordered>) {
        self.catch_up();
        let (mut done, mut absent, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
        for ordered in messages {
            let _entered = error_span!("message", id = %ordered.id).entered();
            match self.operate_one(act, &ordered) {
                Ok(Operation::Absent) => absent.push(ordered.queue_id),
                Ok(Operation::Renamed(now)) => {
                    done.push(now.clone());
                    renamed.push(NewName { was: ordered.queue_id, now });
                }
                Ok(_) => done.push(ordered.queue_id),
                Err(error) => self.complain(session, &ordered.queue_id, &error),
            }
        }
        let (done_names, new_names) = (done.clone(), renamed.clone());
        self.orders.add(CarriedOut { session, act, done, absent, renamed });
        new_names.iter().for_each(|it| self.renamed(it));
        if act == Act::Requeue {
            done_names.iter().for_each(|queue_id| self.requeued(queue_id));
        }
        self.sync_orders();
    }

    /// Starts to make orders safe, if some wait and no sync is under way.
    fn sync_orders(&mut self) {
        let Some(names) = self.orders.next_sync() else { return };
        let (queue, events) = (self.queue.clone(), self.events.clone());
        let config_directory = self.config_directory.clone();
        tokio::task::spawn_blocking(move || {
            settings::failpoint::hit(&config_directory, "before-sync");
            // A failure to send means that the service has ended.
            let _ = events.send(ServiceEvent::Synced(queue.sync_names(&names)));
        });
    }

    /// Reports the orders that are safe now, and then the events that have waited for that.
    pub(super) fn synced(&mut self, synced: io::Result<()>) {
        if let Err(error) = synced {
            warn!("orders: carried out, but not synced: {error}; see to the disk");
        }
        for CarriedOut { session, act, done, absent, renamed } in self.orders.synced() {
            self.say(session, Reply::Operated { act, done, absent, renamed });
        }
        for event in std::mem::take(&mut self.orders.held_back) {
            self.tell(Some(event));
        }
        self.sync_orders();
    }

    fn operate_one(&self, act: Act, ordered: &Ordered) -> Result<Operation, NotMoved> {
        self.check_served()?;
        let Ordered { queue_id, id } = ordered;
        let operation = self.queue.operate(act, queue_id, *id)?;
        match operation {
            Operation::Done => info!("{queue_id}: {}", words(act)),
            Operation::Renamed(ref now) => info!("{queue_id}: {} as {now}", words(act)),
            Operation::AsItWas | Operation::Absent => (),
            Operation::Prepared => return Err(NotMoved::Unreleased),
            Operation::Unclear => return Err(NotMoved::Unclear),
        }
        Ok(operation)
    }

    /// Follows a file to its other name. A scan under way may miss both names, so it begins again.
    fn renamed(&mut self, NewName { was, now }: &NewName) {
        self.tracker.renamed(was, now);
        self.counting.begin_again();
        match self.queue.find(now) {
            Ok(Some(whereabouts)) => {
                let event = self.tracker.seen(now, &whereabouts);
                self.tell(event);
            }
            // The file was delivered already, which the kernel reports.
            Ok(None) => {}
            Err(error) => warn!("{now}: not found out where the file is: {error}; see to the disk"),
        }
    }

    /// Settles a requeued file. Stock pickup makes another file of the message, which is Postfix's
    /// alone.
    fn requeued(&mut self, queue_id: &QueueId) {
        if matches!(self.queue.find_anywhere(queue_id), Ok(None)) {
            let event = self.tracker.gone(queue_id);
            self.tell(event);
        }
    }
}
