//! Tests of mail in the maildrop of a host that only submits: no agent and no Postfix runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use postfix_wire::QueueId;
use postfix_wire::record::{RecordType, put};
use spool::{LotNumber, MessageId, Server, Spool, Submission, keys};
use testbed::until;

use super::common::{LONG, Plan, Platform};

/// A process of `optimus maildrop`, which is killed when this value is dropped.
struct Keeper(Child);

impl Keeper {
    fn start(platform: &Platform) -> Self {
        let log = platform.postfix.path().join("maildrop.log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command: Command = platform.command("optimus");
        Self(command.arg("maildrop").stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Keeper {
    /// Kills the process, as `kill -9` does.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a message's records, with the id that postdrop writes into a submission in doubt.
fn records(id: MessageId) -> Vec<u8> {
    use RecordType::{Attr, End, From, Mesg, Norm, Rcpt, Time, Xtra};
    let attribute = format!("optimus_id={id}");
    let records = [
        (Time, "1 0"),
        (Attr, &attribute),
        (From, "a@example.org"),
        (Rcpt, "b@example.org"),
        (Mesg, ""),
        (Norm, "Subject: x"),
        (Xtra, ""),
        (End, ""),
    ];
    let mut bytes = Vec::new();
    records.iter().for_each(|(kind, data)| put(&mut bytes, *kind, data.as_bytes()));
    bytes
}

/// Leaves a submission in doubt as postdrop does: a finished file of some user.
pub(crate) fn leave_in_doubt(platform: &Platform, id: MessageId) -> QueueId {
    let maildrop = platform.postfix.queue_dir().join("maildrop");
    let temporary = maildrop.join("0.0");
    fs::write(&temporary, records(id)).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o744)).unwrap();
    chown(&temporary, Some(1234), None).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let queue_id = QueueId::short(now, fs::metadata(&temporary).unwrap().ino());
    fs::rename(&temporary, maildrop.join(format!("{queue_id}.in-doubt"))).unwrap();
    queue_id
}

/// Has Redis take a message into a lot.
fn store(platform: &Platform, id: MessageId) {
    let spool = Spool::new(Server::parse(&platform.redis.as_ref().unwrap().url()).unwrap());
    let records = records(id);
    let submission =
        Submission { id, uid: 1234, arrival_ms: id.unix_ms(), host: "x", records: &records[..] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        spool.submit(&submission).await.unwrap();
        spool.cut(LotNumber(1), 1, None).await.unwrap();
    });
}

fn files_in_doubt(platform: &Platform) -> usize {
    let is_in_doubt =
        |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "in-doubt");
    platform.postfix.queue_files("maildrop").iter().filter(|it| is_in_doubt(it)).count()
}

/// Checks that a message that Redis has is deleted there, and one that Redis lacks is disowned.
#[test]
fn mail_in_doubt_is_deleted_with_the_rest_and_by_its_id() {
    let platform = Plan { redis: true, ..Plan::default() }.start();
    platform.postfix.stop().unwrap();
    let [in_redis, nowhere, named] = [1, 2, 3].map(|n| MessageId::from_parts(now_ms(), n));
    store(&platform, in_redis);
    [in_redis, nowhere, named].iter().for_each(|id| drop(leave_in_doubt(&platform, *id)));
    let (is_fine, text) = platform.optimus(&["delete", &named.to_string()]);
    assert!(is_fine && text.contains("deleted in the maildrop: 1 in doubt"), "{text}");
    assert_eq!(files_in_doubt(&platform), 2);
    let not_held = format!("{nowhere} not placed on hold: mail in doubt in the maildrop");
    for which in [nowhere.to_string(), "--all".to_owned()] {
        let (is_fine, text) = platform.optimus(&["hold", &which]);
        assert!(!is_fine && text.contains(&not_held) && !text.contains("unknown"), "{text}");
        assert!(!text.contains(&format!("{in_redis} not")), "Redis has it, and holds it: {text}");
    }
    let (is_fine, text) = platform.optimus(&["release", "--all"]);
    assert!(is_fine && text.contains("Released from hold: 1 in Redis"), "{text}");
    let (is_fine, text) = platform.optimus(&["delete", "--from", "a@example.org"]);
    let not_looked_at = format!("{nowhere} not looked at: conditions on sender and recipients");
    assert!(
        !is_fine && text.contains("Deleted: 1 in Redis") && text.contains(&not_looked_at),
        "{text}"
    );
    assert_eq!(files_in_doubt(&platform), 2, "nobody reads their envelopes");
    let (is_fine, text) = platform.optimus(&["delete", "--all"]);
    assert!(is_fine && text.contains("deleted in the maildrop: 1 in doubt"), "{text}");
    assert_eq!(platform.postfix.queue_files("maildrop").len(), 0);
    assert_eq!(platform.redis_cli(&["--scan", "--pattern", keys::MESSAGES]), "");
}

fn now_ms() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

#[test]
fn doubt_is_resolved_without_agents_and_without_postfix() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.postfix.stop().unwrap();
    let (known, unknown) = (MessageId::new().unwrap(), MessageId::new().unwrap());
    store(&platform, known);
    platform.redis.as_mut().unwrap().kill9();
    leave_in_doubt(&platform, known);
    let to_be_sent = leave_in_doubt(&platform, unknown);

