//! Random calls against a real redis-server, beside a plain model of what they should do.
//!
//! After every call the answer and everything in Redis are compared with the model's. The
//! invariants of `optimus.lua` are checked on Redis's own data, so that model and library can't be
//! wrong together. Then the call is repeated, which must change nothing.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod invariants;
mod model;
mod real;

use proptest::prelude::*;
use spool::Act;
use testbed::Redis;

use model::{Call, Model, Seen};
use real::Real;

const IDS: u32 = 20;
const QUEUE_IDS: u32 = 5;
const NODES: u32 = 3;
const CALLS: usize = 100;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![Just(Act::Delete), Just(Act::Hold), Just(Act::Release), Just(Act::Requeue)]
}

/// Calls of a node's earlier Mail Agent that was stopped and goes on.
fn late() -> impl Strategy<Value = Call> {
    let (id, node, queue_id) = (1..=IDS, 1..=NODES, 1..=QUEUE_IDS);
    let ordered = id.clone().prop_map(Call::ObeyOrdered);
    let call = prop_oneof![
        (id.clone(), queue_id.clone()).prop_map(|(id, q)| Call::Commit(id, None, q, 0)),
        (id.clone(), 1..=2_u32).prop_map(|(id, to)| Call::Park(id, to, 0)),
        id.clone().prop_map(Call::SettleCommitted),
        id.clone().prop_map(Call::UncommitCommitted),
        id.clone().prop_map(|id| Call::AbsentCommitted(id, 9)),
        (id.clone(), queue_id).prop_map(|(id, q)| Call::RenameCommitted(id, q)),
        id.clone().prop_map(|id| Call::DeferCommitted(id, 2)),
        id.clone().prop_map(|id| Call::Refuse(id, 0)),
        (id, node.clone()).prop_map(|(n, node)| Call::PullReady(n, node)),
        node.clone().prop_map(Call::HandBack),
        node.prop_map(Call::Arrive),
        ordered,
    ];
    call.prop_map(|call| Call::BySuperseded(Box::new(call)))
}

