//! Questions to Redis in each phase, and the consequences of their answers.

use std::time::Instant;

use spool::FencingToken;

use super::feeding::OwnLot;
use super::phase::{Phase, Serving, Then};
use super::recovery::RECOVERY_PATIENCE;
use super::report::FlushHint;
use super::{Mail, MailAnswer, MailQuestion};
use crate::machine::{Ask, Ticket};

type Asked = Option<(MailQuestion, Ticket)>;

impl Mail {
    /// Returns the next question to Redis.
    pub(super) fn question(&mut self, now: Instant) -> Asked {
        let token = self.token()?;
        match &self.phase {
            Phase::Nameless | Phase::Outside { .. } | Phase::Ended(_) => None,
            Phase::Uncompared { .. } if self.link.is_up() && !self.report.is_open() => {
                self.inventory_question(now, token)
            }
            Phase::Uncompared { .. } | Phase::Asking { .. } | Phase::Listing { .. } => {
                self.report_question(now, &token)
            }
            Phase::CutOff { .. } | Phase::Leaving { .. } => {
                let report = self.report_question(now, &token);
                report
                    .or_else(|| self.hand_back_question(now, &token))
                    .or_else(|| self.vouch_question(token))
            }
            Phase::Deciding { .. } => {
                let report = self.report_question(now, &token);
                report.or_else(|| self.orders_question(&token))
            }
            Phase::Serving(_) => {
                let report = self.report_question(now, &token);
                report
                    .or_else(|| self.hand_back_question(now, &token))
                    .or_else(|| self.fetch_question(&token))
                    .or_else(|| self.orders_question(&token))
                    .or_else(|| self.look_question(&token))
                    .or_else(|| self.pull_question(token))
            }
        }
    }

    fn inventory_question(&mut self, now: Instant, token: FencingToken) -> Asked {
        let Phase::Uncompared { then } = self.phase else {
            debug_assert!(false, "what is compared is uncompared");
            return None;
        };
        let (_, membership) = self.membership.as_mut()?;
        let mut inventory = Ask::default();
        let ticket = membership.ask(&mut inventory);
        self.ledger.numbers.ask();
        self.enter(Phase::Asking { then, until: now + RECOVERY_PATIENCE, inventory });
        Some((MailQuestion::Inventory(token), ticket))
    }

    fn report_question(&mut self, now: Instant, token: &FencingToken) -> Asked {
        let (_, membership) = self.membership.as_mut()?;
        if !membership.lease.is_held() {
            return None;
        }
        let hint = self.flush_hint();
        let report = self.ledger.next_report(now, self.phase.held(), hint)?;
        let (_, membership) = self.membership.as_mut()?;
        let ticket = membership.ask(&mut self.report);
        Some((MailQuestion::Report(token.clone(), report), ticket))
    }

    /// Returns the entries that a report could wait for.
    fn flush_hint(&self) -> FlushHint {
        let is_deciding = match self.phase {
            Phase::Uncompared { then } | Phase::Asking { then, .. } => then != Then::Serve,
            Phase::Listing { then, .. } => then != Then::Serve,
            // The return of lots waits for decisions.
            Phase::Serving(_) => !self.fitness.is_fit(),
            _ => true,
        };
        match () {
            () if is_deciding => FlushHint::Nothing,
            () if self.feeding.is_quiet() => FlushHint::NoCommits,
            () => FlushHint::Expected,
        }
    }

    /// Returns the question that hands lots back. Reports come first, so that no committed message
    /// is handed back.
    fn hand_back_question(&mut self, now: Instant, token: &FencingToken) -> Asked {
        if let (Phase::Serving(serving), false) = (&mut self.phase, self.fitness.is_fit()) {
            serving.hand_back_what_comes();
        }
        let Some(hand_back) = self.phase.hand_back() else {
            debug_assert!(false, "lots are handed back in three phases only");
            return None;
        };
        let is_due = hand_back.is_due() && !self.report.is_open();
        if !is_due || self.must_await_decisions(now) {
            return None;
        }
        let (hand_back, (_, membership)) = (self.phase.hand_back()?, self.membership.as_mut()?);
        let ticket = membership.ask(hand_back.put());
        Some((MailQuestion::HandBack(token.clone()), ticket))
    }

    /// Returns the word to Redis that the node's Postfix lives, since pickup-rs has answered.
    fn vouch_question(&mut self, token: FencingToken) -> Asked {
        let vouch = match &mut self.phase {
            Phase::CutOff { vouch, .. } if vouch.is_due() => vouch,
            _ => return None,
        };
        let (_, membership) = self.membership.as_mut()?;
        Some((MailQuestion::Vouch(token), membership.ask(vouch.put())))
    }

    fn fetch_question(&mut self, token: &FencingToken) -> Asked {
        let Phase::Serving(Serving { fetch, hand_back, .. }) = &mut self.phase else {
            debug_assert!(false, "a node fetches lots while it serves");
            return None;
        };
        if !fetch.is_due() || !hand_back.is_done() {
            return None;
        }
        self.feeding.asked();
        let (_, membership) = self.membership.as_mut()?;
        Some((MailQuestion::Fetch(token.clone()), membership.ask(fetch.put())))
    }

