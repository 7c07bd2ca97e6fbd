//! Tests of nodes that hold their lease and can't work: frozen, full, drained, or declared lost.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{Postfix, PostfixBuilder, until};

use super::DAEMONS;
use super::common::{LONG, Plan, Platform};
use super::filling::fill;

/// Small lots, so that each node gets some.
const SETTINGS: &str = "[agents]\nlease_ms = 1000\n[lots]\nsize = 5\n[mail]\nwindow_shared = 20\n";

/// Two servers that deliver. The first one has the other agents.
struct Two {
    first: Platform,
    second: Platform,
    node: String,
}

fn two(postfix: fn(PostfixBuilder) -> PostfixBuilder) -> Two {
    let mut first = Plan { redis: true, settings: SETTINGS, ..Plan::default() }.start();
    let mut second = Plan { postfix, settings: SETTINGS, ..Plan::default() }.start_beside(&first);
    DAEMONS.iter().for_each(|name| first.start(name));
    let all_up = |count: usize| {
        move |status: &serde_json::Value| {
            // Redis has no functions at first.
            let nodes = status["nodes"].as_array();
            nodes.is_some_and(|all| all.iter().filter(|it| it["state"] == "up").count() == count)
        }
    };
    first.until_status("the first node", all_up(1));
    let others = first.status()["nodes"][0]["node"].clone();
    second.start("mail-agent");
    let status = first.until_status("both nodes", all_up(2));
    let nodes = status["nodes"].as_array().unwrap().iter().map(|it| &it["node"]);
    let node = nodes.into_iter().find(|it| **it != others).unwrap().as_str().unwrap().to_owned();
    let mut two = Two { first, second, node };
    two.until_second_serves();
    two
}