fn call() -> impl Strategy<Value = Call> {
    let (id, node, queue_id) = (1..=IDS, 1..=NODES, 1..=QUEUE_IDS);
    // A stale or wrong tenure is tried sometimes.
    let off = prop_oneof![6 => Just(0), 1 => 1..=2_u64];
    let under = (id.clone(), node.clone(), 1..=6_u64, 1..=2_u64, queue_id.clone());
    let absent = (node.clone(), queue_id.clone(), id.clone());
    let renamed = absent.clone();
    let obey = (node.clone(), queue_id.clone(), id.clone(), act());
    let obey = obey.prop_map(|(node, q, id, act)| Call::Obey(node, q, id, act));
    prop_oneof![
        14 => id.clone().prop_map(Call::Submit),
        1 => Just(Call::SubmitMalformed),
        1 => id.clone().prop_map(Call::Disown),
        6 => (1..=4_u32, 0..=NODES).prop_map(|(size, node)| Call::CutNext(size, node)),
        1 => (1..=6_u64, 1..=4_u32, 0..=NODES)
            .prop_map(|(lot, size, node)| Call::Cut(lot, size, node)),
        10 => (id.clone(), node.clone()).prop_map(|(n, node)| Call::AssignReady(n, node)),
        1 => (1..=6_u64, node.clone()).prop_map(|(lot, node)| Call::Assign(lot, node)),
        2 => under.prop_map(|(id, node, lot, epoch, queue_id)| {
            Call::CommitUnder { id, node, lot, epoch, queue_id }
        }),
        16 => (id.clone(), queue_id.clone(), off.clone())
            .prop_map(|(id, q, off)| Call::Commit(id, None, q, off)),
        2 => (id.clone(), node.clone(), queue_id.clone())
            .prop_map(|(id, node, q)| Call::Commit(id, Some(node), q, 0)),
        8 => (id.clone(), 1..=2_u32, off.clone()).prop_map(|(id, to, off)| Call::Park(id, to, off)),
        6 => id.clone().prop_map(Call::SettleCommitted),
        1 => (node.clone(), queue_id.clone(), id.clone())
            .prop_map(|(node, q, id)| Call::Settle(node, q, id)),
        3 => id.clone().prop_map(Call::UncommitCommitted),
        1 => (node.clone(), queue_id.clone(), id.clone())
            .prop_map(|(node, q, id)| Call::Uncommit(node, q, id)),
        3 => (node.clone(), 0..=20_u64).prop_map(|(node, mark)| Call::Attend(node, mark)),
        4 => (id.clone(), 0..=20_u64).prop_map(|(id, mark)| Call::AbsentCommitted(id, mark)),
        4 => (id.clone(), queue_id.clone()).prop_map(|(id, q)| Call::RenameCommitted(id, q)),
        1 => absent.prop_map(|(node, q, id)| Call::Absent(node, q, id, 9)),
        1 => renamed.prop_map(|(node, q, id)| Call::Rename(node, q, id, 1)),
        4 => (id.clone(), 1..=3_u64).prop_map(|(id, ms)| Call::DeferCommitted(id, ms)),
        1 => (node.clone(), queue_id.clone(), id.clone())
            .prop_map(|(node, q, id)| Call::Defer(node, q, id)),
        4 => (id.clone(), off.clone()).prop_map(|(id, off)| Call::Refuse(id, off)),
        2 => (id.clone(), off).prop_map(|(id, off)| Call::RefuseMissing(id, off)),
        3 => id.clone().prop_map(Call::RetryQuarantined),
        1 => id.clone().prop_map(Call::Retry),
        2 => id.clone().prop_map(Call::DropQuarantined),
        1 => id.clone().prop_map(Call::Drop),
        8 => (act(), id.clone()).prop_map(|(act, id)| Call::OperateSeen(act, id)),
        2 => (act(), id.clone(), 1..=6_u64)
            .prop_map(|(act, id, lot)| Call::Operate(act, id, Seen::Lot(lot))),
        1 => (act(), id.clone()).prop_map(|(act, id)| Call::Operate(act, id, Seen::Held)),
        1 => Just(Call::Tidy),
        4 => id.clone().prop_map(Call::ObeyOrdered),
        1 => obey,
        2 => node.clone().prop_map(Call::Reassign),
        1 => node.clone().prop_map(Call::Arrive),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, wait)| Call::Lose(node, wait)),
        2 => (id, node.clone()).prop_map(|(n, node)| Call::PullReady(n, node)),
        1 => node.clone().prop_map(Call::HandBack),
        8 => late(),
        1 => Just(Call::FlushFunctions),
    ]
}

async fn run(redis: &Redis, calls: &[Call]) {
    redis.cli(&["FLUSHALL"]).unwrap();
    let mut model = Model::default();
    let real = Real::new(redis).await;
    for (number, call) in calls.iter().enumerate() {
        let context = format!("call {number}, {call:?}");
        let call = model.resolve(call);
        let expected = model.apply(&call);
        assert_eq!(real.apply(&call).await, expected, "answer to {context} ({call:?})");
        let held = real.dump().await;
        assert_eq!(held, model.dump(), "state after {context} ({call:?})");
        invariants::check(&held, &context);
        assert_eq!(real.loads().await, model.loads(), "loads after {context}");

        // A cut that has made no lot is the same call as the next one. A repeated submission adds a
        // copy, which the next cut drops.
        if !matches!(call, Call::Submit(_) | Call::SubmitMalformed)
            && !expected.starts_with("nothing")
        {
            real.apply(&call).await;
            assert_eq!(real.dump().await, held, "state after {context} was repeated");
        }
    }
    assert_eq!(real.known_ids().await, model.known_ids(), "nothing is lost");
}

/// Returns the number of cases: a few by default; `PROPTEST_CASES` sets more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn redis_does_what_the_model_does(calls in prop::collection::vec(call(), CALLS)) {
        thread_local!(static REDIS: Redis = Redis::start().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        REDIS.with(|redis| runtime.block_on(run(redis, &calls)));
    }
}
