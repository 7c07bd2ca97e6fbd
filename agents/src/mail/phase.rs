//! Phases of a Mail Agent.
//!
//! Each variant of [`Phase`] owns the data of that phase only. Data of all phases is beside the
//! phase in [`super::Mail`]. The lease and the connection to pickup-rs are machines of their own;
//! [`Phase::needs_lease`] and [`Phase::needs_pickup`] say which phases end with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use handoff::protocol::QueuedFile;
use postfix_wire::QueueId;
use spool::{MessageId, Rest, Start};

use super::errand::Errand;
use super::report::{Held, Owned};
use crate::machine::{Ask, End, Ticket};

/// The phase that a Mail Agent is in. `leave_by` is set when the agent was asked to end.
#[derive(Debug)]
pub(super) enum Phase {
    /// pickup-rs has not named the node yet.
    Nameless,
    /// The node's lease is not held.
    Outside {
        /// The start under which Redis has refused this process.
        fenced: Option<Start>,
        leave_by: Option<Instant>,
    },
    /// pickup-rs has been away for longer than a lease: lots are handed back.
    CutOff {
        hand_back: Errand,
        /// The word to Redis that the node's Postfix lives.
        vouch: Errand,
    },
    /// Disk and Redis must be compared, as soon as pickup-rs is there.
    Uncompared { then: Then },
    /// Redis is asked for all files that are committed to the node.
    Asking { then: Then, until: Instant, inventory: Ask },
    /// pickup-rs lists the node's queue files.
    Listing { then: Then, until: Instant, list: Box<List> },
    /// Redis decides about all files; no lot is fetched before.
    Deciding { leave_by: Option<Instant> },
    /// Lots are fetched, fed, committed, released and settled.
    Serving(Serving),
    /// The lots that are left are handed back, and then the lease.
    Leaving {
        until: Instant,
        /// Whether prepared files are certain to be there, and so may be committed and released.
        held: Held,
        hand_back: Errand,
    },
    /// The agent has ended.
    Ended(End),
}

/// The phase that follows a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The node still has the lots that this process knows.
    Serve,
    /// Lots are unknown, or no more are wanted, until all files are decided.
    Decide { leave_by: Option<Instant> },
}

/// Facts that a comparison has so far. Those from Redis were read before pickup-rs was asked.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) committed: BTreeMap<QueueId, Owned>,
    pub(super) stopped: BTreeSet<MessageId>,
    /// Files that this process knew.
    pub(super) known: BTreeMap<QueueId, MessageId>,
    /// Committed messages that rest in Postfix by Redis's account.
    pub(super) resting: BTreeMap<MessageId, Rest>,
    pub(super) files: Vec<QueuedFile>,
    pub(super) renamed: Vec<QueuedFile>,
}

/// The questions of a node that serves.
#[derive(Debug)]
pub(super) struct Serving {
    /// The question for the node's lots.
    pub(super) fetch: Errand,
    /// The question for parked mail and live nodes.
    pub(super) look: Errand,
    pub(super) pull: Ask,
    /// The return of all lots while the node takes no mail.
    pub(super) hand_back: Errand,
    pub(super) wait: Wait,
}

/// Wait of the return of lots, under direct hand-off, for messages under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Wait {
    /// The return has not had to wait since no message was under way.
    #[default]
    No,
    /// The return waits until then at the latest.
    Until(Instant),
    /// The limit has passed, and messages are still under way.
    Over,
}

impl Serving {
    /// Begins with questions for all lots and lanes.
    pub(super) fn begin() -> Self {
        let (pull, hand_back, wait) = (Ask::default(), Errand::default(), Wait::No);
        Self { fetch: Errand::due(), look: Errand::due(), pull, hand_back, wait }
    }

    /// Asks for lots and lanes anew.
    pub(super) fn look_at_all(&mut self) {
        self.fetch.want();
        self.look.want();
    }

