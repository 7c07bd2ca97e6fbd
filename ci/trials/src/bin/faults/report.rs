//! Result of a campaign.

use comfy_table::Table;
use serde::Serialize;
use testbed::Tally;
use trials::{InWindow, table};

/// Result of all cases.
#[derive(Serialize)]
pub(crate) struct FaultsReport {
    pub(crate) seed: u64,
    pub(crate) messages: u64,
    pub(crate) cases: Vec<Row>,
    pub(crate) clean: bool,
}

/// Result of one case.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) strikes: usize,
    pub(crate) refused: usize,
    /// Number of messages that the administrator deleted.
    pub(crate) deleted: usize,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// Number of lost messages that `docs/architecture.md` names.
    pub(crate) lost_named: usize,
    /// Number of duplicates that it names: with the direct hand-off, those with a kill in its
    /// window.
    pub(crate) twice_named: usize,
    pub(crate) seconds: f64,
    /// Failure of the case besides the counts.
    pub(crate) error: Option<String>,
}

impl Row {
    /// Whether nothing arrived that was not sent, and each loss or duplicate is excused.
    pub(crate) fn is_clean(&self) -> bool {
        self.error.is_none()
            && self.tally.strangers == 0
            && self.lost() == 0
            && self.duplicates() == 0
    }

    /// Returns the number of losses without an excuse.
    fn lost(&self) -> usize {
        self.tally.lost.saturating_sub(self.lost_named)
    }

    /// Returns the number of duplicates without an excuse.
    fn duplicates(&self) -> usize {
        self.tally.duplicates.saturating_sub(self.twice_named)
    }

    /// Excuses messages that the direct hand-off has sent twice, up to `limit` per kill.
    pub(crate) fn excuse(&mut self, in_window: &InWindow, limit: usize) {
        if limit == 0 {
            return;
        }
        self.twice_named = in_window.messages;
        if in_window.at_one_kill > limit {
            let found =
                format!("{} sent twice at one kill, more than {limit}", in_window.at_one_kill);
            self.error.get_or_insert(found);
        }
    }
}

const HEADS: [&str; 12] = [
    "fault",
    "times",
    "submitted",
    "refused",
    "delivered",
    "deleted",
    "lost",
    "as named",
    "duplicates",
    "as named",
    "Postfix's own",
    "seconds",
];

pub(crate) fn draw(report: &FaultsReport) -> Table {
    let mut table = table(&HEADS);
    for row in &report.cases {
        let tally = &row.tally;
        let counts = [
            row.strikes,
            tally.submitted,
            row.refused,
            tally.delivered - row.deleted,
            row.deleted,
            row.lost(),
            row.lost_named,
            row.duplicates(),
            row.twice_named,
            tally.postfix_duplicates,
        ];
        let mut cells = vec![row.case.clone()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format!("{:.1}", row.seconds));
        cells.extend(row.error.clone());
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(duplicates: usize) -> Row {
        let tally = Tally { submitted: 10, delivered: 10, duplicates, ..Tally::default() };
        Row {
            case: String::new(),
            strikes: 1,
            refused: 0,
            deleted: 0,
            tally,
            lost_named: 0,
            twice_named: 0,
            seconds: 0.0,
            error: None,
        }
    }

    fn excused(duplicates: usize, in_window: (usize, usize), limit: usize) -> bool {
        let mut row = row(duplicates);
        row.excuse(&InWindow { messages: in_window.0, at_one_kill: in_window.1 }, limit);
        row.is_clean()
    }

    #[test]
    fn only_the_direct_hand_off_is_excused_and_only_so_much() {
        assert!(excused(0, (0, 0), 0));
        assert!(!excused(1, (1, 1), 0), "two phases");
        assert!(excused(3, (3, 2), 2));
        assert!(!excused(3, (2, 2), 2), "one without a kill");
        assert!(!excused(3, (3, 3), 2), "too many at one kill");
    }

    #[test]
    fn a_lost_message_must_be_named() {
        let mut row = row(0);
        row.tally.lost = 1;
        assert!(!row.is_clean());
        row.lost_named = 1;
        assert!(row.is_clean());
    }
}
