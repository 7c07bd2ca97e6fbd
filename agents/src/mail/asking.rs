//! What is asked of Redis, and what its answers lead to.

use std::time::Instant;

use super::feeding::OwnLot;
use super::ledger::{Committed, Company, Held, Report, Verdict};
use super::{ANNOUNCE_PART, Answer, Drain, Mail, Question, RECOVERY_PATIENCE, Recovery};
use crate::lease::Change;
use crate::machine::Ticket;
use crate::news::News;

impl Mail {
    pub(super) fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let Some((_, membership)) = &mut self.membership else { return };
        membership.redis_works();
        match answer {
            Answer::Lease(answer) => {
                let change = membership.answered(now, ticket, answer);
                self.lease_changed(change);
            }
            Answer::TakenBack if self.asks.take_back.close(ticket) => self.taken_back(),
            Answer::Inventory(committed) if self.asks.inventory.close(ticket) => {
                self.inventory_answered(now, committed);
            }
            Answer::Fetched(own) if self.asks.fetch.close(ticket) => self.fetched(&own),
            Answer::Reported(outcomes) if self.asks.report.close(ticket) => self.reported(now, &outcomes),
            Answer::TakenBack | Answer::Inventory(_) | Answer::Fetched(_) | Answer::Reported(_) => (),
        }
    }

    pub(super) fn lease_changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Began) => {
                self.must_take_back = true;
                self.must_recover();
            }
            Some(Change::Continues) => self.must_fetch = true,
            Some(Change::Lapsed | Change::Superseded) => self.feeding.stop(),
            Some(Change::Left) | None => (),
        }
    }

    pub(super) fn taken_back(&mut self) {
        self.must_take_back = false;
        self.must_fetch = !self.withdrawn;
        if let (Drain::Leaving { .. }, Some((_, membership))) = (self.drain, &mut self.membership) {
            membership.lease.leave();
        }
    }

    pub(super) fn fetched(&mut self, own: &[OwnLot]) {
        if self.may_fetch() {
            self.feeding.learn(own);
            self.was_idle &= self.feeding.is_idle();
        }
    }

    pub(super) fn reported(&mut self, now: Instant, outcomes: &[Committed]) {
        if self.ledger.commits_under_way() != outcomes.len() {
            tracing::error!(answers = outcomes.len(), "not one answer for each commit");
            self.membership.iter_mut().for_each(|(_, membership)| membership.redis_failed(now));
            return self.ledger.report_failed();
        }
        let Report { commits, settles, deferrals, refusals } = self.ledger.reported();
        for (commit, outcome) in commits.into_iter().zip(outcomes) {
            self.feeding.resolved(&commit.piece);
            self.must_fetch |= *outcome == Committed::Fenced;
            match self.ledger.decided(commit, *outcome) {
                Verdict::Release(queue_id) => self.releases.push(queue_id),
                Verdict::Discard(queue_id) => self.discards.push(queue_id),
                Verdict::Nothing => (),
            }
        }
        refusals.iter().for_each(|(piece, _)| self.feeding.resolved(piece));
        self.announce(settles.len() + deferrals.len());
    }

    /// Tells when there is room for more, once in a while, and when there is nothing left to do, once.
    pub(super) fn announce(&mut self, freed: usize) {
        self.freed = self.freed.saturating_add(freed as u32);
        let has_become_idle =
            self.feeding.is_idle() && !std::mem::replace(&mut self.was_idle, self.feeding.is_idle());
        if has_become_idle || self.freed >= (self.config.window / ANNOUNCE_PART).max(1) {
            self.freed = 0;
            self.tell.extend(self.membership.as_ref().map(|(node, _)| News::Credit(node.clone())));
        }
    }

    pub(super) fn failed(&mut self, now: Instant, ticket: Ticket) {
        let Some((_, membership)) = &mut self.membership else { return };
        if self.asks.report.close(ticket) {
            self.ledger.report_failed();
        } else if self.asks.inventory.close(ticket) {
            self.recovery = Recovery::Needed;
        } else if self.asks.fetch.close(ticket) {
            self.must_fetch = true;
        } else if !self.asks.take_back.close(ticket) && !membership.failed(now, ticket) {
            return;
        }
        membership.redis_failed(now);
    }

    /// What a report could wait for.
    pub(super) fn company(&self) -> Company {
        match () {
            () if self.drain != Drain::No || self.must_take_back => Company::Nothing,
            () if self.feeding.is_quiet() => Company::NoCommits,
            () => Company::Expected,
        }
    }

    pub(super) fn may_fetch(&self) -> bool {
        let is_held = self.membership.as_ref().is_some_and(|(_, it)| it.lease.is_held());
        is_held && self.is_recovered() && !self.must_take_back && !self.withdrawn && self.drain == Drain::No
    }

    /// What to ask the spool next.
    pub(super) fn question(&mut self, now: Instant) -> Option<(Question, Ticket)> {
        let company = self.company();
        let (node, membership) = self.membership.as_mut()?;
        let is_held = membership.lease.is_held();
        let no_report = !self.asks.report.is_open();
        if matches!(self.recovery, Recovery::Needed) && is_held && no_report && self.link.is_up() {
            self.recovery = Recovery::Asking;
            self.recovery_until = Some(now + RECOVERY_PATIENCE);
            return Some((Question::Inventory(node.clone()), membership.ask(&mut self.asks.inventory)));
        }
        let held = if matches!(self.recovery, Recovery::Done) { Held::Too } else { Held::Later };
        if let Some(report) = self.ledger.next_report(now, held, company) {
            return Some((Question::Report(node.clone(), report), membership.ask(&mut self.asks.report)));
        }
        self.take_back_question().or_else(|| self.fetch_question())
    }

    /// Lots are taken back when nothing is left to be committed under their epochs.
    pub(super) fn take_back_question(&mut self) -> Option<(Question, Ticket)> {
        // Whoever gave us a lot did so by what he saw before.
        self.must_take_back |= self.withdrawn && std::mem::take(&mut self.must_fetch);
        let is_due = self.must_take_back && !self.asks.take_back.is_open() && !self.asks.report.is_open();
        if !is_due || !self.may_take_back() {
            return None;
        }
        self.feeding.stop();
        self.asks.fetch.forget();
        let (node, membership) = self.membership.as_mut()?;
        Some((Question::TakeBack(node.clone()), membership.ask(&mut self.asks.take_back)))
    }

    pub(super) fn may_take_back(&self) -> bool {
        let is_held = self.membership.as_ref().is_some_and(|(_, it)| it.lease.is_held());
        let nothing_is_open = || self.is_recovered() && self.feeding.is_quiet() && self.ledger.is_decided();
        match self.drain {
            Drain::Leaving { .. } => true,
            Drain::No | Drain::Finishing { .. } => is_held && (self.withdrawn || nothing_is_open()),
        }
    }

    pub(super) fn fetch_question(&mut self) -> Option<(Question, Ticket)> {
        if !self.must_fetch || self.asks.fetch.is_open() || !self.may_fetch() {
            return None;
        }
        self.must_fetch = false;
        self.feeding.asked();
        let (node, membership) = self.membership.as_mut()?;
        Some((Question::Fetch(node.clone()), membership.ask(&mut self.asks.fetch)))
    }
}
