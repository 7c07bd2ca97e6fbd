//! The client of the set-group-id programs against a real redis-server: what it stores, and how certain its refusals are.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use spool::sync::{SubmitError, Submitted, Submitter};
use spool::{MessageId, Server, Submission};
use testbed::Redis;

fn message(records: &[u8]) -> Submission<'_> {
    Submission { id: MessageId::new().unwrap(), uid: 1000, arrival_ms: 1, host: "mx.example.org", records }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn submitter(redis: &Redis) -> Submitter {
    Submitter::new(Server::parse(&redis.url()).unwrap(), 3)
}

#[test]
fn the_second_submission_of_an_id_changes_nothing() {
    let redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    let message = message(b"records");
    assert_eq!(submitter.submit(&message, soon()), Ok(Submitted::New));
    assert_eq!(submitter.submit(&message, soon()), Ok(Submitted::Already));
    assert_eq!(redis.cli(&["HLEN", "optimus:{0}:lot:1:ids"]).unwrap(), "1");
}

#[test]
fn without_a_server_it_says_certainly_not_and_soon() {
    let mut redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    redis.kill9();
    let started = Instant::now();
    let error = submitter.submit(&message(b"x"), started + Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, SubmitError::NotSubmitted { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}
