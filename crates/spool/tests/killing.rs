//! A test that kills Redis again and again while both clients work: each certain outcome must be
//! true.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use postfix_wire::QueueId;
use spool::sync::{SubmitError, Submitter};
use spool::*;
use testbed::Redis;

const SUBMITTERS: u32 = 3;
const KILLS: u32 = 6;

/// Outcomes of one submitter, by message.
#[derive(Default)]
struct Told {
    stored: Vec<MessageId>,
    not_stored: Vec<MessageId>,
    in_doubt: Vec<MessageId>,
}

/// Submits until `stop` is set.
fn submit_on(url: &str, first: u32, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let mut submitter = Submitter::new(Server::parse(url).unwrap());
    for n in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // The deadline is short, so that some submissions stay in doubt.
        let deadline = Instant::now() + Duration::from_millis(20);
        match submitter.submit(&submission(id(n)), deadline) {
            Ok(()) => told.stored.push(id(n)),
            Err(SubmitError::NotSubmitted { .. }) => told.not_stored.push(id(n)),
            Err(SubmitError::Unknown { .. }) => told.in_doubt.push(id(n)),
        }
    }
    told
}

/// Commits and settles all messages as one node. Returns the settled ones, in order.
async fn work_on(url: &str, name: &str, stop: &AtomicBool) -> Vec<MessageId> {
    let (spool, node) = (Spool::new(Server::parse(url).unwrap()), node(name));
    let mut settled = Vec::new();
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match round(&spool, &node, &mut settled).await {
            Ok(true) => {}
            Ok(false) if stopping => return settled,
            Ok(false) => {}
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

/// Feeds, commits and settles all messages once. Returns whether there were any.
async fn round(
    spool: &Spool,
    node: &NodeId,
    settled: &mut Vec<MessageId>,
) -> Result<bool, SpoolError> {
    let overview = spool.overview(20).await?;
    if overview.inbox.entries > 0 {
        spool.cut(overview.inbox.next_lot, 10, Some(node)).await?;
    }
    let ready: Vec<_> = overview.ready.iter().map(|lot| (lot.lot, node.clone())).collect();
    spool.assign(&ready).await?;
    for lot in spool.fetch(&token(node)).await? {
        for message in spool.get(&lot.ids).await? {
            assert_eq!(message.unwrap().records, b"records");
        }
        let queue_id =
            |id: &MessageId| -> QueueId { format!("4C1B2{:X}", id.random_bits()).parse().unwrap() };
        let of = |id: &MessageId| Commit {
            id: *id,
            lot: lot.lot,
            epoch: lot.epoch,
            queue_id: queue_id(id),
        };
        spool.commit(&token(node), &lot.ids.iter().map(of).collect::<Vec<_>>()).await?;
    }
    let committed = spool.inventory(node).await?;
    let outcomes = spool.settle(&token(node), &committed).await?;
    let done = committed.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Settled::Settled);
    settled.extend(done.map(|(it, _)| it.id));
    Ok(overview.inbox.entries > 0 || overview.ready_lots > 0 || !committed.is_empty())
}

fn is_known(redis: &Redis, id: MessageId) -> bool {
    let remembered = format!("optimus:{{0}}:done:{}", &id.to_string()[..6]);
    redis.cli(&["HGET", &remembered, &id.to_string()]).unwrap() == "s"
        || redis.cli(&["EXISTS", &format!("optimus:{{0}}:m:{id}")]).unwrap() == "1"
}

fn kill_again_and_again(redis: &mut Redis) {
    for n in 0..KILLS {
        let progress = |redis: &Redis| -> u64 {
            let count = redis.cli(&["HGET", "optimus:{0}:counts", "settled"]).unwrap();
            count.parse().unwrap_or(0)
        };
        let before = progress(redis);
        let moved = || progress(redis) > before + 5;
        testbed::until(Duration::from_secs(60), "mail flows between two kills", moved).unwrap();
        redis.kill9();
        // Redis comes back either before any client notices, or after submitters have given up.
        thread::sleep(Duration::from_millis(u64::from(n % 3) * 15));
        redis.restart().unwrap();
    }
}

#[test]
fn no_message_is_lost_or_invented() {
    let mut redis = Redis::start().unwrap();
    let (url, stop) = (redis.url(), AtomicBool::new(false));
    let (stop_submitting, url) = (&stop, url.as_str());
    let stop_working = &AtomicBool::new(false);
    let (told, settled) = thread::scope(|scope| {
        let _stop = [StopWhenDropped(stop_submitting), StopWhenDropped(stop_working)];
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|n| scope.spawn(move || submit_on(url, n * 1_000_000 + 1, stop_submitting)))
            .collect();
        let workers: Vec<_> = ["a", "b"]
            .map(|name| scope.spawn(move || block_on(work_on(url, name, stop_working))))
            .into();
        kill_again_and_again(&mut redis);
        stop_submitting.store(true, Ordering::Relaxed);
        let told: Vec<Told> = submitters.into_iter().map(|it| it.join().unwrap()).collect();
        stop_working.store(true, Ordering::Relaxed);
        let settled: Vec<MessageId> =
            workers.into_iter().flat_map(|it| it.join().unwrap()).collect();
        (told, settled)
    });

    let all = |of: fn(&Told) -> &Vec<MessageId>| {
        told.iter().flat_map(of).copied().collect::<BTreeSet<_>>()
    };
    let (stored, not_stored, in_doubt) =
        (all(|it| &it.stored), all(|it| &it.not_stored), all(|it| &it.in_doubt));
    println!(
        "{} stored, {} certainly not, {} in doubt",
        stored.len(),
        not_stored.len(),
        in_doubt.len()
    );
    assert!(!not_stored.is_empty(), "no submission failed: the test shows nothing");
    assert!(
        not_stored.iter().all(|&id| !is_known(&redis, id)),
        "certainly not stored, and yet it is there"
    );
    assert!(stored.iter().all(|&id| is_known(&redis, id)), "stored, and yet it is gone");

    let settled_once: BTreeSet<_> = settled.iter().copied().collect();
    assert_eq!(settled.len(), settled_once.len(), "settled twice");
    // Some settlements were counted only in Redis, because their answers were lost.
    let count: usize =
        redis.cli(&["HGET", "optimus:{0}:counts", "settled"]).unwrap().parse().unwrap();
    let arrived = in_doubt.iter().filter(|&&id| is_known(&redis, id)).count();
    assert_eq!(count, stored.len() + arrived, "each message is settled once");
    assert!(
        settled_once.iter().all(|id| stored.contains(id) || in_doubt.contains(id)),
        "settled, never submitted"
    );
}

/// Ends the other threads even when this one panics.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
