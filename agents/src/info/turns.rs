//! Turns: which Info Agent acts for a lot, and when another one stands in.
//!
//! Info Agents are ranked by the time of their start, and only live ones count. Of k agents, lot n
//! is the turn of the one of rank n mod k, its *owner*. An owner that was killed or frozen holds
//! its lease for some seconds more, and mail must not wait for the end of it.
//!
//! So every agent plans for all lots. A lot that is due and is another agent's turn is noted with
//! the time since when it is due. The agent next in rank waits for [`STAND_IN_AFTER`], the one
//! after it for twice as long, and so on. A notice of the cut, or a view in which the lot is not
//! due, ends the wait. When the wait is over, the agent looks. If the lot is still due, it acts in
//! the owner's place. This is safe at any time, since the spool cuts only the next lot, and assigns
//! a lot only once. So the times here decide how long mail waits, and nothing else.
//!
//! ```text
//!             due, another's turn       STAND_IN_AFTER × rank behind the owner
//!   unknown ───────────────────▶ waits ───────────────▶ overdue ──look: still due──▶ acts,
//!      ▲                           │                       │                         owner silent
//!      └──── cut, or not due ──────┴───────────────────────┘
//! ```
//!
//! An owner for which another agent has acted is *silent*, and no more waited for. It counts again
//! once its lease is renewed, since a dead or frozen agent renews none. While owners act, this
//! costs neither a call nor a notice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use spool::{AgentId, LotNumber};

use crate::view::{Fellow, View};

/// Time that each agent gives the ones before it. A cut takes some milliseconds, and mail should
/// wait for less than 100 ms.
pub const STAND_IN_AFTER: Duration = Duration::from_millis(25);

/// Turns of other agents; see the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Agents that let others act for them, each with the end of its lease then, in Unix
    /// milliseconds.
    silent: BTreeMap<AgentId, u64>,
    /// Lots that others should act for, each with the time since when it is due.
    waits: BTreeMap<LotNumber, Instant>,
}

impl Turns {
    /// Whether it is the turn of `me`.
    pub(super) fn is_mine(&self, view: &View, me: &AgentId, lot: LotNumber) -> bool {
        self.before(view, me, lot).is_some_and(|before| before.is_empty())
    }

    /// Whether the agents before `me` have let their time pass.
    pub(super) fn is_overdue(
        &self,
        now: Instant,
        view: &View,
        me: &AgentId,
        lot: LotNumber,
    ) -> bool {
        let due = self.waits.get(&lot).map(|since| (since, self.before(view, me, lot)));
        due.is_some_and(|(since, before)| before.is_some_and(|it| *since + patience(&it) <= now))
    }

    /// Returns the agents whose turn comes before that of `me`, the owner first. None if `me` isn't
    /// alive in this view.
    fn before<'a>(&self, view: &'a View, me: &AgentId, lot: LotNumber) -> Option<Vec<&'a Fellow>> {
        let count = view.infos.len();
        let rank = view.infos.iter().position(|info| info.agent == *me)?;
        let owner = (lot.0 % count as u64) as usize;
        let ahead = (0..(rank + count - owner) % count).map(|n| &view.infos[(owner + n) % count]);
        Some(ahead.filter(|it| !self.silent.contains_key(&it.agent)).collect())
    }

    /// Takes a new view. Silent agents whose lease has been renewed since count again.
    pub(super) fn seen(&mut self, view: &View) {
        let is_same = |agent: &AgentId, ends_ms: &u64| {
            view.infos.iter().any(|it| it.agent == *agent && it.lease_ends_ms == *ends_ms)
        };
        self.silent.retain(|agent, ends_ms| is_same(agent, ends_ms));
    }

    /// Notes the lots that are due now, and the one that will be at a later time. A lot that was
    /// due before keeps its time.
    pub(super) fn note(
        &mut self,
        now: Instant,
        view: &View,
        me: &AgentId,
        due: impl IntoIterator<Item = LotNumber>,
        later: Option<(LotNumber, Instant)>,
    ) {
        let before = std::mem::take(&mut self.waits);
        let since = |lot| (lot, before.get(&lot).map_or(now, |known| now.min(*known)));
        let all = due.into_iter().map(since).chain(later);
        self.waits = all.filter(|(lot, _)| !self.is_mine(view, me, *lot)).collect();
    }

    /// Notes that these lots have been acted for, or that others may have. A lot that is due again
    /// waits anew.
    pub(super) fn done(&mut self, lots: impl IntoIterator<Item = LotNumber>) {
        lots.into_iter().for_each(|lot| _ = self.waits.remove(&lot));
    }

    /// Forgets all lots.
    pub(super) fn forget(&mut self) {
        self.waits.clear();
    }

    /// Notes that `me` has acted for this lot: the agents before it are silent.
    pub(super) fn acted(&mut self, view: &View, me: &AgentId, lot: LotNumber) {
        for fellow in self.before(view, me, lot).into_iter().flatten() {
            tracing::info!(agent = %fellow.agent, %lot, "info agent did not act; another stood in");
            self.silent.insert(fellow.agent.clone(), fellow.lease_ends_ms);
        }
    }

    /// Returns the time at which the first lot is overdue.
    pub(super) fn due(&self, view: &View, me: &AgentId) -> Option<Instant> {
        let due = |(lot, since): (&LotNumber, &Instant)| {
            self.before(view, me, *lot).map(|before| *since + patience(&before))
        };
        self.waits.iter().filter_map(due).min()
    }
}

