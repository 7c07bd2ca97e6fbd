//! The end of a Mail Agent, which finishes the work under way, hands back the rest, and leaves.
//! Under direct hand-off an unfit node finishes it, too, before it hands lots back.

use std::time::{Duration, Instant};

use super::Mail;
use super::errand::Errand;
use super::phase::{Phase, Serving, Then, Wait};
use super::report::Held;
use crate::machine::End;

/// Time for which a drain waits for work under way, and then for Redis.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

impl Mail {
    /// Begins the agent's end: it finishes the phase, or leaves at once where it can't.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.phase.leave_by().is_some() {
            return;
        }
        let (by, is_up) = (Some(now + DRAIN_PATIENCE), self.link.is_up());
        match &mut self.phase {
            Phase::Leaving { .. } | Phase::Ended(_) => return,
            Phase::Nameless => return self.enter(Phase::Ended(End::Drained)),
            Phase::CutOff { .. } => self.leave(now, Held::Later),
            _ if !is_up => self.leave(now, Held::Later),
            Phase::Outside { leave_by, .. } | Phase::Deciding { leave_by } => *leave_by = by,
            Phase::Uncompared { then }
            | Phase::Asking { then, .. }
            | Phase::Listing { then, .. } => *then = Then::Decide { leave_by: by },
            Phase::Serving(_) => self.enter(Phase::Deciding { leave_by: by }),
        }
        self.feeding.stop();
    }

    /// Begins to hand back the lots that are left, and then the lease.
    pub(super) fn leave(&mut self, now: Instant, held: Held) {
        let until = now + DRAIN_PATIENCE;
        self.enter(Phase::Leaving { until, held, hand_back: Errand::due() });
    }

    /// Returns whether lots may not be handed back yet, since the queue manager may have some of
    /// their messages. Others would send these again.
    pub(super) fn must_await_decisions(&mut self, now: Instant) -> bool {
        let Phase::Serving(Serving { wait, .. }) = &mut self.phase else { return false };
        let under_way = self.feeding.under_way();
        let is_decided = under_way == 0 && self.ledger.is_decided();
        if self.link.is_two_phase() || is_decided {
            *wait = Wait::No;
            return false;
        }
        match *wait {
            Wait::No => *wait = Wait::Until(now + DRAIN_PATIENCE),
            Wait::Until(by) if by <= now => {
                *wait = Wait::Over;
                tracing::error!(
                    under_way,
                    "lots handed back while messages were under way, which may be sent twice; \
                        check cleanup"
                );
            }
            Wait::Until(_) | Wait::Over => (),
        }
        *wait != Wait::Over
    }

    /// Leaves the phase Deciding when Redis has decided about all files.
    pub(super) fn look_for_decisions(&mut self, now: Instant) {
        let Phase::Deciding { leave_by } = self.phase else { return };
        if !self.feeding.is_quiet() || !self.ledger.is_decided() {
            return;
        }
        match leave_by {
            None => self.enter(Phase::Serving(Serving::begin())),
            Some(_) if self.ledger.is_told() && self.releases.is_empty() => {
                self.leave(now, Held::Too);
            }
            Some(_) => (),
        }
    }

    /// Leaves when the drain's limit has passed, and ends when the limit for leaving has.
    pub(super) fn look_for_end(&mut self, now: Instant) {
        match self.phase {
            // Redis is away: the lease will run out, and a Scheduler will reassign the lots.
            Phase::Leaving { until, .. } if until <= now => {
                self.enter(Phase::Ended(End::Drained));
            }
            _ if self.phase.leave_by().is_some_and(|by| by <= now) => {
                self.leave(now, self.phase.held());
            }
            _ => (),
        }
    }
}
