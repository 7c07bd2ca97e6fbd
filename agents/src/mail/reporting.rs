//! Consequences of Redis's answer to a report.

use std::collections::BTreeSet;
use std::time::Instant;

use notices::Notice;

use super::Mail;
use super::feeding::FeedKey;
use super::ledger::Verdict;
use super::phase::{Phase, Serving};
use super::report::{Commit, Committed, MailReport, Rename, Renamed};
use crate::machine::Action;

impl Mail {
    pub(super) fn reported(
        &mut self,
        now: Instant,
        outcomes: &[Committed],
        renamed: &[Renamed],
        present: &BTreeSet<FeedKey>,
    ) {
        if self.ledger.is_in_doubt() {
            tracing::info!("report answered by another Redis server, and repeated");
            return self.ledger.report_failed();
        }
        if self.ledger.under_way() != (outcomes.len(), renamed.len()) {
            tracing::error!(answers = outcomes.len(), "answers of Redis did not match the report");
            self.membership.iter_mut().for_each(|(_, membership)| membership.redis_failed(now));
            return self.ledger.report_failed();
        }
        let report = self.ledger.reported();
        let (done, parked) = (done(&report), parked(&report));
        self.renamed(now, report.renames.iter().zip(renamed));
        for (commit, outcome) in report.commits.into_iter().zip(outcomes) {
            self.decided(now, commit, *outcome);
        }
        self.look_for_gaps();
        self.discard_withdrawn(&report.uncommits);
        self.refusals_answered(now, &report.refusals, present);
        for key in report.parks.iter().flat_map(|it| &it.keys) {
            self.feeding.resolved(key);
        }
        if let (Phase::Serving(Serving { look, .. }), true) = (&mut self.phase, parked > 0) {
            look.want();
        }
        self.announce(done + parked);
        self.ledger.assert_invariants();
    }

    fn decided(&mut self, now: Instant, commit: Commit, outcome: Committed) {
        let _message = commit.key.span(Some(&commit.queue_id)).entered();
        if outcome != Committed::Occupied {
            self.feeding.resolved(&commit.key);
        }
        if let (Phase::Serving(Serving { fetch, .. }), Committed::Fenced) =
            (&mut self.phase, outcome)
        {
            fetch.want();
        }
        if !matches!(outcome, Committed::Ours(_) | Committed::Occupied) {
            self.shares.end(&commit.queue_id);
        }
        match self.ledger.decided(commit, outcome) {
            Verdict::Release(queue_id) => self.releases.release([queue_id]),
            Verdict::Discard(queue_id) => self.releases.discard(queue_id),
            Verdict::Compare => self.compare_soon(now),
            Verdict::Nothing => (),
        }
    }

    /// Deletes withdrawn files, whose commits Redis has taken back for an operator's order.
    fn discard_withdrawn(&mut self, uncommits: &[(postfix_wire::QueueId, spool::MessageId)]) {
        let is_withdrawn = |(queue_id, id): &&(_, _)| self.ledger.is_withdrawn(queue_id, *id);
        for (queue_id, _) in uncommits.iter().filter(is_withdrawn) {
            self.shares.end(queue_id);
            self.releases.discard(queue_id.clone());
        }
    }

    fn refusals_answered(
        &mut self,
        now: Instant,
        refusals: &[(FeedKey, String)],
        present: &BTreeSet<FeedKey>,
    ) {
        for (key, _) in refusals {
            if present.contains(key) {
                let _message = key.span(None).entered();
                tracing::warn!(
                    "message that pickup-rs did not find was in Redis; feeding due again"
                );
                self.feeding.refused(now, *key);
            } else {
                self.feeding.resolved(key);
            }
        }
    }

    fn renamed<'a>(
        &mut self,
        now: Instant,
        answers: impl Iterator<Item = (&'a Rename, &'a Renamed)>,
    ) {
        for (rename, outcome) in answers {
            match outcome {
                Renamed::Noted(number) => self.ledger.numbers.heard(*number),
                Renamed::Occupied | Renamed::Unknown => {
                    let (queue_id, id) = (&rename.now, rename.id);
                    tracing::warn!(
                        %queue_id, %id, ?outcome,
                        "new queue id not noted in Redis; comparison due"
                    );
                    self.compare_soon(now);
                }
            }
        }
    }

    /// Tells the Info Agents that this node has room for more, if enough has come free.
    fn announce(&mut self, freed: usize) {
        let (is_idle, window) = (self.feeding.is_idle(), self.shares.window());
        if self.credit.freed(freed, is_idle, window) {
            let node = self.membership.as_ref().map(|(node, _)| node.clone());
            self.outbox.extend(node.map(|node| Action::Tell(Notice::Credit(node))));
        }
    }
}

/// Returns the number of files in this report that no longer take credit.
fn done(report: &MailReport) -> usize {
    let MailReport { settles, uncommits, absents, deferrals, .. } = report;
    settles.len() + uncommits.len() + absents.len() + deferrals.len()
}

fn parked(report: &MailReport) -> usize {
    report.parks.iter().map(|it| it.keys.len()).sum()
}
