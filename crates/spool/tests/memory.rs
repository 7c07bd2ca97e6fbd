//! Memory that a queued message takes in Redis: at most 1.25 times its size plus 300 bytes.
//!
//! There are two figures: the memory that Redis accounts to the keys (MEMORY USAGE), and the growth
//! of all its memory. Both are measured with many messages in the inbox and in full lots.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use spool::{Commit, MessageId, Placed, Spool, Submission};
use testbed::Redis;

const MESSAGES: u32 = 4000;
const LOT_SIZE: u32 = 200;

const SUM_OF_KEYS: &str = "local sum = 0 \
    for _, key in ipairs(redis.call('KEYS', 'optimus:*')) do \
        sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) \
    end \
    return sum";

fn used_memory(redis: &Redis) -> u64 {
    let info = redis.cli(&["INFO", "memory"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

fn bytes_in_keys(redis: &Redis) -> u64 {
    redis.cli(&["EVAL", SUM_OF_KEYS, "0"]).unwrap().parse().unwrap()
}

async fn fill(spool: &Spool, bytes: usize) {
    let records = vec![b'x'; bytes];
    let id = |n: u32| MessageId::from_parts(common::NOW_MS + u64::from(n), n.into());
    let message = |n| Submission { records: &records[..], ..common::submission(id(n)) };
    spool.submit_many(&(0..MESSAGES).map(message).collect::<Vec<_>>()).await.unwrap();
}

async fn cost(bytes: usize, is_in_lots: bool) -> (f64, f64) {
    // Without fsync the memory is the same, and the test is quick.
    let redis = Redis::start_with(&["appendfsync no"]).unwrap();
    let spool = common::spool(&redis);
    spool.overview(1).await.unwrap();
    let before = used_memory(&redis);
    fill(&spool, bytes).await;
    if is_in_lots {
        common::cut_all(&spool, LOT_SIZE).await;
    }
    let grown = used_memory(&redis) - before;
    (bytes_in_keys(&redis) as f64 / f64::from(MESSAGES), grown as f64 / f64::from(MESSAGES))
}

#[tokio::test]
async fn a_queued_message_costs_little_more_than_its_size() {
    // 2,050 and 16,400 bytes are just above a size class of the allocator, where most is wasted.
    for (bytes, is_in_lots) in [500, 2_000, 2_050, 16_400, 20_000]
        .into_iter()
        .flat_map(|bytes| [(bytes, false), (bytes, true)])
    {
        let (keys, grown) = cost(bytes, is_in_lots).await;
        let place = if is_in_lots { "lots" } else { "the inbox" };
        println!("{bytes} B in {place}: {keys:.0} B in keys, {grown:.0} B in all");
        let limit = 1.25 * bytes as f64 + 300.0;
        assert!(keys <= limit && grown <= limit, "{bytes} B: {keys} and {grown}, at most {limit}");
    }
}

/// Assigns all ready lots to a node, which commits and settles everything.
async fn empty(spool: &Spool) {
    let node = common::node("a");
    let token = common::token(&node);
    let ready = spool.overview(1000).await.unwrap().ready;
    let to: Vec<_> = ready.into_iter().map(|lot| (lot.lot, node.clone())).collect();
    spool.assign(&to).await.unwrap();
    for lot in spool.fetch(&token).await.unwrap() {
        let queue_id = |id: &MessageId| common::queue_id(id.random_bits() as u32);
        let of = |id: &MessageId| Commit {
            id: *id,
            lot: lot.lot,
            epoch: lot.epoch,
            queue_id: queue_id(id),
        };
        spool.commit(&token, &lot.ids.iter().map(of).collect::<Vec<_>>()).await.unwrap();
        let gone = |id: &MessageId| Placed { queue_id: queue_id(id), id: *id };
        spool.settle(&token, &lot.ids.iter().map(gone).collect::<Vec<_>>()).await.unwrap();
    }
}

#[tokio::test]
async fn a_settled_message_leaves_less_than_a_hundred_bytes() {
    let redis = Redis::start_with(&["appendfsync no"]).unwrap();
    let spool = common::spool(&redis);
    fill(&spool, 2_000).await;
    common::cut_all(&spool, LOT_SIZE).await;
    empty(&spool).await;
    let left = bytes_in_keys(&redis) as f64 / f64::from(MESSAGES);
    println!("settled: {left:.0} B");
    assert!(left < 100.0, "{left}");
}
