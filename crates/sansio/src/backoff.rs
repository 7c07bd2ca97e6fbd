//! A pause after each failure in a row, which doubles from the shortest to the longest. Success
//! forgets all failures.
//!
//! There is no jitter. Each policy has few users per server, and the longest pauses are seconds.

use std::time::{Duration, Instant};

/// Shortest and longest pause of a back-off. A user names its policy in a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Pause after the first failure.
    pub shortest: Duration,
    /// Limit of all pauses.
    pub longest: Duration,
}

impl Policy {
    /// Makes a policy from milliseconds.
    pub const fn from_millis(shortest: u64, longest: u64) -> Self {
        Self { shortest: Duration::from_millis(shortest), longest: Duration::from_millis(longest) }
    }

    /// Returns the pause after this number of failures in a row; zero without a failure.
    pub fn pause(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.shortest.saturating_mul(factor).min(self.longest)
    }
}

/// Failures in a row, and the end of the pause after the last one.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Makes a back-off that is not paused.
    pub const fn new(policy: Policy) -> Self {
        Self { policy, failures: 0, until: None }
    }

    /// Notes a failure, and returns the pause after it, for a caller that sleeps by itself.
    pub fn lengthen(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.pause(self.failures)
    }

    /// Notes a failure, and pauses from `now`.
    pub fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.lengthen());
    }

    /// Forgets all failures.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.policy);
    }

    /// Whether a pause lasts at `now`. A pause that is over is forgotten, the failures are not.
    pub fn blocks(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }

    /// Returns the end of the pause, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Returns the number of failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_forgotten_on_success() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut backoff = Backoff::new(Policy::from_millis(20, 100));
        assert!(!backoff.blocks(now));
        for pause in [20, 40, 80, 100, 100] {
            backoff.failed(now);
            assert_eq!(backoff.until(), Some(now + ms(pause)));
            assert!(backoff.blocks(now + ms(pause - 1)) && !backoff.blocks(now + ms(pause)));
        }
        backoff.succeeded();
        assert!(!backoff.blocks(now) && backoff.until().is_none());
    }

    /// Generates failures (true) and successes.
    fn outcomes() -> impl Strategy<Value = Vec<bool>> {
        prop::collection::vec(prop::bool::weighted(0.9), 0..200)
    }

    proptest! {
        /// Compares each pause with one that is doubled by addition, up to the longest.
        #[test]
        fn a_pause_is_twice_the_one_before_up_to_the_longest(
            shortest in 1..5_000_u64, more in 0..100_000_u64, outcomes in outcomes()
        ) {
            let policy = Policy::from_millis(shortest, shortest + more);
            let (mut backoff, mut expected) = (Backoff::new(policy), policy.shortest);
            for failed in outcomes {
                if failed {
                    prop_assert_eq!(backoff.lengthen(), expected);
                    expected = (expected + expected).min(policy.longest);
                } else {
                    backoff.succeeded();
                    expected = policy.shortest;
                }
            }
        }

        #[test]
        fn no_number_of_failures_is_too_large(
            failures in any::<u32>(), shortest in any::<u64>(), longest in any::<u64>()
        ) {
            let policy = Policy::from_millis(shortest.min(longest), shortest.max(longest));
            let pause = policy.pause(failures);
            prop_assert_eq!(pause.is_zero(), failures == 0 || policy.shortest.is_zero());
            prop_assert!(pause <= policy.longest);
            let next = policy.pause(failures.saturating_add(1));
            prop_assert!(pause <= next, "a later pause is no shorter");
        }

        #[test]
        fn a_pause_blocks_until_its_end_and_not_at_it(
            shortest in 1..5_000_u64, failures in 1..40_u32, at in 0..10_000_u64
        ) {
            let policy = Policy::from_millis(shortest, 4 * shortest);
            let (now, mut backoff) = (Instant::now(), Backoff::new(policy));
            (0..failures).for_each(|_| backoff.failed(now));
            let at = Duration::from_millis(at);
            prop_assert_eq!(backoff.blocks(now + at), at < policy.pause(failures));
            prop_assert_eq!(backoff.failures(), failures, "a pause's end forgets no failure");
        }
    }
}
