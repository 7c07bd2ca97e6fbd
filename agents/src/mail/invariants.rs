//! Invariants of a Mail Agent, which are checked after each input and each action.

use handoff::protocol::Request;

use super::Mail;
use super::phase::Phase;
use crate::lease::Lease;

impl Mail {
    /// Checks what no input may break.
    pub(super) fn assert_invariants(&self) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        let lease = self.membership.as_ref().map(|(_, membership)| &membership.lease);
        let (is_held, is_up) = (lease.is_some_and(Lease::is_held), self.link.is_up());
        let phase = self.phase.name();
        debug_assert!(is_held || !self.phase.needs_lease(), "{phase} without lease");
        debug_assert!(is_up || !self.phase.needs_pickup(), "{phase} without link");
        let is_nameless = matches!(self.phase, Phase::Nameless);
        debug_assert_eq!(is_nameless, self.membership.is_none(), "{phase}: the node has a name");
        debug_assert_eq!(
            self.report.is_open(),
            self.ledger.is_reporting(),
            "{phase}: each report has a question"
        );
        let is_asked = self.releases.is_asked() || self.orders.is_asked();
        let is_asked = is_asked || !self.feeding.is_quiet();
        debug_assert!(is_up || !is_asked, "{phase}: pickup-rs can't answer while it is away");
    }

    /// Checks that no release has a withdrawn file, whose commit may be taken back already.
    pub(super) fn assert_not_withdrawn(&self, request: Option<&Request>) {
        if let Some(Request::Release { queue_ids, .. }) = request {
            let is_withdrawn = |queue_id| self.ledger.has_withdrawn(queue_id);
            debug_assert!(!queue_ids.iter().any(is_withdrawn), "{queue_ids:?}: withdrawn");
        }
    }
}
