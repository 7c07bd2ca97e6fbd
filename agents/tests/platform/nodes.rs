//! Tests of operators' orders, given on one server, for mail that waits in another server's
//! Postfix.

use spool::keys;
use testbed::{PostfixBuilder, until};

use super::DAEMONS;
use super::common::{LONG, Plan, Platform};

const COUNT: usize = 5;

/// Two servers: the first one has the other agents, and the second one the Mail Agent and a Postfix
/// that defers all mail.
struct Two {
    first: Platform,
    second: Platform,
}

fn deferring() -> Two {
    deferring_with(Plan::default().settings)
}

fn deferring_with(settings: &'static str) -> Two {
    let mut first = Plan { redis: true, settings, ..Plan::default() }.start();
    // Stock pickup looks at its maildrop every second, for what is requeued.
    let postfix = |it: PostfixBuilder| it.service("pickup unix n - n 1 1 pickup");
    let mut second = Plan { postfix, ..Plan::default() }.start_beside(&first);
    second.postfix.set_main(&["relayhost = [127.0.0.1]:1"]).unwrap();
    second.postfix.reload().unwrap();
    DAEMONS[..2].iter().for_each(|name| first.start(name));
    second.start("mail-agent");
    first.submit(COUNT);
    let two = Two { first, second };
    two.until_files("deferred", COUNT);
    two
}

impl Two {
    fn until_files(&self, queue: &str, count: usize) {
        until(LONG, queue, || self.second.postfix.queue_files(queue).len() == count).unwrap();
    }

    /// Has the second server's Postfix deliver from now on.
    fn heal(&self) {
        let relay = format!("relayhost = [127.0.0.1]:{}", self.second.sink.port());
        self.second.postfix.set_main(&[relay.as_str()]).unwrap();
        self.second.postfix.reload().unwrap();
    }

    /// Waits until the second server has sent that many messages.
    fn until_sent(&self, count: usize) {
        until(LONG, "mail to arrive", || {
            self.second.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
            self.second.sink.distinct() == count
        })
        .unwrap();
    }

    /// Waits until Redis keeps no message, and expects no order.
    fn expect_rest(&self) {
        self.first.expect_rest();
        assert_eq!(self.orders(), "");
    }

    fn orders(&self) -> String {
        self.first.redis_cli(&["--scan", "--pattern", keys::ORDERS])
    }
}

#[test]
fn mail_that_another_node_has_deferred_is_deleted_there() {
    let two = deferring();
    let (is_fine, text) = two.first.optimus(&["delete", "--all"]);
    assert!(is_fine && text.contains("Deleted: 0 in Redis, 5 in Postfix"), "{text}");
    assert!(text.contains("after: 0 messages"), "{text}");
    assert!(two.second.postfix.queue_files("deferred").is_empty());
    assert!(two.second.postfix.queue_files("defer").is_empty());
    two.expect_rest();
    assert_eq!(two.first.counted("obeyed"), COUNT);
    two.heal();
    assert_eq!(two.second.sink.count(), 0);
}

#[test]
fn mail_that_another_node_has_deferred_is_held_and_released_there() {
    let two = deferring();
    let (is_fine, text) = two.first.optimus(&["hold", "--all"]);
    assert!(is_fine && text.contains("Placed on hold: 0 in Redis, 5 in Postfix"), "{text}");
    assert_eq!(two.second.postfix.queue_files("hold").len(), COUNT);
    assert_eq!(two.orders(), "");
    two.first.until_status("on hold", |status| status["on_hold"] == COUNT);
    two.heal();
    let (is_fine, text) = two.first.optimus(&["release", "--all"]);
    assert!(is_fine && text.contains("Released from hold: 0 in Redis, 5 in Postfix"), "{text}");
    two.until_sent(COUNT);
    two.expect_rest();
}

#[test]
fn mail_that_another_node_has_deferred_is_requeued_there() {
    let two = deferring();
    two.heal();
    let (is_fine, text) = two.first.optimus(&["requeue", "--all"]);
    assert!(is_fine && text.contains("Requeued: 0 in Redis, 5 in Postfix"), "{text}");
    two.until_sent(COUNT);
    two.expect_rest();
    assert_eq!(two.second.sink.received().len(), COUNT);
}