/// Returns the time that these agents have together.
fn patience(before: &[&Fellow]) -> Duration {
    STAND_IN_AFTER * u32::try_from(before.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lease_ends_ms: u64) -> View {
        let fellow = |name: &str| Fellow { agent: name.parse().unwrap(), lease_ends_ms };
        View { infos: ["a", "b", "c"].map(fellow).into(), ..View::default() }
    }

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    #[test]
    fn each_agent_waits_for_all_before_it() {
        let (now, view, lot) = (Instant::now(), view(1), LotNumber(4));
        let due = |me| {
            let mut turns = Turns::default();
            turns.note(now, &view, &id(me), [lot], None);
            turns.due(&view, &id(me)).map(|when| when - now)
        };
        assert_eq!(
            ["b", "c", "a"].map(due),
            [None, Some(STAND_IN_AFTER), Some(STAND_IN_AFTER * 2)]
        );
        assert_eq!(due("else"), None);
    }

    #[test]
    fn a_silent_agent_is_not_waited_for_until_its_lease_is_renewed() {
        let (now, me, lot) = (Instant::now(), id("c"), LotNumber(4));
        let mut turns = Turns::default();
        turns.note(now, &view(1), &me, [lot], None);
        assert!(!turns.is_overdue(now, &view(1), &me, lot));
        assert!(turns.is_overdue(now + STAND_IN_AFTER, &view(1), &me, lot));
        turns.acted(&view(1), &me, lot);
        assert!(turns.is_mine(&view(1), &me, lot) && turns.is_mine(&view(1), &me, LotNumber(5)));
        turns.seen(&view(1));
        assert!(turns.is_mine(&view(1), &me, lot), "no renewal yet");
        turns.seen(&view(2));
        assert!(!turns.is_mine(&view(2), &me, lot));
    }

    #[test]
    fn a_lot_waits_since_it_was_first_due() {
        let (now, me, view) = (Instant::now(), id("c"), view(1));
        let (lot, later) = (LotNumber(4), now + STAND_IN_AFTER / 2);
        let mut turns = Turns::default();
        turns.note(now, &view, &me, [lot], None);
        turns.note(later, &view, &me, [lot], None);
        assert_eq!(turns.due(&view, &me), Some(now + STAND_IN_AFTER));
        turns.note(later, &view, &me, [], Some((lot, later + STAND_IN_AFTER)));
        assert_eq!(turns.due(&view, &me), Some(later + STAND_IN_AFTER * 2));
        turns.note(later, &view, &me, [], None);
        turns.note(later, &view, &me, [lot], None);
        assert_eq!(turns.due(&view, &me), Some(later + STAND_IN_AFTER));
        turns.done([lot]);
        assert_eq!(turns.due(&view, &me), None);
    }
}
