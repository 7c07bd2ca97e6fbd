//! Kills of pickup-rs (kill -9) at each step of the hand-off: no message is lost or sent twice, and
//! no operator has to help.
//!
//! A simple Mail Agent takes part. When the connection is lost, it connects again, takes an
//! inventory, lets Redis decide on the files, and feeds the rest.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Message, Site, drive};
use testbed::Tally;

const COUNT: usize = 40;

async fn survives(failpoints: &[&str]) {
    let site = Site::that_rescans();
    let names: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    for name in &names {
        site.submit(&Message::new(name)).await;
    }
    for failpoint in failpoints {
        site.arm(failpoint);
    }
    drive(&site, COUNT).await;
    let tally = Tally::of(names.iter().map(String::as_str), &site.sink.received());
    assert!(tally.is_clean(), "{tally:?}");
    let left = std::fs::read_dir(site.postfix.config_dir().join("failpoints")).unwrap().count();
    assert_eq!(left, 0, "every failure point was hit");
    let deaths = site.postfix.log().matches("killed by signal 9").count();
    assert_eq!(deaths, failpoints.len());
}

#[tokio::test]
async fn pickup_rs_killed_before_cleanup_answers_loses_nothing() {
    survives(&["before-held"]).await;
}

#[tokio::test]
async fn pickup_rs_killed_before_the_rename_loses_nothing() {
    survives(&["held"]).await;
}

#[tokio::test]
async fn pickup_rs_killed_before_its_reply_loses_nothing() {
    survives(&["prepared"]).await;
}

#[tokio::test]
async fn pickup_rs_killed_before_a_release_loses_nothing() {
    survives(&["before-release"]).await;
}

#[tokio::test]
async fn pickup_rs_killed_after_a_release_loses_nothing() {
    survives(&["after-release"]).await;
}

#[tokio::test]
async fn pickup_rs_killed_at_every_step_loses_nothing() {
    survives(&["before-held", "held", "prepared", "before-release", "after-release"]).await;
}
