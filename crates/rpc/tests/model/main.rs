//! The protocol of this crate as a model, searched exhaustively.
//!
//! The simulation runs the code through many schedules, chosen by chance. Here a search takes a
//! model of the protocol, which shares no code with the crate, through *every* schedule of a small
//! world. The simulation finds errors of the code; the search finds errors of the protocol itself.
//! Counterexamples are short, as the search goes breadth first.
//!
//! ```text
//!   client: generation, ticket, ──▶ sent: every packet ever ──▶ server: epoch, clock, sessions
//!   calls                       ◀──   delivered any number ◀──    requests: arriving, executing,
//!                                      of times, or never          done, dead
//!                                                                  executed: how often
//! ```
//!
//! # Contents of the model
//!
//! - The network is the set of all packets that were ever sent. Each packet may arrive at any time,
//!   several times, in any order, or never: loss, doubling, delay and reordering without bound. A
//!   retransmission differs from a copy by its attempt and its floor only.
//! - Every timer is a step that may come at any time after it is due, or never. No step depends on
//!   the client's clock: the client may say `Hello` again, repeat, or give up at any time, or stand
//!   still for ever.
//! - A server's clock begins anew in each generation, so that old tickets look young.
//! - A client takes every welcome to its generation. The code ignores unexpected and old ones.
//!
//! # Omissions
//!
//! - The hash of packets and tickets: nobody in the model can forge a packet. Addresses: a packet
//!   from another address meets another session, or none.
//! - `Busy`: to the protocol, a refusal that isn't remembered is a loss. `ServerDown` is a
//!   time-out. Windows, the choice of repeated fragments, and packet numbers decide when packets
//!   are sent, not their meaning.
//!
//! # Bounds
//!
//! There are two calls, two generations of either side, two fragments, two transmissions, and two
//! or three tickets. There are up to three ticks of a clock on which tickets, sessions and replies
//! live for one. Each [world](WORLDS) has some of these. Packets that can no longer change any
//! state are dropped from the set. The sweep changes no outcome and makes the search some ten times
//! shorter; worlds with a broken rule keep all packets.

mod client;
mod properties;
mod server;
mod words;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties as say;
use crate::properties::{Possible, Search};
use crate::words::{Bounds, Rule};

/// One call over an arbitrary network.
const ONE_CALL: Bounds =
    Bounds { fragments: 2, callers_cancel: true, ports_vanish: true, ..Bounds::LEAST };
/// Two calls, repeated and cancelled in one session.
const TWO_CALLS: Bounds = Bounds { calls: 2, callers_cancel: true, ..Bounds::LEAST };
/// One call, and sessions that are forgotten; the server dies as well.
const ONE_AGES: Bounds =
    Bounds { last_tick: 3, tickets: 3, server_generations: 2, ..Bounds::LEAST };
/// Two calls in up to two sessions, which are forgotten.
const TWO_AGE: Bounds = Bounds { calls: 2, attempts: 1, last_tick: 2, tickets: 2, ..Bounds::LEAST };
/// The server dies, and its next generation takes shorter requests only.
const SERVER_DIES: Bounds =
    Bounds { last_tick: 1, server_generations: 2, too_long_from: 2, ..TWO_AGE };
/// The client dies.
const CLIENT_DIES: Bounds = Bounds { client_generations: 2, ..TWO_AGE };
/// Both die.
const BOTH_DIE: Bounds =
    Bounds { last_tick: 1, client_generations: 2, server_generations: 2, ..TWO_AGE };

/// Worlds in which the protocol is right, and the endings that must be possible in each.
const WORLDS: [(&str, Bounds, &[Possible]); 7] = [
    (
        "one call",
        ONE_CALL,
        &[
            say::ANSWERED,
            say::ANSWERED_LATE,
            say::ANSWERED_AGAIN,
            say::TIMED_OUT_UNSENT,
            say::TIMED_OUT_SENT,
            say::TIMED_OUT_RECEIVED,
            say::NO_PORT,
        ],
    ),
    ("two calls", TWO_CALLS, &[say::ANSWERED, say::ANSWERED_AGAIN, say::CANCELLED]),
    (
        "one call, time passes",
        ONE_AGES,
        &[say::ANSWERED_AGAIN, say::IS_FORGOTTEN, say::IS_RESTARTED],
    ),
    ("two calls, time passes", TWO_AGE, &[say::ANSWERED, say::IS_FORGOTTEN]),
    ("the server dies", SERVER_DIES, &[say::ANSWERED, say::IS_RESTARTED, say::IS_TOO_LONG]),
    ("the client dies", CLIENT_DIES, &[say::ANSWERED, say::IS_FORGOTTEN]),
    ("both die", BOTH_DIE, &[say::ANSWERED, say::IS_RESTARTED]),
];

