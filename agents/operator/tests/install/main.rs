//! `optimus install` and `optimus uninstall`, on overlays over this machine's own Postfix: see
//! [`system`].
//!
//! Needs root, overlayfs, and this build's programs:
//! `cargo build --workspace --all-features --bins`.

#![allow(clippy::unwrap_used)]

mod refusing;
mod system;
mod using;

use system::System;

#[test]
fn uninstalling_leaves_everything_as_it_was() {
    let system = System::new();
    let (before, fakes) = (system.snapshot(), system.fakes("1"));
    let from = fakes.to_str().unwrap();

    let planned = system.expect_optimus(&["install", "--dry-run", "--from", from]);
    system.expect_as(&before, "a dry run does nothing");
    let done = system.expect_optimus(&["install", "--from", from]);
    let steps = |text: &str| -> Vec<String> {
        text.lines().map(|it| it.trim_start_matches("would ").to_owned()).collect()
    };
    let (mut planned, mut done) = (steps(&planned), steps(&done));
    assert_eq!(planned.pop().map(|it| it.ends_with("nothing was done")), Some(true));
    assert_eq!(done.pop().map(|it| it.starts_with("installed, ")), Some(true));
    assert_eq!(planned, done, "a real run takes the steps that a dry run shows");
    for words in [
        "divert the package's /usr/sbin/sendmail to /usr/sbin/sendmail.postfix",
        "optimus unix - - n - 1 pickup-rs",
    ] {
        assert!(planned.iter().any(|it| it.contains(words)), "{planned:#?}");
    }

    let installed = system.snapshot();
    let modes = system.sh(
        "stat -c '%a %U:%G' /usr/sbin/sendmail /usr/sbin/postdrop /usr/lib/postfix/sbin/pickup-rs",
    );
    assert_eq!(modes, "2755 root:postdrop\n2755 root:postdrop\n755 root:root\n");
    let postsuper = system.sh("readlink /usr/sbin/postsuper; ls /usr/sbin/postsuper.postfix");
    assert_eq!(postsuper, "/usr/sbin/optimus\n/usr/sbin/postsuper.postfix\n");
    assert_eq!(system.sh("mailq; newaliases; /usr/lib/sendmail"), "sendmail 1\n".repeat(3));
    assert!(
        system
            .sh("dpkg-divert --list")
            .contains("local diversion of /usr/sbin/postdrop to /usr/sbin/postdrop.postfix")
    );
    assert_eq!(system.sh("postconf -M optimus/unix").split_whitespace().last(), Some("pickup-rs"));
    assert!(
        system
            .sh("man -w optimus.toml; man -w sendmail; man -w mailq")
            .contains("/usr/local/share/man/man1/sendmail.1")
    );

    assert!(system.expect_optimus(&["install", "--from", from]).contains("nothing to do"));
    system.expect_as(&installed, "installing twice is installing once");
    system.expect_optimus(&["uninstall", "--dry-run"]);
    system.expect_as(&installed, "a dry run does nothing");
    system.expect_optimus(&["uninstall"]);
    system.expect_as(&before, "after uninstalling");
    assert!(system.expect_optimus(&["uninstall"]).contains("nothing to do"));
    system.expect_as(&before, "after uninstalling twice");
}

#[test]
fn an_upgrade_replaces_files_of_optimus_and_keeps_stock_ones() {
    let system = System::new();
    let before = system.snapshot();
    let (old, new) = (system.fakes("1"), system.fakes("2"));
    system.expect_optimus(&["install", "--from", old.to_str().unwrap(), "--agents", "apart"]);
    let done = system.expect_optimus(&["install", "--from", new.to_str().unwrap()]);
    assert!(done.contains("remove /etc/systemd/system/optimus-mail.service"), "{done}");
    assert_eq!(
        system.sh("sendmail; postdrop; info-agent"),
        "sendmail 2\npostdrop 2\ninfo-agent 2\n"
    );
    system.expect_optimus(&["uninstall"]);
    system.expect_as(&before, "after an upgrade and uninstalling");
}

