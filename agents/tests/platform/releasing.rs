//! Mail that waits in the memory of Postfix's queue manager is put on hold and released, under
//! either hand-off.
//!
//! The queue manager takes a file that comes back under its old name for the one that it has in its
//! memory, and removes it without a delivery. So a release gives another name (decision 0034).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use spool::keys;
use testbed::{PostfixBuilder, until};

use super::common::{LONG, Plan, Platform};
use super::operate::{postsuper, said};

const WAITING: usize = 12;

/// A site's settings.
type Site = fn(PostfixBuilder) -> PostfixBuilder;

/// A site without content rules, whose Postfix sends one message a second.
fn two_phase(it: PostfixBuilder) -> PostfixBuilder {
    it.main("smtp_destination_rate_delay = 1s").main("minimal_backoff_time = 1s")
}

/// A site like [`two_phase`] with a content rule that has no effect.
fn direct(it: PostfixBuilder) -> PostfixBuilder {
    two_phase(it).main("header_checks = static:DUNNO")
}

/// Starts a platform with mail in its queue manager's memory.
fn slow(postfix: Site) -> Platform {
    slow_with(postfix, Plan::default().settings)
}

fn slow_with(postfix: Site, settings: &'static str) -> Platform {
    let mut platform = Plan { redis: true, postfix, settings }.start();
    platform.start("optimus");
    platform.submit(WAITING);
    until(LONG, "all to wait in the queue manager", || {
        platform.postfix.queue_files("active").len() + platform.sink.distinct() >= WAITING
    })
    .unwrap();
    platform
}

/// Waits until all mail has arrived, and has Postfix try deferred mail meanwhile.
fn flushed(platform: &Platform) {
    let flush = || platform.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
    until(LONG, "all mail to arrive", || {
        flush();
        platform.is_at_rest()
    })
    .unwrap_or_else(|error| panic!("{error}: {}", platform.postfix.log()));
    platform.expect_all_once();
    assert_eq!(platform.counted("resent"), 0);
}

fn names(platform: &Platform, queue: &str) -> BTreeSet<String> {
    let name = |it: PathBuf| it.file_name().unwrap().to_str().unwrap().to_owned();
    platform.postfix.queue_files(queue).into_iter().map(name).collect()
}

/// Puts all mail on hold. Returns the names of its files.
fn held(platform: &Platform) -> BTreeSet<String> {
    let (is_fine, text) = platform.optimus(&["hold", "--all"]);
    assert!(is_fine, "{text}");
    let held = names(platform, "hold");
    assert!(!held.is_empty(), "{text}");
    held
}

/// Checks that the log has both names of each file, and that Postfix is done with it under the new
/// one.
fn expect_new_names(log: &str, held: &BTreeSet<String>) {
    for was in held {
        let words = format!("{was}: released from hold as ");
        let now = log.lines().find_map(|line| line.split_once(&words));
        let now = now.and_then(|(_, now)| now.split_whitespace().next());
        let Some(now) = now else { panic!("{was}: no new name: {log}") };
        assert!(log.contains(&format!("{now}: removed")), "{was}, {now}: {log}");
    }
}

#[test]
fn mail_that_waits_in_the_queue_manager_is_held_and_released_and_arrives_once() {
    for postfix in [two_phase as Site, direct] {
        let platform = slow(postfix);
        let held = held(&platform);
        let (is_fine, text) = platform.optimus(&["release", "--all"]);
        assert!(is_fine, "{text}");
        flushed(&platform);
        expect_new_names(&platform.postfix.log(), &held);
    }
}

fn done(platform: &Platform, option: &str) -> Output {
    let output = postsuper(platform, &[option, "ALL"], "");
    assert!(output.status.success(), "{option}: {}", said(&output));
    output
}

/// Without a Mail Agent, the command acts on the files itself.
#[test]
fn postsuper_holds_and_releases_mail_that_waits_in_the_queue_manager() {
    for postfix in [two_phase as Site, direct] {
        let mut platform = slow(postfix);
        done(&platform, "-h");
        let first = names(&platform, "hold");
        assert!(!first.is_empty());
        done(&platform, "-H");
        done(&platform, "-h");
        platform.terminate("optimus");
        let second = names(&platform, "hold");
        let output = done(&platform, "-H");
        let released = format!("postsuper: Released from hold: {} messages\n", second.len());
        assert!(said(&output).ends_with(&released), "{}", said(&output));
        let is_new = second.is_disjoint(&names(&platform, "deferred"));
        assert!(names(&platform, "hold").is_empty() && is_new, "{second:?}");
        platform.start("optimus");
        flushed(&platform);
        for was in first.union(&second) {
            let words = format!("{was}: released from hold as ");
            let log = platform.postfix.log() + &said(&output);
            assert!(log.contains(&words), "{was}: {log}");
        }
    }
}

