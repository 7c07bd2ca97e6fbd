//! Assembly of a message from fragments that come in any order, any number of times.

use std::ops::Range;

use bytes::Bytes;

use crate::packet::{Fragment, Ranges};

/// A message of which some fragments have arrived.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// The message as far as the highest fragment that has arrived; zeros in its gaps.
    message: Vec<u8>,
    total_bytes: usize,
    chunk_bytes: u32,
    have: Vec<bool>,
    missing: u32,
    /// Lowest fragment that is missing.
    next: u32,
    /// One more than the highest fragment that has arrived.
    end: u32,
}

impl Assembly {
    /// Returns an assembly for the message that `fragment` belongs to.
    pub(crate) fn of(fragment: &Fragment<'_>) -> Self {
        Self {
            message: Vec::with_capacity(fragment.total_bytes as usize),
            total_bytes: fragment.total_bytes as usize,
            chunk_bytes: fragment.chunk_bytes,
            have: vec![false; fragment.count() as usize],
            missing: fragment.count(),
            next: 0,
            end: 0,
        }
    }

    /// Returns whether `fragment` belongs to the same message, cut the same way.
    pub(crate) fn fits(&self, fragment: &Fragment<'_>) -> bool {
        self.total_bytes == fragment.total_bytes as usize
            && self.chunk_bytes == fragment.chunk_bytes
    }

    /// Adds a fragment that [fits](Self::fits). Returns whether it is new.
    pub(crate) fn add(&mut self, fragment: &Fragment<'_>) -> bool {
        match self.have.get_mut(fragment.index as usize) {
            Some(have) if !*have => *have = true,
            _ => return false,
        }
        self.copy(fragment);
        self.missing -= 1;
        self.end = self.end.max(fragment.index + 1);
        self.advance();
        true
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Returns one more than the highest fragment that has arrived.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    pub(crate) fn bytes(&self) -> usize {
        self.total_bytes
    }

    /// Returns the fragments that have arrived beyond the first gap.
    pub(crate) fn beyond(&self) -> Ranges {
        let mut ranges = Ranges::default();
        let mut at = self.next;
        while at < self.end {
            let range = self.run(at);
            at = range.end.max(at + 1);
            if !range.is_empty() && !ranges.push(range) {
                break;
            }
        }
        ranges
    }

    /// Takes the message, which must be complete. Until the assembly is dropped, it counts the
    /// message's bytes.
    pub(crate) fn take_message(&mut self) -> Bytes {
        debug_assert!(self.is_complete() && self.message.len() == self.total_bytes);
        std::mem::take(&mut self.message).into()
    }

    /// Copies a fragment. Bytes of fragments that come in order are written once, and not zeroed
    /// first.
    fn copy(&mut self, fragment: &Fragment<'_>) {
        let start = fragment.index as usize * self.chunk_bytes as usize;
        let end = start + fragment.data.len();
        if self.message.len() < start {
            self.message.resize(start, 0);
        }
        if self.message.len() == start {
            self.message.extend_from_slice(fragment.data);
        } else if let Some(gap) = self.message.get_mut(start..end) {
            gap.copy_from_slice(fragment.data);
        }
    }

    fn run(&self, start: u32) -> Range<u32> {
        let mut end = start;
        while end < self.end && self.have.get(end as usize) == Some(&true) {
            end += 1;
        }
        start..end
    }

    fn advance(&mut self) {
        while self.have.get(self.next as usize) == Some(&true) {
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_come_in_any_order_with_copies() {
        let message: Vec<u8> = (0..5_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        let fragment = |index| Fragment::of(&message, 512, index).unwrap();
        let mut assembly = Assembly::of(&fragment(3));
        for index in [3, 3, 0, 7, 8, 1] {
            assembly.add(&fragment(index));
        }
        assert_eq!((assembly.next(), assembly.end()), (2, 9));
        assert_eq!(assembly.beyond().as_slice(), [3..4, 7..9]);
        for index in [9, 2, 4, 6, 5] {
            assert!(!assembly.is_complete());
            assert!(assembly.add(&fragment(index)));
        }
        assert!(assembly.is_complete());
        assert_eq!(assembly.take_message(), message);
    }
}
