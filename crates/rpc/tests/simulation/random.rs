//! The only source of choices: a generator (splitmix64) with a seed, or a fuzzer's bytes while any
//! are left.

#[derive(Debug, Clone)]
pub(crate) struct Random {
    chosen: Vec<u8>,
    at: usize,
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { chosen: Vec::new(), at: 0, state: seed }
    }

    /// Returns choices from a fuzzer's bytes. Each choice takes as few bytes as it needs, so that a
    /// small change by the fuzzer changes few choices.
    #[allow(dead_code)] // fuzz/fuzz_targets/operations.rs
    pub(crate) fn from_bytes(chosen: &[u8]) -> Self {
        Self { chosen: chosen.to_vec(), at: 0, state: chosen.len() as u64 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` up to, but not including, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high - low;
        let drawn = if span <= 1 { 0 } else { self.draw(span) };
        low + drawn % span
    }

    fn draw(&mut self, span: u64) -> u64 {
        let bytes = (u64::BITS - (span - 1).leading_zeros()).div_ceil(u8::BITS) as usize;
        let Some(chosen) = self.chosen.get(self.at..self.at + bytes) else { return self.next() };
        self.at += bytes;
        chosen.iter().fold(0, |number, byte| number << u8::BITS | u64::from(*byte))
    }

    /// Returns a number below `high`, mostly small: each power of two is as likely as any other.
    pub(crate) fn skewed(&mut self, high: u64) -> u64 {
        let magnitude = self.between(0, u64::from(u64::BITS - high.leading_zeros()) + 1);
        self.between(0, high.min(1 << magnitude).max(1))
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.between(0, 1_000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.between(0, items.len() as u64) as usize]
    }
}
