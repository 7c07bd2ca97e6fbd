//! Tests of the agents as real processes over real Redis, Postfix and pickup-rs.
//!
//! The tests need root, as Postfix's master does, and this build's programs:
//! `cargo build --workspace --all-features --bins`.

#![allow(clippy::unwrap_used)]

mod common;
mod copies;
mod ending;
mod exits;
mod filling;
mod health;
mod limits;
mod maildrop;
mod node;
mod nodes;
mod operate;
mod operator;
mod probing;
mod queue;
mod reach;
mod redis;
mod releasing;
mod resting;
mod settling;
mod sick;
mod silence;
mod sizes;
mod supervision;
mod trace;
mod trying;

use std::os::unix::net::UnixStream;

use common::{LONG, Plan, errors};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spool::keys;
use testbed::until;

const DAEMONS: [&str; 3] = ["info-agent", "scheduler-agent", "mail-agent"];

#[test]
fn optimus_run_delivers_and_drains() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(200);
    platform.expect_all_once();
    assert!(platform.terminate("optimus").success(), "{}", platform.log("optimus"));
    let log = platform.log("optimus");
    assert_eq!(log.matches("drained").count(), 3, "{log}");
    // Redis has ended with `optimus run`, after the agents.
    assert!(UnixStream::connect(platform.redis_socket()).is_err());
    assert_eq!(errors(&log), Vec::<&str>::new(), "{log}");
}

#[test]
fn three_daemons_deliver_and_drain() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    DAEMONS.iter().for_each(|name| platform.start(name));
    platform.submit(200);
    platform.expect_all_once();
    for name in DAEMONS {
        assert!(platform.terminate(name).success(), "{}", platform.log(name));
        assert_eq!(errors(&platform.log(name)), Vec::<&str>::new());
    }
    assert_eq!(platform.redis_cli(&["ZCARD", keys::LEASES]), "0");
}

/// Kills each daemon in turn, with mail before, while it is away, and after.
#[test]
fn whichever_daemon_is_killed_all_mail_arrives_once() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    DAEMONS.iter().for_each(|name| platform.start(name));
    for name in DAEMONS {
        platform.submit(60);
        platform.kill_9(name);
        platform.submit(30);
        platform.start(name);
        platform.submit(30);
    }
    platform.expect_all_once();
}

#[test]
fn optimus_run_killed_and_started_again_goes_on() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    for _ in 0..3 {
        platform.wait_for_redis();
        platform.submit(40);
        platform.kill_9("optimus");
        // This mail goes into the maildrop, or into a Redis that is just ending; either way it
        // arrives.
        platform.submit(10);
        platform.start("optimus");
    }
    platform.wait_for_redis();
    platform.submit(40);
    platform.expect_all_once();
}

#[test]
fn the_embedded_redis_killed_is_started_again() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(50);
    let before = platform.redis_cli(&["INFO", "server"]);
    let pid = |info: &str| {
        info.lines().find_map(|it| it.trim().strip_prefix("process_id:").map(str::to_owned))
    };
    let killed = pid(&before).unwrap();
    testbed::kill_9(killed.parse().unwrap());
    until(LONG, "another redis", || {
        pid(&platform.redis_cli(&["INFO", "server"])).is_some_and(|it| it != killed)
    })
    .unwrap();
    platform.submit(50);
    platform.expect_all_once();
    let log = platform.log("optimus");
    assert!(log.contains("redis-server died") && log.contains("optimus-redis/log"), "{log}");
}

/// Checks that mail waits in Redis while an agent is missing, and that `optimus status` says why.
#[test]
fn mail_waits_while_an_agent_is_missing() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(10);
    let why = |platform: &common::Platform, why: &str| {
        let is_so = |status: &serde_json::Value| status["waiting"].to_string().contains(why);
        let status = platform.until_status(why, is_so);
        assert_eq!(status["backlog"], 10, "{status:#}");
    };
    // No agent has loaded the functions yet, and the inbox can be counted without them.
    let status = platform.status();
    assert_eq!(
        (&status["inbox"], &status["redis"]["library"]["state"]),
        (&10.into(), &"missing".into())
    );
    platform.start("scheduler-agent");
    why(&platform, "no info agent is alive");
    assert!(platform.terminate("scheduler-agent").success());
    platform.start("info-agent");
    why(&platform, "no scheduler agent is alive");
    platform.start("scheduler-agent");
    why(&platform, "no mail agent is alive");
    assert_eq!(platform.sink.count(), 0);
    platform.start("mail-agent");
    platform.expect_all_once();
    // Now the Scheduler starts last.
    assert!(platform.terminate("scheduler-agent").success());
    platform.submit(10);
    why(&platform, "no scheduler agent is alive");
    platform.start("scheduler-agent");
    platform.expect_all_once();
}

