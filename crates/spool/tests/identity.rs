//! Identity of the spool: a client stays with its spool when Redis holds another one.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::*;
use spool::*;
use testbed::{Redis, Scratch};
use tokio::time::timeout;

/// Limit far above the time that any step needs.
const LIMIT: Duration = Duration::from_secs(30);

fn serving(redis: &Redis, file: &std::path::Path) -> Spool {
    Spool::serving(Server::parse(&redis.url()).unwrap(), file.to_owned()).at(NOW_MS)
}

fn file() -> (Scratch, PathBuf) {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("spool");
    (scratch, file)
}

#[tokio::test]
async fn clients_that_connect_at_once_make_one_identity() {
    let redis = Redis::start().unwrap();
    let folder = Scratch::new().unwrap();
    let clients: Vec<_> =
        (0..8).map(|n| serving(&redis, &folder.path().join(format!("spool{n}")))).collect();
    for found in futures_util::future::join_all(clients.iter().map(Spool::ping)).await {
        found.unwrap();
    }
    let identity = clients[0].identity().await.unwrap();
    assert!(identity.is_some());
    assert!(clients.iter().all(|it| it.served() == identity));
    let again = serving(&redis, &folder.path().join("spool0"));
    again.ping().await.unwrap();
    assert_eq!(again.served(), identity);
    assert_eq!(remembered(&folder.path().join("spool7")).unwrap(), identity);
}

#[tokio::test]
async fn a_redis_emptied_under_a_client_decides_nothing_until_the_operator_accepts_it() {
    let redis = Redis::start().unwrap();
    let (_scratch, file) = file();
    let spool = serving(&redis, &file);
    let lot = assigned_lot(&spool, &node("a"), 2).await;
    spool.commit(&token(&node("a")), &[commit_of(&lot, 1)]).await.unwrap();
    let before = spool.served();
    redis.cli(&["FLUSHALL"]).unwrap();
    let (a, kept) = (node("a"), (lot.lot, lot.epoch));
    let calls = [
        spool.settle(&token(&a), &[placed(1)]).await.err(),
        spool.commit(&token(&a), &[commit_of(&lot, 2)]).await.err(),
        spool.refuse(&token(&a), id(2), kept, "x").await.err(),
        spool.cut(LotNumber(1), 9, None).await.err(),
        spool.disown(id(9)).await.err(),
    ];
    for error in calls {
        assert!(matches!(error, Some(SpoolError::OtherSpool { found: None, .. })), "{error:?}");
    }
    assert_eq!(redis.cli(&["DBSIZE"]).unwrap(), "0", "something was decided");
    let restarted = serving(&redis, &file).ping().await.unwrap_err().to_string();
    assert!(
        restarted.contains("optimus accept-spool") && restarted.contains(file.to_str().unwrap())
    );
    let accepted =
        Spool::looking(Server::parse(&redis.url()).unwrap()).accept(&file).await.unwrap();
    assert_ne!(Some(accepted), before);
    timeout(LIMIT, spool.ping()).await.unwrap().unwrap();
    assert_eq!(spool.served(), Some(accepted));
}

/// Redis holds another spool when `redis.url` was edited, or another server has the old name.
#[tokio::test]
async fn another_spool_is_refused_and_the_right_one_served_again() {
    let (one, other) = (Redis::start().unwrap(), Redis::start().unwrap());
    let (_scratch, file) = file();
    serving(&one, &file).ping().await.unwrap();
    spool(&other).ping().await.unwrap();
    let there = spool(&other).identity().await.unwrap();
    let error = serving(&other, &file).ping().await.unwrap_err();
    assert!(matches!(&error, SpoolError::OtherSpool { found, .. } if *found == there), "{error:?}");
    assert!(error.is_retryable());
    serving(&one, &file).ping().await.unwrap();
}

/// An idle client must notice the emptied Redis too: its notices must not come from the wrong
/// spool.
#[tokio::test]
async fn an_idle_client_leaves_an_emptied_redis_within_seconds() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let mut feed = spool.publications();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    redis.cli(&["FLUSHALL"]).unwrap();
    let listens =
        || !redis.cli(&["PUBSUB", "NUMSUB", "optimus:{0}:notices"]).unwrap().ends_with('0');
    let left = async {
        while listens() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, left).await.unwrap();
    drop(feed);
}

#[tokio::test]
async fn an_earlier_state_of_the_spool_is_counted_and_no_lot_number_comes_twice() {
    let redis = Redis::start().unwrap();
    let (_scratch, file) = file();
    let spool = serving(&redis, &file);
    cut_two(&spool, 1).await;
    let copy = ["GET", "optimus:{0}:lots:next"];
    assert_eq!(redis.cli(&copy).unwrap(), "2");
    // Connecting writes the present lot number to the file.
    let later = serving(&redis, &file);
    later.ping().await.unwrap();
    redis.cli(&["SET", "optimus:{0}:lots:next", "1"]).unwrap();
    let restarted = serving(&redis, &file);
    restarted.ping().await.unwrap();
    assert_eq!(restarted.counts().await.unwrap().get("rewound"), Some(&1));
    assert_eq!(next_lot(&restarted).await, LotNumber(3));
    serving(&redis, &file).ping().await.unwrap();
    assert_eq!(restarted.counts().await.unwrap().get("rewound"), Some(&1));
}

async fn cut_two(spool: &Spool, size: u32) {
    for n in 1..=2 {
        submit(spool, id(n)).await;
    }
    cut_all(spool, size).await;
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do() {
    let redis = Redis::start().unwrap();
    let (_scratch, file) = file();
    std::fs::write(&file, "nonsense\n").unwrap();
    let error = serving(&redis, &file).ping().await.unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("accept-spool"), "{error}");
    assert_eq!(redis.cli(&["DBSIZE"]).unwrap(), "0");
}
