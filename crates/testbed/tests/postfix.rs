//! Tests of the testbed: stock Postfix delivers to the sink, survives mistreatment by tests, and
//! goes away.

#![allow(clippy::unwrap_used)]

use std::time::Duration;
use testbed::{Postfix, Sink, SinkAnswer, Tally, processes_under};

const LIMIT: Duration = Duration::from_secs(60);
const SENDMAIL: &str = "/usr/sbin/sendmail";

fn send(postfix: &Postfix, test_id: &str) {
    let message = format!("X-Test-Id: {test_id}\nSubject: test\n\nHello\n.leading dot\n");
    let output = postfix
        .sendmail(SENDMAIL, &["-i", "-f", "me@example.org", "you@example.net"], message.as_bytes())
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn stock_mail_arrives_with_all_that_identifies_it() {
    let sink = Sink::start().unwrap();
    let postfix = Postfix::builder().relay_to(sink.port()).start().unwrap();
    send(&postfix, "one");
    let received = sink.wait_for(1, LIMIT).unwrap().remove(0);
    assert_eq!(received.test_id.as_deref(), Some("one"));
    assert_eq!(
        (received.sender.as_str(), received.rcpts.as_slice()),
        ("me@example.org", &["you@example.net".into()][..])
    );
    let content = String::from_utf8(received.content.unwrap()).unwrap();
    assert!(content.ends_with("\r\n\r\nHello\r\n.leading dot\r\n"), "{content}");
    let queue_id = received.queue_id.unwrap();
    assert!(
        postfix.log().contains(&format!("{queue_id}: uid=0 from=<me@example.org>")),
        "{queue_id}"
    );
    assert!(received.message_id.unwrap().contains("testbed.example.org"));
}

#[test]
fn postfix_comes_back_after_its_master_or_a_daemon_is_killed() {
    let sink = Sink::start().unwrap();
    let postfix = Postfix::builder().relay_to(sink.port()).start().unwrap();
    send(&postfix, "before");
    sink.wait_for_distinct(1, LIMIT).unwrap();
    let first = postfix.master_pid();
    postfix.kill9_master();
    assert!(!postfix.is_running());
    postfix.start().unwrap();
    assert_ne!(postfix.master_pid(), first);
    send(&postfix, "after master");
    sink.wait_for_distinct(2, LIMIT).unwrap();
    postfix.kill9_daemon("qmgr").unwrap();
    send(&postfix, "after qmgr");
    sink.wait_for_distinct(3, LIMIT).unwrap();
    postfix.reload().unwrap();
    postfix.restart().unwrap();
    send(&postfix, "after restart");
    sink.wait_for_distinct(4, LIMIT).unwrap();
    let tally =
        Tally::of(["before", "after master", "after qmgr", "after restart"], &sink.received());
    assert!(tally.is_clean(), "{tally:?}");
}

#[test]
fn two_instances_run_side_by_side_and_leave_nothing() {
    let sink = Sink::start().unwrap();
    let instances = [(); 2].map(|()| Postfix::builder().relay_to(sink.port()).start().unwrap());
    for (number, postfix) in instances.iter().enumerate() {
        send(postfix, &number.to_string());
    }
    assert!(Tally::of(["0", "1"], &sink.wait_for(2, LIMIT).unwrap()).is_clean());
    let folders = instances.each_ref().map(|postfix| postfix.path().to_owned());
    drop(instances);
    for folder in folders {
        assert!(!folder.exists());
        assert_eq!(processes_under(&folder), Vec::new());
    }
}

#[test]
fn the_sink_answers_as_the_test_says() {
    let judge = |recipient: &str| match recipient {
        "later@example.net" => SinkAnswer::TempFail,
        "never@example.net" => SinkAnswer::Reject,
        _ => SinkAnswer::Accept,
    };
    let sink = Sink::builder().answer(judge).start().unwrap();
    let postfix = Postfix::builder().relay_to(sink.port()).start().unwrap();
    let recipients =
        ["-i", "-f", "me@example.org", "later@example.net", "never@example.net", "you@example.net"];
    assert!(postfix.sendmail(SENDMAIL, &recipients, b"Subject: x\n\n").unwrap().status.success());
    // One recipient gets the message, and the sender gets the bounce for the other.
    let mut rcpts: Vec<_> =
        sink.wait_for(2, LIMIT).unwrap().into_iter().flat_map(|delivery| delivery.rcpts).collect();
    rcpts.sort();
    assert_eq!(rcpts, ["me@example.org", "you@example.net"]);
    testbed::until(LIMIT, "deferred", || postfix.queue_files("deferred").len() == 1).unwrap();
    assert!(!postfix.queue_is_empty());
}
