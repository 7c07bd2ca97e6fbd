//! Numbers of this node's commits, and the number up to which all commits are known.
//!
//! Each commit for the node gets the next number. So a gap shows that another process has commits
//! that this process has never heard of. Such a process is the Mail Agent of a virtual machine that
//! was copied with its memory: it has the same start, so Redis can't fence it. The mark may not
//! rise over its commits. A comparison closes each gap: a commit is in Redis's table of the node's
//! commits, or was decided before.

use std::collections::BTreeSet;

use spool::CommitNumber;

/// Known numbers of commits; see the module.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Last number before the first gap.
    last: CommitNumber,
    /// Known numbers beyond the first gap.
    beyond: BTreeSet<CommitNumber>,
    /// Highest number that was known when Redis's table was asked for.
    asked: CommitNumber,
}

impl Numbers {
    /// Notes that this node has a commit of this number.
    pub(crate) fn heard(&mut self, number: CommitNumber) {
        if number > self.last {
            self.beyond.insert(number);
            self.close();
        }
    }

    /// Notes that Redis's table is asked for. No answer with numbers may be under way.
    pub(crate) fn ask(&mut self) {
        self.asked = self.beyond.last().copied().unwrap_or(self.last);
    }

    /// Notes that the table has come. All commits up to `number` are in the table or were decided
    /// before.
    pub(crate) fn compared(&mut self, number: CommitNumber) {
        self.last = self.last.max(self.asked).max(number);
        self.beyond = self.beyond.split_off(&self.last);
        self.beyond.remove(&self.last);
        self.close();
    }

    /// Returns the number up to which all commits are known or decided.
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
        // Every commit in the table is settled by now.
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