/// Checks that the command reports an order that no Mail Agent can carry out, and that the next
/// agent does so.
#[test]
fn an_order_waits_for_a_mail_agent_that_is_away() {
    let mut two = deferring();
    two.second.kill_9("mail-agent");
    two.first.until_status("it to be gone", |status| {
        let agents = status["agents"].as_array();
        agents.is_some_and(|all| {
            all.iter().all(|it| it["kind"] != "mail" || it["lease_left_ms"].as_i64() <= Some(0))
        })
    });
    let (is_fine, text) = two.first.optimus(&["delete", "--all"]);
    assert!(!is_fine && text.contains("still ordered: 5 at node"), "{text}");
    assert_eq!(two.second.postfix.queue_files("deferred").len(), COUNT);
    let status = two.first.status();
    let (standing, node) = (&status["standing"], status["nodes"][0]["node"].as_str().unwrap());
    assert_eq!(standing["ordered_at_nodes"], COUNT);
    let at_node = &standing["at_nodes"][0];
    assert_eq!((&at_node["node"], &at_node["orders"]), (&node.into(), &COUNT.into()));
    assert!(at_node["since_ms"].as_u64() <= status["now_ms"].as_u64(), "{standing}");
    let (_, text) = two.first.optimus(&["status"]);
    assert!(
        text.contains(&format!("orders     5 wait for node {node}, the oldest for ")),
        "{text}"
    );
    let warns = || two.first.optimus(&["status", "--oldest-warning-s", "1"]).1;
    let words = format!("5 orders have waited for node {node} for ");
    until(LONG, "a warning", || warns().lines().next().unwrap().contains(&words)).unwrap();
    two.second.start("mail-agent");
    two.until_files("deferred", 0);
    two.expect_rest();
}

/// Checks that an order that comes too late ends with the message's settlement.
#[test]
fn an_order_for_mail_that_was_sent_meanwhile_ends() {
    let mut two = deferring();
    two.second.kill_9("mail-agent");
    let (_, text) = two.first.optimus(&["delete", "--all"]);
    assert!(!two.orders().is_empty(), "{text}");
    two.heal();
    two.until_sent(COUNT);
    two.second.start("mail-agent");
    two.expect_rest();
    assert_eq!(two.first.counted("obeyed"), 0);
}

/// The node's Postfix has the mail, and sends it. A second node would send it again.
#[test]
fn a_node_whose_postfix_runs_is_not_lost_without_a_mail_agent() {
    let mut two = deferring_with(SHORT_GRACE);
    two.first.start("mail-agent");
    two.second.kill_9("mail-agent");
    two.first.until_status("twice the grace without a Mail Agent", |status| {
        let agents = status["agents"].as_array().unwrap();
        let is_long_gone = |it: &&serde_json::Value| it["lease_left_ms"].as_i64() < Some(-6_000);
        agents.iter().filter(|it| it["kind"] == "mail").any(|it| is_long_gone(&it))
    });
    assert_eq!(two.first.counted("resent"), 0);
    two.heal();
    two.until_sent(COUNT);
    two.second.start("mail-agent");
    two.expect_rest();
    assert_eq!(two.second.sink.received().len(), COUNT);
}

const SHORT_GRACE: &str = "[agents]\nlease_ms = 1000\nnode_loss_grace_s = 3\n";

/// The Mail Agent holds the node's lease, and nobody sends the node's mail.
#[test]
fn a_node_whose_postfix_is_dead_is_lost_though_its_mail_agent_lives() {
    let mut two = deferring_with(SHORT_GRACE);
    two.second.postfix.stop().unwrap();
    two.first.start("mail-agent");
    two.first.expect_all_once();
    assert_eq!(two.first.counted("resent"), COUNT);
    let agents = two.first.status()["agents"].clone();
    let is_alive = |it: &&serde_json::Value| it["lease_left_ms"].as_i64() > Some(0);
    let mails = agents.as_array().unwrap().iter().filter(|it| it["kind"] == "mail");
    assert_eq!(mails.filter(is_alive).count(), 2, "{agents}");
}

/// Checks that a Mail Agent vouches for a pickup-rs that answers and can't reach Redis. The node's
/// Postfix has the mail, and sends it.
#[test]
fn a_node_whose_pickup_rs_alone_is_cut_off_from_redis_is_not_lost() {
    let mut two = deferring_with(SHORT_GRACE);
    let toml = two.second.postfix.config_dir().join("optimus.toml");
    let settings = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, "[redis]\nurl = \"redis://127.0.0.1:1\"\n").unwrap();
    two.second.postfix.reload().unwrap();
    let node = two.first.status()["nodes"][0]["node"].as_str().unwrap().to_owned();
    two.first.start("mail-agent");
    until(LONG, "twice the grace without an attendance", || {
        let live = two.first.redis_cli(&["HGET", &keys::agent_of(&node), "live"]);
        let seconds = two.first.redis_cli(&["TIME"]).lines().next().unwrap().parse::<u64>();
        seconds.unwrap() * 1_000 > live.parse::<u64>().unwrap() + 6_000
    })
    .unwrap();
    assert_eq!(two.first.counted("resent"), 0);
    std::fs::write(&toml, settings).unwrap();
    two.second.postfix.reload().unwrap();
    two.heal();
    two.until_sent(COUNT);
    two.expect_rest();
    assert_eq!(two.second.sink.received().len(), COUNT);
}

/// Checks that Redis carries the order out when the node is given up, so that the mail is not sent
/// again.
#[test]
fn an_order_ends_with_a_node_that_is_lost() {
    let mut two = deferring_with(SHORT_GRACE);
    two.second.kill_9("mail-agent");
    two.second.postfix.stop().unwrap();
    let (_, text) = two.first.optimus(&["delete", "--all"]);
    two.first.start("mail-agent");
    two.expect_rest();
    assert_eq!(two.first.counted("resent"), 0, "{text}");
}
