//! Notices to the Info Agents that this node has room for more.
//!
//! The agent sends a notice when a part of the window has come free, and once when no work is left.

/// Fraction of the window, as a divisor, that must come free before a notice is sent.
const NOTICE_PART: usize = 8;

/// Messages done since the last notice; see the module.
#[derive(Debug)]
pub(super) struct Credit {
    /// Number of messages done since the last notice.
    freed: usize,
    was_idle: bool,
}

impl Credit {
    pub(super) fn new() -> Self {
        Self { freed: 0, was_idle: true }
    }

    /// Notes whether there is work after lots were fetched.
    pub(super) fn fetched(&mut self, is_idle: bool) {
        self.was_idle &= is_idle;
    }

    /// Notes that `count` messages are done, and returns whether to send a notice.
    pub(super) fn freed(&mut self, count: usize, is_idle: bool, window: usize) -> bool {
        self.freed += count;
        let has_become_idle = is_idle && !std::mem::replace(&mut self.was_idle, is_idle);
        let is_due = has_become_idle || self.freed >= (window / NOTICE_PART).max(1);
        if is_due {
            self.freed = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_window_or_the_end_of_work_is_worth_a_notice() {
        let mut credit = Credit::new();
        credit.fetched(false);
        let freed = |credit: &mut Credit, is_idle| credit.freed(1, is_idle, 16);
        assert_eq!([(); 3].map(|()| freed(&mut credit, false)), [false, true, false]);
        assert_eq!([(); 2].map(|()| freed(&mut credit, true)), [true, false]);
    }
}