/// Checks that of two Info Agents one assigns the lots of the other after its death.
#[test]
fn the_lots_of_a_dead_info_agent_are_dealt_by_another() {
    let mut platform = Plan {
        redis: true,
        settings: "[lots]\nsize = 5\n[agents]\nlease_ms = 1000\n",
        ..Plan::default()
    }
    .start();
    platform.start("scheduler-agent");
    platform.start("info-agent");
    let mut second = platform.command("info-agent").args(["--name", "second"]).spawn().unwrap();
    platform.until_status("two info agents", |status| {
        let agents = status["agents"].as_array();
        agents.is_some_and(|all| all.iter().filter(|it| it["kind"] == "info").count() == 2)
    });
    platform.submit(100);
    second.kill().unwrap();
    second.wait().unwrap();
    platform.start("mail-agent");
    platform.expect_all_once();
}

/// Checks that mail doesn't wait until the lease of a frozen or killed Info Agent ends. That takes
/// longer here than any wait of the test.
#[test]
fn another_info_agent_stands_in_for_one_that_is_frozen_or_killed() {
    let mut platform =
        Plan { redis: true, settings: "[agents]\nlease_ms = 600000\n", ..Plan::default() }.start();
    DAEMONS.iter().for_each(|name| platform.start(name));
    let mut second = platform.command("info-agent").args(["--name", "second"]).spawn().unwrap();
    platform.until_status("two info agents", |status| {
        let agents = status["agents"].as_array();
        agents.is_some_and(|all| all.iter().filter(|it| it["kind"] == "info").count() == 2)
    });
    // One of any two lots in a row is the second agent's turn.
    let send = |platform: &mut common::Platform| {
        for _ in 0..4 {
            platform.submit(1);
            platform.expect_all_once();
        }
    };
    send(&mut platform);
    kill(Pid::from_raw(second.id().cast_signed()), Signal::SIGSTOP).unwrap();
    send(&mut platform);
    second.kill().unwrap();
    second.wait().unwrap();
    send(&mut platform);
    assert!(platform.log("info-agent").contains("another stood in"));
}

/// Checks that a Mail Agent hands its lots back while Postfix is down, and serves again later.
#[test]
fn without_its_postfix_a_mail_agent_gives_its_lots_back() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    DAEMONS.iter().for_each(|name| platform.start(name));
    platform.submit(5);
    platform.expect_all_once();
    platform.postfix.stop().unwrap();
    platform.until_status("it withdraws", |status| status["nodes"][0]["window"] == 0);
    platform.submit(5);
    // An Info Agent with an older view may still assign a lot, which the node hands back.
    let waits = |status: &serde_json::Value| {
        status["waiting"].to_string().contains("suspect")
            && status["nodes"][0]["cause"] == "away"
            && (&status["backlog"], &status["lots"]["assigned_total"]) == (&5.into(), &0.into())
    };
    platform.until_status("mail waits", waits);
    platform.postfix.start().unwrap();
    platform.expect_all_once();
}

#[test]
fn two_mail_agents_of_one_node_leave_one() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    DAEMONS.iter().for_each(|name| platform.start(name));
    platform.submit(20);
    let mut second = platform.command("mail-agent").spawn().unwrap();
    platform.submit(20);
    until(LONG, "the first one to end", || {
        platform.log("mail-agent").contains("another one of this name")
    })
    .unwrap();
    platform.submit(20);
    platform.expect_all_once();
    second.kill().unwrap();
    second.wait().unwrap();
}
