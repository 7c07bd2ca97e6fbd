//! Stock `postdrop` and ours are given the same record streams. Where ours is stricter, as later Postfix is, the test says
//! so and shows that stock isn't.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Write;
use std::process::Stdio;

use postfix_wire::attr;
use postfix_wire::record::RecordType::{
    self, Attr, Cont, DsnEnvid, DsnNotify, End, From, Full, Mesg, Norm, Rcpt, Time, Verp, Xtra,
};
use support::{OUR_POSTDROP, STOCK_POSTDROP, Said, Site, code, run, said, stderr, stream};

/// What a client sees of a run.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    exit: i32,
    protocol: Option<String>,
    has_queue_id: bool,
    /// `status` and `reason`.
    answer: Option<(String, String)>,
    stored: Option<Said>,
}

struct Run {
    seen: Seen,
    stderr: String,
}

fn seen(output: &std::process::Output, stored: Option<Said>) -> Run {
    let mut rest = &output.stdout[..];
    let mut lists = Vec::new();
    while let Some((list, length)) = attr::decode(rest).unwrap() {
        lists.push(list);
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "half a list: {rest:?}");
    let greeting = lists.first();
    let of = |name| greeting.and_then(|list| list.get(name)).map(str::to_owned);
    let answer = lists
        .get(1)
        .map(|list| (list.require("status").unwrap().to_owned(), list.require("reason").unwrap().to_owned()));
    let has_queue_id = of("queue_id").is_some_and(|id| !id.is_empty());
    let seen = Seen { exit: code(output), protocol: of("protocol"), has_queue_id, answer, stored };
    Run { seen, stderr: stderr(output) }
}

fn stock(site: &Site, bytes: &[u8]) -> Run {
    let (stored, output) = site.stock(&mut site.command(STOCK_POSTDROP, &["-r"]), bytes);
    seen(&output, stored)
}

fn ours(site: &mut Site, bytes: &[u8]) -> Run {
    let output = run(&mut site.command(OUR_POSTDROP, &["-r"]), bytes);
    let mut messages = site.take_messages();
    assert!(messages.len() <= 1);
    assert_eq!(site.maildrop(), []);
    seen(&output, messages.pop().map(|message| support::without_time(&message.records)))
}

fn compare(site: &mut Site, bytes: &[u8]) -> Run {
    let expected = stock(site, bytes);
    let got = ours(site, bytes);
    let what = || {
        format!("{:?}\nstock: {}\nours: {}", bytes.escape_ascii().to_string(), expected.stderr, got.stderr)
    };
    assert_eq!(got.seen, expected.seen, "{}", what());
    got
}

