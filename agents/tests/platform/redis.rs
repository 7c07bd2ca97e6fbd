//! A platform whose Redis is not, or is no longer, the one that it should be.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use spool::keys;
use testbed::{Redis, until};

use crate::common::{LONG, Plan, Platform};

const LEASE: &str = "[agents]\nlease_ms = 1000\n";

fn server() -> Redis {
    Redis::start_with_tcp(&["repl-diskless-sync-delay 0"]).unwrap()
}

fn address(redis: &Redis) -> SocketAddr {
    let url = redis.tcp_url().unwrap();
    url.strip_prefix("redis://").unwrap().strip_suffix("/0").unwrap().parse().unwrap()
}

fn follow(replica: &Redis, master: &Redis) {
    replica.cli(&["REPLICAOF", "127.0.0.1", &address(master).port().to_string()]).unwrap();
    until(LONG, "the replica is in step", || {
        replica.cli(&["INFO", "replication"]).is_ok_and(|it| it.contains("master_link_status:up"))
            && offset(replica) == offset(master)
    })
    .unwrap();
}

fn offset(redis: &Redis) -> String {
    let info = redis.cli(&["INFO", "replication"]).unwrap();
    info.lines().find_map(|it| it.strip_prefix("master_repl_offset:")).unwrap().to_owned()
}

/// An address that leads to one server and then to another. Open connections stay where they are.
struct Name {
    to: Arc<Mutex<SocketAddr>>,
    at: SocketAddr,
}

