//! Tests of a platform whose Redis is not, or is no longer, the right one.

use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spool::keys;
use testbed::{MovingAddress, Redis, until};

use crate::common::{LONG, Plan, Platform};

const LEASE: &str = "[agents]\nlease_ms = 1000\n";

pub(crate) fn server() -> Redis {
    Redis::start_with_tcp(&["repl-diskless-sync-delay 0"]).unwrap()
}

/// Starts a server that is gone by now.
pub(crate) fn gone() -> Redis {
    let mut redis = server();
    redis.kill9();
    redis
}

/// Starts a platform without agents, from which no process has connected to Redis yet.
pub(crate) fn platform_at(at: SocketAddr) -> Platform {
    let platform = Plan::default().start();
    lead_to(&platform, at);
    platform
}

pub(crate) fn lead_to(platform: &Platform, at: SocketAddr) {
    write_settings(platform, at, LEASE);
}

fn write_settings(platform: &Platform, at: SocketAddr, others: &str) {
    let text = format!("[redis]\nurl = \"redis://{at}\"\n{others}");
    std::fs::write(platform.postfix.config_dir().join("optimus.toml"), text).unwrap();
}

fn log_says(platform: &Platform, words: &str) {
    until(LONG, words, || platform.log("optimus").contains(words)).unwrap();
}

/// Waits until `optimus check` and `optimus status` fail with these words.
pub(crate) fn named(platform: &Platform, words: &str) {
    named_by(&["check", "status"], platform, words);
}

/// Waits until each of these commands fails with these words.
pub(crate) fn named_by(commands: &[&str], platform: &Platform, words: &str) {
    for &command in commands {
        until(LONG, words, || {
            let (is_fine, text) = platform.optimus(&[command]);
            !is_fine && text.contains(words)
        })
        .unwrap_or_else(|error| panic!("{error}: {command}: {}", platform.optimus(&[command]).1));
    }
}

pub(crate) fn healed(platform: &Platform) {
    until(LONG, "status is fine again", || platform.optimus(&["status"]).0)
        .unwrap_or_else(|error| panic!("{error}: {}", platform.optimus(&["status"]).1));
}

#[test]
fn after_a_failover_all_follow_the_name_and_each_message_arrives_once() {
    let (old, new) = (server(), server());
    let name = MovingAddress::to(&old).unwrap();
    let mut platform = platform_at(name.at());
    platform.start("optimus");
    platform.submit(5);
    platform.sink_has(5);
    new.follow(&old).unwrap();
    new.promote().unwrap();
    name.move_to(&new).unwrap();
    old.follow(&new).unwrap();
    platform.submit(10);
    platform.redis = Some(new);
    platform.expect_all_once();
    assert_eq!(platform.status()["quarantine_total"], 0);
}

/// Lease that outlasts every failover here.
const LONG_LEASE: &str = "[agents]\nlease_ms = 600000\n";

/// A failover that nothing shows to a Mail Agent but the server itself: with [`LONG_LEASE`] the
/// lease holds, and pickup-rs's node is attended all the time. Decisions that were not replicated
/// are missing.
struct Failover {
    platform: Platform,
    old: Redis,
    new: Redis,
    name: MovingAddress,
}

impl Failover {
    /// Starts a platform that defers its mail, and a replica that is in step.
    fn prepare(settings: &str) -> Self {
        Self::prepare_with(settings, &["optimus"])
    }