    let told = || fs::read_to_string(platform.postfix.path().join("maildrop.log")).unwrap();
    let first = Keeper::start(&platform);
    until(LONG, "the keeper to miss Redis", || told().contains("mail in the maildrop waits"))
        .unwrap();
    let (_, check) = platform.optimus(&["check"]);
    assert!(check.contains("2 in doubt"), "{check}");
    let (_, status) = platform.optimus(&["status"]);
    assert!(status.contains("; 2 submissions are in doubt"), "{status}");
    assert!(status.contains("in doubt   2 messages"), "{status}");
    drop(first);

    // One of two processes resolves the doubt, and the other does no harm. Redis never had
    // the message, and no pickup service will take it, so it is submitted again.
    let _keepers = [Keeper::start(&platform), Keeper::start(&platform)];
    platform.redis.as_mut().unwrap().restart().unwrap();
    until(LONG, "an empty maildrop", || maildrop(&platform).is_empty()).unwrap();
    assert!(told().contains(&format!("{to_be_sent}: submitted as ")), "{}", told());
    let inbox = platform.redis_cli(&["LRANGE", keys::INBOX, "0", "-1"]);
    assert!(inbox.lines().next().unwrap().contains(" 1234 "), "the user: {inbox}");
    assert!(!inbox.contains("optimus_id="), "{inbox}");
    let (_, check) = platform.optimus(&["check"]);
    assert!(!check.contains("in doubt"), "{check}");
}

/// Returns the names in the maildrop.
fn maildrop(platform: &Platform) -> Vec<String> {
    let maildrop = platform.postfix.queue_dir().join("maildrop");
    fs::read_dir(maildrop)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Kills `optimus maildrop` again and again, and starts Postfix meanwhile.
#[test]
fn mail_that_fell_to_the_maildrop_is_submitted_once_redis_is_back() {
    const COUNT: usize = 60;
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.postfix.stop().unwrap();
    platform.redis.as_mut().unwrap().kill9();
    platform.submit(COUNT);
    assert_eq!(maildrop(&platform).len(), COUNT);
    let (_, check) = platform.optimus(&["check"]);
    assert!(check.contains(&format!("{COUNT} stranded")), "{check}");
    status_tells_what_is_stranded_without_redis(&platform, COUNT);
    platform.redis.as_mut().unwrap().restart().unwrap();
    for round in 1..=5 {
        let _keeper = Keeper::start(&platform);
        let left = COUNT - round * COUNT / 8;
        until(LONG, "some mail to be submitted", || maildrop(&platform).len() < left).unwrap();
    }
    platform.postfix.start().unwrap();
    let _keeper = Keeper::start(&platform);
    platform.expect_all_once();
    until(LONG, "an empty maildrop", || maildrop(&platform).is_empty()).unwrap();
    let status = platform.status();
    assert_eq!(
        (&status["queue"]["stranded"], &status["queue"]["in_doubt"]),
        (&0.into(), &0.into())
    );
}

fn status_tells_what_is_stranded_without_redis(platform: &Platform, count: usize) {
    let output = platform.command("optimus").arg("status").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("OPTIMUS CRITICAL: redis at "), "{text}");
    let lines = [
        format!("; {count} messages lie in a maildrop that no pickup service reads\n"),
        format!("stranded   {count} messages in a maildrop that no pickup service reads\n"),
    ];
    assert!(lines.iter().all(|line| text.contains(line)), "{text}");
    let value = platform.status();
    let told = (&value["state"], &value["redis"]["reachable"], &value["queue"]["stranded"]);
    assert_eq!(told, (&"critical".into(), &false.into(), &count.into()));
}

/// Checks that files which an administrator requeues while Postfix is down are not taken for
/// submissions.
#[test]
fn requeued_files_stay_in_the_maildrop_for_stock_pickup() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.postfix.set_main(&["relayhost = [127.0.0.1]:1"]).unwrap();
    platform.postfix.reload().unwrap();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(1);
    until(LONG, "a deferred file", || platform.postfix.queue_files("deferred").len() == 1).unwrap();
    platform.postfix.stop().unwrap();
    // Without postlogd, postsuper fails to open the log file after its work.
    platform.postfix.command("/usr/sbin/postsuper").args(["-r", "ALL"]).output().unwrap();
    let before = maildrop(&platform);
    assert_eq!(before.len(), 1);
    let _keeper = Keeper::start(&platform);
    let told = || fs::read_to_string(platform.postfix.path().join("maildrop.log")).unwrap();
    until(LONG, "the keeper to look at it", || told().contains("not a submission")).unwrap();
    assert_eq!(maildrop(&platform), before);
}
