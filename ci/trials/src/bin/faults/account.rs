//! Account of one case's messages: submitted against arrived or deleted, and which of the rest
//! `docs/architecture.md` names.

use std::collections::HashSet;

use testbed::{Delivery, Tally};
use trials::{Case, InWindow, Notes, Outcome, Strike, may_lose, may_repeat};

use crate::report::Row;

/// Account of one case; see the module.
pub(crate) struct Account<'a> {
    case: &'a Case,
    strikes: &'a [Strike],
    notes: &'a Notes,
    submitted: HashSet<&'a str>,
    refused: usize,
    ends: Vec<Delivery>,
    deleted: usize,
}

impl<'a> Account<'a> {
    /// Compares `sendmail`'s exit codes with the arrivals and with Postfix's log.
    pub(crate) fn of(
        case: &'a Case,
        (strikes, notes): (&'a [Strike], &'a Notes),
        outcome: &'a Outcome,
        arrivals: Vec<Delivery>,
        log: &str,
    ) -> Self {
        let arrived: HashSet<&str> =
            arrivals.iter().filter_map(|it| it.test_id.as_deref()).collect();
        // A killed `sendmail` may have stored its message; it has if that arrives.
        let stored = outcome.killed().filter(|id| arrived.contains(id));
        let submitted = outcome.accepted.iter().map(String::as_str).chain(stored).collect();
        let (refused, deleted) = (outcome.refused.len(), notes.deleted(&arrivals));
        let ends = notes.ends(arrivals, log);
        Self { case, strikes, notes, submitted, refused, ends, deleted }
    }

    /// Returns the result of the case.
    pub(crate) fn row(&self, seconds: f64, error: Option<String>) -> Row {
        let named = |ids: HashSet<&str>, explains: &dyn Fn(&str) -> bool| {
            ids.into_iter().filter(|id| explains(id)).count()
        };
        let mut row = Row {
            case: self.case.name().to_owned(),
            strikes: self.strikes.len(),
            refused: self.refused,
            deleted: self.deleted,
            tally: Tally::of(self.submitted.iter().copied(), &self.ends),
            lost_named: named(Tally::lost(&self.submitted, &self.ends), &|id| {
                self.explains_loss(id)
            }),
            twice_named: named(Tally::duplicates(&self.ends), &|id| self.explains_duplicate(id)),
            seconds,
            error,
        };
        row.excuse(&InWindow::of(&self.ends, self.strikes), self.case.twice_per_kill());
        row
    }

    /// Returns a line for each message that only the direct hand-off's window may explain.
    pub(crate) fn unexplained(&self) -> Vec<String> {
        let lost = Tally::lost(&self.submitted, &self.ends).into_iter();
        let lost = lost.filter(|id| !self.explains_loss(id)).map(|id| format!("lost: {id}"));
        let twice =
            Tally::duplicates(&self.ends).into_iter().filter(|id| !self.explains_duplicate(id));
        lost.chain(twice.map(|id| format!("twice: {id}: {}", self.names(id).join(" ")))).collect()
    }

    fn explains_loss(&self, test_id: &str) -> bool {
        self.notes.explains_loss(test_id) || self.case.rewinds() && may_lose(self.strikes, test_id)
    }

    fn explains_duplicate(&self, test_id: &str) -> bool {
        let early =
            self.names(test_id).into_iter().any(|queue_id| self.notes.explains_duplicate(queue_id));
        early || self.case.repeats() && may_repeat(self.strikes, &self.ends, test_id)
    }

    /// Returns the queue ids of all copies.
    fn names(&self, test_id: &str) -> Vec<&str> {
        let copies = self.ends.iter().filter(|it| it.test_id.as_deref() == Some(test_id));
        copies.filter_map(|it| it.queue_id.as_deref()).collect()
    }
}
