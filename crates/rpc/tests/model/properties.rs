//! Properties that hold in every state, and endings that are possible in some.

use stateright::{Model, Property};

use crate::client::{Call, Ending, Progress};
use crate::server::Entry;
use crate::words::Bounds;
use crate::words::{Answer, Packet, Question};
use crate::world::{Step, World};

pub(crate) const ONCE: &str = "a request is executed at most once, over all generations";
pub(crate) const OWN_REPLY: &str = "a reply reaches the call that asked for it, or none";
pub(crate) const NEVER: &str = "an error that says \"never executed\" is right, now and later";
pub(crate) const FORGOTTEN: &str = "a request is forgotten only after silence";
pub(crate) const RESTARTED: &str = "a server is said to have restarted only if it has";
pub(crate) const CANCELLED_STAYS: &str = "what was cancelled before it began doesn't begin";
pub(crate) const ENDS: &str = "a network that works again ends every call";

/// Most steps of a call to its end when no packet is lost.
const FEW: usize = 6;

/// A search through a world's states by stateright.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    pub(crate) bounds: Bounds,
    pub(crate) possible: &'static [Possible],
}

impl Model for Search {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.client_steps(&self.bounds, steps);
        steps.extend(world.sent.iter().copied().map(Step::Arrive));
        world.server_steps(&self.bounds, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(&self.bounds, step);
        if self.bounds.broken.is_none() {
            next.sweep(&self.bounds);
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let possible = self.possible.iter().map(|(name, is)| Property::sometimes(name, *is));
        all().into_iter().chain(possible).collect()
    }
}

pub(crate) fn all() -> Vec<Property<Search>> {
    vec![
        Property::always(ONCE, |_, world: &World| {
            world.server.executed.values().all(|times| *times <= 1)
        }),
        Property::always(OWN_REPLY, |_, world| {
            every_ending(world, |call, ending| match ending {
                Ending::Answered { of, .. } => of == call.name && times(world, call) > 0,
                _ => true,
            })
        }),
        Property::always(NEVER, |_, world| {
            every_ending(world, |call, ending| !ending.says_never() || times(world, call) == 0)
        }),
        Property::always(FORGOTTEN, |_, world: &World| {
            let no_time_has_passed = world.server.now == 0 && world.server.epoch == 1;
            every_ending(world, |_, ending| !(no_time_has_passed && ending == Ending::Forgotten))
        }),
        Property::always(RESTARTED, |_, world| {
            every_ending(world, |_, ending| {
                world.server.epoch > 1 || ending != Ending::ServerRestarted
            })
        }),
        Property::always(CANCELLED_STAYS, |_, world: &World| {
            world.sent.iter().all(|packet| match packet {
                Packet::Answered(generation, Answer::Cancelled { sequence, begun: false, .. }) => {
                    !world.server.executed.contains_key(&(*generation, *sequence))
                }
                _ => true,
            })
        }),
        Property::always(ENDS, settles),
    ]
}

/// A state that must be possible in a world, or its other properties would prove nothing.
pub(crate) type Possible = (&'static str, fn(&Search, &World) -> bool);

macro_rules! possible {
    ($($name:ident: $says:literal, $ending:pat,)*) => {
        $(pub(crate) const $name: Possible = ($says, |_, world| {
            world.client.calls.iter().any(|call| matches!(call.ended, Some($ending)))
        });)*
    };
}

possible! {
    ANSWERED: "answered at once", Ending::Answered { attempt: 0, cached: false, .. },
    ANSWERED_LATE: "answered after a retransmission",
        Ending::Answered { attempt: 1.., cached: false, .. },
    ANSWERED_AGAIN: "answered by the remembered reply", Ending::Answered { cached: true, .. },
    IS_RESTARTED: "the server restarted", Ending::ServerRestarted,
    IS_FORGOTTEN: "forgotten", Ending::Forgotten,
    IS_TOO_LONG: "too long for the server", Ending::TooLongForServer,
    NO_PORT: "nobody serves the port", Ending::NoSuchPort,
    TIMED_OUT_UNSENT: "timed out before it was sent", Ending::TimedOut(Progress::Unsent),
    TIMED_OUT_SENT: "timed out before it was known to be received",
        Ending::TimedOut(Progress::Sent),
    TIMED_OUT_RECEIVED: "timed out after it was received", Ending::TimedOut(Progress::Received),
    CANCELLED: "cancelled", Ending::Cancelled(Progress::Sent),
}

fn every_ending(world: &World, is_right: impl Fn(&Call, Ending) -> bool) -> bool {
    world.client.calls.iter().all(|call| call.ended.is_none_or(|ending| is_right(call, ending)))
}

fn times(world: &World, call: &Call) -> u8 {
    world.server.executed.get(&call.name).copied().unwrap_or(0)
}

/// Returns whether every open call ends if from now on no packet is lost and no time passes. A call
/// whose reply the server still has must end with the reply.
fn settles(search: &Search, world: &World) -> bool {
    let mut world = world.clone();
    world.server.tickets_left = u8::MAX;
    (0..world.client.calls.len()).all(|index| {
        let call = world.client.calls[index].clone();
        let answered = has_what_it_needs(search, &world, &call);
        (0..FEW).for_each(|_| one_exchange(search, &mut world, index));
        match world.client.calls[index].ended {
            None => false,
            Some(Ending::Answered { .. }) => true,
            Some(ending) => call.ended == Some(ending) || !answered,
        }
    })
}

fn has_what_it_needs(search: &Search, world: &World, call: &Call) -> bool {
    let Some(ticket) = call.ticket else {
        return world.client.ticket.is_none() && world.server.epoch < search.bounds.too_long_from;
    };
    let session = world.server.sessions.get(&(call.name.0, ticket));
    let entry = session.and_then(|session| session.requests.get(&call.name.1));
    ticket.epoch == world.server.epoch && entry.is_some_and(|entry| *entry != Entry::Dead)
}

/// Sends the client's next packets of a call, and hands the answers over.
fn one_exchange(search: &Search, world: &mut World, index: usize) {
    let call = &world.client.calls[index];
    if !call.is_open() {
        return;
    }
    let name = call.name;
    if call.ticket.or(world.client.ticket).is_none() {
        hear(search, world, Question::Hello);
    }
    for question in world.client.transmit(&search.bounds, index) {
        hear(search, world, question);
    }
    let Some(ticket) = world.client.calls[index].ticket else { return };
    if let Some(answer) = world.server.finish((name.0, ticket), name.1) {
        world.client.handle(&search.bounds, name.0, answer);
    }
}

fn hear(search: &Search, world: &mut World, question: Question) {
    let generation = world.client.generation;
    if let Some(answer) = world.server.handle(&search.bounds, generation, question) {
        world.client.handle(&search.bounds, generation, answer);
    }
}
