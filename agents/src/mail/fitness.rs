//! Fitness of this node: whether it takes mail, with the evidence against that, and the way back.
//!
//! ```text
//!            pickup-rs reports a cause
//!     Up ───────────────────────────────▶ Suspect, proven ◀───┐
//!     ▲                                        │              │ reports a cause
//!     │ the probation is over                  │ reports none │
//!     └──────────── Suspect, on probation ◀────┘──────────────┘
//! ```
//!
//! pickup-rs judges its Postfix by probes of its own: whether cleanup and the queue manager answer,
//! and whether the disk takes a file. A message that cleanup fails to take starts such a probe and
//! proves nothing by itself. So a message that no cleanup can take makes no node suspect.
//!
//! The probation lasts for one lease. Each relapse doubles it, up to a minute, so that a node which
//! falters again and again moves few lots. Ten minutes without a relapse forgive all earlier ones.
//!
//! An operator's drain stands beside that, for as long as Redis notes it. A node that can't be
//! reached is in phase CutOff, whatever its fitness was.

use std::time::{Duration, Instant};

use sansio::Policy;
use spool::Unfit;

/// Longest probation, unless a lease is longer: an operator who has mended the node waits for it.
const PROBATION_LONGEST: Duration = Duration::from_secs(60);
/// Time without a relapse that forgives all earlier ones.
const FORGIVEN: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FitnessState {
    Up { since: Option<Instant> },
    Suspect { cause: Unfit, is_proven: bool, until: Instant },
}

/// Fitness of a node; see the module.
#[derive(Debug)]
pub(super) struct Fitness {
    probation: Policy,
    state: FitnessState,
    relapses: u32,
    is_drained: bool,
}

impl Fitness {
    /// Returns the fitness of a node against which nothing is known. `term` is that of its lease.
    pub(super) fn new(term: Duration) -> Self {
        let probation = Policy { shortest: term, longest: term.max(PROBATION_LONGEST) };
        Self { probation, state: FitnessState::Up { since: None }, relapses: 0, is_drained: false }
    }

    /// Takes the cause for which pickup-rs finds its Postfix unfit, or its word that there is none.
    pub(super) fn report(&mut self, now: Instant, found: Option<Unfit>) {
        match (&mut self.state, found) {
            (FitnessState::Up { .. }, None) => (),
            (FitnessState::Up { since }, Some(cause)) => {
                let is_forgiven = since.is_some_and(|since| now - since >= FORGIVEN);
                self.relapses = if is_forgiven { 1 } else { self.relapses.saturating_add(1) };
                let until = now + self.probation.pause(self.relapses);
                self.state = FitnessState::Suspect { cause, is_proven: true, until };
                tracing::error!(%cause, relapses = self.relapses, "node became suspect");
            }
            (FitnessState::Suspect { cause, is_proven, .. }, Some(present)) => {
                (*cause, *is_proven) = (present, true);
            }
            (FitnessState::Suspect { is_proven, .. }, None) => *is_proven = false,
        }
    }

    /// Takes an operator's will from Redis.
    pub(super) fn drain(&mut self, is_drained: bool) {
        if std::mem::replace(&mut self.is_drained, is_drained) != is_drained {
            tracing::info!(is_drained, "operator's order for the node changed");
        }
    }

    /// Ends a probation that is over.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            tracing::info!("node takes mail again, unless it is drained");
            self.state = FitnessState::Up { since: Some(now) };
        }
    }

    /// Returns the end of the probation, while nothing else keeps the node suspect.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            FitnessState::Suspect { is_proven: false, until, .. } => Some(until),
            FitnessState::Suspect { .. } | FitnessState::Up { .. } => None,
        }
    }

    /// Returns the cause for which the node takes no mail.
    pub(super) fn why(&self) -> Option<Unfit> {
        match self.state {
            FitnessState::Suspect { cause, .. } => Some(cause),
            FitnessState::Up { .. } => self.is_drained.then_some(Unfit::Drained),
        }
    }

    /// Whether the node takes mail.
    pub(super) fn is_fit(&self) -> bool {
        self.why().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(5);

    /// Reports a cause at once and none after `lasts`. Returns the time from the cause to fitness.
    fn falter(fitness: &mut Fitness, now: Instant, lasts: Duration) -> Duration {
        fitness.report(now, Some(Unfit::Room));
        fitness.look_at_the_clock(now + lasts);
        assert_eq!(
            (fitness.why(), fitness.due()),
            (Some(Unfit::Room), None),
            "as long as it lasts"
        );
        fitness.report(now + lasts, None);
        let due = fitness.due().unwrap().max(now + lasts);
        fitness.look_at_the_clock(due);
        assert!(fitness.is_fit());
        due - now
    }

    #[test]
    fn a_probation_doubles_with_each_relapse_up_to_a_minute_until_all_are_forgiven() {
        let (mut fitness, mut now) = (Fitness::new(TERM), Instant::now());
        let second = Duration::from_secs(1);
        for expected_s in [5, 10, 20, 40, 60, 60] {
            let lasted = falter(&mut fitness, now, second);
            assert_eq!(lasted.as_secs(), expected_s);
            now += lasted;
        }
        assert_eq!(falter(&mut fitness, now, 100 * second), 100 * second, "over by then");
        now += 100 * second + FORGIVEN;
        assert_eq!(falter(&mut fitness, now, second), TERM);
    }

    #[test]
    fn a_cause_that_returns_during_the_probation_is_no_relapse() {
        let (mut fitness, now) = (Fitness::new(TERM), Instant::now());
        fitness.report(now, Some(Unfit::Room));
        fitness.report(now, None);
        fitness.report(now, Some(Unfit::Cleanup));
        assert_eq!((fitness.why(), fitness.due()), (Some(Unfit::Cleanup), None));
        fitness.report(now + TERM, None);
        assert_eq!(fitness.due(), Some(now + TERM));
    }

    #[test]
    fn a_drained_node_takes_no_mail_until_it_is_drained_no_longer() {
        let mut fitness = Fitness::new(TERM);
        fitness.drain(true);
        fitness.report(Instant::now(), None);
        assert_eq!((fitness.why(), fitness.due()), (Some(Unfit::Drained), None));
        fitness.drain(false);
        assert!(fitness.is_fit());
    }
}
