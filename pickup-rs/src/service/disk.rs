//! When cleanup can't write: the queue's disk is full, or broken.
//!
//! Then no message fits, and trying all of them again and again fills the log and nothing else. So
//! the first failure has feeding wait; after the pause one message is tried, and after each that
//! fails the pause doubles, up to [`PAUSE_LONGEST`]. The first that fits ends it. What waits, waits
//! in order. Told are the beginning and the end.
//!
//! A message that is merely too large for what room there is stops the others for one short pause
//! only: the next one fits.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

const PAUSE_SHORTEST: Duration = Duration::from_millis(200);

/// An administrator who has made room doesn't want to wait longer.
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// Whether there is room, as far as we know.
#[derive(Debug, Default)]
pub(super) struct Disk {
    full: Option<Full>,
}

#[derive(Debug)]
struct Full {
    since: Instant,
    refused: u64,
    pause: Duration,
    pausing: bool,
}

/// That there is room again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relief {
    pub(super) refused: u64,
    pub(super) lasted: Duration,
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the first: say so, and call [`Disk::pause_is_over`] after this.
    Trouble(Duration),
    /// It was expected: call [`Disk::pause_is_over`] after this.
    Pause(Duration),
    /// There is a pause already.
    Nothing,
}

impl Disk {
    /// May a message be fed while so many are being fed?
    pub(super) fn may_feed(&self, feeding: usize) -> bool {
        self.full.as_ref().is_none_or(|full| !full.pausing && feeding == 0)
    }

    /// Cleanup could not write one.
    pub(super) fn failed(&mut self, now: Instant) -> Follows {
        let Some(full) = &mut self.full else {
            self.full = Some(Full { since: now, refused: 1, pause: PAUSE_SHORTEST, pausing: true });
            return Follows::Trouble(PAUSE_SHORTEST);
        };
        full.refused += 1;
        if std::mem::replace(&mut full.pausing, true) {
            return Follows::Nothing;
        }
        full.pause = (full.pause * 2).min(PAUSE_LONGEST);
        Follows::Pause(full.pause)
    }

    /// One may be tried.
    pub(super) fn pause_is_over(&mut self) {
        self.full.iter_mut().for_each(|full| full.pausing = false);
    }

    /// Cleanup has written one.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Relief> {
        let Full { since, refused, .. } = self.full.take()?;
        Some(Relief { refused, lasted: now - since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_and_the_rest_counted() {
        let (mut disk, now) = (Disk::default(), Instant::now());
        assert!(disk.may_feed(3));
        assert_eq!(disk.succeeded(now), None);
        assert_eq!(disk.failed(now), Follows::Trouble(PAUSE_SHORTEST));
        assert_eq!(disk.failed(now), Follows::Nothing, "it was being fed already");
        assert!(!disk.may_feed(0));
        disk.pause_is_over();
        assert!(disk.may_feed(0) && !disk.may_feed(1), "one at a time");
        assert_eq!(disk.failed(now), Follows::Pause(PAUSE_SHORTEST * 2));
        let later = now + Duration::from_secs(9);
        assert_eq!(
            disk.succeeded(later),
            Some(Relief { refused: 3, lasted: Duration::from_secs(9) })
        );
        assert!(disk.may_feed(3));
    }

    #[test]
    fn pauses_have_a_limit() {
        let (mut disk, now) = (Disk::default(), Instant::now());
        let mut last = Follows::Nothing;
        for _ in 0..100 {
            last = disk.failed(now);
            disk.pause_is_over();
        }
        assert_eq!(last, Follows::Pause(PAUSE_LONGEST));
    }
}
