//! The only source of choices: a seed, or a fuzzer's bytes for as long as there are any.

/// Generator SplitMix64 (Steele, Lea, Flood 2014), which suffices for choices, and is the same on
/// every machine.
#[derive(Debug, Clone)]
pub struct Random {
    /// Choices of a fuzzer, and the number of those that were taken.
    chosen: Vec<u8>,
    at: usize,
    state: u64,
}

impl Random {
    /// Returns the sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self { chosen: Vec::new(), at: 0, state: seed }
    }

    /// Returns choices from a fuzzer's bytes. Each choice takes as few bytes as it needs, so that a
    /// small change by the fuzzer is a small change here.
    pub fn from_bytes(chosen: &[u8]) -> Self {
        Self { chosen: chosen.to_vec(), at: 0, state: chosen.len() as u64 }
    }

    /// Returns the next number of the seed's sequence.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `low` up to and without `high`, which must be larger.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high - low;
        let drawn = if span <= 1 { 0 } else { self.draw(span) };
        low + drawn % span
    }

    fn draw(&mut self, span: u64) -> u64 {
        let bytes = (u64::BITS - (span - 1).leading_zeros()).div_ceil(u8::BITS) as usize;
        let Some(chosen) = self.chosen.get(self.at..self.at + bytes) else { return self.number() };
        self.at += bytes;
        chosen.iter().fold(0, |number, byte| number << u8::BITS | u64::from(*byte))
    }

    /// Returns a number below `high`, mostly small: each power of two is as likely as any other.
    pub fn skewed(&mut self, high: u64) -> u64 {
        let magnitude = self.between(0, u64::from(u64::BITS - high.leading_zeros()) + 1);
        self.between(0, high.min(1 << magnitude).max(1))
    }

    /// Returns true in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.between(0, 1_000) < per_mille
    }

    /// Returns one of the items, of which there must be some.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.between(0, items.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_published_sequence() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.number(), 6_457_827_717_110_365_317);
        assert_eq!(random.number(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| (5..8).contains(&random.between(5, 8))));
        assert!((0..1000).all(|_| random.skewed(8) < 8));
    }

    #[test]
    fn each_item_is_picked_and_chances_are_thousandths() {
        let mut random = Random::new(1);
        let picked: BTreeSet<char> = (0..100).map(|_| *random.pick(&['a', 'b', 'c'])).collect();
        assert_eq!(picked, BTreeSet::from(['a', 'b', 'c']));
        let chances = |per_mille| (0..1000).filter(|_| random.chance(per_mille)).count();
        let [never, sometimes, always] = [0, 200, 1000].map(chances);
        assert!(never == 0 && (150..250).contains(&sometimes) && always == 1000, "{sometimes}");
    }

    #[test]
    fn a_fuzzer_s_bytes_come_first_and_each_choice_takes_what_it_needs() {
        let mut random = Random::from_bytes(&[7, 1, 2]);
        assert_eq!(
            (random.between(0, 10), random.between(0, 1), random.between(0, 1_000)),
            (7, 0, 258)
        );
        let mut seeded = Random::new(3);
        assert_eq!(random.between(0, 1_000), seeded.between(0, 1_000));
    }
}
