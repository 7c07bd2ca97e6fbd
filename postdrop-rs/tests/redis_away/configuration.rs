//! Tests of wrong configurations: a wrong `optimus.toml` sends mail to the maildrop, and a wrong
//! `main.cf` is a failure.

use std::process::Command;

use crate::support::{OUR_SENDMAIL, Site, assert_quiet_success, code, run, stderr};
use crate::{MESSAGE, MailLog};

#[test]
fn a_broken_optimus_toml_is_named_and_sends_mail_to_the_maildrop() {
    let site = Site::with_redis();
    let log = MailLog::of(&site);
    for (text, words) in [
        ("[redis]\nurl = 5\n", "optimus.toml"),
        ("[lots]\nsiez = 1\n", "optimus.toml: line 2 is wrong"),
        ("[redis]\nurl = \"redis://:hunter2@host\" x\n", "optimus.toml: line 2 is wrong"),
        ("redis = \"redis://:hunter2@host\"\n", "optimus.toml: line 1 is wrong"),
        ("[redis]\nurl = \"redis:/:hunter2@host\"\n", "...@host"),
        ("[redis]\nurl = \"http://x\"\n", "http://x"),
        ("[redis]\nurl = \"redis://127.0.0.1:1\"\n", "127.0.0.1:1"),
        ("[redis]\npassword_file = \"/nonexistent\"\n", "redis.password_file: /nonexistent"),
    ] {
        site.settings(text);
        assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
        assert_eq!(site.maildrop().len(), 1);
        site.empty_maildrop();
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains(words), "{text:?}: {lines:?}");
        assert!(!lines[0].contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn a_broken_main_cf_is_named_and_nothing_is_submitted() {
    let site = Site::with_redis();
    for (line, name) in [
        ("message_size_limit = big", "message_size_limit"),
        ("enable_long_queue_ids = perhaps", "enable_long_queue_ids"),
        ("syslog_name = ${", "syslog_name"),
    ] {
        let good = std::fs::read_to_string(site.postfix.config_dir().join("main.cf")).unwrap();
        site.postfix.set_main(&[line]).unwrap();
        let output = site.sendmail(&["bob"], MESSAGE);
        assert_eq!(code(&output), 75, "{line}");
        assert!(
            stderr(&output).contains(name) && stderr(&output).contains("main.cf"),
            "{}",
            stderr(&output)
        );
        assert_eq!(code(&site.postdrop(&["-r"], b"")), 1);
        std::fs::write(site.postfix.config_dir().join("main.cf"), good).unwrap();
    }
    let output =
        run(Command::new(OUR_SENDMAIL).env("MAIL_CONFIG", "/nonexistent").arg("bob"), MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("/nonexistent/main.cf"), "{}", stderr(&output));
    assert_eq!(site.redis.as_ref().unwrap().cli(&["KEYS", "*"]).unwrap(), "");
}
