//! A throttle that lets one trouble into the log once in a while.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

/// The trouble that was logged last, and when. Another trouble is logged at once.
#[derive(Debug, Clone)]
pub struct Throttle<T> {
    every: Duration,
    logged: Option<(Instant, T)>,
}

impl<T> Throttle<T> {
    /// Makes a throttle that lets the same trouble through once in `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, logged: None }
    }

    /// Whether the trouble must be logged at `now`. If so, notes the trouble as logged.
    pub fn admits<Q>(&mut self, now: Instant, trouble: &Q) -> bool
    where
        T: Borrow<Q>,
        Q: ?Sized + PartialEq + ToOwned<Owned = T>,
    {
        let is_logged = self.logged.as_ref().is_some_and(|(when, logged)| {
            let logged: &Q = logged.borrow();
            logged == trouble && now < *when + self.every
        });
        if !is_logged {
            self.logged = Some((now, trouble.to_owned()));
        }
        !is_logged
    }

    /// Forgets a trouble that is over, so that the same trouble is logged when it comes back.
    pub fn forget(&mut self) {
        self.logged = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_logged_once_in_a_while_and_another_one_at_once() {
        let (now, every) = (Instant::now(), Duration::from_secs(60));
        let mut throttle = Throttle::<String>::new(every);
        let just_before = now + every - Duration::from_nanos(1);
        assert!(throttle.admits(now, "full"));
        assert!(!throttle.admits(just_before, "full"));
        assert!(throttle.admits(now + every, "full"));
        assert!(throttle.admits(now + every, "broken"));
        assert!(throttle.admits(now + every, "full"));
        throttle.forget();
        assert!(throttle.admits(now + every, "full"));
    }
}
