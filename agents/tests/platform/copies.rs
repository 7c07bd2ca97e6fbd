//! Tests of copies of a queue directory: one of them is the node, and no other one settles or sends
//! that node's mail. Each server has its own Postfix, sink and Mail Agent, and both use the first
//! server's Redis.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use spool::MessageId;
use testbed::{Delivery, Tally, until};

use super::DAEMONS;
use super::common::{LONG, Plan, Platform};

const ROUND: usize = 20;
/// Time after which a refused directory is certainly a copy, as in pickup-rs.
const CERTAIN: Duration = Duration::from_secs(12);
const COPY: &str = "not served: a copy";

/// An original with all agents, and a server beside it whose Postfix doesn't run yet.
struct Two {
    original: Platform,
    beside: Platform,
}

/// Plans a server whose mail stays in the deferred queues until [`deliver`].
fn plan(redis: bool) -> Plan {
    let postfix = |it: testbed::PostfixBuilder| it.main(DEFERS).main("enable_long_queue_ids = yes");
    Plan { redis, postfix, ..Plan::default() }
}

const DEFERS: &str = "defer_transports = smtp relay";

fn two() -> Two {
    two_with(Plan::default().settings)
}

fn two_with(settings: &'static str) -> Two {
    let mut original = Plan { settings, ..plan(true) }.start();
    let beside = Plan { settings, ..plan(false) }.start_beside(&original);
    beside.postfix.stop().unwrap();
    DAEMONS.iter().for_each(|name| original.start(name));
    Two { original, beside }
}

/// Returns an original with mail from before and from after the copy of its queue directory was
/// made. The copy is not started.
fn copied_with(settings: &'static str) -> Two {
    let mut two = two_with(settings);
    two.submit_to_original(ROUND);
    two.copy();
    two.original.postfix.start().unwrap();
    two.submit_to_original(2 * ROUND);
    two
}

/// Returns the servers of [`copied_with`] after the copy was started and refused.
fn refused() -> Two {
    let mut two = copied_with(Plan::default().settings);
    two.start_copy();
    two.copy_is_refused();
    two
}

impl Two {
    /// Submits some mail, and waits until the original has all of it in its deferred queue.
    fn submit_to_original(&mut self, all: usize) {
        self.original.submit(ROUND);
        until(LONG, "mail to be deferred", || deferred(&self.original) == all)
            .unwrap_or_else(|error| panic!("{error}: {:#}", self.original.status()));
    }

