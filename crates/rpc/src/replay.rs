//! Recognition of packets that were seen before: a sliding window over packet numbers (RFC 4303,
//! section 3.4.3).

use crate::PacketNumber;

const WORDS: usize = 16;
/// Width of the window, packet numbers. A packet that is further behind the newest counts as a
/// copy.
const WINDOW: u64 = 64 * WORDS as u64;

/// The packet numbers seen in one session.
#[derive(Debug)]
pub(crate) struct Replay {
    newest: u64,
    /// Bit `n % WINDOW` for number `n`; bits of numbers newer than `newest` are clear.
    seen: [u64; WORDS],
}

impl Replay {
    /// Returns a window that has seen only `first`.
    pub(crate) fn new(first: PacketNumber) -> Self {
        let mut replay = Self { newest: first.0, seen: [0; WORDS] };
        replay.mark(first.0);
        replay
    }

    /// Returns whether the number was seen before, or is too old to tell.
    pub(crate) fn has_seen(&self, number: PacketNumber) -> bool {
        let (word, bit) = bit_of(number.0);
        let marked = self.seen.get(word).is_some_and(|word| word & bit != 0);
        number.0 <= self.newest && (self.newest - number.0 >= WINDOW || marked)
    }

    /// Notes the number as seen.
    pub(crate) fn take(&mut self, number: PacketNumber) {
        self.slide_to(number.0);
        if self.newest - number.0 < WINDOW {
            self.mark(number.0);
        }
    }

    fn slide_to(&mut self, number: u64) {
        let steps = number.saturating_sub(self.newest).min(WINDOW);
        for step in 0..steps {
            let (word, bit) = bit_of(number - step);
            if let Some(word) = self.seen.get_mut(word) {
                *word &= !bit;
            }
        }
        self.newest = self.newest.max(number);
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = bit_of(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word |= bit;
        }
    }
}

fn bit_of(number: u64) -> (usize, u64) {
    let at = number % WINDOW;
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_counts_once(numbers in proptest::collection::vec(0_u64..5_000, 1..400)) {
            let first = numbers[0];
            let mut replay = Replay::new(PacketNumber(first));
            let mut seen = HashSet::from([first]);
            let mut newest = first;
            for number in numbers {
                let expected = seen.insert(number) && newest.saturating_sub(number) < WINDOW;
                prop_assert_eq!(!replay.has_seen(PacketNumber(number)), expected);
                replay.take(PacketNumber(number));
                newest = newest.max(number);
            }
        }
    }

    #[test]
    fn the_highest_packet_number_is_accepted() {
        let mut replay = Replay::new(PacketNumber(0));
        assert!(!replay.has_seen(PacketNumber(u64::MAX)));
        replay.take(PacketNumber(u64::MAX));
        assert!(replay.has_seen(PacketNumber(u64::MAX)) && replay.has_seen(PacketNumber(1)));
    }
}
