//! Tests of the queue as one list of mail in Redis and in this host's Postfix.

use std::io::Read;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use testbed::{until, until_some};

use super::common::{LONG, Plan, Platform};

/// Starts a platform and stops its Postfix, so that submitted mail stays where it is.
fn stuck() -> Platform {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.until_status("all agents", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 3)
    });
    platform.postfix.stop().unwrap();
    platform
}

fn listed(platform: &Platform) -> Vec<Value> {
    let (is_fine, text) = platform.optimus(&["queue", "--json"]);
    assert!(is_fine, "{text}");
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stock_submit(platform: &Platform, recipients: &[&str]) {
    let arguments = [&["-i", "-f", "local@example.org"], recipients].concat();
    let output =
        platform.postfix.sendmail("/usr/sbin/sendmail", &arguments, b"Subject: x\n\n").unwrap();
    assert!(output.status.success());
}

#[test]
fn the_queue_shows_redis_and_postfix_together() {
    let mut platform = stuck();
    assert_eq!(listed(&platform), Vec::<Value>::new());
    let (is_fine, text) = platform.optimus(&["queue"]);
    assert!(is_fine && text.contains("Mail queue is empty\n"), "{text}");
    platform.submit(2);
    stock_submit(&platform, &["bob@example.org", "carol@example.org"]);
    // The list is no snapshot: a message that comes back from the node may be seen twice.
    let found = until_some(LONG, "three messages", || {
        Some(listed(&platform)).filter(|found| found.len() == 3)
    })
    .unwrap();
    let names: Vec<_> = found.iter().map(|entry| entry["queue_name"].as_str().unwrap()).collect();
    assert_eq!(names.last(), Some(&"maildrop"), "{found:?}");
    assert_eq!(found[0]["sender"], "from@example.org");
    assert_eq!(found[0]["recipients"][0]["address"], "to@example.org");
    assert!(found[0]["message_size"].as_u64().unwrap() > 0);
    let (is_fine, text) = platform.optimus(&["queue"]);
    assert!(is_fine && text.contains("-Queue ID-") && text.contains(" in 3 Requests.\n"), "{text}");
    assert_eq!(text.matches("to@example.org").count(), 2, "{text}");
}

#[test]
fn the_queue_shows_a_deferred_message_once_and_with_its_reason() {
    let mut platform = Plan::default().start();
    platform.postfix.set_main(&["relayhost = [127.0.0.1]:1"]).unwrap();
    platform.postfix.reload().unwrap();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(1);
    until(LONG, "the message to be deferred", || {
        platform.postfix.queue_files("deferred").len() == 1
    })
    .unwrap();
    let found = listed(&platform);
    assert_eq!((found.len(), &found[0]["queue_name"]), (1, &"deferred".into()), "{found:?}");
    let reason = found[0]["recipients"][0]["delay_reason"].as_str().unwrap();
    assert!(reason.contains("Connection refused"), "{reason}");
}

/// Checks the list that users get over the Mail Agent's socket.
#[test]
fn mailq_shows_the_same_list() {
    let mut platform = stuck();
    platform.submit(2);
    stock_submit(&platform, &["bob@example.org"]);
    let mailq = |platform: &Platform| platform.command("sendmail").arg("-bp").output().unwrap();
    let both = || (mailq(&platform), platform.optimus(&["queue"]).1);
    // Lots that come back from the node may move between the two listings, which changes the order.
    until(LONG, "both lists to be the same", || {
        let (output, expected) = both();
        let list = String::from_utf8_lossy(&output.stdout);
        let has_all = list.contains("bob@example.org");
        output.status.success() && has_all && expected.ends_with(&*list)
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", both()));
    // The socket exists, but no Mail Agent answers.
    assert!(UnixStream::connect(platform.postfix.queue_dir().join("public/optimus-showq")).is_ok());
    platform.kill_9("optimus");
    let output = mailq(&platform);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("mail in Redis: not shown: no answer from the Mail Agent"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("bob@example.org") && !said.contains("Request"), "{output:?}");
}

#[test]
fn a_reader_that_stops_keeps_nobody_from_the_list() {
    let platform = stuck();
    // The list is longer than a socket's buffer.
    let recipients: Vec<String> =
        (0..4_000).map(|n| format!("{n}.{}@example.org", "x".repeat(60))).collect();
    let mut arguments = vec!["-i", "-f", "from@example.org"];
    arguments.extend(recipients.iter().map(String::as_str));
    let output =
        platform.postfix.sendmail(testbed::bin("sendmail"), &arguments, b"Subject: x\n\n").unwrap();
    assert!(output.status.success(), "{output:?}");
    let socket = platform.postfix.queue_dir().join("public/optimus-showq");
    let idle: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for mut stream in &idle {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    let output = platform.command("sendmail").arg("-bp").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with(" in 1 Request.\n"), "{output:?}");
    assert_eq!(said.matches("@example.org").count(), 4_001);
}
