//! Tests of operators' acts on mail: `optimus delete`, `hold`, `release`, and OPTIMUS's postsuper.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use spool::MessageId;
use testbed::{PostfixBuilder, until};

use super::common::{LONG, Plan, Platform};

fn running() -> Platform {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.until_status("all agents", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 3)
    });
    platform
}

/// Starts a platform and stops its Postfix, so that submitted mail stays in Redis.
fn stuck() -> Platform {
    let platform = running();
    stop(&platform);
    platform
}

fn stop(platform: &Platform) {
    platform.postfix.stop().unwrap();
    // Without a postlogd, stock postsuper writes the log itself, as mail_owner.
    for (name, mode) in [("log", 0o777), ("log/maillog", 0o666)] {
        let path = platform.postfix.path().join(name);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
}

pub(crate) fn postsuper(platform: &Platform, words: &[&str], input: &str) -> Output {
    let mut command: Command = platform.command("optimus");
    command.arg0("postsuper").args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A postsuper that ends early doesn't read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn listed(platform: &Platform) -> String {
    let output = platform.command("sendmail").arg("-bp").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn first_words(listing: &str) -> String {
    let is_entry = |line: &&str| line.starts_with("01");
    listing
        .lines()
        .filter(is_entry)
        .map(|line| format!("{}\n", line.split(' ').next().unwrap()))
        .collect()
}

#[test]
fn postsuper_deletes_all_accepted_mail_and_no_later_mail() {
    let mut platform = stuck();
    platform.submit(12);
    let output = postsuper(&platform, &["-d", "ALL"], "");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("postsuper: Deleted: 12 messages\n"), "{}", said(&output));
    assert!(listed(&platform).contains("Mail queue is empty"), "{}", listed(&platform));
    platform.postfix.start().unwrap();
    platform.submit(1);
    until(LONG, "the later one", || platform.sink.received().len() == 1).unwrap();
    platform.until_status("rest", |status| {
        status["backlog"] == 0 && status["lots"]["inbox"]["entries"] == 0
    });
    assert_eq!(platform.sink.received().len(), 1);
}

#[test]
fn nothing_is_sent_after_everything_was_deleted_while_it_is_fed() {
    let mut platform = stuck();
    platform.submit(60);
    // The command comes while messages are being fed.
    platform.postfix.start().unwrap();
    let output = postsuper(&platform, &["-d", "ALL"], "");
    assert!(output.status.success(), "{}", said(&output));
    let sent = platform.sink.received().len();
    platform.submit(1);
    platform.until_status("rest", |status| {
        let is_idle = |node: &serde_json::Value| node["committed"] == 0 && node["pending"] == 0;
        status["backlog"] == 0
            && status["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(is_idle))
    });
    until(LONG, "the later one", || platform.sink.received().len() > sent).unwrap();
    // Stock postsuper also removes files that a delivery agent is sending, some of which arrive.
    let later = platform.sink.received().len() - sent;
    assert!(later <= 3, "{later} were sent later, {sent} before");
}

#[test]
fn held_mail_is_marked_waits_and_survives_restarts_until_it_is_released() {
    let mut platform = stuck();
    platform.submit(3);
    let (is_fine, text) = platform.optimus(&["hold", "--all"]);
    assert!(is_fine && text.contains("Placed on hold: 3 in Redis"), "{text}");
    assert_eq!(listed(&platform).matches("! ").count(), 3, "{}", listed(&platform));
    platform.terminate("optimus");
    platform.start("optimus");
    platform.wait_for_redis();
    platform.postfix.start().unwrap();
    platform
        .until_status("held", |status| status["standing"]["held"] == 3 && status["backlog"] == 0);
    let (_, text) = platform.optimus(&["status"]);
    assert!(text.contains("on hold    3 messages in Redis, the longest for "), "{text}");
    // Held mail must not delay other mail.
    platform.submit(1);
    until(LONG, "other mail", || platform.sink.received().len() == 1).unwrap();
    let (is_fine, text) = platform.optimus(&["release", "--to", "TO@example.org"]);
    assert!(is_fine && text.contains("Released from hold: 3 in Redis"), "{text}");
    platform.expect_all_once();
}

#[test]
fn ids_of_mailq_can_be_deleted_with_their_marks() {
    let mut platform = stuck();
    platform.submit(3);
    let ids = first_words(&listed(&platform));
    assert_eq!(
        postsuper(&platform, &["-h", ids.lines().next().unwrap()], "").status.code(),
        Some(0)
    );
    let marked = first_words(&listed(&platform));
    assert!(marked.contains('!'), "{marked}");
    let output = postsuper(
        &platform,
        &["-d", "-"],
        &format!("{marked}ABC123\n01ARZ3NDEKTSV4RRFFQ69G5FAV\n"),
    );
    let words = said(&output);
    assert!(words.contains("01ARZ3NDEKTSV4RRFFQ69G5FAV: no such message in Redis"), "{words}");
    assert!(words.ends_with("postsuper: Deleted: 3 messages\n"), "{words}");
    assert!(
        output.status.success() && listed(&platform).contains("Mail queue is empty"),
        "{words}"
    );
}

#[test]
fn a_dry_run_changes_nothing_and_conditions_select() {
    let mut platform = stuck();
    platform.submit(2);
    let (is_fine, text) = platform.optimus(&["delete", "--domain", "example.org", "--dry-run"]);
    assert!(is_fine && text.contains("would delete 2 of 2 messages"), "{text}");
    for none in [["--from", "nobody@example.org"], ["--domain", "org"], ["--older-than", "1h"]] {
        let (is_fine, text) = platform.optimus(&["delete", none[0], none[1]]);
        assert!(is_fine && text.contains("after: 2 messages"), "{none:?}: {text}");
    }
    let (is_fine, text) =
        platform.optimus(&["delete", "--from", "from@example.org", "--older-than", "0s"]);
    assert!(is_fine && text.contains("after: 0 messages"), "{text}");
    let (is_fine, text) = platform.optimus(&["delete", "nonsense"]);
    assert!(!is_fine && text.contains("not the id of a message"), "{text}");
}

#[test]
fn without_redis_stock_s_part_is_done_and_the_failure_is_reported() {
    let mut platform = stuck();
    platform.terminate("optimus");
    let arguments = ["-i", "-f", "local@example.org", "bob@example.org"];
    let sent =
        platform.postfix.sendmail("/usr/sbin/sendmail", &arguments, b"Subject: x\n\n").unwrap();
    assert!(sent.status.success());
    let output = postsuper(&platform, &["-d", "ALL"], "");
    let words = said(&output);
    assert!(words.contains("warning: mail in Redis: not changed"), "{words}");
    assert!(words.ends_with("postsuper: Deleted: 1 message\n"), "{words}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn everything_else_is_stock_s_own_work() {
    let platform = stuck();
    let ours = |words: &[&str]| postsuper(&platform, words, "");
    let stocks =
        |words: &[&str]| platform.command("/usr/sbin/postsuper").args(words).output().unwrap();
    for words in
        [&["-p"][..], &["-x"], &["-d"], &["-s", "hold"], &["-d", "ALL", "nonsense"], &["-e", "ABC"]]
    {
        let (ours, stocks) = (ours(words), stocks(words));
        assert_eq!(
            (ours.status.code(), said(&ours)),
            (stocks.status.code(), said(&stocks)),
            "{words:?}"
        );
    }
}

/// Checks that other users get stock's error, and that no mail is changed.
#[test]
fn postsuper_is_for_root_alone() {
    let mut platform = stuck();
    platform.submit(1);
    let said_to = |mut command: Command| {
        command.args(["-d", "ALL"]).uid(65_534).gid(65_534);
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    let mut ours: Command = platform.command("optimus");
    ours.arg0("postsuper");
    let (ours, stocks) = (said_to(ours), said_to(platform.command("/usr/sbin/postsuper")));
    assert_eq!(ours, stocks);
    assert!(ours.1.contains("superuser"), "{}", ours.1);
    assert!(!listed(&platform).contains("Mail queue is empty"));
}

/// Three messages that stock Postfix has deferred, three in Redis, three in doubt, and ids of
/// neither.
struct Mixture {
    platform: Platform,
    in_postfix: Vec<String>,
    in_redis: Vec<String>,
    in_doubt: Vec<String>,
}

impl Mixture {
    fn new() -> Self {
        let postfix = |it: PostfixBuilder| it.main("relayhost = [127.0.0.1]:1");
        let mut platform = Plan { redis: true, postfix, ..Plan::default() }.start();
        let arguments = ["-i", "-f", "local@example.org", "bob@example.org"];
        for _ in 0..3 {
            let sent =
                platform.postfix.sendmail("/usr/sbin/sendmail", &arguments, b"Subject: x\n\n");
            assert!(sent.unwrap().status.success());
        }
        let deferred = || platform.postfix.queue_files("deferred");
        until(LONG, "stock's mail to be deferred", || deferred().len() == 3).unwrap();
        let name = |it: &PathBuf| it.file_name().unwrap().to_str().unwrap().to_owned();
        let in_postfix = deferred().iter().map(name).collect();
        stop(&platform);
        platform.submit(3);
        let keys = platform.cut_lots();
        let in_redis = keys.lines().map(|key| key.rsplit(':').next().unwrap().to_owned()).collect();
        let mut mixture = Self { platform, in_postfix, in_redis, in_doubt: Vec::new() };
        mixture.in_doubt = (0..3).map(|_| mixture.leave_in_doubt()).collect();
        mixture
    }

    fn leave_in_doubt(&self) -> String {
        let id = MessageId::new().unwrap();
        super::maildrop::leave_in_doubt(&self.platform, id);
        id.to_string()
    }

    /// Runs OPTIMUS's postsuper on the `n`th id of each kind, and on two unknown ones. Returns the
    /// exit status and the output.
    fn ours(&self, option: &str, n: usize) -> (Option<i32>, String) {
        let ids = [&self.in_postfix[n], "ABC123", &self.in_redis[n], NOBODYS, &self.in_doubt[n]];
        let output = postsuper(&self.platform, &[option, "-"], &(ids.join("\n") + "\n"));
        (output.status.code(), said(&output))
    }

    /// Runs stock's postsuper on the `n`th id in Postfix, and on an unknown one.
    fn stocks(&self, option: &str, n: usize) -> (Option<i32>, String) {
        let mut command = self.platform.command("/usr/sbin/postsuper");
        command.args([option, &self.in_postfix[n], option, "ABC123"]);
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    }
}

const NOBODYS: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Checks that an unknown id is no failure, as with stock. An id in doubt is named, and is a
/// failure unless it is deleted.
#[test]
fn a_mixture_of_ids_is_counted_as_stock_counts_and_none_is_passed_over() {
    let mixture = Mixture::new();
    for (option, done, words) in [
        ("-h", "placed on hold", "Placed on hold"),
        ("-H", "released from hold", "Released from hold"),
        ("-r", "requeued", "Requeued"),
    ] {
        let (code, said) = mixture.ours(option, 0);
        assert!(said.ends_with(&format!("postsuper: {words}: 2 messages\n")), "{option}: {said}");
        assert!(said.contains(&format!("{}: {done}\n", mixture.in_redis[0])), "{option}: {said}");
        assert!(
            said.contains(&format!("{NOBODYS}: no such message in Redis\n")),
            "{option}: {said}"
        );
        let in_doubt =
            format!("{}: not {done}: mail in doubt in the maildrop", mixture.in_doubt[0]);
        assert!(said.contains(&in_doubt), "{option}: {said}");
        assert_eq!(code, Some(1), "{option}: {said}");
        // Stock's postsuper gets one message and one unknown id.
        let (code, said) = mixture.stocks(option, 1);
        assert!(
            code == Some(0) && said.ends_with(&format!("{words}: 1 message\n")),
            "{option}: {said}"
        );
    }
    let (code, said) = mixture.ours("-d", 2);
    assert!(said.ends_with("postsuper: Deleted: 3 messages\n"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    // A message that was deleted before isn't counted again.
    let (code, said) = mixture.ours("-d", 2);
    assert!(code == Some(0) && said.ends_with("postsuper: Deleted: 0 messages\n"), "{said}");
    assert!(said.contains(&format!("{NOBODYS}: no such message in Redis\n")), "{said}");
    assert_eq!(mixture.stocks("-d", 2).0, Some(0), "an id that is nobody's by now");
}
