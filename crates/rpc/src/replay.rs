//! Recognizes packets that were seen before: a sliding window over packet numbers (RFC 4303, section 3.4.3).

use crate::PacketNumber;

const WORDS: usize = 16;
/// A packet this much older than the newest can't be told from a copy, and counts as one.
const WINDOW: u64 = 64 * WORDS as u64;

/// The packet numbers seen of one session.
#[derive(Debug)]
pub(crate) struct Replay {
    newest: u64,
    /// Bit `n % WINDOW` for number `n`; those of numbers newer than `newest` are clear.
    seen: [u64; WORDS],
}

impl Replay {
    /// Having seen nothing but `first`.
    pub(crate) fn new(first: PacketNumber) -> Self {
        let mut replay = Self { newest: first.0, seen: [0; WORDS] };
        replay.mark(first.0);
        replay
    }

    /// Whether the number wasn't seen before; it is now.
    pub(crate) fn is_new(&mut self, number: PacketNumber) -> bool {
        self.slide_to(number.0);
        self.newest - number.0 < WINDOW && self.mark(number.0)
    }

    fn slide_to(&mut self, number: u64) {
        let steps = number.saturating_sub(self.newest).min(WINDOW);
        for step in 0..steps {
            let (word, bit) = place(number - step);
            if let Some(word) = self.seen.get_mut(word) {
                *word &= !bit;
            }
        }
        self.newest = self.newest.max(number);
    }

    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        let Some(word) = self.seen.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

fn place(number: u64) -> (usize, u64) {
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
        fn each_number_is_new_once(numbers in proptest::collection::vec(0_u64..5_000, 1..400)) {
            let first = numbers[0];
            let mut replay = Replay::new(PacketNumber(first));
            let mut seen = HashSet::from([first]);
            let mut newest = first;
            for number in numbers {
                let expected = seen.insert(number) && newest.saturating_sub(number) < WINDOW;
                prop_assert_eq!(replay.is_new(PacketNumber(number)), expected);
                newest = newest.max(number);
            }
        }
    }

    #[test]
    fn the_highest_number_is_no_trouble() {
        let mut replay = Replay::new(PacketNumber(0));
        assert!(replay.is_new(PacketNumber(u64::MAX)));
        assert!(!replay.is_new(PacketNumber(u64::MAX)));
        assert!(!replay.is_new(PacketNumber(1)));
    }
}
