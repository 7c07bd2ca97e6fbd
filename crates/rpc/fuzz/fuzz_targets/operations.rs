//! The simulation, whose choices (calls, losses, delays, replays and deaths) are the fuzzer's
//! bytes.
#![no_main]

#[path = "../../tests/simulation/host.rs"]
mod host;
#[path = "../../tests/simulation/ledger.rs"]
mod ledger;
#[path = "../../tests/simulation/network.rs"]
mod network;
#[path = "../../tests/simulation/plan.rs"]
mod plan;
#[path = "../../tests/simulation/schedule.rs"]
mod schedule;
#[path = "../../tests/simulation/trace.rs"]
mod trace;
#[path = "../../tests/simulation/troubles.rs"]
mod troubles;
#[path = "../../tests/simulation/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use simulation::Random;

use plan::Plan;
use trace::Trace;

fuzz_target!(|bytes: &[u8]| {
    let run = |trace| {
        let mut random = Random::from_bytes(bytes);
        let mut plan = Plan::storm(&mut random);
        // Many short schedules find more than few long ones.
        plan.work.calls = plan.work.calls.min(8);
        plan.work.max_body_bytes = plan.work.max_body_bytes.min(3_000);
        plan.work.max_reply_bytes = plan.work.max_reply_bytes.min(3_000);
        schedule::run(plan, random, trace, |_| ())
    };
    if let Err(finding) = run(Trace::quiet()).result {
        let _ = run(Trace::loud());
        panic!("{finding}");
    }
});
