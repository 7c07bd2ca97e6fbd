//! Tests of `optimus status` as a monitoring plugin: exit status and first line in each state.

use super::common::{LONG, Plan, Platform};
use testbed::until;

/// Returns the exit status and the first line of `optimus status`.
fn status(platform: &Platform, words: &[&str]) -> (i32, String) {
    let output = platform.command("optimus").arg("status").args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text.lines().next().unwrap_or_default().to_owned())
}

fn until_it_says(platform: &Platform, code: i32, text: &str) {
    let says = || {
        let (is, line) = status(platform, &[]);
        is == code && line.contains(text)
    };
    until(LONG, text, says).unwrap_or_else(|error| panic!("{error}: {:?}", status(platform, &[])));
}

#[test]
fn status_is_ok_only_while_each_kind_of_agent_lives() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    let kinds = ["info", "scheduler", "mail"];
    until_it_says(&platform, 2, "OPTIMUS CRITICAL: ");
    kinds.iter().for_each(|kind| platform.start(&format!("{kind}-agent")));
    until_it_says(
        &platform,
        0,
        "OPTIMUS OK: 0 waiting, 0 deferred | waiting=0;;;0 oldest=0s;300;1800;0",
    );
    assert_eq!(status(&platform, &["--mail-agents", "2"]).0, 1);
    for kind in kinds {
        platform.kill_9(&format!("{kind}-agent"));
        until_it_says(&platform, 2, &format!("OPTIMUS CRITICAL: no {kind} agent is alive"));
        platform.start(&format!("{kind}-agent"));
        until_it_says(&platform, 0, "OPTIMUS OK: ");
    }
    platform.redis.take();
    until_it_says(&platform, 2, "OPTIMUS CRITICAL: redis at ");
    let words = "queue directory: nothing is fed: Redis is not available: ";
    let tells = |command: &str| platform.optimus(&[command]).1.contains(words);
    until(LONG, "pickup-rs to tell why it pauses", || tells("check") && tells("status")).unwrap();
}

#[test]
fn mail_that_waits_warns_and_is_critical_from_the_thresholds_on() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    platform.cut_lots();
    let waits = |words: &[&str]| {
        let (_, line) = status(&platform, words);
        line.contains("mail has waited for")
    };
    until(LONG, "mail to wait", || waits(&["--oldest-warning-s", "1"])).unwrap();
    assert!(!waits(&[]), "the default is longer: {:?}", status(&platform, &[]));
    assert!(!waits(&["--oldest-warning-s", "0", "--oldest-critical-s", "0"]), "0 is never");
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.expect_all_once();
    until_it_says(&platform, 0, "OPTIMUS OK: 0 waiting");
}

#[test]
fn mail_in_quarantine_warns_and_is_critical_from_the_thresholds_on() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    let key = platform.cut_lots();
    platform.redis_cli(&["SETRANGE", &key, "2", "00000000"]);
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    until_it_says(&platform, 1, "OPTIMUS WARNING: 1 messages are in quarantine");
    assert_eq!(status(&platform, &["--quarantine-critical", "1"]).0, 2);
    assert_eq!(status(&platform, &["--quarantine-warning", "2"]).0, 0);
    let value = platform.status();
    assert_eq!(
        (&value["state"], &value["reasons"][0]),
        (&"warning".into(), &"1 messages are in quarantine".into())
    );
}

#[test]
fn a_node_gone_with_mail_and_a_node_without_its_postfix_are_named() {
    let plan =
        Plan { redis: true, postfix: |it| it.main("relayhost = [127.0.0.1]:1"), ..Plan::default() };
    let mut platform = plan.start();
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.submit(1);
    platform.until_status("it is deferred", |status| status["deferred"]["total"] == 1);
    platform.kill_9("mail-agent");
    until_it_says(&platform, 2, "is gone with 1 messages");
    platform.start("mail-agent");
    until_it_says(&platform, 0, "1 deferred");
    platform.postfix.stop().unwrap();
    until_it_says(&platform, 2, "is suspect: pickup-rs can't be reached");
}

#[test]
fn a_state_that_cannot_be_judged_is_unknown() {
    let platform = Plan { settings: "[lots]\nsiez = 3\n", ..Plan::default() }.start();
    let (code, line) = status(&platform, &[]);
    assert!(
        code == 3 && line.starts_with("OPTIMUS UNKNOWN: ") && line.contains("optimus.toml:2"),
        "{line}"
    );
    assert_eq!(status(&platform, &["--no-such-option"]).0, 3);
    // Other commands exit with 1 for a failure, and with 2 for a command line that makes no sense.
    let code =
        |words: &[&str]| platform.command("optimus").args(words).output().unwrap().status.code();
    assert_eq!(
        [code(&["check"]), code(&["config"]), code(&["check", "--no"])],
        [Some(1), Some(1), Some(2)]
    );
}

#[test]
fn an_order_that_waits_in_the_inbox_warns_from_the_threshold_on() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.redis_cli(&["FUNCTION", "LOAD", "REPLACE", &spool::library()]);
    platform.submit(2);
    let (_, listed) = platform.optimus(&["queue", "--json"]);
    let last: serde_json::Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    // The first message keeps the order in the inbox, since no Info Agent cuts a lot.
    let (is_fine, text) = platform.optimus(&["hold", last["queue_id"].as_str().unwrap()]);
    assert!(is_fine, "{text}");
    let value = platform.status();
    let since_ms = value["standing"]["ordered_since_ms"].as_u64();
    assert_eq!(value["standing"]["ordered"], 1, "{value:#}");
    assert!(since_ms.is_some() && since_ms <= value["now_ms"].as_u64(), "{value:#}");
    let (_, text) = platform.optimus(&["status"]);
    assert!(text.contains("and 1 in the inbox to be held or deleted, the oldest for "), "{text}");
    let warns = |words: &[&str]| {
        status(&platform, words).1.contains("1 orders have waited in the inbox for ")
    };
    until(LONG, "a warning", || warns(&["--oldest-warning-s", "1"])).unwrap();
    assert!(!warns(&["--oldest-warning-s", "0", "--oldest-critical-s", "0"]), "0 is never");
}
