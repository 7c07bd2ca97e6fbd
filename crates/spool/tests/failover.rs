//! Failover of Redis: a replica is promoted, the name moves to it, and the old master stays up.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use spool::sync::Submitter;
use spool::*;
use testbed::{MovingAddress, Redis};
use tokio::time::timeout;

/// Limit far above the time that any step needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts a master and a replica that is in step with it.
fn pair(options: &[&str]) -> (Redis, Redis) {
    let options = [&["repl-diskless-sync-delay 0"], options].concat();
    let (master, replica) =
        (Redis::start_with_tcp(&options).unwrap(), Redis::start_with_tcp(&options).unwrap());
    replica.follow(&master).unwrap();
    (master, replica)
}

fn server(name: &MovingAddress) -> Server {
    Server::parse(&format!("redis://{}", name.at())).unwrap()
}

fn fail_over(name: &MovingAddress, master: &Redis, replica: &Redis) {
    replica.wait_for_step(master).unwrap();
    replica.promote().unwrap();
    name.move_to(replica).unwrap();
    master.follow(replica).unwrap();
}

fn is_cut(cut: &Cut, count: u64) -> bool {
    matches!(cut, Cut::Cut { messages, .. } if *messages == count)
}

#[tokio::test]
async fn a_call_to_a_demoted_master_goes_to_the_new_one() {
    let (master, replica) = pair(&[]);
    let name = MovingAddress::to(&master).unwrap();
    let spool = Spool::new(server(&name)).at(NOW_MS);
    submit(&spool, id(1)).await;
    fail_over(&name, &master, &replica);
    timeout(LIMIT, submit(&spool, id(2))).await.unwrap();
    assert!(is_cut(&cut_next(&spool, 9, None).await, 2));
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "0");
}

/// A daemon that only reads or listens notices a failover only by the client's regular check.
#[tokio::test]
async fn an_idle_client_and_its_notices_leave_a_demoted_master_within_seconds() {
    let (master, replica) = pair(&[]);
    let name = MovingAddress::to(&master).unwrap();
    let spool = Spool::new(server(&name)).at(NOW_MS);
    let mut feed = spool.publications();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    fail_over(&name, &master, &replica);
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    replica.cli(&["PUBLISH", "optimus:{0}:notices", "inbox"]).unwrap();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Inbox);
    spool.ping().await.unwrap();
    let clients = master.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    assert_eq!(clients, "", "somebody still listens to the old master");
}

#[tokio::test]
async fn a_replica_is_named_and_waited_for_until_it_is_the_master() {
    let (_master, replica) = pair(&["replica-read-only no"]);
    let server = Server::parse(&replica.tcp_url().unwrap()).unwrap();
    for spool in [Spool::new(server.clone()), Spool::looking(server.clone())] {
        let error = spool.ping().await.unwrap_err();
        assert!(
            matches!(&error, SpoolError::NotMaster { role, .. } if role == "replica"),
            "{error:?}"
        );
        assert!(error.is_retryable());
    }
    let spool = Spool::new(server);
    spool.ping().await.unwrap_err();
    replica.promote().unwrap();
    timeout(LIMIT, spool.ping()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_freezes_under_an_idle_client_is_left() {
    let (master, replica) = pair(&[]);
    let name = MovingAddress::to(&master).unwrap();
    let spool = Spool::new(server(&name)).at(NOW_MS);
    let mut feed = spool.publications();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    // Without the spool's identity the promoted replica would count as another Redis.
    replica.wait_for_step(&master).unwrap();
    master.pause();
    replica.promote().unwrap();
    name.move_to(&replica).unwrap();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    timeout(LIMIT, submit(&spool, id(1))).await.unwrap();
    master.resume();
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "1");
}

#[test]
fn a_submitter_follows_the_name_and_keeps_its_id() {
    let (master, replica) = pair(&[]);
    let name = MovingAddress::to(&master).unwrap();
    let mut submitter = Submitter::new(server(&name));
    submitter.submit(&submission(id(1)), Instant::now() + LIMIT).unwrap();
    fail_over(&name, &master, &replica);
    submitter.submit(&submission(id(2)), Instant::now() + LIMIT).unwrap();
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "2");
}

/// A server may refuse for its own reasons, so the next call goes over a new connection.
#[tokio::test]
async fn a_server_that_refuses_is_asked_again_over_a_new_connection_and_not_in_a_tight_loop() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit(&spool, id(1)).await;
    let made = || {
        let info = redis.cli(&["INFO", "stats"]).unwrap();
        let line = info.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let (before, began) = (made(), Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        let error = spool.submit(&submission(id(2))).await.unwrap_err();
        assert!(error.to_string().contains("OOM"), "{error}");
    }
    assert!((2..40).contains(&(made() - before)), "{} connections", made() - before);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    submit(&spool, id(2)).await;
}
