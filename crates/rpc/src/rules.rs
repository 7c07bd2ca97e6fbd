//! The rules that a test may break, to check that the simulation notices.
//!
//! Without the feature `mutations` no rule can be broken: [`Rules::obey`] is always true, and the
//! compiler drops the rest.

/// Rules that keep the invariants.
#[cfg_attr(
    not(feature = "mutations"),
    allow(unreachable_pub, reason = "seen from outside with the feature only")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named for what they are; each use says what it does")]
pub enum Rule {
    /// A sequence in the session's table is not executed again.
    DuplicateTable,
    /// A reply is kept until the client can no longer ask for it.
    KeepReplies,
    /// A request of another epoch is refused.
    ServerEpoch,
    /// Only a young ticket opens a session.
    TicketAge,
    /// A request stays in the session in which it was first sent.
    StayInSession,
    /// A reply to another generation of the client is dropped.
    ClientGeneration,
    /// An answer must be to the session and packets of the call.
    AnswersTheCall,
    /// A packet that was seen before is dropped.
    Replay,
    /// A sequence below the floor is refused.
    Floor,
    /// A request that was given up is remembered until the floor has passed it.
    RememberEnded,
    /// A session is kept for longer than its ticket is young.
    OutliveTicket,
    /// An earlier generation of a client opens no session once a later one has.
    NewestGeneration,
    /// A ticket admits only its client, from the address to which it was sent.
    TicketProof,
    /// A reply is released when the client's patience ends.
    Patience,
    /// A call ends at its time limit.
    TimeLimit,
}

/// The rules, without those that a test broke.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(feature = "mutations")]
    broken: Vec<Rule>,
}

impl Rules {
    #[cfg(feature = "mutations")]
    pub(crate) fn break_one(&mut self, rule: Rule) {
        self.broken.push(rule);
    }

    #[cfg(feature = "mutations")]
    pub(crate) fn obey(&self, rule: Rule) -> bool {
        !self.broken.contains(&rule)
    }

    #[cfg(not(feature = "mutations"))]
    #[allow(clippy::unused_self, reason = "the same calls with the feature and without")]
    pub(crate) const fn obey(&self, _: Rule) -> bool {
        true
    }
}
