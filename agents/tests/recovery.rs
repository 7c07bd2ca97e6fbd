//! Tests of an operator's order that comes after a Mail Agent dies between commit and release, and
//! before the next one recovers. An ordered message is not sent, and every other message is sent
//! once.
//!
//! The tests need this build's programs with failpoints:
//! `cargo build --workspace --all-features --bins`.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "most of it is for the tests of the platform")]
#[path = "platform/common.rs"]
mod common;

use std::os::unix::fs::PermissionsExt;

use common::{LONG, Plan, Platform};
use spool::keys;
use testbed::until;

const DAEMONS: [&str; 3] = ["info-agent", "scheduler-agent", "mail-agent"];
const COUNT: usize = 20;

/// Starts a platform with messages that are committed and prepared, whose Mail Agent has died.
fn killed_before_the_release() -> Platform {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    let failpoints = platform.postfix.config_dir().join("failpoints");
    std::fs::create_dir_all(&failpoints).unwrap();
    // The agent removes the file, as mail_owner.
    std::fs::set_permissions(&failpoints, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write(failpoints.join("after-commit"), "").unwrap();
    platform.submit(COUNT);
    DAEMONS.iter().for_each(|name| platform.start(name));
    platform.wait_for_end("mail-agent");
    assert!(!prepared(&platform).is_empty());
    platform
}

fn prepared(platform: &Platform) -> Vec<std::path::PathBuf> {
    platform.postfix.queue_files("optimus/prepared")
}

fn orders(platform: &Platform) -> String {
    platform.redis_cli(&["--scan", "--pattern", keys::ORDERS])
}

#[test]
fn a_message_deleted_before_its_release_is_never_sent() {
    let mut platform = killed_before_the_release();
    let (_, text) = platform.optimus(&["delete", "--all"]);
    assert!(!orders(&platform).is_empty(), "{text}");
    platform.start("mail-agent");
    until(LONG, "orders to end", || orders(&platform).is_empty()).unwrap();
    platform.submit(1);
    platform.sink_has(1);
    platform.expect_rest();
    assert_eq!(platform.sink.received().len(), 1, "{text}");
    assert!(prepared(&platform).is_empty());
}

#[test]
fn a_message_held_before_its_release_waits_in_redis_until_it_is_released() {
    let mut platform = killed_before_the_release();
    let (_, text) = platform.optimus(&["hold", "--all"]);
    platform.start("mail-agent");
    platform.until_status("all held", |status| status["standing"]["held"] == COUNT);
    assert!(orders(&platform).is_empty() && prepared(&platform).is_empty(), "{text}");
    assert_eq!(platform.sink.count(), 0);
    let (is_fine, text) = platform.optimus(&["release", "--all"]);
    assert!(is_fine, "{text}");
    platform.expect_all_once();
}

/// Checks an order that the operator takes back before a Mail Agent has seen it.
#[test]
fn an_order_that_was_taken_back_is_not_carried_out() {
    let mut platform = killed_before_the_release();
    for act in ["hold", "release"] {
        platform.optimus(&[act, "--all"]);
    }
    platform.start("mail-agent");
    platform.expect_all_once();
    assert_eq!(platform.counted("uncommitted"), 0);
}
