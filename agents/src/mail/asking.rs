//! What is asked of Redis, and what its answers lead to.

use std::collections::BTreeSet;
use std::time::Instant;

use spool::FencingToken;

use super::feeding::{FeedKey, OwnLot};
use super::ledger::Verdict;
use super::report::{Committed, FlushHint, Held, Rename, Renamed, Report};
use super::{
    ANNOUNCE_PART, Answer, Asks, Drain, Mail, Question, RECHECK_AFTER, RECOVERY_PATIENCE, Recovery,
};
use crate::lease::Change;
use crate::machine::{Ask, End, Ticket};
use crate::notice::Notice;

impl Mail {
    pub(super) fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let Some((_, membership)) = &mut self.membership else { return };
        membership.redis_works();
        match answer {
            Answer::Lease(answer) => {
                let change = membership.answered(now, ticket, answer);
                self.lease_changed(change);
            }
            Answer::HandedBack if self.asks.hand_back.close(ticket) => self.handed_back(),
            Answer::Inventory(inventory) if self.asks.inventory.close(ticket) => {
                self.inventory_answered(now, inventory);
            }
            Answer::Fetched(own) if self.asks.fetch.close(ticket) => self.fetched(&own),
            Answer::Orders(orders) if self.asks.orders.close(ticket) => {
                self.orders_answered(now, &orders);
            }
            Answer::Reported { commits, renames, present } if self.asks.report.close(ticket) => {
                self.reported(now, &commits, &renames, &present);
            }
            Answer::Looked { window, lanes } if self.asks.look.close(ticket) => {
                self.shares.resize(window.min(self.config.window));
                self.lanes.learn(lanes);
            }
            Answer::Pulled if self.asks.pull.close(ticket) => self.pulled(),
            Answer::Superseded => self.superseded(ticket),
            Answer::HandedBack
            | Answer::Inventory(..)
            | Answer::Fetched(_)
            | Answer::Orders(_)
            | Answer::Reported { .. }
            | Answer::Looked { .. }
            | Answer::Pulled => (),
        }
    }

    pub(super) fn lease_changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Began) => {
                (self.is_adopting, self.must_look) = (true, true);
                let start = self.token().map(|token| token.start);
                if std::mem::replace(&mut self.start, start) != start {
                    self.ledger.forget_withdrawn();
                }
                // The node has moved here, or from here: only another process begins anew there.
                if start.is_some() && self.superseded == start {
                    self.ended = Some(End::OtherNode);
                }
                self.must_recover();
            }
            Some(Change::Continues) => {
                (self.must_fetch, self.must_look) = (true, true);
                self.orders.look();
            }
            Some(Change::Lapsed | Change::Superseded) => {
                self.feeding.stop();
                // Another process of this node may have them released.
                self.unasked.clear();
            }
            // Waiting would keep pickup-rs from speaking to the other one.
            Some(Change::Waits) => self.ended = Some(End::Superseded),
            Some(Change::Left) | None => (),
        }
    }

    pub(super) fn handed_back(&mut self) {
        self.must_hand_back = false;
        self.must_fetch = !self.withdrawn;
        if let (Drain::Leaving { .. }, Some((_, membership))) = (self.drain, &mut self.membership) {
            membership.lease.leave();
        }
    }

    pub(super) fn fetched(&mut self, own: &[OwnLot]) {
        if self.may_fetch() {
            self.feeding.learn(own);
            self.lanes.retain(|lot| self.feeding.is_open(lot));
            self.was_idle &= self.feeding.is_idle();
        }
    }

    /// Lots that somebody else was given meanwhile don't come with what is fetched.
    fn pulled(&mut self) {
        (self.must_fetch, self.must_look) = (true, true);
    }

    pub(super) fn reported(
        &mut self,
        now: Instant,
        outcomes: &[Committed],
        renamed: &[Renamed],
        present: &BTreeSet<FeedKey>,
    ) {
        if self.ledger.under_way() != (outcomes.len(), renamed.len()) {
            tracing::error!(answers = outcomes.len(), "not one answer for each commit");
            self.membership.iter_mut().for_each(|(_, membership)| membership.redis_failed(now));
            return self.ledger.report_failed();
        }
        let report = self.ledger.reported();
        self.renamed(now, report.renames.iter().zip(renamed));
        let Report { commits, settles, uncommits, absents, deferrals, refusals, parks, .. } =
            report;
        for (commit, outcome) in commits.into_iter().zip(outcomes) {
            if *outcome != Committed::Occupied {
                self.feeding.resolved(&commit.key);
            }
            self.must_fetch |= *outcome == Committed::Fenced;
            if !matches!(outcome, Committed::Ours(_) | Committed::Occupied) {
                self.shares.end(&commit.queue_id);
            }
            match self.ledger.decided(commit, *outcome) {
                Verdict::Release(queue_id) => self.releases.push(queue_id),
                Verdict::Discard(queue_id) => self.discards.push(queue_id),
                Verdict::Compare => _ = self.recheck_at.get_or_insert(now + RECHECK_AFTER),
                Verdict::Nothing => (),
            }
        }
        self.look_for_gaps();
        let is_withdrawn = |(queue_id, id): &&(_, _)| self.ledger.is_withdrawn(queue_id, *id);
        for (queue_id, _) in uncommits.iter().filter(is_withdrawn) {
            self.shares.end(queue_id);
            self.discards.push(queue_id.clone());
        }
        for (key, _) in &refusals {
            if present.contains(key) {
                tracing::warn!(id = %key.id, "Redis has the message that pickup-rs did not find, \
                    fed again later");
                self.feeding.refused(now, *key);
            } else {
                self.feeding.resolved(key);
            }
        }
        let parked: Vec<&FeedKey> = parks.iter().flat_map(|it| &it.keys).collect();
        parked.iter().for_each(|key| self.feeding.resolved(key));
        self.must_look |= !parked.is_empty();
        let told = settles.len() + uncommits.len() + absents.len() + deferrals.len();
        self.announce(told + parked.len());
    }

    /// Another process commits for this node, which this one must know of before the mark rises.
    pub(super) fn look_for_gaps(&mut self) {
        if self.is_recovered() && self.ledger.numbers.has_gap() {
            tracing::info!("commits of another process, or settled ones: comparing");
            self.must_recover();
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
                    tracing::warn!(%queue_id, %id, ?outcome, "name not noted, comparing");
                    self.recheck_at.get_or_insert(now + RECHECK_AFTER);
                }
            }
        }
    }

    /// Tells when there is room for more, once in a while, and when there is nothing left to do,
    /// once.
    pub(super) fn announce(&mut self, freed: usize) {
        self.freed += freed;
        let has_become_idle = self.feeding.is_idle()
            && !std::mem::replace(&mut self.was_idle, self.feeding.is_idle());
        if has_become_idle || self.freed >= (self.shares.window() / ANNOUNCE_PART).max(1) {
            self.freed = 0;
            self.tell
                .extend(self.membership.as_ref().map(|(node, _)| Notice::Credit(node.clone())));
        }
    }

    pub(super) fn failed(&mut self, now: Instant, ticket: Ticket) {
        let was_work = self.must_ask_again(ticket);
        let Some((_, membership)) = &mut self.membership else { return };
        if was_work || membership.failed(now, ticket) {
            membership.redis_failed(now);
        }
    }

    /// A later process of this node has arrived, or an earlier one that found our lease over. Who
    /// is to serve, the directory says.
    fn superseded(&mut self, ticket: Ticket) {
        if self.must_ask_again(ticket) {
            self.superseded = self.token().map(|token| token.start);
            let change = self.membership.as_mut().and_then(|(_, membership)| membership.lapse());
            self.lease_changed(change);
        }
    }

    /// Whether it was one of our questions; if so, it is put again.
    fn must_ask_again(&mut self, ticket: Ticket) -> bool {
        if self.asks.report.close(ticket) {
            self.ledger.report_failed();
        } else if self.asks.inventory.close(ticket) {
            self.recovery = Recovery::Needed;
        } else if self.asks.fetch.close(ticket) {
            self.must_fetch = true;
        } else if self.asks.look.close(ticket) {
            self.must_look = true;
        } else if self.asks.pull.close(ticket) {
            // Some of them may be ours.
            self.pulled();
        } else if self.asks.orders.close(ticket) {
            self.orders.look();
        } else {
            return self.asks.hand_back.close(ticket);
        }
        true
    }

    /// What a report could wait for.
    pub(super) fn hint(&self) -> FlushHint {
        match () {
            () if self.drain != Drain::No || self.must_hand_back || self.is_adopting => {
                FlushHint::Nothing
            }
            () if self.feeding.is_quiet() => FlushHint::NoCommits,
            () => FlushHint::Expected,
        }
    }

    pub(super) fn may_fetch(&self) -> bool {
        let is_away = self.must_hand_back || self.withdrawn || self.drain != Drain::No;
        self.is_held() && self.is_recovered() && !self.is_adopting && !is_away
    }

    fn is_held(&self) -> bool {
        self.membership.as_ref().is_some_and(|(_, it)| it.lease.is_held())
    }

    fn token(&self) -> Option<FencingToken> {
        let (node, membership) = self.membership.as_ref()?;
        Some(FencingToken { node: node.clone(), start: membership.lease.start()? })
    }

    /// What to ask the spool next.
    pub(super) fn question(&mut self, now: Instant) -> Option<(Question, Ticket)> {
        let token = self.token()?;
        let hint = self.hint();
        let no_report = !self.asks.report.is_open();
        if matches!(self.recovery, Recovery::Needed)
            && self.is_held()
            && no_report
            && self.link.is_up()
        {
            self.recovery = Recovery::Asking;
            self.ledger.numbers.ask();
            self.recovery_until = Some(now + RECOVERY_PATIENCE);
            return self.ask(|asks| &mut asks.inventory, Question::Inventory(token));
        }
        if !self.is_held() {
            return self.hand_back_question(&token);
        }
        let held = if self.is_recovered() { Held::Too } else { Held::Later };
        if let Some(report) = self.ledger.next_report(now, held, hint) {
            return self.ask(|asks| &mut asks.report, Question::Report(token, report));
        }
        self.look_for_adoption();
        self.hand_back_question(&token)
            .or_else(|| self.fetch_question(&token))
            .or_else(|| self.orders_question(&token))
            .or_else(|| self.look_question())
            .or_else(|| self.pull_question(token))
    }

    pub(super) fn ask(
        &mut self,
        which: fn(&mut Asks) -> &mut Ask,
        question: Question,
    ) -> Option<(Question, Ticket)> {
        let (_, membership) = self.membership.as_mut()?;
        Some((question, membership.ask(which(&mut self.asks))))
    }

    /// Own lots are looked at once all that was made of them before is decided. So what an answer
    /// shows as uncommitted has no file that we know of.
    fn look_for_adoption(&mut self) {
        if self.is_adopting
            && self.is_recovered()
            && self.feeding.is_quiet()
            && self.ledger.is_decided()
        {
            self.is_adopting = false;
            self.must_fetch = true;
        }
    }

    fn hand_back_question(&mut self, token: &FencingToken) -> Option<(Question, Ticket)> {
        // Whoever gave us a lot did so by what he saw before.
        self.must_hand_back |= self.withdrawn && std::mem::take(&mut self.must_fetch);
        let is_open = self.asks.hand_back.is_open() || self.asks.report.is_open();
        let is_leaving = matches!(self.drain, Drain::Leaving { .. });
        if !self.must_hand_back || is_open || !(is_leaving || self.is_held()) {
            return None;
        }
        self.feeding.stop();
        self.asks.fetch.forget();
        self.ask(|asks| &mut asks.hand_back, Question::HandBack(token.clone()))
    }

    fn fetch_question(&mut self, token: &FencingToken) -> Option<(Question, Ticket)> {
        if !self.must_fetch || self.asks.fetch.is_open() || !self.may_fetch() {
            return None;
        }
        self.must_fetch = false;
        self.feeding.asked();
        self.ask(|asks| &mut asks.fetch, Question::Fetch(token.clone()))
    }

    fn look_question(&mut self) -> Option<(Question, Ticket)> {
        if !self.must_look
            || self.asks.look.is_open()
            || self.asks.pull.is_open()
            || !self.may_fetch()
        {
            return None;
        }
        self.must_look = false;
        self.ask(|asks| &mut asks.look, Question::Look)
    }

    /// One pull after the other: what the last one brought must be in flight, and known as such.
    fn pull_question(&mut self, token: FencingToken) -> Option<(Question, Ticket)> {
        let is_fetching = self.must_fetch || self.asks.fetch.is_open();
        let is_looking = self.must_look || self.asks.look.is_open() || self.asks.pull.is_open();
        if is_fetching || is_looking || !self.may_fetch() {
            return None;
        }
        self.lanes.retain(|lot| self.feeding.is_open(lot));
        if self.lanes.has_pulled() {
            return None;
        }
        let lots = self.lanes.pull(&self.shares, self.feeding.under_way());
        if lots.is_empty() {
            return None;
        }
        self.ask(|asks| &mut asks.pull, Question::Pull(token, lots))
    }
}