    /// Copies the queue directory, while the original's Postfix is stopped.
    fn copy(&self) {
        self.original.postfix.stop().unwrap();
        let (from, to) = (self.original.postfix.queue_dir(), self.beside.postfix.queue_dir());
        std::fs::remove_dir_all(to).unwrap();
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// Puts a submission in doubt, which Redis never had, into the copy's maildrop.
    fn put_in_doubt(&self) -> PathBuf {
        let maildrop = self.beside.postfix.queue_dir().join("maildrop");
        let path = maildrop.join(format!("4C1B21A0.{}.in-doubt", MessageId::new().unwrap()));
        std::fs::write(&path, "").unwrap();
        // Mode 0700 marks a finished file.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let owner = std::fs::metadata(&maildrop).unwrap();
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        path
    }

    /// Starts Postfix and the Mail Agent on the other server.
    fn start_copy(&mut self) {
        self.beside.postfix.start().unwrap();
        self.beside.start("mail-agent");
    }

    /// Waits until the copy logs its refusal as a copy.
    fn copy_is_refused(&self) {
        until(LONG, "the copy to be refused", || self.beside.log("mail-agent").contains(COPY))
            .unwrap_or_else(|error| panic!("{error}: {}", self.beside.postfix.log()));
    }

    /// Waits until each of the two directories is a node.
    fn both_serve(&self) {
        let lives = |it: &serde_json::Value| it["nodes"].as_array().unwrap().len() == 2;
        self.original.until_status("two nodes", lives);
    }

    fn received(&self) -> Vec<Delivery> {
        [self.original.sink.received(), self.beside.sink.received()].concat()
    }
}

fn deferred(platform: &Platform) -> usize {
    platform.postfix.queue_files("deferred").len()
}

fn identity(platform: &Platform) -> String {
    std::fs::read_to_string(platform.postfix.queue_dir().join("optimus/node/identity")).unwrap()
}

/// Has this server deliver all its deferred mail.
fn deliver(platform: &Platform) {
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.reload().unwrap();
    until(LONG, "all to be delivered", || {
        platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
        platform.postfix.queue_is_empty()
    })
    .unwrap();
}

fn tally(deliveries: &[Delivery], count: usize) -> Tally {
    let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
    Tally::of(names.iter().map(String::as_str), deliveries)
}

const MANUAL: &str = include_str!("../../../docs/man/optimus.1.in");
const DECISION: &str =
    include_str!("../../../docs/decisions/0030-no-word-makes-a-copy-the-node.md");

/// Checks that a text names the remedies for a refused copy. In status, check, man page and
/// decision record they are the same.
fn names_the_remedies(text: &str) {
    let plain = text.replace('\\', "").to_lowercase();
    for remedy in ["stop postfix", "postsuper -d -", "optimus node new --even-with-mail"] {
        assert!(plain.contains(remedy), "{remedy}: {text}");
    }
    // Nor does any of them name the command without the option, which is refused.
    let commands = plain.matches("optimus node new").count();
    assert_eq!(commands, plain.matches("optimus node new --even-with-mail").count(), "{text}");
}

/// Counts the files of messages that were never released.
fn prepared(platform: &Platform) -> usize {
    std::fs::read_dir(platform.postfix.queue_dir().join("optimus/prepared"))
        .map_or(0, Iterator::count)
}

#[test]
fn a_copy_settles_nothing_and_the_original_goes_on() {
    let mut two = copied_with(Plan::default().settings);
    let in_doubt = two.put_in_doubt();
    two.start_copy();
    two.copy_is_refused();
    std::fs::remove_file(in_doubt).expect("a submission in doubt is the original's to decide");
    let (is_well, told) = two.beside.optimus(&["check"]);
    let says = |told: &str| told.contains(COPY) && told.contains("sends the 20 messages");
    assert!(!is_well && says(&told), "{told}");
    names_the_remedies(told.lines().find(|line| line.contains(COPY)).unwrap());
    names_the_remedies(MANUAL.split(".SH ").find(|it| it.starts_with("COPIED SERVERS")).unwrap());
    names_the_remedies(DECISION);
    let status = two.beside.status();
    assert!(status["state"] == "critical" && says(&status.to_string()), "{status:#}");
    let pause = &status["queue"]["pause"];
    assert!(pause["cause"] == "copy" && pause["for_s"].is_u64(), "{status:#}");
    let status = two.original.until_status("the copy to be named", |it| !it["copies"][0].is_null());
    let place = two.beside.postfix.queue_dir().display().to_string();
    assert!(status["copies"][0]["host"].as_str().unwrap().contains(&place), "{status:#}");
    // The original's host also names the copy in text.
    let (is_well, told) = two.original.optimus(&["status"]);
    let node = identity(&two.original);
    let words = format!(
        "{place}: not served: a copy of node {}, which is served by ",
        node.split_whitespace().next().unwrap()
    );
    assert!(!is_well && told.contains(&words), "{told}");
    names_the_remedies(told.lines().find(|line| line.contains(&words)).unwrap());
    // The copy's Postfix sends the mail that was in the queue when it was copied.
    deliver(&two.beside);
    assert!(tally(&two.beside.sink.received(), ROUND).is_clean());
    two.submit_to_original(3 * ROUND);
    assert_eq!(two.original.counted("settled"), 0);
    deliver(&two.original);
    two.original.expect_rest();
    let tally = tally(&two.original.sink.received(), 3 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!([two.original.counted("settled"), two.original.counted("resent")], [3 * ROUND, 0]);
    assert_eq!(
        two.beside.sink.received().len() + prepared(&two.beside),
        ROUND,
        "nothing new is sent there"
    );
}

/// Checks that `optimus node new` makes a copy with mail a node of its own.
#[test]
fn a_copy_with_mail_becomes_a_node_of_its_own_when_it_must() {
    let mut two = two();
    two.submit_to_original(ROUND);
    let (is_done, told) = two.original.optimus(&["node", "new", "--even-with-mail"]);
    assert!(!is_done && told.contains("no other server serves node"), "{told}");
    two.copy();
    two.original.postfix.start().unwrap();
    two.submit_to_original(2 * ROUND);
    two.start_copy();
    two.copy_is_refused();
    let (is_done, told) = two.beside.optimus(&["node", "new"]);
    assert!(!is_done && told.contains("the queue carries 20 messages of node"), "{told}");
    let (is_done, told) = two.beside.optimus(&["node", "new", "--even-with-mail"]);
    assert!(is_done && told.contains("from now on"), "{told}");
    assert_ne!(identity(&two.beside), identity(&two.original));
    two.both_serve();
    deliver(&two.beside);
    assert_eq!(two.original.counted("settled"), 0, "copies are the other Postfix's alone");
    deliver(&two.original);
    two.original.expect_rest();
    let tally = tally(&two.original.sink.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
}

/// Deletes all files of this server's deferred queue by OPTIMUS's postsuper.
fn delete_deferred(platform: &Platform) {
    let files = platform.postfix.queue_files("deferred").into_iter();
    let names = files.flat_map(|it| ["-d".into(), it.file_name().unwrap().to_owned()]);
    let mut command = platform.command("optimus");
    assert!(command.arg0("postsuper").args(names).status().unwrap().success());
    assert_eq!(deferred(platform), 0);
}

/// Checks the remedy for a refused directory, which gives up its copies and no other mail.
#[test]
fn mail_deleted_on_a_refused_copy_is_deleted_there_alone_and_the_copy_becomes_another_node() {
    let two = refused();
    delete_deferred(&two.beside);
    assert_eq!(deferred(&two.original), 2 * ROUND, "the original's mail was deleted");
    two.both_serve();
    deliver(&two.original);
    two.original.expect_rest();
    let tally = tally(&two.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
}

/// Checks the case of a copy that starts first. The original gives up its files, which are the
/// copy's now.
#[test]
fn an_original_that_is_refused_gives_its_copies_up_and_serves_as_another_node() {
    let mut two = two();
    two.submit_to_original(ROUND);
    two.original.terminate("mail-agent");
    two.copy();
    two.start_copy();
    two.original.submit(ROUND);
    until(LONG, "mail to reach the copy", || deferred(&two.beside) == 2 * ROUND).unwrap();
    two.original.postfix.start().unwrap();
    two.original.start("mail-agent");
    until(LONG, "refusal", || two.original.log("mail-agent").contains(COPY)).unwrap();
    delete_deferred(&two.original);
    two.both_serve();
    assert_ne!(identity(&two.beside), identity(&two.original));
    deliver(&two.beside);
    two.original.expect_rest();
    let tally = tally(&two.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(two.original.counted("resent"), 0);
}

/// Checks that a fresh refusal doesn't make a copy, as Redis may name this directory's place before
/// a crash.
#[test]
fn a_copy_becomes_a_node_of_its_own_no_sooner_than_it_is_certainly_a_copy() {
    let mut two = two();
    two.submit_to_original(ROUND);
    two.copy();
    two.original.postfix.start().unwrap();
    two.submit_to_original(2 * ROUND);
    let (before, started) = (identity(&two.beside), Instant::now());
    two.beside.postfix.start().unwrap();
    let new = || two.beside.optimus(&["node", "new", "--even-with-mail"]);
    until(LONG, "it to wait", || {
        let (is_done, told) = new();
        assert!(!is_done, "{told}");
        told.contains("the former process of node")
    })
    .unwrap();
    assert_eq!(identity(&two.beside), before);
    let told = two.beside.status();
    let is_said = told["queue"]["waits"].as_str().is_some_and(|it| it.contains("not served yet"));
    assert!(is_said && told["state"] != "ok", "{told:#}");
    until(LONG, "it to be certain", || new().0).unwrap();
    assert!(started.elapsed() >= CERTAIN, "by then the last word of a dead process lapsed");
    assert_ne!(identity(&two.beside), before);
}

#[test]
fn a_queue_directory_may_move_and_the_original_that_comes_back_is_refused() {
    let mut two = two();
    two.submit_to_original(ROUND);
    two.original.terminate("mail-agent");
    two.copy();
    two.start_copy();
    two.original.submit(ROUND);
    until(LONG, "mail to reach the new place", || deferred(&two.beside) == 2 * ROUND).unwrap();
    assert_eq!(identity(&two.beside), identity(&two.original));
    two.original.postfix.start().unwrap();
    two.original.start("mail-agent");
    until(LONG, "refusal", || two.original.log("mail-agent").contains(COPY)).unwrap();
    deliver(&two.beside);
    two.original.expect_rest();
    let tally = tally(&two.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!([two.original.counted("settled"), two.original.counted("resent")], [2 * ROUND, 0]);
    assert_eq!(deferred(&two.original), ROUND, "it goes on serving nothing");
}

/// The node must serve from the refused place: its latest state moves there.
#[test]
fn a_node_that_moves_to_the_place_of_its_refused_copy_goes_on_there() {
    let mut two = refused();
    two.beside.postfix.stop().unwrap();
    two.copy();
    two.beside.postfix.start().unwrap();
    two.original.submit(ROUND);
    until(LONG, "mail to reach the place", || deferred(&two.beside) == 3 * ROUND).unwrap();
    assert_eq!(identity(&two.beside), identity(&two.original));
    deliver(&two.beside);
    two.original.expect_rest();
    let tally = tally(&two.received(), 3 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!([two.original.counted("settled"), two.original.counted("resent")], [3 * ROUND, 0]);
}

/// Returns a server that was restored at another place, refused, and the latest state is gone.
fn restored() -> Two {
    let mut two = copied_with("[agents]\nlease_ms = 1000\nnode_loss_grace_s = 15\n");
    two.original.kill_9("mail-agent");
    two.original.postfix.kill9_master();
    two.start_copy();
    two.copy_is_refused();
    two
}

/// Waits until others have all that the former node had committed.
fn resent(two: &Two) {
    until(LONG, "mail to be sent again", || two.original.counted("resent") == 2 * ROUND).unwrap();
    let is_told = || two.original.log("scheduler-agent").contains("mail taken from dead nodes");
    until(LONG, "the Scheduler to say so", is_told).unwrap();
}

#[test]
fn a_restored_original_gives_its_copies_up_and_what_the_former_node_had_is_sent_again() {
    let two = restored();
    let former = identity(&two.beside);
    delete_deferred(&two.beside);
    until(LONG, "another name", || identity(&two.beside) != former).unwrap();
    resent(&two);
    until(LONG, "mail to be here", || deferred(&two.beside) == 2 * ROUND).unwrap();
    deliver(&two.beside);
    two.original.expect_rest();
    let tally = tally(&two.beside.sink.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
}

#[test]
fn a_restored_original_that_sends_its_mail_at_once_has_it_sent_again_after_the_grace() {
    let two = restored();
    let (is_done, told) = two.beside.optimus(&["node", "new"]);
    assert!(!is_done && told.contains("the queue carries 20 messages of node"), "{told}");
    let (is_done, told) = two.beside.optimus(&["node", "new", "--even-with-mail"]);
    assert!(is_done, "{told}");
    deliver(&two.beside);
    two.beside.sink_has(ROUND);
    resent(&two);
    two.beside.sink_has(2 * ROUND);
    two.original.expect_rest();
    let all = tally(&two.beside.sink.received(), 2 * ROUND);
    assert_eq!((all.lost, two.beside.sink.count()), (0, 3 * ROUND), "{all:?}");
}

#[test]
fn a_copy_without_mail_takes_a_name_of_its_own_and_both_serve() {
    let mut two = two();
    two.submit_to_original(ROUND);
    deliver(&two.original);
    two.original.expect_rest();
    two.copy();
    two.original.postfix.start().unwrap();
    // The server that attends first is the node; the Mail Agent of the other server ends.
    two.original.submit(ROUND);
    two.original.expect_rest();
    two.start_copy();
    two.both_serve();
    assert_ne!(identity(&two.beside), identity(&two.original));
    two.beside.postfix.set_main(&["defer_transports ="]).unwrap();
    two.beside.postfix.reload().unwrap();
    two.original.submit(10 * ROUND);
    two.original.expect_rest();
    let tally = tally(&two.received(), 12 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
}

/// Checks the case in which the identity alone is removed while the queue is empty.
#[test]
fn a_node_whose_identity_is_removed_is_the_same_node() {
    let mut two = two();
    two.submit_to_original(ROUND);
    deliver(&two.original);
    let before = identity(&two.original);
    two.original.postfix.stop().unwrap();
    std::fs::remove_file(two.original.postfix.queue_dir().join("optimus/node/identity")).unwrap();
    two.original.postfix.start().unwrap();
    two.original.submit(ROUND);
    two.original.expect_rest();
    assert_eq!(identity(&two.original), before);
    let tally = tally(&two.original.sink.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
}

#[test]
fn a_node_that_is_killed_is_not_refused_when_it_is_back_at_once() {
    let mut two = two();
    two.submit_to_original(ROUND);
    for _ in 0..3 {
        two.original.postfix.kill9_master();
        two.original.postfix.start().unwrap();
        let pickup = || two.original.postfix.kill9_daemon("pickup-rs");
        until(LONG, "pickup-rs", || pickup().is_ok()).unwrap();
    }
    two.submit_to_original(2 * ROUND);
    assert!(
        !two.original.log("mail-agent").contains(COPY)
            && !is_refused(two.original.postfix.log_file())
    );
    deliver(&two.original);
    two.original.expect_rest();
    let tally = tally(&two.original.sink.received(), 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(two.original.counted("resent"), 0);
}

fn is_refused(log: impl AsRef<Path>) -> bool {
    std::fs::read_to_string(log).unwrap().contains(COPY)
}
