//! Limits of calls: each call handles a limited number of messages, and the next call goes on with
//! the rest.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use spool::*;
use testbed::Redis;

/// Number of messages that needs more than two batches.
const MANY: u32 = 2_300;

/// Assigns lots of `size` messages to the node.
async fn assigned(redis: &Redis, node: &NodeId, messages: u32, size: u32) -> Vec<AssignedLot> {
    let spool = spool(redis);
    let all: Vec<_> = (0..messages).map(|n| submission(id(n))).collect();
    spool.submit_many(&all).await.unwrap();
    cut_all(&spool, size).await;
    let ready = spool.overview(10_000).await.unwrap().ready;
    let to: Vec<_> = ready.into_iter().map(|lot| (lot.lot, node.clone())).collect();
    assert!(spool.assign(&to).await.unwrap().iter().all(|it| matches!(it, Assigned::Assigned(_))));
    spool.fetch(&token(node)).await.unwrap()
}

fn commits(lots: &[AssignedLot]) -> Vec<Commit> {
    let each = lots.iter().flat_map(|lot| lot.ids.iter().map(move |id| (lot.lot, lot.epoch, *id)));
    each.enumerate()
        .map(|(n, (lot, epoch, id))| Commit { id, lot, epoch, queue_id: queue_id(n as u32) })
        .collect()
}

/// Returns the number of write(2) calls by redis-server: one per fsync of the append-only file, and
/// one per answer.
fn writes(redis: &Redis) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", redis.pid().unwrap())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}

async fn committed(redis: &Redis, node: &NodeId) -> Vec<Commit> {
    let commits = commits(&assigned(redis, node, MANY, 200).await);
    let before = writes(redis);
    let outcomes = spool(redis).commit(&token(node), &commits).await.unwrap();
    assert_eq!(outcomes, vec![Committed::Committed; MANY as usize]);
    // Each of the three batches is one write to the file, and some writes for its answer.
    let calls = writes(redis) - before;
    assert!(calls < 30, "{calls} writes for {MANY} commits");
    commits
}

#[tokio::test]
async fn a_batch_of_thousands_is_a_few_calls_and_fsyncs() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let commits = committed(&redis, &a).await;
    assert_eq!(spool.inventory(&a).await.unwrap().len(), MANY as usize);
    let placed: Vec<Placed> =
        commits.into_iter().map(|it| Placed { queue_id: it.queue_id, id: it.id }).collect();
    let later: Vec<Deferral> = placed
        .iter()
        .map(|it| Deferral { queue_id: it.queue_id.clone(), id: it.id, rest: Rest::Until(1) })
        .collect();
    assert_eq!(
        spool.defer(&token(&a), &later).await.unwrap(),
        vec![Deferred::Deferred; MANY as usize]
    );
    assert_eq!(spool.overview(0).await.unwrap().load(&a), 0);
    assert_eq!(
        spool.settle(&token(&a), &placed).await.unwrap(),
        vec![Settled::Settled; MANY as usize]
    );
    let overview = spool.overview(10).await.unwrap();
    assert_eq!((overview.backlog(), &overview.nodes[..]), (0, &[][..]));
    // Redis keeps the spool's identity, the remembered ids, the number of entries taken from the
    // inbox, the last lot's number, the node's last commit number, and the counters.
    assert!(redis.cli(&["DBSIZE"]).unwrap().parse::<u32>().unwrap() <= 6);
}

#[tokio::test]
async fn a_lost_node_s_mail_moves_in_slices_that_can_be_resumed() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    committed(&redis, &a).await;
    // The caller moves one slice and dies.
    let (slice, more) = spool.lose_slice(&a, Duration::ZERO, false).await.unwrap();
    assert!(more, "{slice:?}");
    let first = spool.overview(100).await.unwrap();
    assert!(first.backlog() > 0 && first.backlog() < 600, "{first:?}");
    assert_eq!(slice, resent(first.backlog()));
    let rest = u64::from(MANY) - first.backlog();
    assert_eq!(spool.lose(&a, Duration::ZERO, false).await.unwrap(), resent(rest));
    let after = spool.overview(100).await.unwrap();
    assert_eq!((after.backlog(), after.load(&a)), (u64::from(MANY), 0));
    assert_eq!(spool.counts().await.unwrap()["resent"], u64::from(MANY));
}

#[tokio::test]
async fn a_dead_node_s_lots_move_in_slices_that_can_be_resumed() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let lots = assigned(&redis, &a, 250, 1).await;
    assert_eq!(lots.len(), 250);
    redis.cli(&["FCALL", "optimus_reassign", "1", "optimus:{0}:", "", "a", ""]).unwrap();
    let first = spool.overview(1000).await.unwrap().ready_lots;
    assert!(first > 0 && first < 250, "{first}");
    assert_eq!(spool.reassign(&a).await.unwrap(), 250 - first);
    assert_eq!(spool.fetch(&token(&a)).await.unwrap(), []);
    let overview = spool.overview(10).await.unwrap();
    assert_eq!((overview.ready_lots, overview.ready.len()), (250, 10));
}

