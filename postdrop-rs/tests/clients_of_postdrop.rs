//! Tests of `postdrop` with its clients: stock `sendmail`, `smtpd -S`, and clients that don't wait
//! for an answer. `tests/differential` compares the resulting records with stock's.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Write;
use std::process::Stdio;

use postfix_wire::attr;
use postfix_wire::record::RecordType::{Norm, Rcpt};
use support::{OUR_POSTDROP, STOCK_POSTDROP, Site, code, message, run, said, stderr};

/// Checks that the filter refuses such a record, as later Postfix does. Postfix 3.7 takes the
/// record, and writes a file that its own tools can't read.
#[test]
fn a_record_of_type_nul_is_refused() {
    let mut site = Site::with_redis();
    let mut bytes = message(&[], &[(Norm, b"x")], &[]);
    bytes.splice(0..0, *b"\0\0");
    let stock = run(&mut site.command(STOCK_POSTDROP, &["-r"]), &bytes);
    site.empty_maildrop();
    assert_eq!(code(&stock), 0);
    let ours = site.postdrop(&["-r"], &bytes);
    assert_eq!(code(&ours), 1);
    assert!(stderr(&ours).contains("malformed input"), "{}", stderr(&ours));
    assert_eq!(site.take_messages().len(), 0);
}

/// Checks that stock `sendmail` and `smtpd -S` submit through OPTIMUS's postdrop as through
/// stock's. Other tests rely on this.
#[test]
fn postdrop_serves_stock_sendmail_and_smtpd() {
    let mut site = Site::with_redis();
    let folder = site.folder("bin");
    std::os::unix::fs::symlink(OUR_POSTDROP, folder.join("postdrop")).unwrap();
    site.postfix.set_main(&[&format!("command_directory = {}", folder.display())]).unwrap();
    let output =
        run(&mut site.command(support::STOCK_SENDMAIL, &["-i", "bob"]), b"Subject: x\n\nbody\n");
    support::assert_quiet_success(&output);
    assert!(site.take_records().contains(&(Rcpt, "bob".to_owned())));

    site.start_postfix();
    let smtp =
        b"EHLO x\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n\
            QUIT\r\n";
    let output = run(&mut site.command(support::STOCK_SENDMAIL, &["-bs"]), smtp);
    let dialogue = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut messages = site.take_messages();
    assert_eq!(messages.len(), 1, "{dialogue}{}", stderr(&output));
    let message = messages.remove(0);
    assert!(dialogue.contains(&format!("250 2.0.0 Ok: queued as {}", message.id)), "{dialogue}");
    assert!(said(&message.records).contains(&(Norm, "body".to_owned())));
}

/// Checks that stock `sendmail` prints the reason when no message can be stored.
#[test]
fn stock_sendmail_prints_the_reason_of_a_failure() {
    let site = Site::new();
    let folder = site.folder("bin");
    std::os::unix::fs::symlink(OUR_POSTDROP, folder.join("postdrop")).unwrap();
    site.postfix.set_main(&[&format!("command_directory = {}", folder.display())]).unwrap();
    std::fs::remove_dir(site.postfix.queue_dir().join("maildrop")).unwrap();
    let output = run(&mut site.command(support::STOCK_SENDMAIL, &["bob"]), b"x\n");
    assert_eq!(code(&output), 75);
    let words = stderr(&output);
    assert!(
        words.contains("sendmail: fatal: root(0): the message is not submitted: Redis: "),
        "{words}"
    );
    assert!(words.contains("; maildrop: create "), "{words}");
}

/// Checks that a client that doesn't wait for its answer has submitted its message nevertheless.
#[test]
fn the_message_of_a_client_that_has_gone_is_submitted() {
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
fn the_queue_id_of_the_greeting_is_the_message_id() {
    let mut site = Site::with_redis();
    let output = site.postdrop(&["-r", "-v"], &message(&[], &[], &[]));
    let (greeting, _) = attr::decode(&output.stdout).unwrap().unwrap();
    let messages = site.take_messages();
    assert_eq!(greeting.get("queue_id"), Some(messages[0].id.to_string().as_str()));
    assert_eq!(messages[0].host, "testbed.example.org");
}
