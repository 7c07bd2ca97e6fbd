//! Tests with disks that are full, read-only or missing.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use postfix_wire::record::RecordType::{End, From, Mesg, Norm, Rcpt, Xtra};
use testbed::{Redis, Scratch, until};

use crate::support::installed::Installed;
use crate::support::{
    OUR_SENDMAIL, STOCK_SENDMAIL, Site, assert_quiet_success, code, run, stderr, stream,
};
use crate::{MESSAGE, TIMEOUT, disown, in_doubt, load_library};

/// Runs shell commands as root in their own mount namespace, with `$1` as the queue directory.
fn in_own_mounts(site: &Site, script: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(site.postfix.queue_dir()).arg(OUR_SENDMAIL);
    command.env("MAIL_CONFIG", site.postfix.config_dir()).current_dir(site.postfix.path());
    let output = run(&mut command, MESSAGE);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
}

#[test]
fn a_full_disk_without_redis_gives_75_with_both_reasons_and_leaves_nothing() {
    let site = Site::new();
    let full = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o size=16k none "$1/maildrop" && head -c 100k /dev/zero | tr '\0' x |
           "$2" -F '' bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(full.contains("code 75\nend\n"), "{full}");
    assert!(full.contains("fatal: root(0): the message is not submitted: Redis: "), "{full}");
    assert!(
        full.contains("; maildrop: write ") && full.contains("No space left on device; make room"),
        "{full}"
    );
    // The file system is read-only.
    let read_only = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o ro none "$1/maildrop" && "$2" bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(
        read_only.contains("code 75\nend\n") && read_only.contains("Read-only file system"),
        "{read_only}"
    );
    // The caller has set a limit of file size.
    let limited = in_own_mounts(
        &site,
        r#"ulimit -f 8; head -c 100k /dev/zero | tr '\0' x | "$2" bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(limited.contains("code 75\nend\n") && limited.contains("File too large"), "{limited}");
}

/// Checks that the message fails even where Redis has room for it, as with stock.
#[test]
fn a_large_message_gives_75_when_the_disk_for_its_file_is_full() {
    let mut site = Site::with_redis();
    for (program, words) in
        [(OUR_SENDMAIL, "temporary file: not written"), (STOCK_SENDMAIL, "queue file write error")]
    {
        let script = format!(
            r#"mount -t tmpfs -o size=512k none "$1/maildrop" && head -c 3M /dev/zero | tr '\0' x |
               {program} -F '' bob; echo "code $?"; find "$1/maildrop" -type f -perm /100; echo end"#
        );
        let told = in_own_mounts(&site, &script);
        assert!(told.contains("code 75\nend\n") && told.contains(words), "{told}");
        let is_named = told.contains("No space left on device") || program == STOCK_SENDMAIL;
        assert!(is_named, "{told}");
    }
    assert_eq!(site.take_messages().len(), 0);
    // A message that needs no room on the disk is submitted nevertheless.
    let told = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o size=16k none "$1/maildrop" && head -c 200k /dev/zero | tr '\0' x |
           "$2" -F '' bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(told.contains("code 0\nend\n"), "{told}");
    assert_eq!(site.take_messages().len(), 1);
}

#[test]
fn a_missing_maildrop_without_redis_gives_75() {
    let site = Site::new();
    let maildrop = site.postfix.queue_dir().join("maildrop");
    std::fs::remove_dir(&maildrop).unwrap();
    let output = site.sendmail(&["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("; maildrop: create "), "{}", stderr(&output));
    assert!(!maildrop.exists());

    let records: &[(_, &[u8])] =
        &[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x"), (Xtra, b""), (End, b"")];
    let output = site.postdrop(&["-r"], &stream(records));
    assert_eq!(code(&output), 2);
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        answer.contains("status\x002\0reason\0the message is not submitted: Redis: "),
        "{answer:?}"
    );
}

/// Runs the program as an ordinary user, because root may write to any maildrop.
#[test]
fn a_maildrop_that_can_not_be_written_to_gives_75() {
    let installed = Installed::new(Site::new(), 0o2755);
    let maildrop = installed.site.postfix.queue_dir().join("maildrop");
    std::fs::set_permissions(&maildrop, PermissionsExt::from_mode(0o700)).unwrap();
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    let told = stderr(&output);
    assert!(told.contains("; maildrop: create ") && told.contains("Permission denied"), "{told}");
    std::fs::remove_dir(&maildrop).unwrap();
    std::fs::write(&maildrop, "").unwrap();
    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("Not a directory"), "{}", stderr(&output));
}

/// Uses a disk that has room for the file's content, but no inode for the file.
#[test]
fn a_disk_without_inodes_gives_75() {
    let site = Site::new();
    let told = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o nr_inodes=1 none "$1/maildrop" && "$2" bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(told.contains("code 75\nend\n") && told.contains("No space left on device"), "{told}");
}

/// Fills the disk of Redis, which ends when it can't write a message that it has taken. The client
/// gets no answer.
#[test]
fn a_redis_whose_disk_is_full_loses_no_message_with_exit_code_0() {
    let mut site = Site::new();
    let disk = site.folder("disk");
    Scratch::mount(&disk, 1_000_000).unwrap();
    site.redis = Some(Redis::start_in(&disk, &[]).unwrap());
    load_library(&mut site);
    let url = site.redis().url();
    site.settings(&format!("[redis]\nurl = \"{url}\"\n{TIMEOUT}"));
    let message = [MESSAGE, "x\n".repeat(100_000).as_bytes()].concat();
    let mut sent = 0;
    while site.maildrop().is_empty() {
        assert_quiet_success(&site.sendmail(&["bob"], &message));
        sent += 1;
        assert!(sent < 20, "its disk is never full");
    }
    assert!(sent > 1);
    let id = in_doubt(&site);
    until(std::time::Duration::from_secs(60), "the end of Redis", || {
        site.redis.as_ref().unwrap().cli(&["PING"]).is_err()
    })
    .unwrap();
    let larger =
        Command::new("mount").args(["-o", "remount,size=100000000"]).arg(&disk).output().unwrap();
    assert!(larger.status.success());
    site.redis().restart().unwrap();
    assert_eq!(disown(&mut site, &id), "disowned");
    assert_eq!(site.take_messages().len(), sent - 1);
}
