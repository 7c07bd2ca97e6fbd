//! Queue files of pickup-rs against those of stock pickup. Both feed the same maildrop file to the
//! same cleanup. The queue files must be equal, except for ids, the time of making, the attributes
//! of OPTIMUS, and the origin of the Message-Id.

#![allow(clippy::unwrap_used)]

mod common;

use common::{LIMIT, Site};
use postfix_wire::{RecordType, Records};
use spool::{MessageId, Submission};
use testbed::Sink;

const SENDMAIL: &str = "/usr/sbin/sendmail";

const FROM_ELSEWHERE: [&str; 5] = ["-G", "-i", "-f", "me@example.org", "you@example.net"];

/// Name, arguments and message of one submission.
type Sample = (&'static str, Vec<&'static str>, Vec<u8>);

/// Returns submissions as a script might make them.
fn samples() -> Vec<Sample> {
    let to = vec!["-i", "-f", "me@example.org", "you@example.net"];
    let long = [b"Subject: long\n\n".as_slice(), &[b'x'; 9_000], b"\nend\n"].concat();
    let sample = |name, arguments: &[&'static str], message: &[u8]| {
        (name, arguments.to_vec(), message.to_vec())
    };
    vec![
        sample("plain", &to, b"Subject: plain\nMessage-Id: <a@b>\n\nHello\n"),
        sample("no message id", &to, b"Subject: none\nFrom: me\n\nHello\n"),
        sample("no header at all", &to, b"Hello, this is no header\nand this neither\n"),
        sample("white space first", &to, b"\tindented\nSubject: in the body\n\nHello\n"),
        sample("empty", &to, b""),
        sample("headers only", &to, b"Subject: only\n"),
        sample("8-bit and NUL", &to, b"Subject: b\xc3\xbctes\n\n\xff\xfe\0\x01 caf\xc3\xa9\0\n"),
        sample("long line", &to, &long),
        sample(
            "resent",
            &to,
            b"Resent-From: me@example.org\nResent-To: you@example.net\nMessage-Id: <a@b>\n\nx\n",
        ),
        sample(
            "resent, with its id",
            &to,
            b"Resent-To: you@example.net\nResent-Message-Id: <c@d>\nDate: x\n\nx\n",
        ),
        sample("folded", &to, b"Subject: a\n b\nMessage-Id:\n <a@b>\n\nx\n"),
        sample("odd header", &to, b"Message-Id  : <a@b>\nSubject : x\n\nx\n"),
        sample(
            "from the headers",
            &["-i", "-t", "-f", "me@example.org"],
            b"To: a@example.net, b@example.net\nBcc: c@example.net\n\nx\n",
        ),
        sample(
            "full name",
            &["-i", "-F", "Me, Myself & I", "-f", "me@example.org", "you@example.net"],
            b"Subject: x\n\nx\n",
        ),
        sample("null sender", &["-i", "-f", "", "you@example.net"], b"Subject: x\n\nx\n"),
        sample(
            "quoted sender",
            &["-i", "-f", "two words@example.org", "you@example.net"],
            b"Subject: x\n\nx\n",
        ),
        sample(
            "notification",
            &[
                "-i",
                "-N",
                "success,delay",
                "-V",
                "envelope",
                "-R",
                "hdrs",
                "-f",
                "me@example.org",
                "you@example.net",
            ],
            b"Subject: x\n\nx\n",
        ),
        sample("from elsewhere", &FROM_ELSEWHERE, b"Subject: none\n\nx\n"),
        sample("from elsewhere, resent", &FROM_ELSEWHERE, b"Resent-From: me@example.org\n\nx\n"),
        sample("from elsewhere, no header at all", &FROM_ELSEWHERE, b"Hello\n"),
        sample("from elsewhere, white space first", &FROM_ELSEWHERE, b" Hello\n"),
        sample(
            "from elsewhere, incomplete",
            &FROM_ELSEWHERE,
            b"From: me\nTo: you\nMessage-Id: <a@b>\n\nx\n",
        ),
        sample(
            "VERP",
            &["-i", "-XV", "-f", "me@example.org", "you@example.net"],
            b"Subject: x\n\nx\n",
        ),
        sample(
            "internationalized",
            &["-i", "-f", "me@example.org", "j\u{f6}rg@example.net"],
            "Subject: ü\n\nx\n".as_bytes(),
        ),
    ]
}

fn maildrop(site: &Site) -> Vec<u8> {
    let files = site.postfix.queue_files("maildrop");
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::read(&files[0]).unwrap()
}