/// Checks an installation as the README described it before there was a command for it.
#[test]
fn an_installation_by_hand_is_taken_over() {
    let system = System::new();
    let (before, fakes) = (system.snapshot(), system.fakes("1"));
    system.sh(&format!(
        "cd {} && for program in sendmail postdrop; do
             dpkg-divert --quiet --local --rename --divert /usr/sbin/$program.postfix --add \
             /usr/sbin/$program &&
             install -o root -g postdrop -m 2755 $program /usr/sbin/$program || exit
         done
         install -m 755 pickup-rs /usr/lib/postfix/sbin/ && install -m 755 optimus /usr/sbin/",
        fakes.display()
    ));
    system.expect_optimus(&["install", "--from", system.fakes("2").to_str().unwrap()]);
    assert_eq!(
        system.sh("sendmail; pickup=/usr/lib/postfix/sbin/pickup-rs; $pickup"),
        "sendmail 2\npickup-rs 2\n"
    );
    system.expect_optimus(&["uninstall"]);
    system.expect_as(&before, "stock is back, and nothing of ours is left");
}

#[test]
fn a_master_cf_that_was_edited_meanwhile_only_loses_the_entry() {
    let system = System::new();
    let original = system.sh("cat /etc/postfix/master.cf");
    system.expect_optimus(&["install", "--from", system.fakes("1").to_str().unwrap()]);
    system.sh("echo 'mine unix - - n - - pipe' >> /etc/postfix/master.cf; chmod 640 \
        /etc/postfix/master.cf");
    system.expect_optimus(&["uninstall"]);
    assert_eq!(
        system.sh("cat /etc/postfix/master.cf"),
        format!("{original}mine unix - - n - - pipe\n")
    );
    assert_eq!(system.sh("stat -c %a /etc/postfix/master.cf"), "640\n");
}

/// Several instances share the programs.
#[test]
fn files_that_another_instance_needs_stay() {
    let system = System::new();
    system.sh("cp -a /etc/postfix /etc/postfix-2");
    let before = system.snapshot();
    let fakes = system.fakes("1");
    let from = fakes.to_str().unwrap();
    system.expect_optimus(&["install", "--from", from]);
    system.expect_optimus(&["install", "--from", from, "-c", "/etc/postfix-2"]);
    assert!(system.sh("ls /etc/systemd/system").contains("optimus-postfix-2.service"));
    system.expect_optimus(&["uninstall"]);
    assert_eq!(system.sh("sendmail"), "sendmail 1\n");
    assert_eq!(
        system.sh("postconf -M optimus/unix 2>/dev/null; postconf -c /etc/postfix-2 -M \
            optimus/unix | wc -l"),
        "1\n"
    );
    system.expect_optimus(&["uninstall", "-c", "/etc/postfix-2"]);
    system.expect_as(&before, "after the last one");
}

/// The package manager replaces its own files, wherever they are.
#[test]
fn an_upgrade_of_postfix_meanwhile_touches_stock_files_only() {
    let system = System::new();
    system.expect_optimus(&["install", "--from", system.fakes("1").to_str().unwrap()]);
    // dpkg does this with a diverted file.
    system.sh(
        "echo newer > /tmp/x.$$; cp /tmp/x.$$ $(dpkg-divert --truename /usr/sbin/sendmail); rm \
            /tmp/x.$$",
    );
    system.sh("postfix set-permissions 2>&1 || true");
    assert_eq!(system.sh("stat -c '%a %G' /usr/sbin/sendmail"), "2755 postdrop\n");
    assert_eq!(system.sh("sendmail"), "sendmail 1\n");
    system.expect_optimus(&["uninstall"]);
    assert_eq!(system.sh("cat /usr/sbin/sendmail"), "newer\n");
}
