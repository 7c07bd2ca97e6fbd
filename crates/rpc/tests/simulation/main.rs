//! Clients and servers under seeded schedules of all troubles, over a network in memory.
//!
//! Each seed is one schedule. Packets get lost, doubled, damaged, delayed for minutes, recorded and
//! sent again. Hosts die, come back, move, stop for a minute; the lookup is slow or wrong. These
//! promises must hold at every moment: no request is executed twice, over all generations of its
//! server, nor after its caller was told that it is never executed. No call gets another's reply.
//! All calls end in time. When the troubles are over, every client reaches every server, and then
//! every table is empty.
//!
//! A failure prints its seed and the events. Crate `simulation` has the variables that choose
//! seeds.

mod host;
mod ledger;
#[cfg(feature = "mutations")]
mod mutations;
mod network;
mod plan;
mod schedule;
mod trace;
mod troubles;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::Mutex;

use ledger::Call;
use plan::Plan;
use schedule::{Outcome, run};
use simulation::Random;
use trace::Trace;
use world::World;

fn outcome(
    seed: u64,
    plan: fn(&mut Random) -> Plan,
    trace: Trace,
    prepare: impl Fn(&mut World),
) -> Outcome {
    let mut random = Random::new(seed);
    run(plan(&mut random), random, trace, prepare)
}

/// Runs the schedules of many seeds. The first one that fails runs once more, to print its events.
fn for_each_seed(
    default: u64,
    plan: fn(&mut Random) -> Plan,
    check: impl Fn(&Outcome) + RefUnwindSafe,
) {
    let run = |seed| {
        let outcome = outcome(seed, plan, Trace::quiet(), |_| ());
        outcome.result.as_ref().unwrap_or_else(|finding| panic!("{finding}"));
        check(&outcome);
    };
    let explain = |seed| _ = catch_unwind(|| outcome(seed, plan, Trace::loud(), |_| ()));
    simulation::for_each_seed(default, run, explain);
}

#[test]
fn an_exchange_without_troubles_is_two_packets() {
    for_each_seed(1_000, Plan::calm, |outcome| {
        let (tally, exchanges) =
            (outcome.tally, outcome.calls.len() as u64 + outcome.tally.greetings);
        assert_eq!((tally.sent_by_clients, tally.sent_by_servers), (exchanges, exchanges));
    });
}

#[test]
fn no_fragment_is_sent_twice_without_troubles() {
    for_each_seed(500, Plan::large, |outcome| {
        assert_eq!(outcome.tally.repeated, 0, "{:?}", outcome.tally);
    });
}

#[test]
fn services_hear_of_every_caller_that_gave_up() {
    for_each_seed(1_000, Plan::impatient, |_| ());
}

#[test]
fn a_request_that_will_never_fit_is_too_long_and_is_not_tried_again() {
    for_each_seed(100, Plan::cramped, |outcome| {
        let long = outcome.calls.iter().filter(|call| call.body_bytes > 500);
        let ends: BTreeSet<String> = long.map(Call::name_of_end).collect();
        assert!(ends.is_subset(&["TooLongForServer".to_owned()].into()), "{ends:?}");
    });
}

#[test]
fn a_server_that_is_called_seldom_forgets_nothing() {
    for_each_seed(500, Plan::leisurely, |outcome| {
        let forgotten =
            outcome.calls.iter().filter(|call| call.name_of_end() == "Forgotten").count();
        assert_eq!(forgotten, 0);
    });
}

#[test]
fn a_server_without_room_takes_the_call_that_holds_the_others_up() {
    for_each_seed(500, Plan::crowded, |_| ());
}

#[test]
fn every_call_is_answered_despite_lost_packets() {
    for_each_seed(5_000, Plan::lossy, |_| ());
}

#[test]
fn no_request_is_executed_twice_and_every_call_ends_in_any_storm() {
    let ends = Mutex::new(BTreeMap::<String, usize>::new());
    for_each_seed(20_000, Plan::storm, |outcome| {
        let mut ends = ends.lock().expect("no panic before");
        for call in &outcome.calls {
            *ends.entry(call.name_of_end()).or_default() += 1;
        }
    });
    expect_every_end(&ends.into_inner().expect("no panic before"));
}

/// Checks that every kind of end occurs. A simulation without a kind tests nothing about that kind.
fn expect_every_end(ends: &BTreeMap<String, usize>) {
    if ends.values().sum::<usize>() < 100_000 {
        return;
    }
    for end in EVERY_END {
        assert!(ends.contains_key(end), "no call ended with {end}: {ends:?}");
    }
}

const EVERY_END: [&str; 17] = [
    "Reply",
    "Abandoned",
    "Busy",
    "Cancelled(Received)",
    "Cancelled(Sent)",
    "Cancelled(Unsent)",
    "Forgotten",
    "NoSuchPort",
    "ServerDown(Received)",
    "ServerDown(Sent)",
    "ServerDown(Unsent)",
    "ServerRestarted",
    "TimedOut(Received)",
    "TimedOut(Sent)",
    "TimedOut(Unsent)",
    "TooLongForServer",
    "TooManyCalls",
];
