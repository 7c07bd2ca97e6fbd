//! What the three agents have in common: the shape of a machine, and how it asks.
//!
//! An agent is a value that is told what happened ([`Machine::handle`]), says what to do
//! ([`Machine::poll`], until it says nothing) and when it wants to be looked at again
//! ([`Machine::poll_timeout`]). It has no clock, no socket and no Redis; a driver, or a simulation,
//! has those and decides nothing.
//!
//! A machine asks under a [`Ticket`] and gets one answer, or learns that the question *failed*: it
//! may or may not have been carried out. Every spool function is idempotent, so a failed question
//! is simply put again later. An answer whose ticket is not the one waited for is late, and
//! ignored.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Instant;

use crate::notice::Notice;

/// Names one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What happened. `A` answers questions; `E` comes from the agent's link, if its kind has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<A, E = Infallible> {
    /// The answer to a question.
    Answer(Ticket, A),
    /// A question that may or may not have been carried out.
    Failed(Ticket),
    /// Somebody says: look now.
    Notice(Notice),
    /// News is heard (again); what was said before is lost.
    Listening,
    /// From the link.
    Link(E),
    /// Finish what can't be handed back, hand back the rest, and end.
    Drain,
}

/// What to do. `Q` is for the spool; `L` for the agent's link, if its kind has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<Q, L = Infallible> {
    /// Ask the spool.
    Ask(Ticket, Q),
    /// Pass on to the other agents. May get lost.
    Tell(Notice),
    /// To the link.
    Link(L),
    /// Nothing more will come.
    End(End),
}

/// Why a machine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Drained,
    /// Another process holds its lease, under a later generation.
    Superseded,
    /// pickup-rs speaks for another queue than before: this agent is no longer who it was.
    OtherNode,
}

/// An agent.
pub trait Machine {
    /// What it asks the spool.
    type Question: Debug;
    /// What the spool answers.
    type Answer: Debug;
    /// What happens on its link.
    type Event: Debug;
    /// What it sends over its link.
    type Order: Debug;

    /// Takes note of what happened.
    fn handle(&mut self, now: Instant, input: Input<Self::Answer, Self::Event>);
    /// The next thing to do, if any. To be called until it says nothing.
    fn poll(&mut self, now: Instant) -> Option<Action<Self::Question, Self::Order>>;
    /// When to call `poll` again even if nothing happens.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// Hands out tickets.
#[derive(Debug, Default)]
pub(crate) struct Tickets(u64);

impl Tickets {
    pub(crate) fn next(&mut self) -> Ticket {
        self.0 += 1;
        Ticket(self.0)
    }
}

/// One kind of question, of which one at a time is open.
#[derive(Debug, Default)]
pub(crate) struct Ask(Option<Ticket>);

impl Ask {
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn open(&mut self, tickets: &mut Tickets) -> Ticket {
        *self.0.insert(tickets.next())
    }

    /// Whether this is the ticket waited for; if so, nothing is waited for any more.
    pub(crate) fn close(&mut self, ticket: Ticket) -> bool {
        let is_ours = self.0 == Some(ticket);
        if is_ours {
            self.0 = None;
        }
        is_ours
    }

    /// Stops waiting: an answer will be late.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// The earliest of moments that may not be set.
pub(crate) fn earliest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}
