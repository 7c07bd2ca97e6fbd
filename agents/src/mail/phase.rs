//! Phases of a Mail Agent.
//!
//! [`Phase`] is what the agent is at; each variant owns what exists in that phase only. What is
//! true of the node's mail in every phase lies beside it in [`super::Mail`]. The lease and the
//! connection to pickup-rs are machines of their own; [`Phase::needs_lease`] and
//! [`Phase::needs_pickup`] say which phases end with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use handoff::protocol::QueuedFile;
use postfix_wire::QueueId;
use spool::{MessageId, Start};

use super::errand::Errand;
use super::report::{Held, Owned};
use crate::machine::{Ask, End, Ticket};

/// The phase that a Mail Agent is in. `leave_by` is set when it was asked to end.
#[derive(Debug)]
pub(super) enum Phase {
    /// pickup-rs has not said yet which node this is.
    Nameless,
    /// The node's lease is not held.
    Outside {
        /// The start under which Redis has refused this process.
        fenced: Option<Start>,
        leave_by: Option<Instant>,
    },
    /// pickup-rs has been away for longer than a lease: lots are handed back.
    CutOff { hand_back: Errand },
    /// Disk and Redis must be compared, as soon as pickup-rs is there.
    Uncompared { then: Then },
    /// Redis is asked what the node has.
    Asking { then: Then, until: Instant, inventory: Ask },
    /// pickup-rs lists the node's queue files.
    Listing { then: Then, until: Instant, list: Box<List> },
    /// Redis decides about all that was made; nothing is fetched before.
    Deciding { leave_by: Option<Instant> },
    /// Lots are fetched, fed, committed, released and settled.
    Serving(Serving),
    /// The rest is handed back, and then the lease.
    Leaving {
        until: Instant,
        /// Whether prepared files are certain to be there, and so may be committed and released.
        held: Held,
        hand_back: Errand,
    },
    /// Nothing more is done.
    Ended(End),
}

/// The phase that follows a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The lots that this process knows are its own.
    Serve,
    /// Lots are unknown, or no more are wanted, until all that was made is decided.
    Decide { leave_by: Option<Instant> },
}

/// Facts that a comparison has so far. All from Redis was read before pickup-rs was asked.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) committed: BTreeMap<QueueId, Owned>,
    pub(super) stopped: BTreeSet<MessageId>,
    /// Files that this process knew.
    pub(super) known: BTreeMap<QueueId, MessageId>,
    /// Committed messages that rest in Postfix.
    pub(super) resting: BTreeSet<MessageId>,
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
}

impl Serving {
    /// Begins with a look at all there is.
    pub(super) fn begin() -> Self {
        Self { fetch: Errand::due(), look: Errand::due(), pull: Ask::default() }
    }

    /// Asks for lots and lanes anew.
    pub(super) fn look_at_all(&mut self) {
        self.fetch.want();
        self.look.want();
    }

    /// Whether it was one of these questions that failed; if so, it is put again.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        let has_pull_failed = self.pull.close(ticket);
        if has_pull_failed {
            // Some of the lots may be ours.
            self.look_at_all();
        }
        has_pull_failed || self.fetch.failed(ticket) || self.look.failed(ticket)
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

    /// Returns when to give up finishing, if the agent was asked to end.
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

    /// Returns when this phase ends at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = match *self {
            Self::Asking { until, .. } | Self::Listing { until, .. } => Some(until),
            Self::Leaving { until, .. } => Some(until),
            _ => None,
        };
        until.into_iter().chain(self.leave_by()).min()
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
            // An agent that was asked to end doesn't wait for pickup-rs.
            _ => self.leave_by().is_some(),
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
