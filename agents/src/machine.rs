//! The common shape of the three agents: a machine, and its way to ask.
//!
//! An agent is a value. [`Machine::handle`] tells it what happened. [`Machine::poll`] returns what
//! to do, until there is nothing, and [`Machine::poll_timeout`] when to look at it again. A machine
//! has no clock, no socket and no Redis; a driver, or a simulation, has those and decides nothing.
//!
//! A machine asks under a [`Ticket`] and gets one answer, or learns that the question *failed*: it
//! may or may not have been carried out. Every spool function is idempotent, so a failed question
//! is simply put again later. An answer whose ticket is not the one waited for is late, and
//! ignored.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Instant;

use notices::Notice;

/// Names one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An input. `A` answers questions; `E` comes from the agent's link, if its kind has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<A, E = Infallible> {
    /// The answer to a question.
    Answer(Ticket, A),
    /// A question that may or may not have been carried out.
    Failed(Ticket),
    /// A notice: there is something to look at.
    Notice(Notice),
    /// Notices are heard from now on; earlier ones are lost.
    Listening,
    /// Answers come from another Redis server from now on, which may lack decisions of the one
    /// before.
    OtherServer,
    /// An event of the link.
    Link(E),
    /// A request to finish what can't be handed back, to hand back the rest, and to end.
    Drain,
}

/// An action. `Q` is for the spool; `L` for the agent's link, if its kind has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<Q, L = Infallible> {
    /// A question to the spool.
    Ask(Ticket, Q),
    /// A notice to the other agents, which may get lost.
    Tell(Notice),
    /// An order to the link.
    Link(L),
    /// The machine's end; nothing more will come.
    End(End),
}

/// Reason of a machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine was asked to end.
    Drained,
    /// Another process holds the lease, under a later generation.
    Superseded,
    /// pickup-rs serves another node than this agent's.
    OtherNode,
}

/// The state machine of an agent.
pub trait Machine {
    /// Question to the spool.
    type Question: Debug;
    /// Answer of the spool.
    type Answer: Debug;
    /// Event of the link.
    type Event: Debug;
    /// Order to the link.
    type Order: Debug;

    /// Takes note of what happened.
    fn handle(&mut self, now: Instant, input: Input<Self::Answer, Self::Event>);
    /// Returns the next action. Must be called until there is none.
    fn poll(&mut self, now: Instant) -> Option<Action<Self::Question, Self::Order>>;
    /// Returns when to call `poll` again even if nothing happens.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// Hands out tickets.
#[derive(Debug, Default)]
pub(crate) struct Tickets(u64);

impl Tickets {
    /// Returns the last ticket that was handed out.
    pub(crate) fn last(&self) -> Ticket {
        Ticket(self.0)
    }

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

    /// Stops waiting, if this is the ticket waited for. Returns whether it was.
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

/// Returns the earliest of some moments, which may not be set.
pub(crate) fn earliest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}
