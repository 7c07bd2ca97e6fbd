//! Tests of the group's rights: the actions that users may take through the programs, and the files
//! that they may reach.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::MESSAGE;
use crate::support::installed::{Installed, USER, user};
use crate::support::{Site, assert_quiet_success, code, run, stderr, stream};
use spool::keys;
use std::process::Command;

use nix::unistd::{Gid, Group};
use postfix_wire::record::RecordType::{End, From, Full, Mesg, Norm, Rcpt, Xtra};

#[test]
fn an_ordinary_user_submits_to_redis() {
    let mut installed = Installed::with_redis();
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_quiet_success(&output);
    let records: &[(_, &[u8])] =
        &[(From, b"x"), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x"), (Xtra, b""), (End, b"")];
    assert_eq!(code(&installed.run(&[], "postdrop", &["-r"], &stream(records))), 0);
    let messages = installed.site.take_messages();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.uid == user().uid.as_raw()));
    assert!(
        messages
            .iter()
            .any(|m| crate::support::said(&m.records).contains(&(From, USER.to_owned())))
    );
}

#[test]
fn an_ordinary_user_s_mail_goes_to_the_maildrop_when_redis_is_away() {
    let installed = Installed::new(Site::new(), 0o2755);
    assert_quiet_success(&installed.run(&["NAME=Ann"], "sendmail", &["bob"], MESSAGE));
    let files = installed.site.maildrop();
    assert_eq!(files.len(), 1);
    assert!(files[0].1.contains(&(Full, "Ann".to_owned())));
    let metadata = std::fs::metadata(&files[0].0).unwrap();
    assert_eq!(metadata.uid(), user().uid.as_raw());
    assert_eq!(metadata.mode() & 0o7777, 0o744);
}

/// Checks that the programs lack the rights of the tests above without the bit. So those rights
/// were the group's.
#[test]
fn without_the_set_group_id_bit_redis_and_maildrop_are_closed() {
    let mut installed = Installed::with_redis();
    let sendmail = installed.programs.join("sendmail");
    std::fs::set_permissions(sendmail, PermissionsExt::from_mode(0o755)).unwrap();
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert_eq!(stderr(&output).matches("Permission denied").count(), 2, "{}", stderr(&output));
    assert_eq!((installed.site.take_messages().len(), installed.site.maildrop().len()), (0, 0));
}

/// Checks the rule for directories. With a configuration of its own, a user could make a privileged
/// program write anywhere.
#[test]
fn a_configuration_must_be_listed_in_the_default_one() {
    let mut installed = Installed::with_redis();
    let other = Site::with_redis();
    let config = other.postfix.config_dir().to_str().unwrap();
    let variable = format!("MAIL_CONFIG={config}");
    let attempts: [(&[&str], &str, &[&str], i32); 3] = [
        (&[&variable], "sendmail", &["bob"], 75),
        (&[], "sendmail", &["-C", config, "bob"], 75),
        (&[], "postdrop", &["-c", config], 1),
    ];
    for (environment, program, arguments, exit) in attempts {
        let output = installed.run(environment, program, arguments, MESSAGE);
        assert_eq!(code(&output), exit);
        let words = format!("unauthorized configuration directory name: {config}");
        assert!(stderr(&output).contains(&words), "{}", stderr(&output));
    }
    assert_eq!(installed.site.take_messages().len(), 0);

    installed
        .site
        .postfix
        .set_main(&[&format!("alternate_config_directories = /x, {config}")])
        .unwrap();
    assert_quiet_success(&installed.run(&[&variable], "sendmail", &["bob"], MESSAGE));
    assert_quiet_success(&installed.run(&[], "sendmail", &["-C", config, "bob"], MESSAGE));
    let inbox = other.redis.as_ref().unwrap().cli(&["LLEN", keys::INBOX]).unwrap();
    assert_eq!((inbox.as_str(), installed.site.take_messages().len()), ("2", 0));
}

/// Checks that `-C` is for root, even if the program is not privileged.
#[test]
fn an_unprivileged_sendmail_too_needs_a_listed_directory_for_its_option() {
    let installed = Installed::new(Site::new(), 0o755);
    let other = Site::new();
    let config = other.postfix.config_dir().to_str().unwrap();
    let output = installed.run(&[], "sendmail", &["-C", config, "bob"], MESSAGE);
    assert!(
        stderr(&output).contains("unauthorized configuration directory"),
        "{}",
        stderr(&output)
    );
    let output = installed.run(&[&format!("MAIL_CONFIG={config}")], "sendmail", &["bob"], MESSAGE);
    assert!(stderr(&output).contains("the message is not submitted"), "{}", stderr(&output));
}

/// Script that prints its user and group. A shell would give up the group by itself.
const WHO_AM_I: &str = r#"#!/usr/bin/perl
open(my $status, "<", "/proc/self/status") or die $!;
print grep(/^[UG]id:/, <$status>);
"#;

