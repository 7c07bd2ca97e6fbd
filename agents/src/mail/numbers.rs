//! Numbers of this node's commits: up to which one all are accounted for.
//!
//! Whoever commits for the node has the next number. So a number that comes after a gap shows that
//! another process has commits that this one has never heard of: the Mail Agent of a virtual
//! machine that was copied with its memory has the same start, and nothing fences it. The mark may
//! not rise over these. A comparison closes each gap: what is committed is in Redis's table, and
//! what is not there any more was decided.

use std::collections::BTreeSet;

use spool::CommitNumber;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// The last one before the first gap.
    last: CommitNumber,
    /// Those beyond it.
    beyond: BTreeSet<CommitNumber>,
    /// The highest one that was known when Redis's table was asked for.
    asked: CommitNumber,
}

impl Numbers {
    /// This node has a commit of this number.
    pub(crate) fn heard(&mut self, number: CommitNumber) {
        if number > self.last {
            self.beyond.insert(number);
            self.close();
        }
    }

    /// Redis's table is asked for, and no answer that gives numbers is under way.
    pub(crate) fn ask(&mut self) {
        self.asked = self.beyond.last().copied().unwrap_or(self.last);
    }

    /// The table has come, and all commits up to `number` are in it or were decided before.
    pub(crate) fn compared(&mut self, number: CommitNumber) {
        self.last = self.last.max(self.asked).max(number);
        self.beyond = self.beyond.split_off(&self.last);
        self.beyond.remove(&self.last);
        self.close();
    }

    /// The last number up to which all commits are known or decided.
    pub(crate) fn last(&self) -> CommitNumber {
        self.last
    }

    /// Whether there are commits that this process may never have heard of.
    pub(crate) fn has_gap(&self) -> bool {
        !self.beyond.is_empty()
    }

    fn close(&mut self) {
        while self.beyond.remove(&CommitNumber(self.last.0 + 1)) {
            self.last.0 += 1;
        }
        let last = self.last;
        debug_assert!(self.beyond.first().is_none_or(|first| first.0 > last.0 + 1), "no gap");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: &mut Numbers, all: &[u64]) -> (u64, bool) {
        all.iter().for_each(|it| numbers.heard(CommitNumber(*it)));
        (numbers.last().0, numbers.has_gap())
    }

    #[test]
    fn a_gap_stays_until_the_table_is_asked_for_after_it() {
        let mut numbers = Numbers::default();
        numbers.ask();
        numbers.compared(CommitNumber(1000));
        assert_eq!(heard(&mut numbers, &[1002]), (1000, true));
        numbers.ask();
        assert_eq!(heard(&mut numbers, &[1004]), (1000, true));
        // All that the table has of these is settled by now.
        numbers.compared(CommitNumber(7));
        assert_eq!(heard(&mut numbers, &[]), (1002, true));
        numbers.ask();
        numbers.compared(CommitNumber(0));
        assert_eq!(heard(&mut numbers, &[1004, 1005]), (1005, false));
    }

    #[test]
    fn numbers_of_one_report_come_in_any_order() {
        assert_eq!(heard(&mut Numbers::default(), &[3, 1, 2, 2]), (3, false));
    }
}
