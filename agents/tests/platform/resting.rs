//! Mail that Postfix can't send now stops nobody else's mail.

use std::net::TcpListener;

use testbed::until;

use super::common::{LONG, Plan, Platform};

/// A destination that takes connections and never says a word.
struct BlackHole {
    _listener: TcpListener,
}

impl BlackHole {
    /// Routes `slow.example` there.
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
    let output = platform.postfix.command("/usr/sbin/postsuper").args([option, "ALL"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn with_window(settings: &'static str) -> Platform {
    let mut platform = Plan { settings, ..Plan::default() }.start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform
}

#[test]
fn mail_on_hold_takes_no_credit_until_it_is_released() {
    let mut platform = with_window("[agents]\nlease_ms = 1000\n[mail]\nwindow = 5\n");
    let black_hole = BlackHole::in_the_way_of(&platform);
    for _ in 0..5 {
        submit_to(&platform, "to@slow.example");
    }
    until(LONG, "all to be active", || platform.postfix.queue_files("active").len() == 5).unwrap();
    postsuper(&platform, "-h");
    platform.until_status("all on hold", |status| status["on_hold"] == 5);
    platform.submit(3);
    until(LONG, "the others to arrive", || platform.sink.distinct() == 3).unwrap();
    let status = platform.until_status("credit for all", |status| status["nodes"][0]["credit"] == 5);
    assert_eq!((&status["on_hold"], &status["nodes"][0]["on_hold"]), (&5.into(), &5.into()), "{status:#}");

    drop(black_hole);
    platform.postfix.set_main(&["transport_maps ="]).unwrap();
    postsuper(&platform, "-H");
    // Released mail waits in the deferred queue for the queue manager's next scan, which a reload
    // brings about.
    platform.postfix.reload().unwrap();
    until(LONG, "the released to arrive", || platform.sink.count() == 8).unwrap();
    platform.expect_rest();
    platform.until_status("none on hold", |status| status["on_hold"] == 0);
}

/// More than two thousand, which was all that a node took. A mailbox of them goes in faster than by
/// `sendmail`.
const MANY: usize = 2_500;

#[test]
fn a_destination_that_takes_for_ever_delays_nobody_else_s_mail() {
    let mut platform = with_window("[agents]\nlease_ms = 1000\n");
    let _black_hole = BlackHole::in_the_way_of(&platform);
    let mailbox = platform.postfix.path().join("mailbox");
    let message = "From a@example.org Mon Nov 30 04:00:00 2026\nTo: to@slow.example\nSubject: x\n\nx\n\n";
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
    // As the queue files say, which outlive pickup-rs.
    platform.postfix.reload().unwrap();
    platform.until_status("a new pickup-rs to tell the same", in_flight);
}