    /// Has the failed question put again, if it was one of these. Returns whether it was.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        let has_pull_failed = self.pull.close(ticket);
        if has_pull_failed {
            // Redis may have assigned some of the lots.
            self.look_at_all();
        }
        let has_failed = self.fetch.failed(ticket) || self.look.failed(ticket);
        has_pull_failed || has_failed || self.hand_back.failed(ticket)
    }

    /// Lets the answer to the open question for lots count as late.
    pub(super) fn forget_fetch(&mut self) {
        self.fetch = Errand::default();
    }

    /// Has lots handed back in place of fetching them, since the node takes no mail.
    pub(super) fn hand_back_what_comes(&mut self) {
        if self.fetch.is_due() {
            self.fetch = Errand::default();
            self.hand_back.want();
        }
    }
}

impl Phase {
    /// Returns the phase's name, as in the table of [`super`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nameless => "Nameless",
            Self::Outside { .. } => "Outside",
            Self::CutOff { .. } => "CutOff",
            Self::Uncompared { .. } => "Uncompared",
            Self::Asking { .. } => "Asking",
            Self::Listing { .. } => "Listing",
            Self::Deciding { .. } => "Deciding",
            Self::Serving(_) => "Serving",
            Self::Leaving { .. } => "Leaving",
            Self::Ended(_) => "Ended",
        }
    }

    /// Returns the time at which an agent that was asked to end stops finishing the phase.
    pub(super) fn leave_by(&self) -> Option<Instant> {
        match *self {
            Self::Outside { leave_by, .. } | Self::Deciding { leave_by } => leave_by,
            Self::Uncompared { then } | Self::Asking { then, .. } | Self::Listing { then, .. } => {
                match then {
                    Then::Serve => None,
                    Then::Decide { leave_by } => leave_by,
                }
            }
            Self::Nameless
            | Self::CutOff { .. }
            | Self::Serving(_)
            | Self::Leaving { .. }
            | Self::Ended(_) => None,
        }
    }

    /// Returns the latest time at which this phase ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = match *self {
            Self::Asking { until, .. } | Self::Listing { until, .. } => Some(until),
            Self::Leaving { until, .. } => Some(until),
            _ => None,
        };
        until.into_iter().chain(self.leave_by()).min()
    }

    /// Returns the time until which the return of lots waits at most.
    pub(super) fn hand_back_due(&self) -> Option<Instant> {
        match self {
            Self::Serving(Serving { wait: Wait::Until(by), .. }) => Some(*by),
            _ => None,
        }
    }

    /// Returns whether this phase ends when the lease does.
    pub(super) fn needs_lease(&self) -> bool {
        match self {
            Self::CutOff { .. } | Self::Uncompared { .. } => true,
            Self::Nameless | Self::Outside { .. } | Self::Leaving { .. } | Self::Ended(_) => false,
            Self::Asking { .. } | Self::Listing { .. } | Self::Deciding { .. } => true,
            Self::Serving(_) => true,
        }
    }

    /// Returns whether this phase ends when pickup-rs goes.
    pub(super) fn needs_pickup(&self) -> bool {
        match self {
            Self::Asking { .. } | Self::Listing { .. } => true,
            Self::Deciding { .. } | Self::Serving(_) => true,
            // An agent that was asked to end doesn't wait for pickup-rs to come back.
            _ => self.leave_by().is_some(),
        }
    }

    /// Returns the errand of handing lots back, in phases that have one.
    pub(super) fn hand_back(&mut self) -> Option<&mut Errand> {
        match self {
            Self::CutOff { hand_back, .. } | Self::Leaving { hand_back, .. } => Some(hand_back),
            Self::Serving(Serving { hand_back, .. }) => Some(hand_back),
            Self::Nameless | Self::Outside { .. } | Self::Uncompared { .. } => None,
            Self::Asking { .. } | Self::Listing { .. } | Self::Deciding { .. } => None,
            Self::Ended(_) => None,
        }
    }

    /// Returns whether the disk is known, so that prepared files may be committed and released.
    pub(super) fn held(&self) -> Held {
        match self {
            Self::Deciding { .. } | Self::Serving(_) => Held::Too,
            Self::Leaving { held, .. } => *held,
            Self::Nameless
            | Self::Outside { .. }
            | Self::CutOff { .. }
            | Self::Uncompared { .. }
            | Self::Asking { .. }
            | Self::Listing { .. }
            | Self::Ended(_) => Held::Later,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self, Self::Serving(_))
    }
}
