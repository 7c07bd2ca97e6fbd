//! A disk that is full or broken, so that cleanup can't write.
//!
//! On such a disk no message fits, and attempts with all of them would only fill the log. So the
//! first failure stops feeding. After a pause one message is tried, and after each further failure
//! the pause doubles, up to ten seconds. The first success ends the pauses. Waiting messages keep
//! their order. The log shows the first failure and the first success.
//!
//! A message may merely be too large for the room that is left. Such a message stops the others for
//! one short pause only, because the next one fits.
//!
//! The code is pure: time is an argument.

use std::time::{Duration, Instant};

use sansio::{Backoff, Policy};

/// Pauses between two attempts. The longest one is short, because an administrator who has made
/// room waits for its end.
const ATTEMPT: Policy = Policy::from_millis(200, 10_000);

/// Room on the disk, as far as cleanup's answers show it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    full: Option<Full>,
}

#[derive(Debug)]
struct Full {
    since: Instant,
    refused: u64,
    backoff: Backoff,
    pausing: bool,
    /// Text of the last failure.
    reason: String,
}

/// Failures that a success has ended: their number and duration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relief {
    pub(super) refused: u64,
    pub(super) lasted: Duration,
}

/// Consequence of a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// First failure: log it, and call [`Disk::pause_is_over`] after this time.
    Trouble(Duration),
    /// A further failure: call [`Disk::pause_is_over`] after this time.
    Pause(Duration),
    /// A pause is under way already.
    Nothing,
}

impl Disk {
    /// Returns whether one more message may be fed while `feeding` messages are being fed.
    pub(super) fn may_feed(&self, feeding: usize) -> bool {
        self.full.as_ref().is_none_or(|full| !full.pausing && feeding == 0)
    }

    /// Notes that cleanup could not write a file.
    pub(super) fn failed(&mut self, now: Instant, reason: &str) -> Follows {
        let Some(full) = &mut self.full else {
            let (mut backoff, reason) = (Backoff::new(ATTEMPT), reason.to_owned());
            let pause = backoff.lengthen();
            self.full = Some(Full { since: now, refused: 1, backoff, pausing: true, reason });
            return Follows::Trouble(pause);
        };
        full.refused += 1;
        reason.clone_into(&mut full.reason);
        if std::mem::replace(&mut full.pausing, true) {
            return Follows::Nothing;
        }
        Follows::Pause(full.backoff.lengthen())
    }

    /// Returns the last failure, and how long there has been no room.
    pub(super) fn trouble(&self, now: Instant) -> Option<(&str, Duration)> {
        self.full.as_ref().map(|full| (full.reason.as_str(), now - full.since))
    }

    /// Allows one message to be tried.
    pub(super) fn pause_is_over(&mut self) {
        self.full.iter_mut().for_each(|full| full.pausing = false);
    }

    /// Notes that cleanup has written a file. Returns the failures before, if this success ends
    /// them.
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
        assert_eq!(disk.failed(now, "no room"), Follows::Trouble(ATTEMPT.shortest));
        assert_eq!(disk.failed(now, "no room"), Follows::Nothing, "it was being fed already");
        assert!(!disk.may_feed(0));
        disk.pause_is_over();
        assert!(disk.may_feed(0) && !disk.may_feed(1), "one at a time");
        assert_eq!(disk.failed(now, "no room"), Follows::Pause(ATTEMPT.shortest * 2));
        let later = now + Duration::from_secs(9);
        assert_eq!(disk.trouble(later), Some(("no room", Duration::from_secs(9))));
        assert_eq!(
            disk.succeeded(later),
            Some(Relief { refused: 3, lasted: Duration::from_secs(9) })
        );
        assert!(disk.may_feed(3) && disk.trouble(later).is_none());
    }

    #[test]
    fn pauses_have_a_limit() {
        let (mut disk, now) = (Disk::default(), Instant::now());
        let mut last = Follows::Nothing;
        for _ in 0..100 {
            last = disk.failed(now, "no room");
            disk.pause_is_over();
        }
        assert_eq!(last, Follows::Pause(ATTEMPT.longest));
    }
}