/// Checks that Postfix's own commands run without the group's rights, because they take orders from
/// every user.
#[test]
fn other_commands_run_without_the_group() {
    let installed = Installed::new(Site::new(), 0o2755);
    let folder = installed.site.folder("others");
    for name in ["postqueue", "postalias", "smtpd"] {
        std::fs::write(folder.join(name), WHO_AM_I).unwrap();
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    for name in ["mailq", "newaliases"] {
        std::fs::hard_link(installed.programs.join("sendmail"), installed.programs.join(name))
            .unwrap();
    }
    let folder = folder.display();
    installed
        .site
        .postfix
        .set_main(&[
            &format!("command_directory = {folder}"),
            &format!("daemon_directory = {folder}"),
            "alias_database = hash:/nonexistent/x",
        ])
        .unwrap();
    // The four ids are the real, effective, saved and file system ids.
    let (uid, gid) = (user().uid, user().gid);
    let expected = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\n");
    for (program, arguments) in [
        ("mailq", &[][..]),
        ("newaliases", &[]),
        ("sendmail", &["-bp"]),
        ("sendmail", &["-q"]),
        ("sendmail", &["-qRexample.org"]),
        ("sendmail", &["-qI4C1B21A0"]),
        ("sendmail", &["-bi"]),
        ("sendmail", &["-bs"]),
    ] {
        let output = installed.run(&[], program, arguments, b"");
        assert_quiet_success(&output);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{program} {arguments:?}");
    }
}

/// Checks that the caller can't reach getent, which names the users who may submit mail and runs as
/// the caller's user. getent runs with the group, so the kernel protects it like another user's
/// process. Root owns the `/proc` files of a protected process.
#[test]
fn the_program_that_asks_the_name_service_is_out_of_the_caller_s_reach() {
    let mut installed = Installed::with_redis();
    installed.site.postfix.set_main(&["authorized_submit_users = root, unknown"]).unwrap();
    let folder = installed.site.folder("getent");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let getent = folder.join("getent");
    let told = folder.join("told");
    let owner = "print((stat('/proc/self/fd'))[4]);";
    let tell =
        format!("open(STDOUT, '>', '{}'); {owner} print %ENV, \"\\n\";\nopen(my", told.display());
    std::fs::write(&getent, WHO_AM_I.replacen("open(my", &tell, 1) + "exit 2;\n").unwrap();
    std::fs::set_permissions(&getent, PermissionsExt::from_mode(0o755)).unwrap();

    let sendmail = installed.programs.join("sendmail").display().to_string();
    let inner = installed.as_uid(4711, &["SECRET=x", &sendmail, "-fann", "bob"]);
    let mut command = Command::new("unshare");
    let script = r#"mount --bind "$1" /usr/bin/getent || exit 99; shift; exec "$@""#;
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&getent)
        .arg(inner.get_program())
        .args(inner.get_args());
    assert_quiet_success(&run(command.current_dir(installed.site.postfix.path()), MESSAGE));
    let (gid, group) = (user().gid, Group::from_name("postdrop").unwrap().unwrap().gid);
    let expected =
        format!("0\nUid:\t4711\t4711\t4711\t4711\nGid:\t{gid}\t{group}\t{group}\t{group}\n");
    assert_eq!(std::fs::read_to_string(told).unwrap(), expected);
    assert_eq!(installed.site.take_messages().len(), 1);
}

#[test]
fn the_administrator_chooses_the_users_who_may_submit() {
    let mut installed = Installed::with_redis();
    installed.site.postfix.set_main(&["authorized_submit_users = !nobody, static:all"]).unwrap();
    let words = format!("User {USER}({}) is not allowed to submit mail", user().uid);
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains(&words), "{}", stderr(&output));
    let output = installed.run(&[], "postdrop", &["-r"], b"");
    assert_eq!((code(&output), output.stdout.len()), (1, 0));
    assert!(stderr(&output).contains(&words), "{}", stderr(&output));
    installed.site.postfix.set_main(&["authorized_submit_users = nobody"]).unwrap();
    assert_quiet_success(&installed.run(&[], "sendmail", &["bob"], MESSAGE));
    assert_eq!(installed.site.take_messages().len(), 1);
}

/// Checks that the program gives up set-user-id root, with which it would have all rights and the
/// file would be root's.
#[test]
fn set_user_id_root_is_given_up() {
    let installed = Installed::new(Site::new(), 0o6755);
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("set-user-id root by mistake: right given up"),
        "{}",
        stderr(&output)
    );
    let metadata = std::fs::metadata(&installed.site.maildrop()[0].0).unwrap();
    assert_eq!(metadata.uid(), user().uid.as_raw());
    assert_ne!(Gid::from_raw(metadata.gid()), Gid::from_raw(0));
}
