//! Tests of settling: an administrator's `postsuper` runs in a tight loop beside submission, and no
//! accepted mail vanishes.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use testbed::until;

use super::common::{LONG, Plan, Platform};

/// Number of messages, so that several files lie in hold while `postsuper` reads it.
const COUNT: usize = 120;

/// Plans a platform whose stock pickup looks at its maildrop every second, for files that
/// `postsuper -r` puts there.
fn plan() -> Plan {
    Plan {
        settings: "[agents]\nlease_ms = 1000\n[pickup]\nrescan_s = 1\n",
        postfix: |it| it.service("pickup unix n - n 1 1 pickup"),
        ..Plan::default()
    }
}

/// A loop that runs `postsuper` with some words until it is dropped.
struct Postsuper(Child);

impl Postsuper {
    fn in_a_loop(platform: &Platform, words: &str) -> Self {
        let script = format!("while :; do /usr/sbin/postsuper {words} 2>/dev/null; done");
        let mut command = platform.postfix.command("/bin/sh");
        Self(command.args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Postsuper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn running() -> Platform {
    let mut platform = plan().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform
}

fn postsuper(platform: &Platform, words: &[&str]) {
    assert!(
        platform.postfix.command("/usr/sbin/postsuper").args(words).status().unwrap().success()
    );
}

/// Waits until Redis and Postfix keep no mail. Returns the ids of the mail that has arrived.
fn arrived(platform: &Platform) -> BTreeSet<String> {
    // The last `postsuper` outlives its loop. Mail that was released from hold, or has failed,
    // waits in deferred for its time.
    until(LONG, "all to be empty", || {
        postsuper(platform, &["-H", "ALL"]);
        platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
        platform.is_at_rest() && left(platform).is_empty()
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", left(platform)));
    platform.sink.received().into_iter().filter_map(|it| it.test_id).collect()
}

/// Returns the finished files. An unfinished one doesn't count: of a file that cleanup is writing,
/// `postsuper -r` makes one that nobody reads.
fn left(platform: &Platform) -> Vec<PathBuf> {
    let queues = ["maildrop", "hold", "incoming", "active", "deferred", "optimus/prepared"];
    let files = queues.iter().flat_map(|queue| platform.postfix.queue_files(queue));
    files.filter(|it| it.metadata().is_ok_and(|it| it.permissions().mode() & 0o100 != 0)).collect()
}

fn all() -> BTreeSet<String> {
    (0..COUNT).map(|n| format!("m{n}")).collect()
}

#[test]
fn deleting_all_mail_on_hold_deletes_no_mail_that_nobody_has_held() {
    let mut platform = running();
    let postsuper = Postsuper::in_a_loop(&platform, "-d ALL hold");
    platform.submit(COUNT);
    platform.expect_all_once();
    drop(postsuper);
}

#[test]
fn pickup_and_agents_killed_meanwhile_lose_nothing_either() {
    let mut platform = running();
    let postsuper = Postsuper::in_a_loop(&platform, "-d ALL hold");
    for round in 0..6 {
        platform.submit(COUNT / 6);
        match round % 3 {
            0 => drop(platform.postfix.kill9_daemon("pickup-rs")),
            1 => platform.postfix.reload().unwrap(),
            _ => {
                platform.kill_9("optimus");
                platform.start("optimus");
                platform.wait_for_redis();
            }
        }
    }
    drop(postsuper);
    assert_eq!(arrived(&platform), all());
}

#[test]
fn holding_all_mail_and_releasing_it_loses_nothing() {
    let mut platform = running();
    let holding = Postsuper::in_a_loop(&platform, "-h ALL");
    let releasing = Postsuper::in_a_loop(&platform, "-H ALL");
    platform.submit(COUNT);
    drop(holding);
    drop(releasing);
    assert_eq!(arrived(&platform), all());
}

#[test]
fn requeuing_all_mail_loses_nothing() {
    let mut platform = running();
    let postsuper = Postsuper::in_a_loop(&platform, "-r ALL");
    platform.submit(COUNT);
    drop(postsuper);
    assert_eq!(arrived(&platform), all());
}

/// Checks that an administrator's deletion removes released mail alone.
#[test]
fn deleting_all_mail_deletes_only_what_was_released() {
    let mut platform = running();
    let postsuper = Postsuper::in_a_loop(&platform, "-d ALL");
    platform.submit(COUNT);
    until(LONG, "redis to be empty", || platform.is_at_rest()).unwrap();
    drop(postsuper);
    let arrived = arrived(&platform).len();
    // Postfix's log may lag behind the deletions.
    let accounted = || arrived + deleted_unsent(&platform.postfix.log());
    until(LONG, "each message to be sent or deleted", || accounted() >= COUNT)
        .unwrap_or_else(|error| panic!("{error}: {arrived} sent, {} accounted for", accounted()));
}

/// Counts the messages in the mail log that `postsuper` has deleted, except those that were fed
/// again or delivered.
fn deleted_unsent(log: &str) -> usize {
    let counts =
        log.lines().filter_map(|line| line.split_once("]: Deleted: ")?.1.split(' ').next());
    let deleted: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
    let gone = |line: &&str| line.contains(" from active: No such file");
    let sent = log.lines().filter(gone).count();
    deleted.saturating_sub(log.matches("so fed again").count() + sent)
}

/// Deletes all prepared files again and again, until the value is dropped.
fn deleting_prepared(platform: &Platform) -> Postsuper {
    let prepared = platform.postfix.queue_dir().join("optimus/prepared");
    let script = format!("while :; do rm -f {}/*; done", prepared.display());
    let mut command = platform.postfix.command("/bin/sh");
    let log = File::create(platform.postfix.path().join("rm.log")).unwrap();
    Postsuper(command.args(["-c", &script]).stderr(log).spawn().unwrap())
}

/// Checks a committed file that an administrator deletes by hand: its commit is taken back.
#[test]
fn a_committed_file_that_is_deleted_before_its_release_is_sent_by_another_file() {
    let mut platform = running();
    platform.submit(1);
    platform.expect_all_once();
    let deleting = deleting_prepared(&platform);
    platform.submit(20);
    until(LONG, "a commit to be taken back", || platform.counted("uncommitted") > 0).unwrap();
    drop(deleting);
    platform.expect_all_once();
}

fn deleted_before_release(platform: &Platform) -> usize {
    platform.postfix.log().matches("deleted before the release").count()
}

/// Kills Mail Agents that have yet to take back the commits of such files.
#[test]
fn mail_agents_killed_after_committed_files_were_deleted_lose_nothing() {
    let mut platform = Plan { redis: true, ..plan() }.start();
    platform.start("optimus");
    platform.submit(1);
    platform.expect_all_once();
    let deleting = deleting_prepared(&platform);
    for _ in 0..6 {
        let before = deleted_before_release(&platform);
        platform.submit(20);
        let is_deleted = || deleted_before_release(&platform) > before;
        until(LONG, "a committed file to be deleted", is_deleted).unwrap();
        platform.kill_9("optimus");
        platform.start("optimus");
    }
    drop(deleting);
    let submitted: BTreeSet<String> = (0..121).map(|n| format!("m{n}")).collect();
    assert_eq!(arrived(&platform), submitted);
}

/// Deletes prepared files again and again. The log must report it, and no message may be given up.
#[test]
fn prepared_files_deleted_again_and_again_are_reported_and_lose_nothing() {
    let mut platform = running();
    platform.submit(1);
    platform.expect_all_once();
    let deleting = deleting_prepared(&platform);
    until(LONG, "the operator to be told", || {
        platform.submit(5);
        platform.log("optimus").contains("vanished before their release")
    })
    .unwrap();
    drop(deleting);
    platform.expect_all_once();
}

#[test]
fn a_file_that_the_administrator_holds_after_its_release_stays_held() {
    let mut platform = plan().start();
    platform.postfix.set_main(&["relayhost = [127.0.0.1]:1"]).unwrap();
    platform.postfix.reload().unwrap();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(1);
    until(LONG, "a deferred file", || platform.postfix.queue_files("deferred").len() == 1).unwrap();
    postsuper(&platform, &["-h", "ALL"]);
    platform.postfix.kill9_daemon("pickup-rs").unwrap();
    platform.kill_9("optimus");
    platform.start("optimus");
    platform.wait_for_redis();
    until(LONG, "another recovery", || {
        platform.log("optimus").matches("queue compared with Redis").count() >= 2
    })
    .unwrap();
    assert_eq!(platform.postfix.queue_files("hold").len(), 1);
    assert!(platform.postfix.queue_files("optimus/prepared").is_empty());
}

/// Returns owner, group and mode of OPTIMUS's folders in the queue directory.
fn our_folders(platform: &Platform) -> Vec<(PathBuf, u32, u32, u32)> {
    let top = platform.postfix.queue_dir().join("optimus");
    let below = std::fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = below.chain([top.clone()]).filter(|it| it.is_dir()).collect();
    folders.sort();
    let of = |path: PathBuf| {
        let it = path.metadata().unwrap();
        (path, it.uid(), it.gid(), it.mode() & 0o7777)
    };
    folders.into_iter().map(of).collect()
}

#[test]
fn repairs_by_postfix_leave_the_folders_of_optimus_as_they_are() {
    let mut platform = running();
    platform.submit(1);
    platform.expect_all_once();
    platform.postfix.limit_repairs().unwrap();
    let before = our_folders(&platform);
    assert!(before.len() >= 2, "{before:?}");
    for words in ["set-permissions", "check"] {
        let output = platform.postfix.command("/usr/sbin/postfix").arg(words).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains("optimus"), "{words}: {said}");
        assert_eq!(our_folders(&platform), before, "{words}");
    }
    platform.submit(1);
    platform.expect_all_once();
}
