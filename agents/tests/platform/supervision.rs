//! Tests of several Schedulers: who looks after whom, and the death of one.

use std::collections::BTreeSet;

use serde_json::Value;
use testbed::until;

use super::DAEMONS;
use super::common::{LONG, Plan};

/// Returns the Schedulers of all live Mail Agents; nothing while one has none.
fn schedulers(status: &Value) -> BTreeSet<String> {
    let agents = status["agents"].as_array().unwrap();
    let is_alive = |it: &&Value| it["kind"] == "mail" && it["lease_left_ms"].as_i64() > Some(0);
    let names: Option<Vec<String>> = agents
        .iter()
        .filter(is_alive)
        .map(|it| it["scheduler"].as_str().map(str::to_owned))
        .collect();
    names.filter(|it| it.len() == 2).into_iter().flatten().collect()
}

/// Kills one of two Schedulers. Mail flows on, the Mail Agents go to the other one, and one comes
/// back when the Scheduler does.
#[test]
fn a_scheduler_dies_and_mail_agents_work_on_under_the_other() {
    let mut first = Plan { redis: true, ..Plan::default() }.start();
    let mut second = Plan::default().start_beside(&first);
    DAEMONS.iter().for_each(|name| first.start(name));
    DAEMONS[1..].iter().for_each(|name| second.start(name));
    first.until_status("each to have a Mail Agent", |status| schedulers(status).len() == 2);
    second.kill_9("scheduler-agent");
    first.submit(40);
    let arrived = || first.sink.distinct() + second.sink.distinct();
    until(LONG, "mail to arrive", || arrived() == 40).unwrap();
    let status = first.until_status("one to have both", |status| schedulers(status).len() == 1);
    let (_, text) = first.optimus(&["status"]);
    let name = schedulers(&status).pop_first().unwrap();
    assert_eq!(text.matches(&name).count(), 3, "itself, and each Mail Agent's: {text}");
    second.start("scheduler-agent");
    first.until_status("each to have one again", |status| schedulers(status).len() == 2);
    first.expect_rest();
}
