//! Tests of one part of a platform that can't reach Redis, while the others can. Mail waits, the
//! reason is named, and the platform recovers by itself.

use spool::{SpoolId, keys};
use testbed::{MovingAddress, Redis, until};

use crate::common::{LONG, Platform};
use crate::redis::{gone, healed, lead_to, named, named_by, platform_at, server};

/// Has some mail delivered. Postfix is done with it: a reload during a delivery would defer it.
fn arrived(platform: &mut Platform, redis: &Redis, count: usize) {
    platform.submit(count);
    platform.sink_has(count);
    platform.expect_rest_of(redis);
}

/// Checks that the inbox or a lot keeps all messages, and that none is in quarantine.
fn waits(platform: &Platform, redis: &Redis, count: usize) {
    assert_eq!(redis.cli(&["ZCARD", keys::QUARANTINE]).unwrap(), "0");
    assert_eq!(platform.sink.distinct(), count, "something was sent");
}

/// Parts that lose Redis, each with the words of the commands in that case.
struct Case {
    agents: bool,
    pickup_rs: bool,
    commands: &'static [&'static str],
    told: &'static [&'static str],
}

const CASES: [Case; 2] = [
    Case {
        agents: false,
        pickup_rs: true,
        commands: &["check", "status"],
        told: &["nothing is fed: Redis is not available", "see to Redis and to redis.url"],
    },
    Case {
        agents: true,
        pickup_rs: false,
        commands: &["status"],
        told: &["no info agent is alive", "no scheduler agent is alive", "no mail agent is alive"],
    },
];

#[test]
fn a_part_that_alone_can_t_reach_redis_is_named_and_mail_waits_until_it_can() {
    for Case { agents, pickup_rs, commands, told } in CASES {
        let (redis, gone) = (server(), gone());
        let name = MovingAddress::to(&redis).unwrap();
        let (by_name, itself) = (name.at(), redis.address().unwrap());
        let mut platform = platform_at(if agents { by_name } else { itself });
        platform.start("optimus");
        arrived(&mut platform, &redis, 2);
        lead_to(&platform, if pickup_rs { by_name } else { itself });
        replace_pickup_rs(&platform);
        name.move_to(&gone).unwrap();
        name.cut();
        lead_to(&platform, itself);
        platform.submit(3);
        told.iter().for_each(|words| named_by(commands, &platform, words));
        waits(&platform, &redis, 2);
        name.move_to(&redis).unwrap();
        healed(&platform);
        platform.redis = Some(redis);
        platform.expect_all_once();
    }
}

/// Has Postfix start pickup-rs again, and waits until that has read its settings.
fn replace_pickup_rs(platform: &Platform) {
    platform.postfix.reload().unwrap();
    until(LONG, "the Mail Agent to be with another pickup-rs", || {
        let log = platform.log("optimus");
        log.rsplit_once("pickup-rs disconnected")
            .is_some_and(|(_, later)| later.contains("queue compared with Redis"))
    })
    .unwrap();
}

/// Leads a platform to another platform's Redis, whose spool has another identity.
#[test]
fn a_redis_of_another_spool_is_named_by_the_commands_with_both_spools_and_the_remedy() {
    let (redis, other) = (server(), server());
    let mut platform = platform_at(redis.address().unwrap());
    platform.start("optimus");
    arrived(&mut platform, &redis, 1);
    let theirs = SpoolId::new().unwrap().to_string();
    other.cli(&["SET", &format!("{}spool", keys::SHARD), &theirs]).unwrap();
    let ours = redis.cli(&["GET", &format!("{}spool", keys::SHARD)]).unwrap();
    lead_to(&platform, other.address().unwrap());
    platform.postfix.reload().unwrap();
    named(&platform, &format!("Redis holds spool {theirs}, and this instance serves spool {ours}"));
    named(&platform, "or take the other one by `optimus accept-spool`");
    lead_to(&platform, redis.address().unwrap());
    platform.postfix.reload().unwrap();
    healed(&platform);
    assert_eq!(other.cli(&["DBSIZE"]).unwrap(), "1", "something was written there");
}
