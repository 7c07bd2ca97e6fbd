//! `optimus trace`: where a message is or was.

use serde_json::Value;
use testbed::until;

use super::common::{LONG, Plan, Platform};

/// Returns whether `optimus trace` succeeds, and its object about a message.
fn trace(platform: &Platform, id: &str) -> (bool, Value) {
    let output = platform.command("optimus").args(["trace", "--json", id]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let object =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} {said}"));
    (output.status.success(), object)
}

fn lines(traced: &Value) -> Vec<String> {
    let logs =
        traced["logs"].as_array().unwrap().iter().flat_map(|log| log["lines"].as_array().unwrap());
    logs.map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// Returns the ids of the mail that waits in Redis.
fn waiting(platform: &Platform) -> Vec<String> {
    let (_, text) = platform.optimus(&["queue", "--json"]);
    let entries = text.lines().filter(|line| line.starts_with('{'));
    let entries = entries.map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| entry["queue_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_message_is_followed_from_the_inbox_until_postfix_has_removed_it() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.start("info-agent");
    platform.start("scheduler-agent");
    platform.submit(2);
    until(LONG, "both to wait", || waiting(&platform).len() == 2).unwrap();
    let ids = waiting(&platform);
    let (is_known, before) = trace(&platform, &ids[0]);
    assert!(
        is_known && ["inbox", "ready"].contains(&before["state"].as_str().unwrap()),
        "{before}"
    );
    assert_eq!(lines(&before), Vec::<String>::new());
    assert!(platform.optimus(&["hold", &ids[1]]).0);
    let held = trace(&platform, &ids[1]).1;
    assert!(
        held["state"] == "held"
            || (&held["state"], &held["order"]) == (&"inbox".into(), &"hold".into())
    );

    platform.start("mail-agent");
    until(LONG, "its end", || trace(&platform, &ids[0]).1["state"] == "settled").unwrap();
    let (_, after) = trace(&platform, &ids[0]);
    let told = lines(&after);
    for word in ["pickup[", "cleanup[", "qmgr[", "status=sent", "removed"] {
        assert!(told.iter().any(|line| line.contains(word)), "{word}: {told:#?}");
    }
    assert!(told.iter().all(|line| !line.contains(&ids[1])), "{told:#?}");

    // The name of the queue file finds the same lines.
    let pickup = told.iter().find(|line| line.contains("pickup[")).unwrap();
    let queue_id = pickup.split("]: ").nth(1).unwrap().split(':').next().unwrap();
    let (_, by_file) = trace(&platform, queue_id);
    assert_eq!((&by_file["id"], lines(&by_file)), (&Value::from(ids[0].as_str()), told));

    assert!(platform.optimus(&["delete", &ids[1]]).0);
    assert_eq!(trace(&platform, &ids[1]).1["state"], "deleted");
}

#[test]
fn an_id_that_nobody_knows_is_unknown_and_an_unreachable_redis_is_an_error() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.start("info-agent");
    platform.until_status("an agent", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 1)
    });
    let (is_known, traced) = trace(&platform, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert!(!is_known && traced["state"] == "unknown", "{traced}");
    let output = platform.command("optimus").args(["trace", "no such"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("no id of a message").count(), 1);
    drop(platform.redis.take());
    let (is_known, traced) = trace(&platform, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert!(!is_known && traced["state"] == "unreachable", "{traced}");
}
