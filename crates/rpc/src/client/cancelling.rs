//! Telling the server which calls have ended at the client.

use super::peer::{Cancelling, Peer};
use super::{CallKey, Context, Timer};
use crate::packet::{ClientBody, Refusal};
use crate::{Sequence, Time};

impl Peer {
    /// Tells the server which replies it may drop, once they are many or large.
    pub(super) fn report_ended(&mut self, cx: &mut Context, now: Time) {
        if let Some((session, sequences)) = self.ended.take_if_many() {
            let floor = self.floor();
            self.send(cx, now, session, &ClientBody::Ended { floor, sequences });
        }
    }

    /// Tells the server, repeatedly until it answers, that no caller awaits the reply any more.
    pub(super) fn send_cancel(
        &mut self,
        cx: &mut Context,
        now: Time,
        sequence: Sequence,
        mut cancelling: Cancelling,
    ) {
        let Cancelling { session, transmissions } = cancelling;
        let (key, floor) = (CallKey { port: self.port, sequence }, self.floor());
        cx.timers.set(Timer::Cancel(key), now + self.round_trip.timeout(transmissions));
        cancelling.transmissions += 1;
        self.cancels.insert(sequence, cancelling);
        self.send(cx, now, session, &ClientBody::Cancel { sequence, floor });
    }

    /// Handles a cancellation's timer.
    pub(super) fn repeat_cancel(&mut self, cx: &mut Context, now: Time, sequence: Sequence) {
        let Some(cancelling) = self.cancels.remove(&sequence) else {
            return debug_assert!(false, "a cancellation's timer ends with it");
        };
        if cancelling.transmissions < cx.config.limits.cancellations {
            cx.counters.repeated += 1;
            self.send_cancel(cx, now, sequence, cancelling);
        }
    }

    /// Ends a cancellation that the server knows. A server that knows no session gets more
    /// cancellations: the request may be on its way to open one.
    pub(super) fn end_cancel(&mut self, cx: &mut Context, sequence: Sequence, why: Refusal) {
        if why != Refusal::NoSession && self.cancels.remove(&sequence).is_some() {
            cx.timers.cancel(Timer::Cancel(CallKey { port: self.port, sequence }));
        } else {
            cx.counters.stray += 1;
        }
    }
}
