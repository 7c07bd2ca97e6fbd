//! `optimus inject` with a real Redis: each message is submitted once, whatever happens to the
//! command or to Redis meanwhile.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use spool::{Cut, LotNumber, Server, Spool, keys};
use testbed::{Postfix, Redis, until};

const LONG: Duration = Duration::from_secs(120);

struct Site {
    redis: Redis,
    postfix: Postfix,
}

impl Site {
    fn new(main_cf: &[&str]) -> Self {
        let postfix = Postfix::builder().prepare().unwrap();
        let folder = postfix.path().join("redis");
        std::fs::create_dir(&folder).unwrap();
        let redis = Redis::start_in(&folder, &["unixsocketperm 777"]).unwrap();
        let settings = format!("[redis]\nurl = {:?}\n", redis.url());
        std::fs::write(postfix.config_dir().join("optimus.toml"), settings).unwrap();
        postfix.set_main(main_cf).unwrap();
        Self { redis, postfix }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.postfix.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.postfix.command(testbed::bin("optimus"));
        command.arg("inject").args(words).current_dir(self.postfix.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        told(&self.command(words).output().unwrap())
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Returns the number of entries in the inbox, with repeated ones.
    fn submitted(&self) -> usize {
        self.redis.cli(&["LLEN", keys::INBOX]).unwrap().trim().parse().unwrap()
    }

    fn used_bytes(&self) -> u64 {
        let told = self.redis.cli(&["INFO", "memory"]).unwrap();
        told.lines().find_map(|it| it.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
    }

    /// Returns the records of all messages, as Redis has them once they are cut into lots.
    fn messages(&self) -> Vec<Vec<u8>> {
        let server = Server::parse(&self.redis.url()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let spool = Spool::new(server);
            for lot in 1_u64.. {
                match spool.cut(LotNumber(lot), 10_000, None).await.unwrap() {
                    Cut::Nothing { .. } => break,
                    it => assert!(matches!(it, Cut::Cut { .. }), "{it:?}"),
                }
            }
            let keys = self.redis.cli(&["--scan", "--pattern", keys::MESSAGES]).unwrap();
            let ids: Vec<_> =
                keys.lines().map(|it| it.rsplit(':').next().unwrap().parse().unwrap()).collect();
            let mut records = Vec::new();
            for some in ids.chunks(500) {
                records.extend(
                    spool.get(some).await.unwrap().into_iter().map(|it| it.unwrap().records),
                );
            }
            records
        })
    }
}

fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

const DATE: &str = "Sat Nov 21 09:20:13 2026";

fn mbox(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = write!(
            text,
            "From someone {DATE}\nX-Test-Id: t{number}\nTo: to@example.org\n\n\
                >From me, {number}\n\n"
        );
    }
    text
}

/// Makes an mbox whose messages are a kilobyte larger.
fn large_mbox(count: usize) -> String {
    let padding = format!("{}\n", "x".repeat(72)).repeat(14);
    mbox(count).replace("\n>From me", &format!("\n{padding}>From me"))
}

/// Returns records in their order, without the time.
fn lines(records: &[u8]) -> Vec<(u8, String)> {
    let records = postfix_wire::record::Records::new(records).map(Result::unwrap);
    let records = records.map(|it| (it.kind as u8, String::from_utf8_lossy(it.data).into_owned()));
    records.filter(|(kind, _)| *kind != b'T').collect()
}

fn test_ids(messages: &[Vec<u8>]) -> BTreeSet<String> {
    let id = |it: &Vec<u8>| {
        lines(it)
            .into_iter()
            .find_map(|(_, text)| text.strip_prefix("X-Test-Id: ").map(str::to_owned))
    };
    messages.iter().map(|it| id(it).unwrap()).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Redis has no room for all messages at once. So each run can be interrupted, however fast the
/// machine is.
#[test]
fn an_injection_killed_again_and_again_submits_each_message_once() {
    const MESSAGES: usize = 20_000;
    const ROOM_BYTES: u64 = 4 * 1024 * 1024;
    let site = Site::new(&[]);
    let file = site.file("box", &large_mbox(MESSAGES));
    let words = ["-t", path(&file)];
    for _ in 0..5 {
        let room = (site.used_bytes() + ROOM_BYTES).to_string();
        site.redis.cli(&["CONFIG", "SET", "maxmemory", &room]).unwrap();
        let (before, mut child) = (site.submitted(), site.start(&words));
        until(LONG, "some of it", || site.submitted() > before).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "there is no room for all of it");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    site.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let (code, text) = site.run(&words);
    assert!(code == 0 && text.contains("20000 messages submitted, 0 could not be used"), "{text}");
    assert!(text.contains("resuming after"), "{text}");
    let messages = site.messages();
    assert_eq!((messages.len(), test_ids(&messages).len()), (MESSAGES, MESSAGES));
    let state = std::fs::read_dir(site.postfix.path()).unwrap().flatten();
    assert!(!state.into_iter().any(|it| it.file_name().to_string_lossy().ends_with(".state")));
}

#[test]
fn records_are_those_of_sendmail() {
    let site = Site::new(&[]);
    let message = "Subject: x\nTo: Ann <ann@example.org>, bob\nBcc: carl@example.org\n\n\
        From here\r\n.\nlong\n";
    let file = site.file("one.eml", message);
    let (code, text) = site.run(&["-t", "--from", "me@example.org", path(&file)]);
    assert_eq!(code, 0, "{text}");
    let arguments = ["-t", "-i", "-f", "me@example.org"];
    let output =
        site.postfix.sendmail(testbed::bin("sendmail"), &arguments, message.as_bytes()).unwrap();
    assert!(output.status.success(), "{output:?}");
    let messages = site.messages();
    let [one, other] = &messages[..] else { panic!("{}", messages.len()) };
    assert_eq!(lines(one), lines(other));
    assert!(lines(one).iter().any(|(_, text)| text == "carl@example.org"));
}

#[test]
fn mailboxes_maildirs_and_folders_are_known_by_their_content() {
    let site = Site::new(&[]);
    let message = |id: &str| format!("X-Test-Id: {id}\n\nx\n");
    let mail = site.file("mail/new/1", &message("new"));
    site.file("mail/cur/2:2,S", &message("cur"));
    site.file("mail/tmp/3", &message("unfinished"));
    let folder = site.file("folder/a.eml", &message("a"));
    site.file("folder/notes.txt", "no mail");
    let file = site.file("box", &mbox(2));
    let maildir = mail.ancestors().nth(2).unwrap();
    let words =
        ["--to", "to@example.org", path(maildir), path(folder.parent().unwrap()), path(&file)];
    let (code, text) = site.run(&words);
    assert!(code == 0 && text.contains("5 messages submitted"), "{text}");
    let expected = ["a", "cur", "new", "t0", "t1"].map(str::to_owned);
    assert_eq!(test_ids(&site.messages()), BTreeSet::from(expected));

    let mut command = site.command(&["--to", "to@example.org", "-"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    let (code, text) = told(&command.output().unwrap());
    assert!(code == 0 && text.contains("2 messages submitted"), "{text}");
}

#[test]
fn an_unusable_message_is_named_and_the_others_are_submitted() {
    let site = Site::new(&["message_size_limit = 2000"]);
    let large = format!("From a {DATE}\nX-Test-Id: large\nTo: a@b\n\n{}\n", "x\n".repeat(2_000));
    let file = site.file(
        "box",
        &format!("junk\n\n{large}\nFrom a {DATE}\nSubject: nobody\n\nx\n\n{}", mbox(1)),
    );
    let (code, text) = site.run(&["-t", "--format", "mboxrd", path(&file)]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("box: byte 0: text stands before the first line \"From \""), "{text}");
    assert!(text.contains(": No recipient addresses found in message header"), "{text}");
    assert!(text.contains("box: byte 6: larger than message_size_limit"), "{text}");
    assert!(text.contains("1 messages submitted, 3 could not be used"), "{text}");
    assert_eq!(site.messages().len(), 1);
}

#[test]
fn only_unusable_messages_are_tried_again() {
    let site = Site::new(&[]);
    let nobody = format!("From a {DATE}\nSubject: nobody\n\nx\n\n");
    let file = site.file("box", &format!("{nobody}{}", mbox(2)));
    let eml = site.file("folder/a.eml", "X-Test-Id: a\n\nx\n");
    site.file("folder/b.eml", "X-Test-Id: b\nTo: to@example.org\n\nx\n");
    let words = ["-t", path(&file), path(eml.parent().unwrap())];
    let (code, text) = site.run(&words);
    assert!(code == 1 && text.contains("3 messages submitted, 2 could not be used"), "{text}");
    assert!(text.contains(".state: lists the unusable messages"), "{text}");

    site.file("folder/a.eml", "X-Test-Id: a, mended\nTo: to@example.org\n\nx\n");
    let (code, text) = site.run(&words);
    assert!(code == 1 && text.contains("4 messages submitted, 1 could not be used"), "{text}");
    assert!(text.contains("box: byte 0: No recipient") && !text.contains("a.eml"), "{text}");
    assert_eq!(site.submitted(), 4, "each once");
    let expected = ["a, mended", "b", "t0", "t1"].map(str::to_owned);
    assert_eq!(test_ids(&site.messages()), BTreeSet::from(expected));
}

/// Returns the whole bodies: nothing may be cut off behind a line that only looks like a separator.
fn bodies(site: &Site) -> BTreeSet<String> {
    let body = |it: &Vec<u8>| {
        let texts = lines(it).into_iter().filter(|(kind, _)| *kind == b'N').map(|(_, text)| text);
        texts
            .skip_while(|text| !text.is_empty())
            .skip(1)
            .collect::<Vec<_>>()
            .join("|")
            .trim_end_matches('|')
            .to_owned()
    };
    site.messages().iter().map(body).collect()
}

#[test]
fn an_mbox_is_split_at_lines_with_an_address_and_a_date_alone() {
    let site = Site::new(&[]);
    let prose = ["From here on", "From ann@example.org", "From Sat Nov 21 09:20:13 2026"];
    let message = |line: &str| format!("From a {DATE}\nSubject: x\n\nx\n\n{line}\nall is text\n\n");
    let file = site.file("box", &prose.map(message).concat());
    let (code, text) = site.run(&["--to", "to@example.org", path(&file)]);
    assert!(code == 0 && text.contains("3 messages submitted, 0 could not be used"), "{text}");
    let expected = prose.map(|line| format!("x||{line}|all is text"));
    assert_eq!(bodies(&site), BTreeSet::from(expected));
}

#[test]
fn a_message_with_a_doubtful_separator_is_named_counted_and_not_sent() {
    let site = Site::new(&[]);
    let doubtful = [
        format!("\nFrom x {DATE}\nas he wrote"),
        format!("From x {DATE}\nA: header"),
        "\nFrom x\nA: header".to_owned(),
    ];
    let message = |text: &str| format!("From a {DATE}\nSubject: x\n\nx\n{text}\n\n");
    let all: String = doubtful.iter().map(|it| message(it)).collect();
    let file = site.file("box", &format!("{all}{}", mbox(1)));
    let words = ["--to", "to@example.org", path(&file)];
    let (code, text) = site.run(&words);
    assert!(code == 1 && text.contains("1 messages submitted, 3 could not be used"), "{text}");
    assert_eq!(text.matches("is text or a separator; see --doubtful-is-text").count(), 3, "{text}");
    assert_eq!(site.submitted(), 1);

    let (code, text) = site.run(&[&["--doubtful-is-text"][..], &words].concat());
    assert!(code == 0 && text.contains("4 messages submitted, 0 could not be used"), "{text}");
    let bodies = bodies(&site);
    for text in doubtful {
        assert!(bodies.contains(&format!("x\n{text}").replace('\n', "|")), "{bodies:?}");
    }
    assert_eq!(bodies.len(), 4);
}

#[test]
fn each_dialect_of_mbox_has_its_own_quotes_and_ends() {
    for (dialect, body) in [
        ("mboxo", "From x|>>From y"),
        ("mboxrd", "From x|>From y"),
        ("mboxcl", "From x|>>From y"),
        ("mboxcl2", ">From x|>>From y"),
    ] {
        let site = Site::new(&[]);
        let text = ">From x\n>>From y\n";
        let head = format!("From a {DATE}\nContent-Length: {}\n\n", text.len());
        let file = site.file("box", &format!("{head}{text}\n{}", mbox(1)));
        let (code, told) = site.run(&["--format", dialect, "--to", "to@example.org", path(&file)]);
        assert!(code == 0 && told.contains("2 messages submitted"), "{dialect}: {told}");
        assert!(bodies(&site).contains(body), "{dialect}");
    }
    let site = Site::new(&[]);
    let inner = format!("x\n\nFrom b {DATE}\nB: 2\n");
    let message = |length| format!("From a {DATE}\nContent-Length: {length}\n\n{inner}\n");
    let file = site.file("box", &(message(inner.len()) + &message(4)));
    let (code, told) = site.run(&["--format", "mboxcl2", "--to", "to@example.org", path(&file)]);
    assert!(code == 1 && told.contains("no message ends where Content-Length says"), "{told}");
    assert!(bodies(&site).contains(&inner.trim_end().replace('\n', "|")), "{told}");
}

/// The owner of a folder can make links in it, and root could read more than that owner.
#[test]
fn links_in_folders_are_skipped_and_named() {
    let site = Site::new(&[]);
    let message = "X-Test-Id: mine\n\nx\n";
    let mine = site.file("mail/new/1", message);
    let maildir = mine.ancestors().nth(2).unwrap();
    let secret = site.file("secret", "X-Test-Id: secret\n\nx\n");
    std::os::unix::fs::symlink(&secret, mine.with_file_name("2")).unwrap();
    std::os::unix::fs::symlink(secret.parent().unwrap(), maildir.join("cur")).unwrap();
    let (code, text) = site.run(&["--to", "to@example.org", path(maildir)]);
    assert!(code == 0 && text.contains("1 messages submitted"), "{text}");
    assert!(
        text.contains("mail/new/2: a link, skipped") && text.contains("mail/cur: a link, skipped"),
        "{text}"
    );
    assert_eq!(test_ids(&site.messages()), BTreeSet::from(["mine".to_owned()]));
}

#[test]
fn a_stream_is_resumed_only_if_it_is_the_same() {
    const MESSAGES: usize = 10_000;
    const ROOM_BYTES: u64 = 4 * 1024 * 1024;
    let site = Site::new(&[]);
    let one = large_mbox(MESSAGES);
    let other = one.replacen("t0\n", "t-\n", 1);
    let (one, other) = (site.file("one", &one), site.file("other", &other));
    let run = |file: &Path, words: &[&str]| {
        let mut command = site.command(&[&["-t", "-"], words].concat());
        told(&command.stdin(std::fs::File::open(file).unwrap()).output().unwrap())
    };
    let room = (site.used_bytes() + ROOM_BYTES).to_string();
    site.redis.cli(&["CONFIG", "SET", "maxmemory", &room]).unwrap();
    let (code, text) = run(&one, &["--timeout", "0"]);
    assert!(code == 1 && site.submitted() > 0, "{text}");
    site.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let (code, text) = run(&other, &[]);
    assert!(code == 1 && text.contains("are not those that were read the last time"), "{text}");
    let (code, text) = run(&one, &[]);
    assert!(code == 0 && text.contains("10000 messages submitted"), "{text}");
    assert_eq!(test_ids(&site.messages()).len(), MESSAGES);
}

/// Checks that the rights of submission are enough.
#[test]
fn an_injection_logs_in_as_sendmail_does_and_a_wrong_password_fails_at_once() {
    let site = Site::new(&[]);
    let file = site.file("box", &mbox(1));
    let config = site.postfix.config_dir();
    let settings = std::fs::read_to_string(config.join("optimus.toml")).unwrap();
    let submit = "[submit]\nuser = \"submitter\"\npassword_file = \"submitter.password\"\n";
    std::fs::write(config.join("optimus.toml"), settings + submit).unwrap();
    site.redis
        .cli(&[
            "ACL",
            "SETUSER",
            "submitter",
            "on",
            ">right",
            "~optimus:*",
            "&*",
            "+rpush",
            "+publish",
        ])
        .unwrap();
    std::fs::write(config.join("submitter.password"), "wrong\n").unwrap();
    let (code, text) = site.run(&["-t", path(&file)]);
    assert!(code == 1 && text.contains("Redis refuses") && !text.contains("waiting for"), "{text}");
    std::fs::write(config.join("submitter.password"), "right\n").unwrap();
    site.redis.cli(&["ACL", "SETUSER", "default", "-rpush"]).unwrap();
    let (code, text) = site.run(&["-t", path(&file)]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(site.submitted(), 1);
}

#[test]
fn an_injection_waits_for_a_redis_that_is_away() {
    const MESSAGES: usize = 3_000;
    let mut site = Site::new(&[]);
    let file = site.file("box", &mbox(MESSAGES));
    site.redis.kill9();
    let (code, text) = site.run(&["-t", path(&file), "--timeout", "1"]);
    assert!(
        code == 1
            && text.contains("waiting for at most 1 s")
            && text.contains("command again to resume"),
        "{text}"
    );
    let child = site
        .command(&["-t", path(&file)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    site.redis.restart().unwrap();
    let (code, text) = told(&child.wait_with_output().unwrap());
    assert!(code == 0 && text.contains("3000 messages submitted"), "{text}");
    assert_eq!(test_ids(&site.messages()).len(), MESSAGES);
}
