//! A question that is put again until it has been answered.

use crate::machine::{Ask, Ticket};

/// One kind of question: whether the question is due, and whether its answer is open.
#[derive(Debug, Default)]
pub(super) struct Errand {
    is_due: bool,
    ask: Ask,
}

impl Errand {
    /// Returns an errand that is due.
    pub(super) fn due() -> Self {
        Self { is_due: true, ask: Ask::default() }
    }

    /// Makes the question due, also while one is under way, whose answer may be too old.
    pub(super) fn want(&mut self) {
        self.is_due = true;
    }

    /// Returns whether the question can be put now.
    pub(super) fn is_due(&self) -> bool {
        self.is_due && !self.ask.is_open()
    }

    /// Returns whether no question is due or open.
    pub(super) fn is_done(&self) -> bool {
        !self.is_due && !self.ask.is_open()
    }

    /// Notes that the question is put, and returns the place for its ticket.
    pub(super) fn put(&mut self) -> &mut Ask {
        debug_assert!(self.is_due(), "one question of a kind at a time");
        self.is_due = false;
        &mut self.ask
    }

    /// Closes the open question if it has this ticket. Returns whether it had.
    pub(super) fn close(&mut self, ticket: Ticket) -> bool {
        self.ask.close(ticket)
    }

    /// Makes the question due again if the open one has this ticket. Returns whether it had.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        let was_open = self.ask.close(ticket);
        self.is_due |= was_open;
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tickets;

    #[test]
    fn a_question_that_failed_or_was_wanted_meanwhile_is_put_again() {
        let (mut errand, mut tickets) = (Errand::due(), Tickets::default());
        let first = errand.put().open(&mut tickets);
        assert!(!errand.is_due() && !errand.is_done());
        errand.want();
        assert!(errand.close(first) && errand.is_due());
        let second = errand.put().open(&mut tickets);
        assert!(!errand.failed(first) && !errand.is_due(), "the first one is answered");
        assert!(errand.failed(second) && errand.is_due());
        let third = errand.put().open(&mut tickets);
        assert!(errand.close(third) && errand.is_done());
    }
}
