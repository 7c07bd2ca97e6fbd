//! Tests with mutt and s-nail, called as scripts call them.

use crate::machine::{Machine, needs};

#[test]
fn mutt() {
    needs("mutt", "/usr/bin/mutt");
    let mut machine = Machine::new();
    let settings = machine.write(
        ".muttrc",
        "set copy=no\nset realname=Ann\nset from=ann@example.org\nset use_envelope_from\n",
    );
    let attached = machine.write("attached.txt", "an attachment\n");
    let words = [
        "mutt",
        "-F",
        &settings,
        "-s",
        "Hello",
        "-b",
        "eve@example.org",
        "-a",
        &attached,
        "--",
        "bob@example.org",
    ];
    assert_eq!(machine.run(&words, b"body\n.\n"), "");
    let mail = machine.take_one();
    assert_eq!((mail.sender.as_str(), mail.header("Subject")), ("ann@example.org", Some("Hello")));
    assert_eq!(mail.recipients, ["bob@example.org", "eve@example.org"]);
    assert!(
        mail.body().contains("\nbody\n.\n") && mail.body().contains("\nan attachment\n"),
        "{}",
        mail.content
    );
    assert!(!mail.content.contains("eve"));
}

#[test]
fn s_nail() {
    needs("s-nail", "/usr/bin/s-nail");
    let mut machine = Machine::new();
    let words = [
        "s-nail",
        "-:/",
        "-S",
        "v15-compat",
        "-S",
        "sendwait",
        "-s",
        "Hello",
        "-r",
        "ann@example.org",
    ];
    let words = [&words[..], &["-b", "eve@example.org", "bob@example.org"]].concat();
    assert_eq!(machine.run(&words, b"body\n"), "");
    let mail = machine.take_one();
    assert_eq!((mail.sender.as_str(), mail.header("Subject")), ("ann@example.org", Some("Hello")));
    assert_eq!(mail.recipients, ["bob@example.org", "eve@example.org"]);
    assert_eq!(mail.body(), "body\n");
}
