//! The plan of an Info Agent: the lots to assign and to cut, by a view.

use std::time::Duration;

use spool::{LotNumber, NodeId};

use crate::view::{Inbox, View};

/// Limits by which lots are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Messages in a full lot.
    pub lot_size: u64,
    /// Longest time for which fewer messages wait while every node is busy.
    pub linger: Duration,
}

/// Lots to assign and to cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deal {
    /// Ready lots, each with the node that gets it.
    pub assign: Vec<(LotNumber, NodeId)>,
    /// Lots to cut from the inbox, each with the node that gets it.
    pub cut: Vec<(LotNumber, NodeId)>,
}

/// Consequences of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Lots to assign and to cut now.
    pub(super) deal: Deal,
    /// Time until the inbox has lingered, if it waits for that.
    pub(super) look_again: Option<Duration>,
}

/// Most ready lots in one deal: some milliseconds of Redis's one thread.
pub(super) const ASSIGN_LIMIT: usize = 64;
/// Most cuts in one deal, and so in one turn: each moves up to some megabytes.
pub(super) const CUT_LIMIT: usize = 16;

/// Plans what to do about those lots of a view for which it is this agent's turn.
pub(super) fn plan(view: &View, terms: Terms, is_mine: impl Fn(LotNumber) -> bool) -> Plan {
    if view.schedulers.is_empty() {
        return Plan::default();
    }
    let mut candidates = Candidates::of(view);
    let mut assign = Vec::new();
    for ready in view.ready.iter().filter(|ready| is_mine(ready.lot)).take(ASSIGN_LIMIT) {
        let Some(node) = candidates.assign(ready.count) else { break };
        assign.push((ready.lot, node));
    }
    let (cut, look_again) = cuts(view.inbox, terms, &mut candidates, is_mine);
    Plan { deal: Deal { assign, cut }, look_again }
}

/// Plans as many cuts as are due and nodes have credit for, if it is this agent's turn. Also
/// returns the time until the rest is due. Only the first lot must be this agent's. The others are
/// safe in any case, since the spool cuts only the next lot.
fn cuts(
    inbox: Inbox,
    terms: Terms,
    candidates: &mut Candidates,
    is_mine: impl Fn(LotNumber) -> bool,
) -> (Vec<(LotNumber, NodeId)>, Option<Duration>) {
    let Inbox { count: mut left, mut age, next_lot: mut lot } = inbox;
    let mut cut = Vec::new();
    if !is_mine(lot) {
        return (cut, None);
    }
    while left > 0 && cut.len() < CUT_LIMIT {
        if left < terms.lot_size && age < terms.linger && !candidates.somebody_is_idle() {
            return (cut, candidates.somebody_has_credit().then(|| terms.linger - age));
        }
        let Some(node) = candidates.assign(left.min(terms.lot_size)) else { break };
        cut.push((lot, node));
        // Mail behind a whole lot may be young.
        (left, age, lot) =
            (left.saturating_sub(terms.lot_size), Duration::ZERO, LotNumber(lot.0 + 1));
    }
    (cut, None)
}

/// The live nodes, each with its credit.
struct Candidates(Vec<Candidate>);

struct Candidate {
    node: NodeId,
    credit: u64,
    lots: usize,
}

impl Deal {
    pub(super) fn is_empty(&self) -> bool {
        self.assign.is_empty() && self.cut.is_empty()
    }

    /// Returns the lots of the deal for which it must be this agent's turn: of the cuts, the first.
    pub(super) fn turns(&self) -> impl Iterator<Item = LotNumber> {
        self.assign.iter().chain(self.cut.first()).map(|(lot, _)| *lot)
    }
}

impl Candidates {
    fn of(view: &View) -> Self {
        let alive = view.nodes.iter().filter(|node| node.is_alive());
        Self(
            alive
                .map(|it| Candidate { node: it.node.clone(), credit: it.credit(), lots: it.lots })
                .collect(),
        )
    }

    /// Gives a lot to the node with most credit; of equals, to the one with fewest lots.
    fn assign(&mut self, count: u64) -> Option<NodeId> {
        let best =
            |candidate: &&mut Candidate| (candidate.credit, std::cmp::Reverse(candidate.lots));
        let candidate =
            self.0.iter_mut().filter(|candidate| candidate.credit > 0).max_by_key(best)?;
        candidate.credit = candidate.credit.saturating_sub(count);
        candidate.lots += 1;
        Some(candidate.node.clone())
    }

    fn somebody_is_idle(&self) -> bool {
        self.0.iter().any(|candidate| candidate.credit > 0 && candidate.lots == 0)
    }

    fn somebody_has_credit(&self) -> bool {
        self.0.iter().any(|candidate| candidate.credit > 0)
    }
}