    fn look_question(&mut self, token: &FencingToken) -> Asked {
        let Phase::Serving(Serving { look, pull, .. }) = &mut self.phase else {
            debug_assert!(false, "a node looks at lanes while it serves");
            return None;
        };
        if !look.is_due() || pull.is_open() {
            return None;
        }
        let (_, membership) = self.membership.as_mut()?;
        Some((MailQuestion::Look(token.node.clone()), membership.ask(look.put())))
    }

    /// Returns the question that pulls parked lots. The messages of the last pull must be in flight
    /// before the next one.
    fn pull_question(&mut self, token: FencingToken) -> Asked {
        let Phase::Serving(Serving { fetch, look, pull, hand_back, .. }) = &mut self.phase else {
            debug_assert!(false, "a node pulls lots while it serves");
            return None;
        };
        let is_asking = !fetch.is_done() || !look.is_done() || pull.is_open();
        if is_asking || !hand_back.is_done() || !self.fitness.is_fit() {
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
        let (_, membership) = self.membership.as_mut()?;
        Some((MailQuestion::Pull(token, lots), membership.ask(pull)))
    }

    /// Takes an answer, unless it is late.
    pub(super) fn answered(&mut self, now: Instant, ticket: Ticket, answer: MailAnswer) {
        let Some((_, membership)) = &mut self.membership else {
            return debug_assert!(false, "only a node with a name asks");
        };
        membership.redis_works();
        match (answer, &mut self.phase) {
            (MailAnswer::Lease(answer), _) => {
                let change = membership.answered(now, ticket, answer);
                self.lease_changed(now, change);
            }
            (MailAnswer::Superseded, _) => self.superseded(now, ticket),
            (MailAnswer::Reported { commits, renames, present, has_unknown }, _) => {
                if self.report.close(ticket) {
                    self.reported(now, &commits, &renames, &present);
                    if has_unknown {
                        self.compare_soon(now);
                    }
                }
            }
            (MailAnswer::Orders(orders), _) => self.orders_answered(now, ticket, &orders),
            (MailAnswer::Inventory(inventory), Phase::Asking { inventory: asked, .. }) => {
                if asked.close(ticket) {
                    self.inventory_answered(now, inventory);
                }
            }
            (MailAnswer::HandedBack, _) => self.handed_back(ticket),
            (MailAnswer::Vouched, Phase::CutOff { vouch, .. }) => _ = vouch.close(ticket),
            (answer, Phase::Serving(serving)) => match answer {
                MailAnswer::Fetched(own) if serving.fetch.close(ticket) => self.fetched(&own),
                MailAnswer::Looked { window, lanes, is_drained } if serving.look.close(ticket) => {
                    self.shares.resize(window.min(self.config.window));
                    self.lanes.learn(lanes);
                    self.fitness_changes(|fitness| fitness.drain(is_drained));
                }
                // The next fetch shows which of the lots Redis gave to this node.
                MailAnswer::Pulled if serving.pull.close(ticket) => serving.look_at_all(),
                _ => (),
            },
            (_, _) => (),
        }
    }

    fn handed_back(&mut self, ticket: Ticket) {
        let Some(hand_back) = self.phase.hand_back() else {
            return tracing::trace!(phase = self.phase.name(), "hand-back answered too late");
        };
        if !hand_back.close(ticket) {
            return;
        }
        match self.phase {
            Phase::Leaving { .. } => {
                self.membership.iter_mut().for_each(|(_, membership)| membership.lease.leave());
            }
            _ => self.look_for_return(),
        }
    }

    fn fetched(&mut self, own: &[OwnLot]) {
        self.feeding.learn(own);
        self.lanes.retain(|lot| self.feeding.is_open(lot));
        self.credit.fetched(self.feeding.is_idle());
    }

    /// Notes a failed question, which Redis may not have carried out.
    pub(super) fn failed(&mut self, now: Instant, ticket: Ticket) {
        let was_work = self.must_ask_again(ticket);
        let Some((_, membership)) = &mut self.membership else {
            return debug_assert!(false, "only a node with a name asks");
        };
        if was_work || membership.failed(now, ticket) {
            membership.redis_failed(now);
        }
    }

    /// Has the question of this ticket put again, unless it was about the lease. Returns whether it
    /// does.
    pub(super) fn must_ask_again(&mut self, ticket: Ticket) -> bool {
        if self.report.close(ticket) {
            self.ledger.report_failed();
            return true;
        }
        if self.orders.failed(ticket) {
            return true;
        }
        match &mut self.phase {
            Phase::Asking { then, inventory, .. } => {
                let (then, was_open) = (*then, inventory.close(ticket));
                if was_open {
                    self.enter(Phase::Uncompared { then });
                }
                was_open
            }
            Phase::Serving(serving) => serving.failed(ticket),
            Phase::CutOff { hand_back, vouch } => hand_back.failed(ticket) || vouch.failed(ticket),
            Phase::Leaving { hand_back, .. } => hand_back.failed(ticket),
            _ => false,
        }
    }
}