impl Two {
    fn until_state(&self, state: &str, cause: &str) {
        let is_so = |status: &serde_json::Value| {
            let nodes = status["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|it| it["node"] == self.node.as_str());
            node.is_some_and(|it| {
                it["state"] == state && it["cause"].as_str().unwrap_or_default() == cause
            })
        };
        self.first.until_status(&format!("{state} {cause}"), is_so);
    }

    /// Submits so much that each node that takes mail gets some.
    fn submit_at_once(&mut self, count: usize) {
        let info = self.first.pid("info-agent");
        kill(info, Signal::SIGSTOP).unwrap();
        self.first.submit(count);
        kill(info, Signal::SIGCONT).unwrap();
    }

    /// Submits until the second node has sent some more.
    fn until_second_serves(&mut self) {
        let before = self.second.sink.distinct();
        until(LONG, "mail at the second node", || {
            self.submit_at_once(20);
            self.second.sink.distinct() > before
        })
        .unwrap();
        self.first.expect_rest();
    }

    /// Submits mail, and waits until the first node has sent all that comes.
    fn first_sends_all(&mut self) {
        let before = self.first.sink.distinct();
        self.submit_at_once(40);
        until(LONG, "mail at the first node", || self.first.sink.distinct() == before + 40)
            .unwrap();
    }

    /// Expects that each submitted message has arrived once, at one of the nodes.
    fn expect_each_once(&self) {
        self.first.expect_rest();
        let deliveries = [&self.first, &self.second].map(|it| it.sink.received().len());
        let distinct = [&self.first, &self.second].map(|it| it.sink.distinct());
        assert_eq!(deliveries, distinct, "each once");
        assert_eq!(distinct.iter().sum::<usize>(), self.first.submitted());
    }

    fn signal(&self, names: &[&str], signal: Signal) {
        let pids = names.iter().flat_map(|name| match *name {
            "master" => vec![self.second.postfix.master_pid()],
            name => self.second.postfix.daemon_pids(name),
        });
        pids.for_each(|pid| kill(Pid::from_raw(pid), signal).unwrap());
    }

    fn expect_words(&self, words: &str) {
        let (_, told) = self.first.optimus(&["status"]);
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_frozen_pickup_rs_gets_no_mail_until_it_goes_on() {
    let mut two = two(|it| it);
    two.signal(&["pickup-rs"], Signal::SIGSTOP);
    two.first_sends_all();
    two.until_state("suspect", "silent");
    two.expect_words("pickup-rs does not answer");
    two.first_sends_all();
    two.signal(&["pickup-rs"], Signal::SIGCONT);
    two.until_state("up", "");
    two.until_second_serves();
    two.expect_each_once();
}

#[test]
fn a_frozen_queue_manager_gets_no_more_mail_until_it_goes_on() {
    let mut two = two(|it| it);
    two.signal(&["master", "qmgr"], Signal::SIGSTOP);
    two.submit_at_once(60);
    two.until_state("suspect", "manager");
    let committed = |two: &Two| {
        let status = two.first.status();
        let nodes = status["nodes"].as_array().unwrap().clone();
        let it = nodes.into_iter().find(|it| it["node"] == two.node.as_str()).unwrap();
        (it["pending"].as_u64().unwrap(), it["committed"].as_u64().unwrap())
    };
    until(LONG, "its lots to move", || committed(&two).0 == 0).unwrap();
    let (_, stays) = committed(&two);
    assert!(stays > 0, "it had mail");
    two.first_sends_all();
    assert_eq!(committed(&two), (0, stays));
    two.signal(&["master", "qmgr"], Signal::SIGCONT);
    two.until_state("up", "");
    two.until_second_serves();
    two.expect_each_once();
}

#[test]
fn a_node_with_a_full_disk_hands_its_lots_back_and_serves_again_when_there_is_room() {
    let disk = |it: PostfixBuilder| it.queue_disk(1 << 20);
    if disk(Postfix::builder()).prepare().is_err() {
        return eprintln!("not tried: nothing may be mounted here");
    }
    let mut two = two(disk);
    let ballast = two.second.postfix.queue_dir().join("ballast");
    fill(Path::new(&ballast));
    two.first_sends_all();
    two.until_state("suspect", "room");
    two.expect_words("make room on the disk of its queue");
    two.first_sends_all();
    std::fs::remove_file(ballast).unwrap();
    two.until_state("up", "");
    two.until_second_serves();
    two.expect_each_once();
}

#[test]
fn a_drained_node_gets_no_mail_until_it_is_drained_no_more() {
    let mut two = two(|it| it);
    let node = two.node.clone();
    let (is_fine, text) = two.first.optimus(&["drain", &node]);
    assert!(is_fine && text.contains("0 messages stay with its Postfix"), "{text}");
    two.until_state("draining", "drained");
    let (_, again) = two.first.optimus(&["drain", &node]);
    assert!(again.contains("drained before"), "{again}");
    two.first_sends_all();
    // The order outlives the Mail Agent.
    two.second.kill_9("mail-agent");
    two.second.start("mail-agent");
    two.until_state("draining", "drained");
    two.first_sends_all();
    let (is_fine, text) = two.first.optimus(&["undrain", &node]);
    assert!(is_fine && text.contains("takes mail again"), "{text}");
    two.until_state("up", "");
    two.until_second_serves();
    two.expect_each_once();
    for command in ["drain", "undrain", "lost"] {
        let (is_fine, text) = two.first.optimus(&[command, "nobody"]);
        assert!(!is_fine && text.contains("node nobody: not known"), "{text}");
    }
}

#[test]
fn a_node_is_declared_lost_once_its_postfix_is_dead() {
    let mut two = two(|it| it);
    two.second.postfix.set_main(&["relayhost = [127.0.0.1]:1"]).unwrap();
    two.second.postfix.reload().unwrap();
    let node = two.node.clone();
    until(LONG, "deferred mail at the second node", || {
        two.submit_at_once(20);
        two.first.status()["deferred"]["total"].as_u64() > Some(0)
    })
    .unwrap();
    let (is_fine, text) = two.first.optimus(&["lost", &node]);
    assert!(!is_fine && text.contains("its Postfix runs"), "{text}");
    two.second.postfix.kill9_master();
    let (is_fine, text) = two.first.optimus(&["lost", &node]);
    assert!(is_fine && text.contains("are sent again"), "{text}");
    two.expect_each_once();
    assert!(two.first.counted("resent") > 0);
}