type Raw = (RecordType, &'static [u8]);

/// A message with more in its envelope, its content and its extracted part.
fn message(envelope: &[Raw], content: &[Raw], extracted: &[Raw]) -> Vec<u8> {
    let parts: [&[Raw]; 7] = [
        &[(From, b"ann@example.org"), (Rcpt, b"bob@example.org")],
        envelope,
        &[(Mesg, b"")],
        content,
        &[(Xtra, b"")],
        extracted,
        &[(End, b"")],
    ];
    stream(&parts.concat())
}

#[test]
fn accepts_the_same() {
    let mut site = Site::with_redis();
    let attributes: &[&'static [u8]] = &[
        b"encoding=8bit",
        b"encoding=7bit",
        b"encoding=",
        b"encoding=base64",
        b"rewrite_context=remote",
        b"rewrite_context=other",
        b"trace_flags=512",
        b"envelope_id=x=y",
        b"notify_flags=3",
        b"ret_flags=1",
        b"dsn_orig_rcpt=rfc822;a",
        b"create_time=1",
        b"log_ident=x",
        b"optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV",
        b"  envelope_id  =  x y  ",
        b"=x",
        b"x",
        b"",
        b"x y = z",
        b"client_name=localhost",
        b"sasl_username=root",
    ];
    for attribute in attributes {
        let run = compare(&mut site, &message(&[(Attr, attribute)], &[], &[(Attr, attribute)]));
        assert_eq!(run.seen.exit, 0);
    }
    let envelopes: &[&[Raw]] = &[
        &[
            (Full, b"Ann B"),
            (Verp, b"+="),
            (DsnEnvid, b"x"),
            (DsnNotify, b"1"),
            (Rcpt, b"c\xe9@d"),
            (Rcpt, b""),
        ],
        &[(From, b"second@sender")],
    ];
    for envelope in envelopes {
        compare(
            &mut site,
            &message(envelope, &[(Norm, b"x\0y\rz"), (Cont, b"no end")], &[(Rcpt, b"late@x")]),
        );
    }
}

/// A client that was refused an attribute hears of it the same way.
#[test]
fn warns_with_the_same_words() {
    let mut site = Site::with_redis();
    let bytes = message(&[(Attr, b"x"), (Attr, b"=y"), (Attr, b"log_ident=z")], &[], &[]);
    let (expected, got) = (stock(&site, &bytes), ours(&mut site, &bytes));
    assert_eq!(got.stderr, expected.stderr);
    assert_eq!(got.stderr.lines().count(), 3, "{}", got.stderr);
}

#[test]
fn refuses_the_same() {
    let whole = message(&[], &[(Norm, b"x")], &[]);
    let refused: &[Vec<u8>] = &[
        // Ends too early: between records the client has changed its mind, within one it has failed.
        Vec::new(),
        whole[..whole.len() - 2].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..5].to_vec(),
        // Without sender, without recipient.
        stream(&[(Rcpt, b"a"), (Mesg, b""), (Xtra, b""), (End, b"")]),
        stream(&[(From, b"a"), (Mesg, b""), (Xtra, b""), (End, b"")]),
        stream(&[(Mesg, b""), (Xtra, b""), (End, b"")]),
        // Records where they don't belong.
        message(&[(Time, b"1 2")], &[], &[]),
        message(&[(Norm, b"x")], &[], &[]),
        message(&[(RecordType::Ptr, b"0")], &[], &[]),
        message(&[(RecordType::Size, b"0")], &[], &[]),
        message(&[(RecordType::Ctime, b"0")], &[], &[]),
        message(&[(RecordType::Warn, b"0")], &[], &[]),
        message(&[(RecordType::Rdr, b"x")], &[], &[]),
        message(&[], &[(Rcpt, b"x")], &[]),
        message(&[], &[(RecordType::Dtxt, b"x")], &[]),
        message(&[], &[], &[(From, b"x")]),
        message(&[], &[], &[(RecordType::Rrto, b"x")]),
        // No records.
        b"hello world, this is no record stream\n".to_vec(),
        b"S\xff\xff\xff\xff\xff\xff\x01".to_vec(),
        b"\x01\x00".to_vec(),
        [&b"N"[..], &[0xff, 0xff, 0xff, 0xff, 0x07], b"x"].concat(),
    ];
    let check = |some: &[Vec<u8>]| {
        let mut site = Site::with_redis();
        for bytes in some {
            let run = compare(&mut site, bytes);
            assert_eq!(run.seen.stored, None);
            let fatal = run.seen.exit == 1 && run.seen.answer.is_none();
            assert_eq!(run.stderr.contains("fatal: uid=0: "), fatal, "{:?}", run.stderr);
        }
    };
    // Stock sleeps for a second before it ends in failure.
    std::thread::scope(|scope| {
        refused.chunks(4).for_each(|some| drop(scope.spawn(move || check(some))));
    });
}

#[test]
fn a_record_may_be_as_long_as_a_line_and_no_longer() {
    let mut site = Site::with_redis();
    for (length, exit) in [(2047, 0), (2048, 0), (2049, 1)] {
        let line = "x".repeat(length);
        let bytes = stream(&[
            (From, b""),
            (Rcpt, b"a"),
            (Mesg, b""),
            (Norm, line.as_bytes()),
            (Xtra, b""),
            (End, b""),
        ]);
        assert_eq!(compare(&mut site, &bytes).seen.exit, exit);
    }
}

#[test]
fn a_message_may_be_as_big_as_the_limit_and_no_bigger() {
    let mut site = Site::with_redis();
    site.postfix.set_main(&["message_size_limit = 100000"]).unwrap();
    let line = [b'x'; 1000];
    for (lines, exit) in [(90, 0), (98, 0), (101, 4), (1000, 4)] {
        let mut records: Vec<(RecordType, &[u8])> = vec![(From, b""), (Rcpt, b"a"), (Mesg, b"")];
        records.extend(std::iter::repeat_n((Norm, &line[..]), lines));
        records.extend([(Xtra, &b""[..]), (End, b"")]);
        let run = compare(&mut site, &stream(&records));
        assert_eq!(run.seen.exit, exit);
        assert_eq!(run.seen.stored.is_some(), exit == 0);
    }
    // To the byte: the time record of both has the same length, so the largest message is the same.
    let fits = |site: &mut Site, last: usize| {
        let mut records: Vec<(RecordType, &[u8])> = vec![(From, b""), (Rcpt, b"a"), (Mesg, b"")];
        records.extend(std::iter::repeat_n((Norm, &line[..]), 99));
        records.extend([(Norm, &line[..last]), (Xtra, &b""[..]), (End, b"")]);
        ours(site, &stream(&records)).seen.exit == 0
    };
    let largest = (0..1000).rev().find(|&last| fits(&mut site, last)).unwrap();
    assert!((500..800).contains(&largest), "{largest}");
}

