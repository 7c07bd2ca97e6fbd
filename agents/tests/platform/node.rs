//! Tests of queue directories that are put back to an earlier state. No mail is lost, and no
//! settled mail goes to a node again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{Sink, Tally, until};

use super::common::{LONG, Plan, Platform};

const ROUND: usize = 20;

/// Plans a platform whose mail stays in the deferred queue until [`deliver`].
fn plan(postfix: fn(testbed::PostfixBuilder) -> testbed::PostfixBuilder) -> Plan {
    Plan { redis: true, postfix, ..Plan::default() }
}

const DEFERS: &str = "defer_transports = smtp relay";

fn running(postfix: fn(testbed::PostfixBuilder) -> testbed::PostfixBuilder) -> Platform {
    let mut platform = plan(postfix).start();
    platform.start("optimus");
    platform
}

/// Submits some mail, and waits until the node has all of it.
fn submit_to_node(platform: &mut Platform, all: usize) {
    platform.submit(ROUND);
    until(LONG, "mail to be deferred", || deferred(platform) == all).unwrap();
}

fn deferred(platform: &Platform) -> usize {
    platform.postfix.queue_files("deferred").len()
}

/// Copies the queue directory as a backup does: with modes and times, and other inodes.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn backup(platform: &Platform) -> PathBuf {
    let backup = platform.postfix.path().join("backup");
    platform.postfix.stop().unwrap();
    copy(platform.postfix.queue_dir(), &backup);
    platform.postfix.start().unwrap();
    backup
}

/// Stops Postfix, replaces everything in the queue directory, and starts Postfix.
fn put_back(platform: &Platform, backup: &Path) {
    platform.postfix.stop().unwrap();
    std::fs::remove_dir_all(platform.postfix.queue_dir()).unwrap();
    copy(backup, platform.postfix.queue_dir());
    as_postfix_starts(platform);
    let log = platform.log("optimus").len();
    platform.postfix.start().unwrap();
    until(LONG, "recovery", || {
        platform.log("optimus")[log..].contains("queue compared with Redis files=")
    })
    .unwrap();
}

/// Runs the check of the queue that `postfix start` runs before master. postsuper can't write its
/// log here, which does no harm.
fn as_postfix_starts(platform: &Platform) {
    platform.postfix.command("/usr/sbin/postsuper").status().unwrap();
}

/// Has the node deliver all its deferred mail.
fn deliver(platform: &Platform) {
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.reload().unwrap();
    until(LONG, "all to be delivered", || {
        platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
        platform.is_at_rest() && platform.postfix.queue_is_empty()
    })
    .unwrap_or_else(|error| panic!("{error}: {:#}", platform.status()));
}

fn tally(sink: &Sink, count: usize) -> Tally {
    let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
    Tally::of(names.iter().map(String::as_str), &sink.received())
}

/// Checks that mail that was committed after the copy, and is not in it, is sent again.
fn what_came_since_is_sent(platform: &mut Platform) {
    submit_to_node(platform, ROUND);
    let backup = backup(platform);
    submit_to_node(platform, 2 * ROUND);
    put_back(platform, &backup);
    platform.submit(ROUND);
    deliver(platform);
    let tally = tally(&platform.sink, 3 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(platform.counted("resent"), ROUND);
}

#[test]
fn a_queue_directory_that_is_put_back_loses_nothing_that_came_since() {
    let mut platform = running(|it| it.main(DEFERS).main("enable_long_queue_ids = yes"));
    what_came_since_is_sent(&mut platform);
    assert!(
        platform.log("optimus").contains("check whether the queue directory was put back"),
        "the operator is told"
    );
}

/// `postfix start` runs postsuper, which gives each file of a short queue id a name of its own.
#[test]
fn files_that_postfix_renames_are_sent_once() {
    let mut platform = running(|it| it.main(DEFERS));
    submit_to_node(&mut platform, ROUND);
    platform.postfix.stop().unwrap();
    let names = || {
        let files = platform.postfix.queue_files("deferred").into_iter();
        files.filter_map(|it| it.file_name().map(ToOwned::to_owned)).collect::<BTreeSet<_>>()
    };
    let before = names();
    let backup = platform.postfix.path().join("backup");
    // The old files stay, so that no new file gets one of their inodes.
    std::fs::rename(platform.postfix.queue_dir(), &backup).unwrap();
    copy(&backup, platform.postfix.queue_dir());
    as_postfix_starts(&platform);
    assert!(names().is_disjoint(&before), "all have other names");
    let log = platform.log("optimus").len();
    platform.postfix.start().unwrap();
    until(LONG, "recovery", || platform.log("optimus")[log..].contains("renamed=20 gone=0"))
        .unwrap();
    deliver(&platform);
    let tally = tally(&platform.sink, ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!([platform.counted("resent"), platform.counted("settled")], [0, ROUND]);
}

#[test]
fn a_queue_directory_with_short_queue_ids_that_is_put_back_loses_nothing_either() {
    let mut platform = running(|it| it.main(DEFERS));
    what_came_since_is_sent(&mut platform);
}

/// Deletes the folder with the node's identity and its mark. The queue files still name the node,
/// so their mail stays committed.
#[test]
fn a_node_whose_folder_is_deleted_keeps_its_mail() {
    let mut platform = running(|it| it.main(DEFERS).main("enable_long_queue_ids = yes"));
    submit_to_node(&mut platform, ROUND);
    platform.postfix.stop().unwrap();
    std::fs::remove_dir_all(platform.postfix.queue_dir().join("optimus")).unwrap();
    platform.postfix.start().unwrap();
    submit_to_node(&mut platform, 2 * ROUND);
    deliver(&platform);
    let tally = tally(&platform.sink, 2 * ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(platform.counted("resent"), 0);
}

/// Checks that mail delivered while the agents are away is settled by its absence, since the mark
/// covers it.
#[test]
fn mail_delivered_while_the_agents_are_away_is_not_sent_again() {
    let mut platform = running(|it| it.main(DEFERS));
    submit_to_node(&mut platform, ROUND);
    platform.kill_9("optimus");
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.restart().unwrap();
    until(LONG, "delivery", || {
        platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
        platform.sink.distinct() == ROUND && platform.postfix.queue_is_empty()
    })
    .unwrap();
    platform.start("optimus");
    platform.expect_rest();
    let tally = tally(&platform.sink, ROUND);
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(platform.counted("resent"), 0);
}