    fn prepare_with(settings: &str, programs: &[&'static str]) -> Self {
        let (old, new) = (server(), server());
        let name = MovingAddress::to(&old).unwrap();
        let mut platform = platform_at(name.at());
        write_settings(&platform, name.at(), settings);
        platform.postfix.set_main(&["defer_transports = smtp"]).unwrap();
        platform.postfix.reload().unwrap();
        programs.iter().for_each(|name| platform.start(name));
        platform.submit(1);
        platform.until_status("the first to be deferred", deferred(1));
        new.follow(&old).unwrap();
        Self { platform, old, new, name }
    }

    /// Stops the replication, so that the replica lacks later changes.
    fn lose_sight(&self) {
        self.new.wait_for_step(&self.old).unwrap();
        self.new.lose_sight().unwrap();
    }

    /// Kills the old master, and has the replica take its place. The node's attendance alone is not
    /// missing there, as if the failover came right after it.
    fn fail_over(mut self) -> Platform {
        self.new.promote().unwrap();
        let key = format!("{}node:{}:agent", keys::SHARD, node_of(&self.new));
        let fields = ["nonce", "generation", "place", "host", "live", "mark"];
        let values = self.old.cli(&[&["HMGET", key.as_str()], &fields[..]].concat()).unwrap();
        self.old.kill9();
        for (field, value) in fields.into_iter().zip(values.lines()) {
            self.new.cli(&["HSET", &key, field, value]).unwrap();
        }
        self.name.move_to(&self.new).unwrap();
        self.platform.redis = Some(self.new);
        self.platform
    }
}

/// Returns the node that has mail.
fn node_of(redis: &Redis) -> String {
    redis.cli(&["SMEMBERS", &format!("{}nodes", keys::SHARD)]).unwrap()
}

fn deferred(count: u64) -> impl Fn(&serde_json::Value) -> bool {
    move |status| status["deferred"]["total"] == count
}

/// Has Postfix try all deferred mail now.
fn deliver(platform: &Platform) {
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.reload().unwrap();
    platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
}

#[test]
fn after_a_failover_mail_that_only_the_old_master_has_as_settled_is_settled_again() {
    let failover = Failover::prepare(LONG_LEASE);
    failover.lose_sight();
    deliver(&failover.platform);
    failover.platform.sink_has(1);
    failover.platform.expect_rest_of(&failover.old);
    failover.fail_over().expect_all_once();
}

/// Stops pickup-rs until all mail is assigned, so that the replica has the lots and lacks the
/// commits.
fn failover_without_commits(mut failover: Failover) -> Failover {
    let platform = &mut failover.platform;
    let pickup = platform.postfix.daemon_pids("pickup-rs")[0];
    let tell = |signal| kill(Pid::from_raw(pickup), signal).unwrap();
    tell(Signal::SIGSTOP);
    platform.submit(3);
    let is_assigned = || failover.old.cli(&["LLEN", keys::INBOX]).is_ok_and(|it| it == "0");
    until(LONG, "all to be assigned", is_assigned).unwrap();
    failover.lose_sight();
    tell(Signal::SIGCONT);
    failover.platform.until_status("all to be deferred", deferred(4));
    failover
}

fn expect_all_committed_again(mut platform: Platform) {
    platform.until_status("all to be committed again", |it| it["nodes"][0]["committed"] == 4);
    deliver(&platform);
    platform.submit(1);
    platform.expect_all_once();
    assert_eq!(platform.counted("resent"), 0);
}

#[test]
fn after_a_failover_mail_that_only_the_old_master_has_as_committed_is_committed_again() {
    let failover = failover_without_commits(Failover::prepare(LONG_LEASE));
    expect_all_committed_again(failover.fail_over());
}

/// Lease that a failover outlasts, while a test's agents come back in time.
const SHORT_LEASE: &str = "[agents]\nlease_ms = 3000\n";

/// The Scheduler is at the new master first, and the Mail Agent's lease is over there.
#[test]
fn a_failover_that_outlasts_the_lease_leaves_its_lots_to_a_node_that_comes_back() {
    let daemons = ["info-agent", "scheduler-agent", "mail-agent"];
    let failover = failover_without_commits(Failover::prepare_with(SHORT_LEASE, &daemons));
    let mail_agent = failover.platform.pid("mail-agent");
    kill(mail_agent, Signal::SIGSTOP).unwrap();
    let platform = failover.fail_over();
    let of_directory = |words: [&str; 2], rest: &[&str]| {
        let key = format!("{}{}", keys::DIRECTORY, words[1]);
        platform.redis_cli(&[&[words[0], key.as_str()], rest].concat())
    };
    let has_ended = || of_directory(["ZCARD", "gone"], &[]).trim() == "1";
    until(LONG, "the lease to be over", has_ended).unwrap();
    // The rescue that the Scheduler plans by a look is done before its next look but one.
    let mut looks = std::collections::BTreeSet::new();
    let has_looked = || {
        looks.insert(of_directory(["GET", "watched"], &[]));
        looks.len() > 2
    };
    until(LONG, "the scheduler to look again", has_looked).unwrap();
    kill(mail_agent, Signal::SIGCONT).unwrap();
    expect_all_committed_again(platform);
}

/// Leads pickup-rs to a stale replica, which has the same spool but lacks later mail.
#[test]
fn a_pickup_rs_that_reads_from_a_stale_replica_is_named_and_nothing_is_put_aside() {
    let (master, replica) = (server(), server());
    let mut platform = platform_at(master.address().unwrap());
    platform.start("optimus");
    platform.submit(1);
    platform.sink_has(1);
    replica.follow(&master).unwrap();
    replica.lose_sight().unwrap();
    lead_to(&platform, replica.address().unwrap());
    platform.postfix.reload().unwrap();
    log_says(&platform, "pickup-rs: can't read its spool");
    platform.submit_to(&master, 3);
    let error = "is a replica, not the master";
    named(&platform, error);
    assert_eq!(master.cli(&["ZCARD", keys::QUARANTINE]).unwrap(), "0");
    lead_to(&platform, master.address().unwrap());
    platform.postfix.reload().unwrap();
    healed(&platform);
    platform.redis = Some(master);
    platform.expect_all_once();
}

#[test]
fn a_pickup_rs_that_reads_from_another_spool_is_named_and_nothing_is_put_aside() {
    let (one, other) = (server(), server());
    let mut platform = platform_at(one.address().unwrap());
    platform.start("optimus");
    platform.submit(1);
    platform.sink_has(1);
    lead_to(&platform, other.address().unwrap());
    platform.postfix.reload().unwrap();
    log_says(&platform, "pickup-rs: can't read its spool");
    lead_to(&platform, one.address().unwrap());
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
    let mut platform = platform_at(redis.address().unwrap());
    platform.start("optimus");
    platform.submit(2);
    platform.sink_has(2);
    platform.expect_rest_of(&redis);
    redis.cli(&["FLUSHALL"]).unwrap();
    log_says(&platform, "no spool (Redis was emptied, or is a new one)");
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
    let mut platform = platform_at(redis.address().unwrap());
    platform.start("optimus");
    platform.submit(2);
    platform.sink_has(2);
    platform.expect_rest_of(&redis);
    let copy = redis.copy().unwrap();
    platform.submit(2);
    platform.sink_has(4);
    platform.expect_rest_of(&redis);
    redis.restore(&copy).unwrap();
    // The counter rises by one for each client that had seen a later lot.
    let is_counted = |status: &serde_json::Value| status["counts"]["rewound"].as_u64() >= Some(1);
    platform.until_status("it is counted", is_counted);
    // The client logs after Redis has counted.
    let words = "an earlier state of this spool";
    let is_said = || (platform.log("optimus") + &platform.postfix.log()).contains(words);
    until(LONG, "the log to say so", is_said).unwrap();
    platform.submit(2);
    platform.redis = Some(redis);
    platform.expect_all_once();
}
