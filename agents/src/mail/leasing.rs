//! Transitions when the node's lease is taken, kept or lost, or Redis refuses this process.

use std::time::Instant;

use spool::{FencingToken, Start};

use super::Mail;
use super::errand::Errand;
use super::fitness::Fitness;
use super::phase::{Phase, Then};
use crate::lease::LeaseChange;
use crate::machine::{End, Ticket};

impl Mail {
    pub(super) fn lease_changed(&mut self, now: Instant, change: Option<LeaseChange>) {
        match change {
            Some(LeaseChange::Began) => self.lease_began(now),
            Some(LeaseChange::Continues) => self.look_at_all(),
            Some(LeaseChange::Lapsed) => self.lease_lapsed(now, None),
            // A process that waited would keep the other one from pickup-rs, which serves one
            // client.
            Some(LeaseChange::Superseded | LeaseChange::Waits) => {
                self.enter(Phase::Ended(End::Superseded));
            }
            Some(LeaseChange::Left) | None => (),
        }
    }

    /// Returns the fencing token that names this process to Redis.
    pub(super) fn token(&self) -> Option<FencingToken> {
        let (node, membership) = self.membership.as_ref()?;
        Some(FencingToken { node: node.clone(), start: membership.lease.start()? })
    }

    /// Notes that this process has the lease. Files that were made before must be decided first.
    fn lease_began(&mut self, now: Instant) {
        let Some(FencingToken { start, .. }) = self.token() else {
            return debug_assert!(false, "a lease that has begun has a start");
        };
        self.ledger.arrived(start);
        let then = Then::Decide { leave_by: self.phase.leave_by() };
        match &mut self.phase {
            Phase::Nameless | Phase::Leaving { .. } | Phase::Ended(_) => (),
            // The node has moved here or away, so another process must begin anew.
            Phase::Outside { fenced: Some(fenced), .. } if *fenced == start => {
                self.enter(Phase::Ended(End::OtherNode));
            }
            Phase::Outside { .. } if self.link.is_away() => {
                let has_answered = self.link.take_answer();
                self.cut_off(if has_answered { Errand::due() } else { Errand::default() });
            }
            Phase::Outside { .. } => self.enter(Phase::Uncompared { then }),
            // The directory did not know the lease any more: Redis was emptied or put back.
            Phase::CutOff { hand_back, .. } => hand_back.want(),
            Phase::Uncompared { .. }
            | Phase::Asking { .. }
            | Phase::Deciding { .. }
            | Phase::Serving(_) => self.enter(Phase::Uncompared { then }),
            Phase::Listing { then: after, .. } => {
                *after = then;
                self.reconnect(now);
            }
        }
    }

    /// Notes that the lease is over. `fenced` is the start under which Redis has refused this
    /// process.
    fn lease_lapsed(&mut self, now: Instant, fenced: Option<Start>) {
        self.feeding.stop();
        // Another process of this node may release the files.
        self.releases.forget_unasked();
        let leave_by = self.phase.leave_by();
        match &mut self.phase {
            Phase::Nameless | Phase::Ended(_) => (),
            // A fenced process has no lot to hand back.
            Phase::Leaving { .. } if fenced.is_some() => {
                self.enter(Phase::Ended(End::Drained));
            }
            Phase::Leaving { .. } => (),
            Phase::Outside { fenced: before, .. } => *before = fenced.or(*before),
            Phase::Listing { .. } => {
                self.enter(Phase::Outside { fenced, leave_by });
                self.reconnect(now);
            }
            Phase::CutOff { .. }
            | Phase::Uncompared { .. }
            | Phase::Asking { .. }
            | Phase::Deciding { .. }
            | Phase::Serving(_) => self.enter(Phase::Outside { fenced, leave_by }),
        }
    }

    /// Takes a refusal by Redis: another process of this node has arrived, later or after this
    /// lease was over. The directory says which of them must serve.
    ///
    /// A question from before the present tenure was refused for its former start, and is put again
    /// under the present one.
    pub(super) fn superseded(&mut self, now: Instant, ticket: Ticket) {
        let membership = self.membership.as_ref();
        let is_present = membership.is_some_and(|(_, it)| it.is_of_this_tenure(ticket));
        if self.must_ask_again(ticket) && is_present {
            let fenced = self.token().map(|token| token.start);
            self.membership.iter_mut().for_each(|(_, membership)| _ = membership.lapse());
            self.lease_lapsed(now, fenced);
        }
    }

    /// Gives the lots to others, as pickup-rs has been away for longer than a lease. The agent
    /// keeps its lease, since committed mail stays with the node.
    pub(super) fn pickup_stays_away(&mut self) {
        tracing::error!("lots handed back: pickup-rs stayed unreachable; check that Postfix runs");
        match &self.phase {
            // pickup-rs answered until a lease ago, so the grace begins now, and no sooner.
            Phase::Uncompared { .. } => self.cut_off(Errand::due()),
            Phase::Outside { .. } => self.declare(),
            Phase::Nameless | Phase::CutOff { .. } | Phase::Leaving { .. } => (),
            Phase::Ended(_) => (),
            Phase::Asking { .. }
            | Phase::Listing { .. }
            | Phase::Deciding { .. }
            | Phase::Serving(_) => debug_assert!(false, "pickup-rs was there"),
        }
    }

    fn cut_off(&mut self, vouch: Errand) {
        self.feeding.stop();
        self.enter(Phase::CutOff { hand_back: Errand::due(), vouch });
        self.declare();
    }

    /// Has the node serve again once all lots are handed back and pickup-rs is back.
    pub(super) fn look_for_return(&mut self) {
        if let Phase::CutOff { hand_back, .. } = &self.phase {
            if hand_back.is_done() && self.link.is_up() {
                self.enter(Phase::Uncompared { then: Then::Serve });
                self.declare();
            }
        }
    }

    /// Declares in the directory how many messages the node can take, and why it takes none.
    pub(super) fn declare(&mut self) {
        let is_cut_off = matches!(self.phase, Phase::CutOff { .. }) || self.link.is_away();
        let unfit = if is_cut_off { Some(self.link.cause()) } else { self.fitness.why() };
        let capacity = if unfit.is_some() { 0 } else { self.config.window };
        if let Some((_, membership)) = &mut self.membership {
            membership.lease.declare(capacity, unfit);
            // A short stop must not end the lease.
            membership.lease.declare_callable(!self.link.is_direct());
        }
    }

    /// Takes a change of the node's fitness into account. A node that takes no mail hands its lots
    /// back, and goes on with all that is committed to it.
    pub(super) fn fitness_changes(&mut self, change: impl FnOnce(&mut Fitness)) {
        let before = self.fitness.why();
        change(&mut self.fitness);
        if self.fitness.why() == before {
            return;
        }
        self.declare();
        if before.is_none() {
            self.feeding.stop();
            if let Phase::Serving(serving) = &mut self.phase {
                serving.forget_fetch();
            }
        }
        if before.is_none() || self.fitness.is_fit() {
            self.want_lots();
        }
    }

    /// Asks Redis anew for all facts of which a notice may have been lost.
    pub(super) fn look_at_all(&mut self) {
        match &mut self.phase {
            Phase::Serving(serving) => serving.look_at_all(),
            // An Info Agent with an older view may have assigned a lot meanwhile.
            Phase::CutOff { hand_back, vouch } => {
                hand_back.want();
                if self.link.take_answer() {
                    vouch.want();
                }
            }
            _ => (),
        }
        self.orders.look();
    }
}
