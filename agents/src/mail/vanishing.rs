//! Prepared files that vanish before their release.
//!
//! Only OPTIMUS should touch files in the folder for prepared mail. A file that is deleted there is
//! made again, since its message was never sent. A program that deletes files again and again would
//! keep the node busy. So after each round feeding pauses, for longer each time, and after some
//! rounds the log reports it. No message is given up, and the pauses end when no file has vanished
//! for a while.
//!
//! A *round* is the set of files that vanish until feeding goes on.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

use sansio::Policy;

/// First round that is logged: an administrator may delete a file or two by mistake.
const ROUNDS_UNREMARKED: u32 = 3;
/// Pauses of feeding, by rounds; short enough for an operator who has removed the cause.
const FEEDING: Policy = Policy::from_millis(250, 10_000);
/// Time without a vanished file after which the rounds are over.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// Remark for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remark {
    Nothing,
    /// Number of rounds in a row, and the pause of feeding after them.
    Rounds(u32, Duration),
}

/// Rounds so far, and the pause; see the module.
#[derive(Debug, Default)]
pub(super) struct Vanishing {
    rounds: u32,
    last: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Vanishing {
    /// Notes that a file has vanished.
    pub(super) fn vanished(&mut self, now: Instant) -> Remark {
        let is_over = self.last.is_none_or(|last| now.duration_since(last) >= OVER_AFTER);
        self.last = Some(now);
        if self.is_pausing(now) {
            return Remark::Nothing;
        }
        self.rounds = if is_over { 1 } else { self.rounds.saturating_add(1) };
        let pause = FEEDING.pause(self.rounds);
        self.paused_until = Some(now + pause);
        match self.rounds {
            0..ROUNDS_UNREMARKED => Remark::Nothing,
            rounds => Remark::Rounds(rounds, pause),
        }
    }

    /// Whether feeding pauses at `now`.
    pub(super) fn is_pausing(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Returns the time at which feeding goes on, if it pauses.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused_until
    }

    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_of_one_batch_are_one_round() {
        let (mut vanishing, now) = (Vanishing::default(), Instant::now());
        (0..100).for_each(|_| assert_eq!(vanishing.vanished(now), Remark::Nothing));
        assert_eq!((vanishing.rounds, vanishing.due()), (1, Some(now + FEEDING.shortest)));
        assert!(vanishing.is_pausing(now) && !vanishing.is_pausing(now + FEEDING.shortest));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_the_third_round_is_remarked_on() {
        let (mut vanishing, mut now) = (Vanishing::default(), Instant::now());
        let mut pauses = Vec::new();
        for round in 1..=20 {
            let remark = vanishing.vanished(now);
            let pause = vanishing.due().unwrap() - now;
            let told = if round < ROUNDS_UNREMARKED {
                Remark::Nothing
            } else {
                Remark::Rounds(round, pause)
            };
            assert_eq!(remark, told);
            pauses.push(pause);
            now += pause;
            vanishing.look_at_the_clock(now);
            assert_eq!(vanishing.due(), None);
        }
        assert_eq!(pauses[..3], [1, 2, 4].map(|times| FEEDING.shortest * times));
        assert_eq!(pauses.last(), Some(&FEEDING.longest));
    }

    #[test]
    fn after_a_quiet_minute_it_begins_anew() {
        let (mut vanishing, mut now) = (Vanishing::default(), Instant::now());
        for _ in 0..5 {
            vanishing.vanished(now);
            now += FEEDING.longest;
        }
        now += OVER_AFTER;
        assert_eq!(vanishing.vanished(now), Remark::Nothing);
        assert_eq!(vanishing.due(), Some(now + FEEDING.shortest));
    }
}