/// The file of a direct hand-off doesn't tell whether Postfix had it before, and Redis can't be
/// asked. Under the other hand-off postsuper releases it all the same.
#[test]
fn mail_on_hold_is_released_when_redis_is_back_and_arrives_once() {
    for (postfix, is_direct) in [(two_phase as Site, false), (direct, true)] {
        let mut platform = slow(postfix);
        let held = held(&platform);
        platform.redis.as_mut().unwrap().kill9();
        let output = platform.command("optimus").args(["release", "--all"]).output().unwrap();
        let words = said(&output);
        assert!(words.contains("redis at ") && words.contains("Redis is not available"), "{words}");
        assert_eq!((output.status.code(), &names(&platform, "hold")), (Some(1), &held), "{words}");
        let output = postsuper(&platform, &["-H", "ALL"], "");
        let words = said(&output);
        assert!(words.contains("warning: mail in Redis: not changed: "), "{words}");
        assert_eq!(output.status.code(), Some(1), "{words}");
        let left = "left on hold: Redis can't be asked whether Postfix had this file before; \
            run the command again";
        let is_said = |was: &String| match is_direct {
            true => words.contains(&format!("{was}: {left}")),
            false => words.contains(&format!("{was}: released from hold as ")),
        };
        assert!(held.iter().all(is_said), "{words}");
        let on_hold = names(&platform, "hold");
        assert!(if is_direct { on_hold == held } else { on_hold.is_empty() }, "{on_hold:?}");
        platform.redis.as_mut().unwrap().restart().unwrap();
        until(LONG, "a release", || platform.optimus(&["release", "--all"]).0).unwrap();
        flushed(&platform);
    }
}

/// Redis dies after it has noted the order, and while the command waits for the Mail Agent.
#[test]
fn a_release_that_was_ordered_before_redis_died_is_carried_out_when_it_is_back() {
    // Nothing shows the command that the Mail Agent is stopped.
    let mut platform = slow_with(direct, "[agents]\nlease_ms = 600000\n");
    let held = held(&platform);
    let agents = platform.pid("optimus");
    kill(agents, Signal::SIGSTOP).unwrap();
    let mut command = platform.command("optimus");
    command.args(["release", "--all"]).stderr(Stdio::piped());
    let command = command.spawn().unwrap();
    let is_ordered = || !platform.redis_cli(&["--scan", "--pattern", keys::ORDERS]).is_empty();
    until(LONG, "the order", is_ordered).unwrap();
    platform.redis.as_mut().unwrap().kill9();
    let output = command.wait_with_output().unwrap();
    let words = said(&output);
    let is_known = ["can't tell what became of ", "the act may be done in part"];
    assert!(is_known.iter().any(|it| words.contains(it)), "{words}");
    assert!(words.contains("redis at ") && words.contains("Redis is not available"), "{words}");
    assert_eq!((output.status.code(), names(&platform, "hold")), (Some(1), held), "{words}");
    platform.redis.as_mut().unwrap().restart().unwrap();
    kill(agents, Signal::SIGCONT).unwrap();
    flushed(&platform);
}

/// Checks that a running Mail Agent releases the mail in hold. Redis doesn't know in which queue of
/// Postfix a message is.
#[test]
fn postsuper_orders_the_release_of_all_in_hold_from_the_mail_agent() {
    let platform = slow(two_phase);
    let output = postsuper(&platform, &["-h", "ALL"], "");
    assert!(output.status.success(), "{}", said(&output));
    let held = platform.postfix.queue_files("hold").len();
    assert!(held > 0);
    let output = postsuper(&platform, &["-H", "ALL", "hold"], "");
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains(": released from hold as "), "{}", said(&output));
    let released = format!("postsuper: Released from hold: {held} messages\n");
    assert!(said(&output).ends_with(&released), "{held}: {}", said(&output));
    flushed(&platform);
}

/// Returns the files of a queue by their inodes.
fn by_inode(platform: &Platform, queue: &str) -> BTreeMap<u64, PathBuf> {
    let files = platform.postfix.queue_files(queue).into_iter();
    files.map(|path| (path.metadata().unwrap().ino(), path)).collect()
}

/// Undoes renames that Redis has noted, as a power failure does.
#[test]
fn mail_whose_release_is_undone_is_on_hold_and_arrives_once_after_another() {
    let postfix: Site = |it| two_phase(it).main("defer_transports = smtp");
    let mut platform = Plan { redis: true, postfix, ..Plan::default() }.start();
    platform.start("optimus");
    platform.submit(3);
    until(LONG, "deferred mail", || platform.postfix.queue_files("deferred").len() == 3).unwrap();
    let held = held(&platform);
    let was = by_inode(&platform, "hold");
    let (is_fine, text) = platform.optimus(&["release", "--all"]);
    assert!(is_fine, "{text}");
    platform.terminate("optimus");
    platform.postfix.stop().unwrap();
    for queue in ["incoming", "active", "deferred"] {
        for (inode, now) in by_inode(&platform, queue) {
            std::fs::rename(now, &was[&inode]).unwrap();
        }
    }
    assert_eq!(names(&platform, "hold"), held);
    platform.postfix.set_main(&["defer_transports ="]).unwrap();
    platform.postfix.start().unwrap();
    platform.start("optimus");
    let is_compared = || platform.log("optimus").matches("queue compared with Redis").count() >= 2;
    until(LONG, "a comparison", is_compared).unwrap();
    let (is_fine, text) = platform.optimus(&["release", "--all"]);
    assert!(is_fine && names(&platform, "hold").is_empty(), "{text}");
    flushed(&platform);
}
