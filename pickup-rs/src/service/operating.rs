//! Operators' orders for files that Postfix has.

use handoff::protocol::{NewName, Ordered, Reply};
use postfix_wire::QueueId;
use queue::Operation;
use spool::Act;
use tracing::{error_span, info, warn};

use super::Service;
use super::moving::NotMoved;
use crate::session::SessionId;

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
    /// Carries out orders, and makes them safe before they are reported. The resulting changes of
    /// files are reported as any others.
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
        let names = renamed.iter().map(|it| &it.was).chain(&done);
        if let Err(error) = self.queue.sync_names(names) {
            warn!("orders: carried out, but not synced: {error}; see to the disk");
        }
        let operated =
            Reply::Operated { act, done: done.clone(), absent, renamed: renamed.clone() };
        self.say(session, operated);
        renamed.iter().for_each(|it| self.renamed(it));
        if act == Act::Requeue {
            done.iter().for_each(|queue_id| self.requeued(queue_id));
        }
    }

    fn operate_one(&self, act: Act, ordered: &Ordered) -> Result<Operation, NotMoved> {
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
            Err(error) => warn!("{now}: not looked up: {error}"),
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
