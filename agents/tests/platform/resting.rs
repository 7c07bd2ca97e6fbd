//! Tests that mail which Postfix can't send now delays no other mail.

use std::net::TcpListener;

use testbed::until;

use super::DAEMONS;
use super::common::{LONG, Plan, Platform};

/// A destination that accepts connections and never answers.
struct BlackHole {
    _listener: TcpListener,
}

impl BlackHole {
    /// Makes a black hole, and routes `slow.example` to it.
    fn in_the_way_of(platform: &Platform) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = format!("transport_maps = inline:{{ slow.example=smtp:[127.0.0.1]:{port} }}");
        platform.postfix.set_main(&[&table]).unwrap();
        platform.postfix.reload().unwrap();
        Self { _listener: listener }
    }
}

fn submit_to(platform: &Platform, recipient: &str) {
    let arguments = ["-i", "-f", "from@example.org", recipient];
    let message = b"Subject: test\n\nHello.\n";
    let output = platform.postfix.sendmail(testbed::bin("sendmail"), &arguments, message).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn postsuper(platform: &Platform, option: &str) {
    let output =
        platform.postfix.command("/usr/sbin/postsuper").args([option, "ALL"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn with_window(settings: &'static str) -> Platform {
    let mut platform = Plan { settings, ..Plan::default() }.start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform
}

/// Number of messages on hold, more than the window.
const HELD: usize = 8;

#[test]
fn mail_on_hold_takes_no_credit_until_it_is_released() {
    let mut platform = with_window("[agents]\nlease_ms = 1000\n[mail]\nwindow = 5\n");
    let black_hole = BlackHole::in_the_way_of(&platform);
    for _ in 0..HELD {
        submit_to(&platform, "to@slow.example");
    }
    // Each message that is put on hold makes room for another one.
    platform.until_status("all on hold", |status| {
        postsuper(&platform, "-h");
        status["on_hold"] == HELD
    });
    platform.submit(3);
    until(LONG, "the others to arrive", || platform.sink.distinct() == 3).unwrap();
    let status =
        platform.until_status("credit for all", |status| status["nodes"][0]["credit"] == 5);
    assert_eq!(
        (&status["on_hold"], &status["nodes"][0]["on_hold"]),
        (&HELD.into(), &HELD.into()),
        "{status:#}"
    );

    postsuper(&platform, "-H");
    // Released mail waits in the deferred queue, and a flush skips a message under delivery.
    expect_the_rest(&platform, black_hole, HELD + 3);
    platform.until_status("none on hold", |status| status["on_hold"] == 0);
}

/// Number of messages to the black hole, more than the 2,000 that a node once took. A mailbox of
/// them goes in faster than by `sendmail`.
const MANY: usize = 2_500;

#[test]
fn a_destination_that_takes_for_ever_delays_nobody_else_s_mail() {
    let mut platform = with_window("[agents]\nlease_ms = 1000\n");
    let _black_hole = BlackHole::in_the_way_of(&platform);
    let mailbox = platform.postfix.path().join("mailbox");
    let message =
        "From a@example.org Mon Nov 30 04:00:00 2026\nTo: to@slow.example\nSubject: x\n\nx\n\n";
    std::fs::write(&mailbox, message.repeat(MANY)).unwrap();
    let (is_fine, text) = platform.optimus(&["inject", "-t", mailbox.to_str().unwrap()]);
    assert!(is_fine, "{text}");
    for n in 1..=5 {
        platform.submit(1);
        until(LONG, "an urgent message to arrive", || platform.sink.distinct() == n).unwrap();
    }
    platform.until_status("Postfix to have all", |status| status["nodes"][0]["committed"] == MANY);
    assert_eq!(platform.sink.count(), 5, "the black hole keeps its own");
    let in_flight = |status: &serde_json::Value| {
        status["queue"]["destinations"] == serde_json::json!([["slow.example", MANY]])
    };
    platform.until_status("pickup-rs to tell where mail goes", in_flight);
    assert!(platform.optimus(&["status"]).1.contains("in flight  slow.example 2500"));
    // The counts come from the queue files, which outlive pickup-rs.
    platform.postfix.reload().unwrap();
    platform.until_status("a new pickup-rs to tell the same", in_flight);
}

const BLACK_HOLED: u64 = 40;

/// Starts a platform with a window of 20, and submits twice as many messages to a black hole. Also
/// returns the number of parked messages. In flight are half a window, and the messages that were
/// under way when the limit was reached.
fn with_a_full_window() -> (Platform, BlackHole, u64) {
    let platform = with_window("[agents]\nlease_ms = 1000\n[mail]\nwindow = 20\n");
    let black_hole = BlackHole::in_the_way_of(&platform);
    (0..BLACK_HOLED).for_each(|_| submit_to(&platform, "to@slow.example"));
    let is_so = |status: &serde_json::Value| {
        status["parked"]
            .as_u64()
            .is_some_and(|parked| parked >= BLACK_HOLED - 15 && shares(status, parked))
    };
    let status = platform.until_status("what is beyond the share to be parked", is_so);
    let parked = status["parked"].as_u64().unwrap();
    assert_eq!(status["lanes"][0]["to"], "slow.example", "{status:#}");
    assert_eq!(status["nodes"][0]["credit"], parked - BLACK_HOLED / 2, "{status:#}");
    (platform, black_hole, parked)
}

/// Whether so many messages are parked, and the rest is in flight.
fn shares(status: &serde_json::Value, parked: u64) -> bool {
    (&status["parked"], &status["nodes"][0]["committed"])
        == (&parked.into(), &(BLACK_HOLED - parked).into())
}

/// Removes the black hole, has Postfix try deferred mail, and expects all mail to arrive.
fn expect_the_rest(platform: &Platform, black_hole: BlackHole, count: usize) {
    drop(black_hole);
    platform.postfix.set_main(&["transport_maps ="]).unwrap();
    platform.postfix.reload().unwrap();
    until(LONG, "all mail to arrive", || {
        let flushed = platform.postfix.command("/usr/sbin/postqueue").arg("-f").output().unwrap();
        assert!(flushed.status.success(), "{flushed:?}");
        platform.sink.count() >= count
    })
    .unwrap();
    platform.expect_rest();
    assert_eq!(platform.sink.count(), count);
}

#[test]
fn a_destination_takes_no_more_than_its_share_of_the_window() {
    let (mut platform, black_hole, parked) = with_a_full_window();
    for n in 1..=5 {
        platform.submit(1);
        until(LONG, "an urgent message to arrive", || platform.sink.distinct() == n).unwrap();
    }
    // A message to several destinations also goes out if one of them has room.
    submit_to(&platform, "one@slow.example,other@example.org");
    until(LONG, "half of a message to arrive", || platform.sink.count() == 6).unwrap();
    let (_, text) = platform.optimus(&["status"]);
    assert!(
        text.contains(&format!("parked     {parked} messages: slow.example {parked}")),
        "{text}"
    );
    expect_the_rest(&platform, black_hole, 47);
}

#[test]
fn parked_mail_outlives_killed_processes() {
    let (mut platform, black_hole, parked) = with_a_full_window();
    platform.kill_9("optimus");
    platform.postfix.reload().unwrap();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(1);
    until(LONG, "an urgent message to arrive", || platform.sink.distinct() == 1).unwrap();
    platform.until_status("the shares to be as before", |status| shares(status, parked));
    expect_the_rest(&platform, black_hole, 41);
}

#[test]
fn operators_reach_parked_mail() {
    let (platform, _black_hole, parked) = with_a_full_window();
    let mailq = platform.command("sendmail").arg("-bp").output().unwrap();
    let listed = String::from_utf8(mailq.stdout).unwrap();
    assert_eq!(listed.matches("to@slow.example").count(), 40, "{listed}");
    let (_, text) = platform.optimus(&["hold", "--domain", "slow.example"]);
    let held = |status: &serde_json::Value| {
        (&status["parked"], &status["standing"]["held"]) == (&0.into(), &parked.into())
    };
    platform.until_status(&format!("all to be held: {text}"), held);
    let (_, text) = platform.optimus(&["delete", "--domain", "slow.example"]);
    platform.until_status(&format!("all to be deleted: {text}"), |it| it["standing"]["held"] == 0);
}

/// Share of one of several nodes in [`of_two_nodes_none_is_filled_by_a_destination`].
const SHARED: &str = "[agents]\nlease_ms = 1000\n[mail]\nwindow = 20\nwindow_shared = 10\n";
const URGENT: usize = 10;

/// Checks that each node keeps room for others, and that no node has the parked messages.
#[test]
fn of_two_nodes_none_is_filled_by_a_destination() {
    let mut first = Plan { redis: true, settings: SHARED, ..Plan::default() }.start();
    let mut second = Plan { settings: SHARED, ..Plan::default() }.start_beside(&first);
    let holes = [BlackHole::in_the_way_of(&first), BlackHole::in_the_way_of(&second)];
    DAEMONS.iter().for_each(|name| first.start(name));
    second.start("mail-agent");
    let nodes = |it: &serde_json::Value| it["nodes"].as_array().is_some_and(|it| it.len() == 2);
    first.until_status("two nodes", nodes);
    (0..BLACK_HOLED).for_each(|_| submit_to(&first, "to@slow.example"));
    let has_room = |status: &serde_json::Value| {
        let of = |node: &serde_json::Value, what: &str| node[what].as_u64().unwrap_or(0);
        let nodes = status["nodes"].as_array().unwrap();
        let rest: u64 = nodes.iter().map(|it| of(it, "committed")).sum();
        let each = nodes.iter().all(|it| of(it, "committed") > 0 && of(it, "credit") > 0);
        each && status["parked"].as_u64().is_some_and(|parked| parked + rest == BLACK_HOLED)
    };
    first.until_status("room on each node beside what is parked", has_room);
    let arrived = |second: &Platform, first: &Platform| {
        first.sink.received().len() + second.sink.received().len()
    };
    for n in 1..=URGENT {
        first.submit(1);
        until(LONG, "an urgent message to arrive", || arrived(&second, &first) == n).unwrap();
    }
    first.until_status("room as before", has_room);
    drop(holes);
    for platform in [&first, &second] {
        platform.postfix.set_main(&["transport_maps ="]).unwrap();
        platform.postfix.reload().unwrap();
    }
    let all = usize::try_from(BLACK_HOLED).unwrap() + URGENT;
    until(LONG, "all mail to arrive", || {
        let flush = |it: &Platform| it.postfix.command("/usr/sbin/postqueue").arg("-f").status();
        [&first, &second].into_iter().for_each(|it| assert!(flush(it).unwrap().success()));
        arrived(&second, &first) >= all
    })
    .unwrap();
    first.expect_rest();
    assert_eq!(arrived(&second, &first), all);
}
