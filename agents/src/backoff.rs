//! A pause after each failure, which doubles from the shortest to the longest. Success forgets it.

use std::time::{Duration, Instant};

/// A pause that doubles with each failure.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
    until: Option<Instant>,
}

impl Backoff {
    /// Makes a back-off that is not paused.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, next: shortest, until: None }
    }

    /// Pauses from `now`, longer than last time.
    pub fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.next);
        self.next = (self.next * 2).min(self.longest);
    }

    /// Forgets all failures.
    pub fn succeeded(&mut self) {
        self.next = self.shortest;
        self.until = None;
    }

    /// Whether it is too early to try again. A pause that is over is forgotten; its length is kept.
    pub fn blocks(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }

    /// Returns the end of the pause, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_forgotten_on_success() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut backoff = Backoff::new(ms(20), ms(100));
        assert!(!backoff.blocks(now));
        for pause in [20, 40, 80, 100, 100] {
            backoff.failed(now);
            assert_eq!(backoff.until(), Some(now + ms(pause)));
            assert!(backoff.blocks(now + ms(pause - 1)) && !backoff.blocks(now + ms(pause)));
        }
        backoff.succeeded();
        assert!(!backoff.blocks(now) && backoff.until().is_none());
    }
}
