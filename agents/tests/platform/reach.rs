//! One part of a platform can't reach Redis, and the others can. All waits, the reason is named,
//! and it heals by itself.

use spool::{SpoolId, keys};
use testbed::{MovingAddress, Redis, until};

use crate::common::{LONG, Platform};
use crate::redis::{healed, lead_to, named, platform_at, server};

/// Starts a server that is gone by now.
fn gone() -> Redis {
    let mut redis = server();
    redis.kill9();
    redis
}

fn arrived(platform: &mut Platform, count: usize) {
    platform.submit(count);
    platform.sink_has(count);
}

/// Checks that the inbox or a lot keeps all, and that nothing was put aside.
fn waits(platform: &Platform, redis: &Redis, count: usize) {
    assert_eq!(redis.cli(&["ZCARD", keys::QUARANTINE]).unwrap(), "0");
    assert_eq!(platform.sink.distinct(), count, "something was sent");
}

#[test]
fn a_pickup_rs_that_alone_can_t_reach_redis_is_named_and_its_mail_waits() {
    let (redis, gone) = (server(), gone());
    let name = MovingAddress::to(&gone).unwrap();
    let mut platform = platform_at(redis.address().unwrap());
    platform.start("optimus");
    arrived(&mut platform, 2);
    lead_to(&platform, name.at());
    platform.postfix.reload().unwrap();
    let served = || platform.log("optimus").matches("pickup-rs is gone").count();
    until(LONG, "the former pickup-rs to end", || served() > 0).unwrap();
    named(&platform, "redis.url");
    lead_to(&platform, redis.address().unwrap());
    platform.submit(3);
    named(&platform, "nothing is fed: Redis is not available");
    waits(&platform, &redis, 2);
    name.move_to(&redis).unwrap();
    healed(&platform);
    platform.redis = Some(redis);
    platform.expect_all_once();
}

#[test]
fn agents_that_alone_can_t_reach_redis_are_named_and_mail_waits() {
    let (redis, gone) = (server(), gone());
    let name = MovingAddress::to(&redis).unwrap();
    let mut platform = platform_at(name.at());
    platform.start("optimus");
    arrived(&mut platform, 2);
    lead_to(&platform, redis.address().unwrap());
    platform.postfix.reload().unwrap();
    name.move_to(&gone).unwrap();
    name.cut();
    platform.submit(3);
    for kind in ["info", "scheduler", "mail"] {
        let words = format!("no {kind} agent is alive");
        until(LONG, &words, || platform.optimus(&["status"]).1.contains(&words))
            .unwrap_or_else(|error| panic!("{error}: {}", platform.optimus(&["status"]).1));
    }
    assert!(!platform.optimus(&["status"]).0);
    waits(&platform, &redis, 2);
    name.move_to(&redis).unwrap();
    healed(&platform);
    platform.redis = Some(redis);
    platform.expect_all_once();
}

/// Another platform's Redis, with an identity of its own.
#[test]
fn a_redis_of_another_spool_is_named_by_the_commands_with_both_spools_and_the_remedy() {
    let (redis, other) = (server(), server());
    let mut platform = platform_at(redis.address().unwrap());
    platform.start("optimus");
    arrived(&mut platform, 1);
    let theirs = SpoolId::new().unwrap().to_string();
    other.cli(&["SET", &format!("{}spool", keys::SHARD), &theirs]).unwrap();
    let ours = redis.cli(&["GET", &format!("{}spool", keys::SHARD)]).unwrap();
    lead_to(&platform, other.address().unwrap());
    platform.postfix.reload().unwrap();
    named(&platform, &format!("Redis holds spool {theirs}, and this instance serves spool {ours}"));
    named(&platform, "or `optimus accept-spool` takes this one");
    lead_to(&platform, redis.address().unwrap());
    platform.postfix.reload().unwrap();
    healed(&platform);
    assert_eq!(other.cli(&["DBSIZE"]).unwrap(), "1", "something was written there");
}
