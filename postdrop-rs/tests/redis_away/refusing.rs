//! Tests with a Redis that runs and refuses messages.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use spool::keys;
use testbed::{Redis, until};

use crate::support::{PATIENT, Site, assert_quiet_success};
use crate::{MESSAGE, MailLog, TIMEOUT, disown, file_name, in_doubt, load_library};

/// Checks that no message is in doubt where Redis refuses for good, and that the reason is logged.
#[test]
fn a_redis_that_refuses_sends_mail_to_the_maildrop() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    load_library(&mut site);
    site.redis().cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    let line = log.lines().remove(0);
    assert!(line.contains("OOM") && line.contains("redis.memory_mb"), "{line}");
    site.empty_maildrop();
    site.redis().cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    site.redis().cli(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    assert!(log.lines()[0].contains("NOAUTH"));
    site.empty_maildrop();

    let password = site.postfix.path().join("password");
    std::fs::write(&password, "secret\nsecond line\n").unwrap();
    let url = site.redis().url();
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o640)).unwrap();
    let password = password.display();
    site.settings(&format!("[redis]\nurl = \"{url}\"\npassword_file = \"{password}\"\n{PATIENT}"));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!((site.maildrop(), log.lines()), (Vec::new(), Vec::new()));
}

/// Checks that submission calls no function of Redis, so it waits for no agent.
#[test]
fn mail_is_submitted_to_a_redis_that_has_no_functions() {
    let mut site = Site::with_redis();
    for _ in 0..2 {
        assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    }
    assert_eq!(site.redis().cli(&["FUNCTION", "LIST"]).unwrap(), "");
    assert_eq!(site.take_messages().len(), 2);
}

/// Submits one more message, and checks that it goes to the maildrop for `reason` and is not in
/// doubt.
fn refused(site: &Site, log: &MailLog, reason: &str) {
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let (files, lines) = (site.maildrop(), log.lines());
    assert_eq!(files.len(), 1, "{reason}: {lines:?}");
    assert!(!file_name(&files[0].0).contains('.'), "{reason}: in doubt: {lines:?}");
    assert!(lines.len() == 1 && lines[0].contains(reason), "{reason}: {lines:?}");
    site.empty_maildrop();
}

/// Cases of refusal: the command that makes Redis refuse, a part of its error, and the command that
/// ends the refusal.
const REFUSALS: [(&[&str], &str, &[&str]); 5] = [
    (&["REPLICAOF", "127.0.0.1", "1"], "not the master", &["REPLICAOF", "NO", "ONE"]),
    (&["SET", keys::INBOX, "x"], "WRONGTYPE", &["DEL", keys::INBOX]),
    (&["ACL", "SETUSER", "default", "-rpush"], "NOPERM", &["ACL", "SETUSER", "default", "+rpush"]),
    (&["CONFIG", "SET", "maxmemory", "1"], "OOM", &["CONFIG", "SET", "maxmemory", "0"]),
    // The replicas may be back at any moment, so Redis is asked until the time is up.
    (
        &["CONFIG", "SET", "min-replicas-to-write", "1"],
        "NOREPLICAS",
        &["CONFIG", "SET", "min-replicas-to-write", "0"],
    ),
];

#[test]
fn the_maildrop_takes_a_message_after_any_refusal_of_redis() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    let url = site.redis().url();
    site.settings(&format!("[redis]\nurl = \"{url}\"\n{TIMEOUT}"));
    for (begin, reason, end) in REFUSALS {
        site.redis().cli(begin).unwrap();
        refused(&site, &log, reason);
        site.redis().cli(end).unwrap();
        // Redis takes messages again.
        assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
        assert_eq!(
            (site.take_messages().len(), site.maildrop().len(), log.lines().len()),
            (1, 0, 0),
            "{reason}"
        );
    }
}