#[tokio::test]
async fn thousands_in_quarantine_are_listed_retried_and_dropped_in_pages() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let lots = assigned(&redis, &a, MANY, 200).await;
    for lot in &lots {
        let refuse = |id: &MessageId| {
            let (spool, a, id) = (spool.clone(), a.clone(), *id);
            async move { spool.refuse(&token(&a), id, (lot.lot, lot.epoch), "why").await }
        };
        futures_util::future::try_join_all(lot.ids.iter().map(refuse)).await.unwrap();
    }
    assert_eq!(spool.quarantined(7).await.unwrap().len(), 7);
    assert_eq!(spool.quarantined(0).await.unwrap(), []);
    // One call is bounded, even if more is requested.
    assert_eq!(spool.quarantined(10_000).await.unwrap().len(), 1_000);
    let ids: Vec<MessageId> =
        spool.all_quarantined().await.unwrap().iter().map(|it| it.id).collect();
    assert_eq!(ids.len(), MANY as usize);
    let (retried, dropped) = ids.split_at(1_200);
    assert_eq!(spool.retry_quarantined(retried).await.unwrap(), vec![Retried::Retried; 1_200]);
    assert_eq!(spool.drop_quarantined(dropped).await.unwrap(), vec![Dropped::Dropped; 1_100]);
    let overview = spool.overview(10).await.unwrap();
    assert_eq!((overview.backlog(), overview.quarantine), (1_200, 0));
}

#[tokio::test]
async fn a_batch_over_the_limit_is_refused_whole() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    spool.ping().await.unwrap();
    let mut words = vec!["FCALL", "optimus_settle", "1", "optimus:{0}:", "", "a", "1", "0"];
    words.extend(["x"; 2 * 1001]);
    let error = redis.cli(&words).unwrap_err().to_string();
    assert!(error.contains("CALLER"), "{error}");
    // An incomplete entry is refused, too.
    assert!(
        redis.cli(&["FCALL", "optimus_settle", "1", "optimus:{0}:", "", "a", "1", "x"]).is_err()
    );
}

#[tokio::test]
async fn a_full_memory_lets_mail_out_but_none_in() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let lots = assigned(&redis, &a, 3, 3).await;
    submit(&spool, id(8)).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(cut_next(&spool, 1, None).await, Cut::Cut { messages: 1, left: 0 });
    let refused = spool.submit(&submission(id(9))).await.unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains("OOM"), "{refused}");
    spool.reassign(&a).await.unwrap();
    let lot = (lots[0].lot, a.clone());
    spool.assign(&[lot]).await.unwrap();
    let commits = commits(&spool.fetch(&token(&a)).await.unwrap());
    assert_eq!(spool.commit(&token(&a), &commits).await.unwrap(), [Committed::Committed; 3]);
    let placed: Vec<Placed> =
        commits.into_iter().map(|it| Placed { queue_id: it.queue_id, id: it.id }).collect();
    assert_eq!(spool.settle(&token(&a), &placed).await.unwrap(), [Settled::Settled; 3]);
}

#[tokio::test]
async fn a_lot_is_cut_at_so_many_bytes_and_never_without_a_message() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (small, large) = (vec![b'x'; 1_500_000], vec![b'x'; 9_000_000]);
    for (n, records) in [&small, &small, &small, &large, &small].into_iter().enumerate() {
        spool.submit(&Submission { records, ..submission(id(n as u32)) }).await.unwrap();
    }
    // Two of the small messages are 3 MB, three are more than 4 MiB.
    for (messages, left) in [(2, 3), (1, 2), (1, 1), (1, 0)] {
        assert_eq!(cut_next(&spool, 100, None).await, Cut::Cut { messages, left });
    }
    let stored = spool.stored(id(3)).await.unwrap().unwrap();
    assert!(stored.ends_with(&large));
}

#[tokio::test]
async fn a_lot_never_holds_more_than_the_library_s_limit() {
    let redis = Redis::start_with(&["appendfsync no"]).unwrap();
    let spool = spool(&redis);
    let all: Vec<_> = (0..10_001).map(|n| submission(id(n))).collect();
    spool.submit_many(&all).await.unwrap();
    assert_eq!(cut_next(&spool, 1_000_000, None).await, Cut::Cut { messages: 10_000, left: 1 });
}

/// A client that gave up and repeated the submission would store one more copy by each attempt.
#[tokio::test]
async fn a_slow_redis_is_given_a_message_once() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit(&spool, id(1)).await;
    redis.pause();
    let later = async {
        // Other calls give up after 2 s.
        tokio::time::sleep(Duration::from_secs(3)).await;
        redis.resume();
    };
    let message = submission(id(2));
    let (stored, ()) = tokio::join!(spool.submit(&message), later);
    stored.unwrap();
    assert_eq!(spool.inbox_length().await.unwrap(), 2);
}

#[tokio::test]
async fn the_last_malformed_entries_are_kept_and_little_of_each() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let push = "for n = 1, 1010 do redis.call('RPUSH', 'optimus:{0}:inbox', 'malformed ' .. n .. \
                string.rep('x', n == 1010 and 100000 or 10)) end";
    redis.cli(&["EVAL", push, "0"]).unwrap();
    cut_all(&spool, 500).await;
    let list = "optimus:{0}:malformed";
    assert_eq!(redis.cli(&["LLEN", list]).unwrap(), "1000");
    assert!(redis.cli(&["LINDEX", list, "0"]).unwrap().starts_with("malformed 11x"));
    assert_eq!(redis.cli(&["LINDEX", list, "-1"]).unwrap().len(), 64 << 10);
    assert!(redis.cli(&["TTL", list]).unwrap().parse::<i64>().unwrap() > 29 * 24 * 3_600);
    let counts = spool.counts().await.unwrap();
    assert_eq!((counts["malformed"], counts["malformed_given_up"]), (1_010, 10));
}
