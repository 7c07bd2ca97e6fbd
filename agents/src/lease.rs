//! An agent's place in the directory: taken, renewed, lost, given up.
//!
//! A lease is held under a name and a *generation*, which is new with each process and sorts by
//! time. A later generation takes the place of an earlier one. The earlier one learns this at its
//! next renewal, and ends, because its work is in other hands. A lease that merely lapsed, because
//! Redis or this process was away, is taken again. Work that rested on it begins anew, since others
//! may have acted on its end. Renewal happens every third of the term, so that two renewals may get
//! lost.
//!
//! ```text
//!  Out ──take──▶ Taking ──▶ Held ──renew──▶ Renewing ──▶ Held
//!   ▲              │ superseded: later          │ lapsed
//!   ├──────────────┴────────────────────────────┤
//!  Held ──leave──▶ Leaving ──▶ Gone             └─ superseded ──▶ Gone
//! ```
//!
//! A failed question leads back to the state in which it was asked.

use std::time::{Duration, Instant};

use spool::{AgentId, AgentKind, Generation, Registered, Renewed, Start, Unfit};

/// The holder of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name in the directory, which is the node's for a Mail Agent.
    pub agent: AgentId,
    /// Kind of the agent.
    pub kind: AgentKind,
    /// Generation, new with each process; a later one sorts after an earlier one.
    pub generation: Generation,
    /// Name for display, usually the host's.
    pub name: String,
}

/// Questions to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseQuestion {
    /// Takes the lease, or changes its entry.
    Take {
        /// The holder.
        member: Member,
        /// Most messages that the agent takes at once; 0 when it can't work now.
        capacity: u32,
        /// Cause for which a Mail Agent's node takes no mail.
        unfit: Option<Unfit>,
        /// Whether others may call the agent.
        is_callable: bool,
    },
    /// Renews the lease for another term.
    Renew(Member),
    /// Gives the lease up.
    Leave(Member),
}

/// Answers of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The lease is the agent's, under this number.
    Taken(Start),
    /// The lease has another term.
    Renewed,
    /// The lease had ended.
    Lapsed,
    /// A later generation has the lease.
    Superseded,
    /// The lease is given up.
    Left,
}

impl From<Registered> for LeaseAnswer {
    fn from(registered: Registered) -> Self {
        match registered {
            Registered::New(start) | Registered::Replaced(start) | Registered::Already(start) => {
                Self::Taken(start)
            }
            Registered::Superseded => Self::Superseded,
        }
    }
}

impl From<Renewed> for LeaseAnswer {
    fn from(renewed: Renewed) -> Self {
        match renewed {
            Renewed::Renewed => Self::Renewed,
            Renewed::Superseded => Self::Superseded,
            Renewed::Lapsed => Self::Lapsed,
        }
    }
}

/// Consequence of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// A term has begun.
    Began,
    /// The term goes on.
    Continues,
    /// The term has ended; the lease is taken again.
    Lapsed,
    /// Another process holds the lease under a later generation; taking it is tried again.
    Waits,
    /// Another process took over this name.
    Superseded,
    /// The agent has left.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseState {
    Out { take_at: Option<Instant> },
    Taking,
    Held { renew_at: Instant },
    Retaking,
    Renewing,
    Leaving,
    Gone,
}

/// Renewals in a term.
const RENEWALS: u32 = 3;

/// Most messages that an agent takes at once, the cause for which its node takes none, and whether
/// others may call the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ability {
    capacity: u32,
    unfit: Option<Unfit>,
    is_callable: bool,
}

/// The state of a lease; see the module.
#[derive(Debug)]
pub(crate) struct Lease {
    member: Member,
    term: Duration,
    ability: Ability,
    /// Ability that the directory has; none when that is uncertain.
    declared: Option<Ability>,
    wanted: bool,
    /// Whether the lease must be renewed at once.
    is_doubted: bool,
    /// Number under which the lease is held, or was last; none before it was first held.
    start: Option<Start>,
    state: LeaseState,
}

impl Lease {
    pub(crate) fn new(member: Member, term: Duration, capacity: u32) -> Self {
        let state = LeaseState::Out { take_at: None };
        let ability = Ability { capacity, unfit: None, is_callable: true };
        let (declared, wanted, is_doubted, start) = (Some(ability), true, false, None);
        Self { member, term, ability, declared, wanted, is_doubted, start, state }
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Returns the number under which the lease is held, or was last.
    pub(crate) fn start(&self) -> Option<Start> {
        self.start
    }

    pub(crate) fn term(&self) -> Duration {
        self.term
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, LeaseState::Held { .. } | LeaseState::Renewing | LeaseState::Retaking)
    }

