//! Failover of Redis: a replica is promoted, the name moves to it, and the old master stays up.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use spool::sync::Submitter;
use spool::*;
use testbed::Redis;
use tokio::time::timeout;

/// Limit far above the time that any step needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts a master and a replica that is in step with it.
fn pair(options: &[&str]) -> (Redis, Redis) {
    let options = [&["repl-diskless-sync-delay 0"], options].concat();
    let (master, replica) =
        (Redis::start_with_tcp(&options).unwrap(), Redis::start_with_tcp(&options).unwrap());
    follow(&replica, &master);
    (master, replica)
}

fn follow(replica: &Redis, master: &Redis) {
    let port = address(master).port().to_string();
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    testbed::until(LIMIT, "the replica is in step", || {
        replica.cli(&["INFO", "replication"]).is_ok_and(|it| it.contains("master_link_status:up"))
    })
    .unwrap();
}

fn address(redis: &Redis) -> SocketAddr {
    let url = redis.tcp_url().unwrap();
    url.strip_prefix("redis://").unwrap().strip_suffix("/0").unwrap().parse().unwrap()
}

/// An address that moves from one server to another, as a virtual address does. Open connections
/// stay with their server.
struct Moving {
    to: Arc<Mutex<SocketAddr>>,
    at: SocketAddr,
}

impl Moving {
    fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(address(redis)));
        let target = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                join(client.try_clone().unwrap(), server.try_clone().unwrap());
                join(server, client);
            }
        });
        Self { to, at }
    }

    fn move_to(&self, redis: &Redis) {
        *self.to.lock().unwrap() = address(redis);
    }

    fn server(&self) -> Server {
        Server::parse(&format!("redis://{}", self.at)).unwrap()
    }
}

fn join(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

fn offset(redis: &Redis) -> String {
    let info = redis.cli(&["INFO", "replication"]).unwrap();
    info.lines().find_map(|it| it.strip_prefix("master_repl_offset:")).unwrap().to_owned()
}

fn fail_over(name: &Moving, master: &Redis, replica: &Redis) {
    testbed::until(LIMIT, "the replica has it all", || offset(master) == offset(replica)).unwrap();
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    name.move_to(replica);
    follow(master, replica);
}

fn is_cut(cut: &Cut, count: u64) -> bool {
    matches!(cut, Cut::Cut { messages, .. } if *messages == count)
}

#[tokio::test]
async fn a_call_to_a_demoted_master_goes_to_the_new_one() {
    let (master, replica) = pair(&[]);
    let name = Moving::to(&master);
    let spool = Spool::new(name.server()).at(NOW_MS);
    submit(&spool, id(1)).await;
    fail_over(&name, &master, &replica);
    timeout(LIMIT, submit(&spool, id(2))).await.unwrap();
    assert!(is_cut(&cut_next(&spool, 9, None).await, 2));
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "0");
}

/// A daemon that only reads or listens has no other way to notice a failover.
#[tokio::test]
async fn an_idle_client_and_its_notices_leave_a_demoted_master_within_seconds() {
    let (master, replica) = pair(&[]);
    let name = Moving::to(&master);
    let spool = Spool::new(name.server()).at(NOW_MS);
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
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    timeout(LIMIT, spool.ping()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_freezes_under_an_idle_client_is_left() {
    let (master, replica) = pair(&[]);
    let name = Moving::to(&master);
    let spool = Spool::new(name.server()).at(NOW_MS);
    let mut feed = spool.publications();
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    // Without the spool's identity the promoted replica would count as another Redis.
    let has_all = || offset(&replica) == offset(&master);
    testbed::until(LIMIT, "the replica to have all", has_all).unwrap();
    master.pause();
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    name.move_to(&replica);
    assert_eq!(timeout(LIMIT, feed.next()).await.unwrap(), Publication::Resubscribed);
    timeout(LIMIT, submit(&spool, id(1))).await.unwrap();
    master.resume();
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "1");
}

#[test]
fn a_submitter_follows_the_name_and_keeps_its_id() {
    let (master, replica) = pair(&[]);
    let name = Moving::to(&master);
    let mut submitter = Submitter::new(name.server());
    submitter.submit(&submission(id(1)), Instant::now() + LIMIT).unwrap();
    fail_over(&name, &master, &replica);
    submitter.submit(&submission(id(2)), Instant::now() + LIMIT).unwrap();
    assert_eq!(replica.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "2");
}

/// A refusal may be for the server's own reasons, so the next call goes over a new connection.
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
