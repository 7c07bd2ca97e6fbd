//! Tests of the limits that keep users from filling Redis: of the quarantine, and of the embedded
//! Redis's memory. Also tests of a full disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::common::{LONG, Plan};
use testbed::{Postfix, PostfixBuilder, until};

/// Number of messages within `quarantine.user_mb = 1`; each counts as 16 KiB.
const ROOM: usize = 64;

#[test]
fn the_oldest_of_quarantined_mail_goes_beyond_a_user_s_limit() {
    let settings = "[agents]\nlease_ms = 1000\n[quarantine]\nuser_mb = 1\n";
    let mut platform = Plan { redis: true, settings, ..Plan::default() }.start();
    platform.submit(ROOM + 4);
    let keys = platform.cut_lots();
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.sort_unstable();
    // A message that Redis lacks may be good elsewhere, so it is not given up.
    let missing = keys.remove(0);
    platform.redis_cli(&["DEL", missing]);
    keys.iter().for_each(|key| _ = platform.redis_cli(&["SETRANGE", key, "2", "00000000"]));
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    let status = platform.until_status("three are given up", |it| it["counts"]["given_up"] == 3);
    assert_eq!(status["counts"]["refused"], ROOM + 4, "{status:#}");
    platform.until_status("the rest stays", |it| it["quarantine_total"] == ROOM + 1);
    assert!(
        platform.log("scheduler-agent").contains("message given up: quarantine beyond a limit")
    );
    let (_, listed) = platform.optimus(&["quarantine", "--json"]);
    assert!(listed.contains(missing.rsplit(':').next().unwrap()), "{listed}");
    let (_, text) = platform.optimus(&["status"]);
    assert!(text.contains("of at most 256 MiB, 1 MiB a user, 30 days"), "{text}");
}

#[test]
fn submissions_take_the_maildrop_while_the_embedded_redis_is_full() {
    let settings = "[agents]\nlease_ms = 1000\n[redis]\nmemory_mb = 16\n";
    let plan = Plan {
        settings,
        postfix: |it| it.main("message_size_limit = 50000000"),
        ..Plan::default()
    };
    let mut platform = plan.start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.until_status("agents", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 3)
    });
    platform.postfix.stop().unwrap();
    let in_maildrop = |platform: &super::common::Platform| {
        let files = std::fs::read_dir(platform.postfix.queue_dir().join("maildrop")).unwrap();
        files.count()
    };
    for _ in 0..5 {
        platform.submit_of(4_000_000);
    }
    let waiting = in_maildrop(&platform);
    assert!((1..5).contains(&waiting), "{waiting} of 5 in the maildrop");
    platform.postfix.start().unwrap();
    platform.expect_all_once();
    until(LONG, "the maildrop to be empty", || in_maildrop(&platform) == 0).unwrap();
    platform.submit(1);
    platform.expect_all_once();
}

/// Fills the disk with a file.
pub(crate) fn fill(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
}

#[test]
fn a_pause_for_want_of_room_is_shown_with_its_age_while_it_lasts() {
    let disk = |it: PostfixBuilder| it.queue_disk(1 << 20);
    if disk(Postfix::builder()).prepare().is_err() {
        return eprintln!("not tried: nothing may be mounted here");
    }
    let mut platform = Plan { redis: true, postfix: disk, ..Plan::default() }.start();
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.submit(1);
    platform.expect_all_once();
    assert!(platform.status()["queue"]["pause"].is_null());
    let ballast = platform.postfix.queue_dir().join("ballast");
    fill(&ballast);
    platform.submit(1);
    let is_paused = |it: &serde_json::Value| it["queue"]["pause"]["cause"] == "room";
    let status = platform.until_status("the pause", is_paused);
    assert!(status["queue"]["pause"]["for_s"].is_u64(), "{status:#}");
    let words = "queue directory: nothing is fed: cleanup can't write: ";
    for command in ["status", "check"] {
        let (is_well, told) = platform.optimus(&[command]);
        assert!(!is_well && told.contains(words) && told.contains("make room on"), "{told}");
    }
    let lasts = |it: &serde_json::Value| it["queue"]["pause"]["for_s"].as_u64() >= Some(1);
    platform.until_status("it to last", lasts);
    std::fs::remove_file(ballast).unwrap();
    platform.expect_all_once();
    platform.until_status("the end of the pause", |it| it["queue"]["pause"].is_null());
}
