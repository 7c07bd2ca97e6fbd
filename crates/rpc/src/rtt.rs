//! The retransmission timer of RFC 6298, on round trips without the server's own time.

use std::time::Duration;

use crate::ACK_WITHIN;

/// Coarseness that the timer's clock may have (RFC 6298's G).
const GRANULARITY: Duration = Duration::from_millis(1);

/// Smoothed round-trip time, and the timer derived from it.
#[derive(Clone, Debug)]
pub(crate) struct RoundTrip {
    measured: Option<Estimate>,
    initial: Duration,
    max: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: Duration,
    variation: Duration,
}

impl RoundTrip {
    /// Returns a timer that is `initial` before any measurement, and never longer than `max`.
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { measured: None, initial, max }
    }

    /// Takes a measured round trip. Every packet has a number of its own, so repeated packets may
    /// be measured too.
    pub(crate) fn sample(&mut self, took: Duration) {
        self.measured = Some(match self.measured {
            None => Estimate { smoothed: took, variation: took / 2 },
            Some(Estimate { smoothed, variation }) => Estimate {
                variation: variation * 3 / 4 + smoothed.abs_diff(took) / 4,
                smoothed: smoothed * 7 / 8 + took / 8,
            },
        });
    }

    /// Returns the timer for the transmission after `unanswered` ones in a row: doubled for each of
    /// them.
    pub(crate) fn timeout(&self, unanswered: u32) -> Duration {
        self.base().saturating_mul(1 << unanswered.min(16)).min(self.max)
    }

    /// Returns the time that `transmissions` in a row take, the timer after the last included.
    pub(crate) fn schedule(&self, transmissions: u32) -> Duration {
        (0..transmissions).map(|unanswered| self.timeout(unanswered)).sum()
    }

    fn base(&self) -> Duration {
        self.measured.map_or(self.initial, |Estimate { smoothed, variation }| {
            smoothed + GRANULARITY.max(variation * 4) + ACK_WITHIN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_timer_follows_measurements_and_doubles() {
        let mut trip = RoundTrip::new(200 * MS, 1_000 * MS);
        assert_eq!(trip.timeout(0), 200 * MS);
        trip.sample(40 * MS);
        assert_eq!(trip.timeout(0), 40 * MS + 80 * MS + ACK_WITHIN);
        for _ in 0..100 {
            trip.sample(40 * MS);
        }
        assert!(trip.timeout(0) < 40 * MS + 2 * MS + ACK_WITHIN);
        assert_eq!(trip.timeout(1), 2 * trip.timeout(0));
        assert_eq!(trip.timeout(30), 1_000 * MS);
        assert_eq!(trip.schedule(2), 3 * trip.timeout(0));
    }
}