/// Makes a snapshot fail, after which Redis refuses all writes.
#[test]
fn a_redis_that_could_not_save_sends_mail_to_the_maildrop() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    std::fs::create_dir(site.redis().socket().with_file_name("dump.rdb")).unwrap();
    site.redis().cli(&["CONFIG", "SET", "save", "3600 1"]).unwrap();
    site.redis().cli(&["BGSAVE"]).unwrap();
    let about = |redis: &Redis| redis.cli(&["INFO", "persistence"]).unwrap();
    let failed = || about(site.redis.as_ref().unwrap()).contains("rdb_last_bgsave_status:err");
    until(Duration::from_secs(60), "the failed save", failed).unwrap();
    refused(&site, &log, "MISCONF");
}

/// Keeps Redis busy by an endless script. Redis is first silent, like a slow one, and later
/// refuses.
#[test]
fn a_busy_redis_sends_mail_to_the_maildrop() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    let url = site.redis().url();
    site.settings(&format!("[redis]\nurl = \"{url}\"\n{TIMEOUT}"));
    site.redis().cli(&["CONFIG", "SET", "busy-reply-threshold", "1"]).unwrap();
    let socket = site.redis().socket();
    let mut endless = std::process::Command::new("redis-cli");
    let mut endless = endless
        .arg("-s")
        .arg(socket)
        .args(["EVAL", "while true do end", "0"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let busy = || {
        site.redis
            .as_ref()
            .unwrap()
            .cli(&["PING"])
            .is_err_and(|error| error.to_string().contains("BUSY"))
    };
    until(Duration::from_secs(60), "Redis to be busy", busy).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let (files, lines) = (site.maildrop(), log.lines());
    assert_eq!((files.len(), lines.len()), (1, 1), "{lines:?}");
    // Redis leaves its script now and then, but on a busy machine too rarely to answer in time.
    // Then either the greeting gets no answer and no message was submitted, or the message gets no
    // answer.
    let is_in_doubt = file_name(&files[0].0).ends_with(settings::IN_DOUBT_SUFFIX);
    assert_eq!(lines[0].contains("in doubt"), is_in_doubt, "{lines:?}");
    let is_named = ["BUSY", "the time limit was reached"].iter().any(|it| lines[0].contains(it));
    assert!(is_named || is_in_doubt, "{lines:?}");
    site.redis().cli(&["SCRIPT", "KILL"]).unwrap();
    endless.wait().unwrap();
    if is_in_doubt {
        // After the script, Redis may still read and take the request.
        load_library(&mut site);
        let id = in_doubt(&site);
        assert_eq!(disown(&mut site, &id), "disowned");
    }
    assert_eq!(site.take_messages().len(), 0);
}

/// Checks that the log names the limit of Redis and the remedy.
#[test]
fn a_redis_that_has_no_connection_left_is_named_with_the_remedy() {
    let mut site = Site::with_redis();
    let settings = format!("[redis]\nurl = \"{}\"\n{TIMEOUT}", site.redis().url());
    site.settings(&settings);
    let log = MailLog::of(&site);
    site.redis().cli(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    let _holder = std::os::unix::net::UnixStream::connect(site.redis().socket()).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    let line = log.lines().remove(0);
    assert!(line.contains("max number of clients reached; raise `maxclients`"), "{line}");
}

#[test]
fn a_redis_that_can_not_write_to_its_disk_is_named_with_the_remedy() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    // A folder in the place of the snapshot makes saving fail. Redis then refuses writes.
    std::fs::create_dir(site.redis().socket().with_file_name("dump.rdb")).unwrap();
    site.redis().cli(&["CONFIG", "SET", "save", "3600 1"]).unwrap();
    let _ = site.redis().cli(&["SAVE"]);
    let _ = site.redis().cli(&["BGSAVE"]);
    until(Duration::from_secs(20), "the failed save is noticed", || {
        let told = site.redis.as_ref().unwrap().cli(&["INFO", "persistence"]);
        told.is_ok_and(|it| it.contains("rdb_last_bgsave_status:err"))
    })
    .unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    let line = log.lines().remove(0);
    assert!(
        line.contains("MISCONF") && line.contains("; make room on the disk of Redis"),
        "{line}"
    );
}