fn deferred(site: &Site) -> Vec<u8> {
    let mut files = Vec::new();
    testbed::until(LIMIT, "a deferred message", || {
        files = site.postfix.queue_files("deferred");
        files.len() == 1
    })
    .unwrap();
    std::fs::read(&files[0]).unwrap()
}

fn remove_all(site: &Site) {
    let done = site.postfix.command("/usr/sbin/postsuper").args(["-d", "ALL"]).output().unwrap();
    assert!(done.status.success());
}

/// Returns a queue file's records without the parts that must differ. `queue_id` is blanked
/// everywhere.
fn comparable(file: &[u8], queue_id: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for record in Records::new(file) {
        let record = record.unwrap();
        let text = record.data.escape_ascii().to_string().replace(queue_id, "QUEUEID");
        let line = match record.kind {
            RecordType::Size => counts(&text),
            RecordType::Attr if text.starts_with("optimus_") => continue,
            RecordType::Attr if text.starts_with("create_time=") => "create_time".to_owned(),
            _ => text,
        };
        lines.push(format!("{:?} {line}", record.kind));
    }
    lines
}

/// Returns the counts of the first record: recipients, the queue manager's options, SMTPUTF8. Its
/// sizes and offsets depend on the attributes of OPTIMUS.
fn counts(size_record: &str) -> String {
    let fields: Vec<&str> = size_record.split_whitespace().collect();
    format!("{} {} {}", fields[2], fields[3], fields[5])
}

/// Takes out the Message-Id that pickup or cleanup added. Returns its record type and header name.
fn take_added_id(lines: &mut Vec<String>, added: &str) -> Option<String> {
    let at = lines.iter().position(|line| line.contains(added))?;
    Some(lines.remove(at).split(':').next().unwrap().to_owned())
}

#[tokio::test]
async fn queue_files_are_those_of_stock_pickup() {
    compare("", samples()).await;
}

#[tokio::test]
async fn queue_files_are_stock_s_where_headers_from_elsewhere_are_completed() {
    for parameter in
        ["always_add_missing_headers = yes", "remote_header_rewrite_domain = elsewhere.invalid"]
    {
        compare(
            parameter,
            samples().into_iter().filter(|(_, arguments, _)| arguments[0] == "-G").collect(),
        )
        .await;
    }
}

async fn compare(parameter: &str, samples: Vec<Sample>) {
    let site = Site::prepare(Sink::builder(), common::RARELY_S, |postfix| {
        let postfix = postfix
            .main("defer_transports = smtp")
            .main("smtputf8_enable = yes")
            .main("content_filter =");
        if parameter.is_empty() { postfix } else { postfix.main(parameter) }
    });
    for (name, arguments, message) in samples {
        let sent = site.postfix.sendmail(SENDMAIL, &arguments, &message).unwrap();
        assert!(sent.status.success(), "{name}: {sent:?}");
        let records = maildrop(&site);
        let arrival = std::fs::metadata(&site.postfix.queue_files("maildrop")[0])
            .unwrap()
            .modified()
            .unwrap();
        let arrival_ms =
            u64::try_from(arrival.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis())
                .unwrap();

        // Master wakes pickup. `postqueue -f` would not do: a queue manager before its first scan
        // would then send the mail that `defer_transports` should keep here.
        site.postfix.start().unwrap();
        let stock = deferred(&site);
        let stock_id = site.queue_names("deferred").remove(0);
        remove_all(&site);

        let id = MessageId::new().unwrap();
        let host = "web1.example.org";
        let submission = Submission { id, uid: 0, arrival_ms, host, records: &records[..] };
        site.spool.submit(&submission).await.unwrap();
        let mut agent = site.agent().await;
        agent.feed_all(&site).await;
        let held = agent.held().await;
        agent.commit(&site, &held).await;
        agent.release(&held.queue_id).await;
        let ours = deferred(&site);
        remove_all(&site);
        agent.settled(&held.queue_id).await;
        agent.settle(&site, &held).await;
        site.postfix.stop().unwrap();

        let mut stock_lines = comparable(&stock, &stock_id);
        let mut our_lines = comparable(&ours, held.queue_id.as_str());
        let added_by_cleanup = take_added_id(&mut stock_lines, ".QUEUEID@testbed.example.org");
        let added_by_us = take_added_id(&mut our_lines, &format!("{id}@web1.example.org"));
        assert_eq!(added_by_us, added_by_cleanup, "{name}");
        assert_eq!(our_lines, stock_lines, "{name}");
        assert!(our_lines.len() > 8, "{name}: {our_lines:?}");
    }
}