impl Name {
    fn of(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, to) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(address(redis))));
        let target = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                pass(client.try_clone().unwrap(), server.try_clone().unwrap());
                pass(server, client);
            }
        });
        Self { to, at }
    }

    fn move_to(&self, redis: &Redis) {
        *self.to.lock().unwrap() = address(redis);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// Starts everything but the agents; nothing has connected to Redis yet.
fn platform_at(at: SocketAddr) -> Platform {
    let platform = Plan::default().start();
    lead_to(&platform, at);
    platform
}

fn lead_to(platform: &Platform, at: SocketAddr) {
    let text = format!("[redis]\nurl = \"redis://{at}\"\n{LEASE}");
    std::fs::write(platform.postfix.config_dir().join("optimus.toml"), text).unwrap();
}

fn log_says(platform: &Platform, words: &str) {
    until(LONG, words, || platform.log("optimus").contains(words)).unwrap();
}

/// Waits until `optimus check` and `optimus status` fail with these words.
fn named(platform: &Platform, words: &str) {
    for command in ["check", "status"] {
        until(LONG, words, || {
            let (is_fine, text) = platform.optimus(&[command]);
            !is_fine && text.contains(words)
        })
        .unwrap_or_else(|error| panic!("{error}: {command}: {}", platform.optimus(&[command]).1));
    }
}

fn healed(platform: &Platform) {
    until(LONG, "status is fine again", || platform.optimus(&["status"]).0)
        .unwrap_or_else(|error| panic!("{error}: {}", platform.optimus(&["status"]).1));
}

#[test]
fn after_a_failover_all_follow_the_name_and_each_message_arrives_once() {
    let (old, new) = (server(), server());
    let name = Name::of(&old);
    let mut platform = platform_at(name.at);
    platform.start("optimus");
    platform.submit(5);
    platform.sink_has(5);
    follow(&new, &old);
    new.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    name.move_to(&new);
    follow(&old, &new);
    platform.submit(10);
    platform.redis = Some(new);
    platform.expect_all_once();
    assert_eq!(platform.status()["quarantine_total"], 0);
}

/// Checks that a settlement of which only the old master knows is made up for. The Mail Agent
/// compares because the server is another one, and also where its lease has lapsed or pickup-rs has
/// gone over late. The table in `agents/src/mail/mod.rs` holds the first of these alone.
#[test]
fn after_a_failover_mail_that_only_the_old_master_has_as_settled_is_settled_again() {
    let (old, new) = (server(), server());
    let name = Name::of(&old);
    let mut platform = platform_at(name.at);
    platform.postfix.set_main(&["defer_transports = smtp"]).unwrap();
    platform.postfix.reload().unwrap();
    platform.start("optimus");
    platform.submit(3);
    platform.until_status("all to be deferred", |status| status["deferred"]["total"] == 3);
    follow(&new, &old);
    // The replica hears nothing of what follows.
    new.cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.reload().unwrap();
    platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
    platform.sink_has(3);
    platform.expect_rest_of(&old);
    new.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    name.move_to(&new);
    follow(&old, &new);
    platform.redis = Some(new);
    platform.expect_all_once();
}

/// A replica has the same spool, and lacks mail that came after it stopped following.
#[test]
fn a_pickup_rs_that_reads_from_a_stale_replica_is_named_and_nothing_is_put_aside() {
    let (master, replica) = (server(), server());
    let mut platform = platform_at(address(&master));
    platform.start("optimus");
    platform.submit(1);
    platform.sink_has(1);
    follow(&replica, &master);
    replica.cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    lead_to(&platform, address(&replica));
    platform.postfix.reload().unwrap();
    log_says(&platform, "pickup-rs: can't read its spool");
    platform.submit_to(&master, 3);
    let error = "is a replica, not the master";
    named(&platform, error);
    assert_eq!(master.cli(&["ZCARD", keys::QUARANTINE]).unwrap(), "0");
    lead_to(&platform, address(&master));
    platform.postfix.reload().unwrap();
    healed(&platform);
    platform.redis = Some(master);
    platform.expect_all_once();
}

#[test]
fn a_pickup_rs_that_reads_from_another_spool_is_named_and_nothing_is_put_aside() {
    let (one, other) = (server(), server());
    let mut platform = platform_at(address(&one));
    platform.start("optimus");
    platform.submit(1);
    platform.sink_has(1);
    lead_to(&platform, address(&other));
    platform.postfix.reload().unwrap();
    log_says(&platform, "pickup-rs: can't read its spool");
    lead_to(&platform, address(&one));
    platform.submit(3);
    named(&platform, "no spool");
    assert_eq!(one.cli(&["ZCARD", keys::QUARANTINE]).unwrap(), "0");
    assert_eq!(other.cli(&["DBSIZE"]).unwrap(), "0");
    platform.postfix.reload().unwrap();
    healed(&platform);
    platform.redis = Some(one);
    platform.expect_all_once();
}

#[test]
fn a_redis_emptied_under_a_running_platform_is_named_and_served_again_when_it_is_accepted() {
    let redis = server();
    let mut platform = platform_at(address(&redis));
    platform.start("optimus");
    platform.submit(2);
    platform.sink_has(2);
    platform.expect_rest_of(&redis);
    redis.cli(&["FLUSHALL"]).unwrap();
    log_says(&platform, "no spool (it was emptied, or is a new one)");
    platform.submit(2);
    named(&platform, "accept-spool");
    assert_eq!(redis.cli(&["LLEN", keys::INBOX]).unwrap(), "2", "something was fed");
    let (is_fine, text) = platform.optimus(&["accept-spool"]);
    assert!(is_fine && text.contains("is served from now on"), "{text}");
    healed(&platform);
    platform.redis = Some(redis);
    platform.expect_all_once();
}

/// Checks that a restored Redis is counted and logged. All mail of the copy is settled, so none is
/// sent twice.
#[test]
fn a_redis_restored_from_an_older_copy_is_reported_and_goes_on() {
    let mut redis = server();
    let mut platform = platform_at(address(&redis));
    platform.start("optimus");
    platform.submit(2);
    platform.sink_has(2);
    platform.expect_rest_of(&redis);
    let copy = redis.copy().unwrap();
    platform.submit(2);
    platform.sink_has(4);
    platform.expect_rest_of(&redis);
    redis.restore(&copy).unwrap();
    // Each client that had seen a later lot counts one.
    let is_counted = |status: &serde_json::Value| status["counts"]["rewound"].as_u64() >= Some(1);
    platform.until_status("it is counted", is_counted);
    // Redis counts before the client that told it logs.
    let words = "an earlier state of this spool";
    let is_said = || (platform.log("optimus") + &platform.postfix.log()).contains(words);
    until(LONG, "the log to say so", is_said).unwrap();
    platform.submit(2);
    platform.redis = Some(redis);
    platform.expect_all_once();
}
