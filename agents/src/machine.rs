//! The common shape of the three agents: a machine, and its way to ask.
//!
//! An agent is a value. [`Machine::handle`] gives the agent an input. [`Machine::poll`] returns one
//! action after another, and [`Machine::poll_timeout`] the time of the next poll. A machine has no
//! clock, no socket and no Redis; a driver, or a simulation, has those and decides nothing.
//!
//! A machine asks under a [`Ticket`] and gets one answer, or learns that the question *failed*: it
//! may or may not have been carried out. Every spool function is idempotent, so a machine simply
//! puts a failed question again later. It ignores an answer to a ticket that it no longer waits
//! for. A machine calls other agents under tickets in the same way ([`crate::peer`]).

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Instant;

use notices::Notice;

use crate::peer::{CallEnd, CallNumber, Peer, Reply, Request};

/// Number of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An input. `A` answers questions; `E` comes from the agent's link, if its kind has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<A, E = Infallible> {
    /// The answer to a question.
    Answer(Ticket, A),
    /// A question that may or may not have been carried out.
    Failed(Ticket),
    /// A notice of another agent or of the spool.
    Notice(Notice),
    /// The start of hearing notices; earlier ones are lost.
    Listening,
    /// A change of the Redis server behind the answers. The new server may lack decisions of the
    /// old one.
    OtherServer,
    /// A call by another agent, which must get a reply.
    Called(CallNumber, Request),
    /// The end of a call to another agent.
    CallEnded(Ticket, CallEnd),
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
    /// A call to another agent.
    Call(Ticket, Peer, Request),
    /// A reply to a call by another agent.
    Reply(CallNumber, Reply),
    /// An order to the link.
    Link(L),
    /// The machine's end, which is its last action.
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

    /// Takes an input into account.
    fn handle(&mut self, now: Instant, input: Input<Self::Answer, Self::Event>);
    /// Returns the next action. Must be called until no action is left.
    fn poll(&mut self, now: Instant) -> Option<Action<Self::Question, Self::Order>>;
    /// Returns the time at which `poll` must be called even without an input.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// Counter of tickets.
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

    /// Closes the open question if it has this ticket. Returns whether it had.
    pub(crate) fn close(&mut self, ticket: Ticket) -> bool {
        let is_ours = self.0 == Some(ticket);
        if is_ours {
            self.0 = None;
        }
        is_ours
    }

    /// Closes the open question, so that its answer counts as late.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Returns the earliest of the moments that are set.
pub(crate) fn earliest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}