/// Larger worlds, which take minutes: `cargo test --release -p rpc --test model -- --ignored
/// --nocapture`.
const LARGER_WORLDS: [(&str, Bounds, &[Possible]); 3] = [
    ("both die, and time passes", Bounds { last_tick: 2, ..BOTH_DIE }, &[say::IS_RESTARTED]),
    (
        "two calls are repeated, time passes",
        Bounds { last_tick: 1, ..TWO_CALLS },
        &[say::ANSWERED_AGAIN],
    ),
    ("three calls", Bounds { calls: 3, attempts: 1, ..Bounds::LEAST }, &[say::ANSWERED]),
];

#[test]
fn the_protocol_is_right_in_every_small_world() {
    search(&WORLDS);
}

#[test]
#[ignore = "takes minutes and gigabytes: ci/fuzz runs it"]
fn the_protocol_is_right_in_larger_worlds() {
    search(&LARGER_WORLDS);
}

fn search(worlds: &[(&str, Bounds, &'static [Possible])]) {
    for &(name, bounds, possible) in worlds {
        let start = Instant::now();
        let found = Search { bounds, possible }.checker().spawn_bfs().join();
        let (states, steps) = (found.unique_state_count(), found.state_count());
        println!("{name}: {states} states, {steps} steps, {:.1?}", start.elapsed());
        found.assert_properties();
    }
}

/// Breaks a rule. The search must find that `property` no longer holds.
fn breaks(rule: Rule, bounds: Bounds, property: &'static str) {
    let start = Instant::now();
    let search = Search { bounds: Bounds { broken: Some(rule), ..bounds }, possible: &[] };
    let wanted = HasDiscoveries::AnyOf([property].into_iter().collect());
    let found = search.checker().finish_when(wanted).spawn_bfs().join();
    println!("{rule:?}: {} states, {:.1?}", found.unique_state_count(), start.elapsed());
    let path = found.assert_any_discovery(property);
    path.into_actions().iter().for_each(|step| println!("    {step:?}"));
}

macro_rules! mutations {
    ($($test:ident: $rule:ident, $bounds:expr, $property:ident;)*) => {
        $(#[test]
        fn $test() {
            breaks(Rule::$rule, $bounds, say::$property);
        })*
    };
}

mutations! {
    without_a_duplicate_table: DuplicateTable, Bounds::LEAST, ONCE;
    without_tombstones: Tombstones, ONE_AGES, ONCE;
    below_the_floor_nothing_is_refused: Floor, TWO_CALLS, ONCE;
    the_floor_ends_what_was_acknowledged: AcknowledgedOutlivesFloor, TWO_CALLS, FORGOTTEN;
    the_epoch_is_not_checked: ServerEpoch, ONE_AGES, ONCE;
    the_age_of_tickets_is_not_checked: TicketAge, ONE_AGES, ONCE;
    a_ticket_is_young_for_a_tick_too_long: TicketAgeIsExclusive, ONE_AGES, ONCE;
    a_session_is_forgotten_while_its_ticket_is_young: SessionOutlivesTicket, ONE_AGES, ONCE;
    a_request_is_repeated_under_another_ticket: SameTicket, ONE_AGES, ONCE;
    generations_of_a_client_are_not_told_apart: ClientGeneration, CLIENT_DIES, OWN_REPLY;
    an_earlier_generation_opens_a_session_again: EarlierGenerationIsRefused, CLIENT_DIES, ONCE;
    a_hello_ends_the_sessions_of_earlier_generations: EarlierGenerationGoesLate, CLIENT_DIES, ONCE;
    a_cancellation_ahead_of_its_request_is_lost: CancelLeavesTombstone, TWO_CALLS, CANCELLED_STAYS;
    length_is_checked_before_the_epoch: EpochBeforeLength, SERVER_DIES, NEVER;
    a_vanished_port_ends_what_was_sent: VanishedPortSparesSent, ONE_CALL, NEVER;
}