/// Later Postfix refuses these; 3.7 takes them.
#[test]
fn is_stricter_where_later_postfix_is() {
    let mut site = Site::with_redis();
    let nul_type = |part: usize| {
        let mut bytes = message(&[], &[(Norm, b"x")], &[]);
        bytes.splice(part..part, *b"\0\0");
        bytes
    };
    let injections: Vec<Vec<u8>> = vec![
        nul_type(0),
        message(&[(Rcpt, b"a\nb")], &[], &[]),
        message(&[(Rcpt, b"a\rb")], &[], &[]),
        message(&[(Full, b"Ann\nBcc: eve")], &[], &[]),
        message(&[(Attr, b"envelope_id=a\nb")], &[], &[]),
        message(&[], &[], &[(Rcpt, b"a\0b")]),
    ];
    for bytes in &injections {
        let lenient = run(&mut site.command(STOCK_POSTDROP, &["-r"]), bytes);
        site.empty_maildrop();
        assert_eq!(code(&lenient), 0, "{:?}", bytes.escape_ascii().to_string());
        let run = ours(&mut site, bytes);
        assert_eq!((run.seen.exit, run.seen.stored), (1, None));
        assert!(run.stderr.contains("malformed input"), "{}", run.stderr);
    }
    // Left out, not refused: flags that sendmail can't ask for.
    let bytes = message(&[(Attr, b"trace_flags=256")], &[], &[]);
    assert_eq!(stock(&site, &bytes).seen.stored.unwrap().len(), 6);
    assert_eq!(ours(&mut site, &bytes).seen.stored.unwrap().len(), 5);
}

/// What the others rely on: stock `sendmail` and `smtpd -S` submit through our postdrop without knowing it.
#[test]
fn serves_stock_sendmail_and_smtpd() {
    let mut site = Site::with_redis();
    let folder = site.folder("bin");
    std::os::unix::fs::symlink(OUR_POSTDROP, folder.join("postdrop")).unwrap();
    site.postfix.set_main(&[&format!("command_directory = {}", folder.display())]).unwrap();
    let output = run(&mut site.command(support::STOCK_SENDMAIL, &["-i", "bob"]), b"Subject: x\n\nbody\n");
    support::assert_quiet_success(&output);
    assert!(site.take_records().contains(&(Rcpt, "bob".to_owned())));

    site.start_postfix();
    let smtp =
        b"EHLO x\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n";
    let output = run(&mut site.command(support::STOCK_SENDMAIL, &["-bs"]), smtp);
    let dialogue = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut messages = site.take_messages();
    assert_eq!(messages.len(), 1, "{dialogue}{}", stderr(&output));
    let message = messages.remove(0);
    assert!(dialogue.contains(&format!("250 2.0.0 Ok: queued as {}", message.id)), "{dialogue}");
    assert!(said(&message.records).contains(&(Norm, "body".to_owned())));
}

/// When nothing can be stored, stock `sendmail` hears why.
#[test]
fn tells_stock_sendmail_why_not() {
    let site = Site::new();
    let folder = site.folder("bin");
    std::os::unix::fs::symlink(OUR_POSTDROP, folder.join("postdrop")).unwrap();
    site.postfix.set_main(&[&format!("command_directory = {}", folder.display())]).unwrap();
    std::fs::remove_dir(site.postfix.queue_dir().join("maildrop")).unwrap();
    let output = run(&mut site.command(support::STOCK_SENDMAIL, &["bob"]), b"x\n");
    assert_eq!(code(&output), 75);
    let words = stderr(&output);
    assert!(words.contains("sendmail: fatal: root(0): the message is not submitted: Redis: "), "{words}");
    assert!(words.contains("; maildrop: create "), "{words}");
}

/// A client that doesn't wait for its answer has submitted all the same.
#[test]
fn a_client_that_has_gone_is_no_reason_to_lose_its_message() {
    let mut site = Site::with_redis();
    let mut command = site.command(OUR_POSTDROP, &["-r"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let bytes = message(&[], &[(Norm, b"x")], &[]);
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(site.take_messages().len(), 1);
}

#[test]
fn the_queue_id_told_is_the_message_id() {
    let mut site = Site::with_redis();
    let output = site.postdrop(&["-r", "-v"], &message(&[], &[], &[]));
    let (greeting, _) = attr::decode(&output.stdout).unwrap().unwrap();
    let messages = site.take_messages();
    assert_eq!(greeting.get("queue_id"), Some(messages[0].id.to_string().as_str()));
    assert_eq!(messages[0].host, "testbed.example.org");
}
