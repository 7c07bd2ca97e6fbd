//! Ranges of fragments, few enough for a packet.

use std::ops::Range;

/// Most ranges in a packet. Others follow in a later one.
pub(crate) const MAX_RANGES: usize = 32;

/// Fragments of a message, as ascending ranges that don't touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u32>>);

impl Ranges {
    /// Returns the ranges of indices in any order; if there are too many ranges, only the lowest.
    #[must_use]
    pub fn from_indices(mut indices: Vec<u32>) -> Self {
        indices.sort_unstable();
        let mut ranges = Self::default();
        for index in indices {
            if !ranges.push(index..index.saturating_add(1)) {
                break;
            }
        }
        ranges
    }

    /// Adds a range that begins no lower than all others end, and merges it with one that it
    /// touches. Returns whether there was room.
    pub(crate) fn push(&mut self, range: Range<u32>) -> bool {
        if let Some(last) = self.0.last_mut().filter(|last| range.start <= last.end) {
            last.end = last.end.max(range.end);
            return true;
        }
        let room = self.0.len() < MAX_RANGES;
        if room {
            self.0.push(range);
        }
        room
    }

    /// Returns the ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[Range<u32>] {
        &self.0
    }

    /// Returns every fragment.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(Clone::clone)
    }

    /// Returns whether a fragment is in a range.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let after = self.0.partition_point(|range| range.end <= index);
        self.0.get(after).is_some_and(|range| range.contains(&index))
    }

    /// Returns whether there is no range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_become_ranges_and_the_lowest_stay() {
        let ranges = Ranges::from_indices(vec![7, 1, 2, 3, 9, 8, 2]);
        assert_eq!(ranges.as_slice(), [1..4, 7..10]);
        let sparse = Ranges::from_indices((0..100).map(|index| index * 2).collect());
        assert_eq!(sparse.as_slice().len(), MAX_RANGES);
        assert_eq!(sparse.indices().next(), Some(0));
    }
}
