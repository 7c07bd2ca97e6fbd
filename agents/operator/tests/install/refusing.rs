//! Installations that can't succeed are refused with the reason, before anything is changed.

use super::system::System;

/// Runs `spoil`, and expects a refusal with these words that changes nothing.
fn expect_refusal(spoil: &str, words: &str) {
    let system = System::new();
    let fakes = system.fakes("1");
    system.sh(spoil);
    let before = system.snapshot();
    let (is_fine, text) = system.optimus(&["install", "--from", fakes.to_str().unwrap()]);
    assert!(!is_fine && text.contains(words), "{spoil}: {text}");
    system.sh("rmdir /var/lib/optimus 2>/dev/null || true");
    system.expect_as(&before, spoil);
}

#[test]
fn an_unfit_system_is_refused_with_the_reason() {
    expect_refusal("rm /etc/postfix/main.cf", "Postfix: not installed here");
    expect_refusal(
        "rm /usr/sbin/postconf",
        "Postfix: not installed here: /usr/sbin/postconf: not started",
    );
    let old = "mv /usr/sbin/postconf /usr/sbin/real; printf '#!/bin/sh\\necho 3.4.1\\n\
        ' > /usr/sbin/postconf; chmod 755 /usr/sbin/postconf";
    expect_refusal(old, "Postfix 3.4.1: too old; install 3.5 or newer");
    expect_refusal("mount -o remount,ro /usr", "Read-only file system");
    let other = "echo 'optimus unix - - y - 9 smtpd' >> /etc/postfix/master.cf";
    expect_refusal(other, "optimus: maxproc must be 1");
    expect_refusal(
        "echo x > /usr/sbin/sendmail.postfix",
        "/usr/sbin/sendmail.postfix: in the way: /usr/sbin/sendmail must be kept",
    );
    let diverted =
        "dpkg-divert --quiet --local --no-rename --divert /usr/sbin/mine --add /usr/sbin/postdrop";
    expect_refusal(diverted, "/usr/sbin/postdrop: not installed: diverted to /usr/sbin/mine");
    expect_refusal(
        "postconf -e setgid_group=nosuchgroup",
        "setgid_group: no group \"nosuchgroup\"",
    );
}

#[test]
fn missing_or_foreign_programs_are_not_installed() {
    let system = System::new();
    let before = system.snapshot();
    let (is_fine, text) = system.optimus(&["install", "--from", "/usr/sbin"]);
    assert!(!is_fine && text.contains("pickup-rs: not read; build this program"), "{text}");
    let fakes = system.fakes("1");
    std::fs::copy("/usr/sbin/sendmail", fakes.join("sendmail")).unwrap();
    let (is_fine, text) = system.optimus(&["install", "--from", fakes.to_str().unwrap()]);
    assert!(!is_fine && text.contains("sendmail: not a program of OPTIMUS"), "{text}");
    system.sh("rmdir /var/lib/optimus");
    system.expect_as(&before, "refused");
}

#[test]
fn only_root_installs_and_everybody_may_make_a_dry_run() {
    let system = System::new();
    let fakes = system.fakes("1");
    system.sh(&format!("chmod a+rx {} {}", system.scratch.path().display(), fakes.display()));
    let optimus = testbed::bin("optimus").display().to_string();
    let copy = fakes.join("optimus-of-all").display().to_string();
    std::fs::copy(&optimus, &copy).unwrap();
    let as_nobody = |words: &str| {
        let script = format!(
            "setpriv --reuid nobody --regid nogroup --clear-groups {copy} {words} --from {} 2>&1",
            fakes.display()
        );
        system.sh(&format!("{script} || true"))
    };
    assert!(
        as_nobody("install").contains("only root may change the system"),
        "{}",
        as_nobody("install")
    );
    let shown = as_nobody("install --dry-run");
    assert!(
        shown.contains("would install /usr/sbin/sendmail") && shown.contains("nothing was done"),
        "{shown}"
    );
}

#[test]
fn a_state_folder_that_others_can_change_is_refused_before_it_is_used() {
    expect_refusal(
        "mkdir -m 777 /var/lib/optimus; touch /var/lib/optimus/x",
        "/var/lib/optimus: writable by non-root users",
    );
    expect_refusal(
        "mkdir /var/lib/optimus; touch /var/lib/optimus/x; chown nobody /var/lib/optimus",
        "writable by non-root users",
    );
}
