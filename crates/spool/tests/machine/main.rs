//! Random calls against a real redis-server, compared with `spool::model`.
//!
//! After every call the test compares with the model: the answer, all data in Redis, the notices,
//! and the answers of the reading functions. The test checks the invariants of `optimus.lua` on
//! Redis's own data, so that model and library can't be wrong together. Then the test repeats the
//! call, which must change nothing.

#![cfg(feature = "model")]
#![allow(clippy::unwrap_used)]

mod call;
#[path = "../common/mod.rs"]
mod common;
mod invariants;
mod real;
mod step;

use std::collections::BTreeSet;

use proptest::prelude::*;
use spool::model::Model;
use testbed::Redis;

use call::{Call, Caller};
use real::Real;
use step::Step;

const CALLS: usize = 100;

async fn run(redis: &Redis, calls: &[(u64, Caller, Call)]) {
    redis.cli(&["FLUSHALL"]).unwrap();
    let mut model = Model::at(common::NOW_MS);
    let mut real = Real::new(redis).await;
    let mut pushed = BTreeSet::new();
    for (number, (pause_ms, caller, call)) in calls.iter().enumerate() {
        model.now_ms += pause_ms;
        let step = call::resolve(&model, *caller, call);
        let context = format!("call {number}, {step:?}");
        if let Step::Submit(id) = &step {
            pushed.insert(id.to_string());
        }
        let expected = step.on_model(&mut model);
        assert_eq!(real.apply(&step, model.now_ms).await, expected, "answer to {context}");
        assert_eq!(real.notices().await, sorted(model.take_published()), "notices of {context}");
        let held = real.dump().await;
        assert_eq!(held, model.lines(), "state after {context}");
        invariants::check(&held, &context);
        real.compare_reading(&model, &context).await;

        if step.is_repeatable(&expected) {
            real.apply(&step, model.now_ms).await;
            assert_eq!(real.dump().await, held, "state after {context} was repeated");
            real.notices().await;
        }
    }
    let lost: Vec<_> = pushed.difference(&real.known_ids().await).cloned().collect();
    assert_eq!(lost, Vec::<String>::new(), "nothing is lost");
}

fn sorted(mut notices: Vec<String>) -> Vec<String> {
    notices.sort();
    notices
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
    fn redis_does_what_the_model_does(calls in call::calls(CALLS)) {
        thread_local!(static REDIS: Redis = Redis::start().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        REDIS.with(|redis| runtime.block_on(run(redis, &calls)));
    }
}