    /// Whether nothing more will come: the lease is given up, or it is neither held nor wanted.
    pub(crate) fn is_over(&self) -> bool {
        self.state == LeaseState::Gone
            || (!self.wanted && matches!(self.state, LeaseState::Out { .. }))
    }

    /// Whether the agent wants to keep the lease.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Gives the lease up.
    pub(crate) fn leave(&mut self) {
        self.wanted = false;
    }

    /// Has the lease renewed at once, since somebody says that it is over.
    pub(crate) fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// Declares in the directory how much the agent can take from now on, and why its node takes
    /// nothing.
    pub(crate) fn declare(&mut self, capacity: u32, unfit: Option<Unfit>) {
        self.ability = Ability { capacity, unfit, ..self.ability };
    }

    /// Declares in the directory whether others may call the agent.
    pub(crate) fn declare_callable(&mut self, is_callable: bool) {
        self.ability.is_callable = is_callable;
    }

    /// Returns the question that is due, if one is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<LeaseQuestion> {
        if self.due().is_none_or(|due| due > now) && !self.is_overdue() {
            return None;
        }
        let member = self.member.clone();
        let (state, question) = match self.state {
            LeaseState::Held { .. } if !self.wanted => {
                (LeaseState::Leaving, LeaseQuestion::Leave(member))
            }
            LeaseState::Held { .. } if self.declared == Some(self.ability) => {
                (LeaseState::Renewing, LeaseQuestion::Renew(member))
            }
            LeaseState::Held { .. } => (LeaseState::Retaking, self.take(member)),
            _ => (LeaseState::Taking, self.take(member)),
        };
        (self.state, self.is_doubted) = (state, false);
        Some(question)
    }

    fn take(&mut self, member: Member) -> LeaseQuestion {
        self.declared = Some(self.ability);
        let Ability { capacity, unfit, is_callable } = self.ability;
        LeaseQuestion::Take { member, capacity, unfit, is_callable }
    }

    pub(crate) fn answer(&mut self, now: Instant, answer: LeaseAnswer) -> LeaseChange {
        let mut is_same = true;
        if let LeaseAnswer::Taken(start) = answer {
            is_same = self.start.replace(start) == Some(start);
        }
        let held = LeaseState::Held { renew_at: now + self.term / RENEWALS };
        let (state, change) = match (answer, self.state) {
            (LeaseAnswer::Taken(_), LeaseState::Retaking) if is_same => {
                (held, LeaseChange::Continues)
            }
            (LeaseAnswer::Renewed, _) => (held, LeaseChange::Continues),
            // The directory may also have lost the lease, when Redis was emptied or put back.
            (LeaseAnswer::Taken(_), _) => (held, LeaseChange::Began),
            (LeaseAnswer::Lapsed, _) => (LeaseState::Out { take_at: None }, LeaseChange::Lapsed),
            (LeaseAnswer::Superseded, LeaseState::Taking) if self.start.is_none() => {
                (LeaseState::Out { take_at: Some(now + self.term / RENEWALS) }, LeaseChange::Waits)
            }
            (LeaseAnswer::Superseded, _) => (LeaseState::Gone, LeaseChange::Superseded),
            (LeaseAnswer::Left, _) => (LeaseState::Gone, LeaseChange::Left),
        };
        self.state = state;
        change
    }

    /// Drops a lease that the agent has lost. The next poll takes the lease again.
    pub(crate) fn lapse(&mut self) -> LeaseChange {
        self.state = LeaseState::Out { take_at: None };
        LeaseChange::Lapsed
    }

    /// Has the open question put again, since Redis may not have carried it out.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.state = match self.state {
            LeaseState::Taking => LeaseState::Out { take_at: None },
            LeaseState::Renewing | LeaseState::Leaving => LeaseState::Held { renew_at: now },
            LeaseState::Retaking => {
                self.declared = None;
                LeaseState::Held { renew_at: now }
            }
            other => other,
        };
    }

    /// Returns the time of the next question; none if it is due now, or if there is none.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            LeaseState::Out { take_at } if self.wanted => take_at,
            LeaseState::Held { renew_at } => Some(renew_at),
            _ => None,
        }
    }

    fn is_overdue(&self) -> bool {
        match self.state {
            LeaseState::Out { take_at } => self.wanted && take_at.is_none(),
            LeaseState::Held { .. } => {
                !self.wanted || self.declared != Some(self.ability) || self.is_doubted
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_millis(300);

    fn lease() -> Lease {
        let agent = "a".parse().unwrap();
        let member = Member {
            agent,
            kind: AgentKind::Info,
            generation: Generation::from_parts(1, 1),
            name: String::new(),
        };
        Lease::new(member, TERM, 7)
    }

    fn held(now: Instant) -> Lease {
        let mut lease = lease();
        assert!(matches!(lease.poll(now), Some(LeaseQuestion::Take { capacity: 7, .. })));
        assert_eq!(lease.answer(now, LeaseAnswer::Taken(Start(1))), LeaseChange::Began);
        lease
    }

    #[test]
    fn a_lease_is_renewed_every_third_of_its_term() {
        let now = Instant::now();
        let mut lease = held(now);
        assert_eq!(lease.due(), Some(now + TERM / 3));
        assert_eq!(lease.poll(now + TERM / 4), None);
        assert!(matches!(lease.poll(now + TERM / 3), Some(LeaseQuestion::Renew(_))));
        assert_eq!(lease.poll(now + TERM), None, "one question at a time");
        assert_eq!(lease.answer(now + TERM / 3, LeaseAnswer::Renewed), LeaseChange::Continues);
        assert_eq!(lease.due(), Some(now + TERM / 3 * 2));
    }

    #[test]
    fn a_lapsed_lease_is_taken_again_and_a_superseded_one_is_not() {
        let now = Instant::now();
        for (answer, change, again) in [
            (LeaseAnswer::Lapsed, LeaseChange::Lapsed, true),
            (LeaseAnswer::Superseded, LeaseChange::Superseded, false),
        ] {
            let mut lease = held(now);
            lease.poll(now + TERM);
            assert_eq!(lease.answer(now + TERM, answer), change);
            assert!(!lease.is_held());
            assert_eq!(lease.poll(now + TERM).is_some(), again);
        }
    }

    #[test]
    fn a_process_behind_a_later_generation_waits_for_its_end() {
        let now = Instant::now();
        let mut lease = lease();
        lease.poll(now);
        assert_eq!(lease.answer(now, LeaseAnswer::Superseded), LeaseChange::Waits);
        assert_eq!(lease.poll(now), None);
        assert!(matches!(lease.poll(now + TERM / 3), Some(LeaseQuestion::Take { .. })));
    }

    #[test]
    fn a_changed_capacity_is_declared_at_once_and_again_after_a_failure() {
        let now = Instant::now();
        let mut lease = held(now);
        lease.declare(0, Some(Unfit::Away));
        for _ in 0..2 {
            let asked = lease.poll(now);
            let unfit = Some(Unfit::Away);
            let LeaseQuestion::Take { capacity: 0, unfit: told, .. } = asked.unwrap() else {
                panic!("not declared")
            };
            assert_eq!(told, unfit);
            lease.failed(now);
        }
        lease.poll(now);
        assert_eq!(lease.answer(now, LeaseAnswer::Taken(Start(1))), LeaseChange::Continues);
        assert_eq!(lease.poll(now), None);
    }

    /// Checks the case of a Redis that was emptied meanwhile.
    #[test]
    fn a_lease_that_the_directory_does_not_know_any_more_begins_anew() {
        let now = Instant::now();
        let mut lease = held(now);
        lease.declare(0, None);
        lease.poll(now);
        assert_eq!(lease.answer(now, LeaseAnswer::Taken(Start(7))), LeaseChange::Began);
        assert_eq!(lease.start(), Some(Start(7)));
    }

    #[test]
    fn a_lease_that_is_said_to_be_over_is_renewed_at_once() {
        let now = Instant::now();
        let mut lease = held(now);
        lease.doubt();
        assert!(matches!(lease.poll(now), Some(LeaseQuestion::Renew(_))));
        assert_eq!(lease.answer(now, LeaseAnswer::Renewed), LeaseChange::Continues);
        assert_eq!(lease.poll(now), None);
    }

    #[test]
    fn a_lease_is_left_once_and_not_taken_again() {
        let now = Instant::now();
        let mut lease = held(now);
        lease.leave();
        assert!(matches!(lease.poll(now), Some(LeaseQuestion::Leave(_))) && !lease.is_over());
        assert_eq!(lease.answer(now, LeaseAnswer::Left), LeaseChange::Left);
        assert!(lease.is_over() && lease.poll(now + TERM).is_none());
    }
}
