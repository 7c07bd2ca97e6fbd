//! Tests that keep the password of Redis from a caller. The group may read it, and the caller runs
//! a program with the group.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use nix::unistd::{Group, chown};
use testbed::until;

use crate::MESSAGE;
use crate::support::installed::Installed;
use crate::support::{PATIENT, assert_quiet_success, code, run, stderr};

const SECRET: &str = "hunter2-and-more";

/// Returns programs for a Redis whose password the group can read and the caller can't.
fn with_password() -> Installed {
    let mut installed = Installed::with_redis();
    installed.site.redis().cli(&["CONFIG", "SET", "requirepass", SECRET]).unwrap();
    let file = installed.site.postfix.config_dir().join("optimus-password");
    std::fs::write(&file, SECRET).unwrap();
    chown(&file, None, Group::from_name("postdrop").unwrap().map(|group| group.gid)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    installed.site.settings(&settings(&installed));
    installed
}

fn settings(installed: &Installed) -> String {
    let url = installed.site.redis.as_ref().unwrap().url();
    format!("[redis]\nurl = \"{url}\"\npassword_file = \"optimus-password\"\n{PATIENT}")
}

/// Checks that memory, environment and descriptors of the program belong to root, and that a
/// debugger can't attach.
#[test]
fn the_caller_can_not_look_into_the_program() {
    let installed = with_password();
    let mut command = installed.command(&[], "sendmail", &["bob"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let about = format!("/proc/{}", child.id());
    let is_sendmail =
        || std::fs::read_to_string(format!("{about}/comm")).is_ok_and(|name| name == "sendmail\n");
    until(std::time::Duration::from_secs(60), "sendmail to run", is_sendmail).unwrap();
    // Without the protection, the file would belong to the caller.
    assert_eq!(std::fs::metadata(format!("{about}/mem")).unwrap().uid(), 0);
    for file in ["mem", "environ", "maps", "auxv", "io", "fd/0"] {
        let output = run(&mut installed.as_user(&["cat", &format!("{about}/{file}")]), b"");
        assert!(
            !output.status.success() && stderr(&output).contains("Permission denied"),
            "{file}"
        );
    }
    let attach = format!("exit(syscall({}, 16, {}, 0, 0) == 0)", libc::SYS_ptrace, child.id());
    assert_eq!(code(&run(&mut installed.as_user(&["perl", "-e", &attach]), b"")), 0, "attached");
    child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

/// Checks that a signal that usually leaves a core file leaves none. The program ignores a fault
/// that a process sends, so the test sends SIGABRT.
#[test]
fn there_is_no_core_file() {
    let installed = with_password();
    let folder = installed.site.folder("cores");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let script = format!(
        r#"ulimit -c unlimited; cd {}; perl -e '
            my $child = open(my $pipe, "|-") // die; exec $ARGV[0], "bob" or die if !$child;
            my $name = ""; until ($name eq "sendmail\n") {{ open(my $comm, "<", "/proc/$child/comm"); $name = <$comm>; }}
            kill "ABRT", $child; waitpid($child, 0); exit($? == 6 ? 0 : 1);' "$1""#,
        folder.display()
    );
    let output = run(&mut installed.script("sh", "-c", &script), b"");
    assert_eq!(code(&output), 0, "dumped, or not killed: {}", stderr(&output));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// Checks that no failure shows the password.
#[test]
fn no_error_shows_the_password() {
    let mut installed = with_password();
    assert_quiet_success(&installed.run(&[], "sendmail", &["bob"], MESSAGE));
    installed
        .site
        .redis()
        .cli(&["-a", SECRET, "--no-auth-warning", "CONFIG", "SET", "requirepass", "another"])
        .unwrap();
    std::fs::remove_dir(installed.site.postfix.queue_dir().join("maildrop")).unwrap();
    for text in [
        settings(&installed),
        format!("[redis]\nurl = \"redis://:{SECRET}@127.0.0.1:1/\"\n"),
        format!("[redis]\nurl = \"redis://:{SECRET}@\"\n"),
        format!("[redis]\npassword = \"{SECRET}\"\n"),
        format!("[redis]\nurl = \"redis://:{SECRET}@x\n"),
    ] {
        installed.site.settings(&text);
        for (program, arguments) in [("sendmail", &["bob"][..]), ("sendmail", &["-v", "bob"])] {
            let output = installed.run(&[], program, arguments, MESSAGE);
            assert_eq!(code(&output), 75, "{text}");
            assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        }
    }
}
