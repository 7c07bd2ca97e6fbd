//! What time brings: a pickup-rs that stays away, a recovery that leads nowhere, the end.

use std::time::Instant;

use super::{DRAIN_PATIENCE, Drain, Mail, Recovery};
use crate::machine::End;

impl Mail {
    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        self.lanes.look_at_the_clock(now);
        if self.link.is_away(now, self.config.term) && !self.withdrawn {
            self.withdraw();
        }
        if self.recheck_at.is_some_and(|when| when <= now) {
            self.recheck_at = None;
            self.recovery_failed(now);
        } else if self.recovery_deadline().is_some_and(|when| when <= now) {
            self.recovery_failed(now);
        }
        self.orders.look_at_the_clock(now);
        self.vanishing.look_at_the_clock(now);
        self.go_on_draining(now);
    }

    pub(super) fn recovery_deadline(&self) -> Option<Instant> {
        let is_under_way = matches!(self.recovery, Recovery::Asking | Recovery::Listing { .. });
        self.recovery_until.filter(|_| is_under_way)
    }

    pub(super) fn withdraw(&mut self) {
        tracing::error!("pickup-rs can't be reached, handing back lots");
        self.withdrawn = true;
        if let Some((_, membership)) = &mut self.membership {
            membership.lease.declare(0);
            self.must_hand_back = true;
        }
    }

    pub(super) fn begin_draining(&mut self, now: Instant) {
        if self.drain == Drain::No {
            self.feeding.stop();
            self.drain = Drain::Finishing { until: now + DRAIN_PATIENCE };
        }
        if self.membership.is_none() {
            self.ended = Some(End::Drained);
        }
    }

    pub(super) fn go_on_draining(&mut self, now: Instant) {
        match self.drain {
            Drain::Finishing { until } if until <= now || self.is_finished() => {
                self.drain = Drain::Leaving { until: now + DRAIN_PATIENCE };
                self.must_hand_back = true;
            }
            // Redis is away: the lease will run out and the lots be taken by the Scheduler.
            Drain::Leaving { until } if until <= now => self.ended = Some(End::Drained),
            Drain::No | Drain::Finishing { .. } | Drain::Leaving { .. } => (),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        if !self.link.is_up() {
            return true;
        }
        let nothing_to_release =
            self.releases.is_empty() && self.releasing.is_empty() && self.discards.is_empty();
        self.is_recovered()
            && self.feeding.is_quiet()
            && self.ledger.is_told()
            && nothing_to_release
    }
}
