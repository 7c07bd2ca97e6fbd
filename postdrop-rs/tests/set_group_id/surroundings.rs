//! Tests of the surroundings in which a caller can start the programs: environment, descriptors,
//! folder, umask, arguments, signals.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use postfix_wire::record::RecordType::{End, From, Full, Rcpt};

use crate::MESSAGE;
use crate::support::installed::{Installed, USER};
use crate::support::{Site, assert_quiet_success, code, run, stderr};

/// Checks that no variable changes the place or the content of a submission.
#[test]
fn a_hostile_environment_changes_nothing() {
    let mut installed = Installed::with_redis();
    let environment = [
        "LD_PRELOAD=/nonexistent.so",
        "LD_LIBRARY_PATH=.",
        "RUST_BACKTRACE=full",
        "TZ=/etc/shadow",
        "LD_AUDIT=/nonexistent.so",
        "LD_DEBUG=all",
        "LD_DEBUG_OUTPUT=/tmp/optimus-trace",
        "GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.perturb=165",
        "GCONV_PATH=.",
        "LOCPATH=.",
        "NLSPATH=./%N",
        "LC_ALL=../../tmp/x",
        "LANGUAGE=../x",
        "RES_OPTIONS=debug",
        "LOCALDOMAIN=evil.example",
        "NIS_PATH=.",
        "GETCONF_DIR=.",
        "RUST_MIN_STACK=1",
        "HOME=/root",
        "LOGNAME=root",
        "USER=root",
        "MAIL_DEBUG=1",
        "MAIL_VERBOSE=1",
        "POSTLOG_SERVICE=/tmp/x",
        "POSTLOG_HOSTNAME=evil",
        "TMPDIR=/nonexistent",
        "MALLOC_TRACE=/tmp/optimus-trace",
        "HOSTALIASES=/etc/shadow",
        "PATH=",
        "IFS=/",
        "NAME=Mallory",
    ];
    assert_quiet_success(&installed.run(&environment, "sendmail", &["bob"], MESSAGE));
    let records = installed.site.take_records();
    assert!(
        records.contains(&(From, USER.to_owned()))
            && records.contains(&(Full, "Mallory".to_owned()))
    );
    assert!(!Path::new("/tmp/optimus-trace").exists());
    // A line break in the name can't add a header.
    assert_quiet_success(&installed.run(&["NAME=Ann\nBcc: eve"], "sendmail", &["bob"], MESSAGE));
    assert!(installed.site.take_records().contains(&(Full, "Ann Bcc: eve".to_owned())));
}

/// Checks that the maildrop file or Redis's socket doesn't get the number of a missing standard
/// descriptor.
#[test]
fn missing_standard_descriptors_do_no_harm() {
    for redis in [true, false] {
        let mut installed =
            if redis { Installed::with_redis() } else { Installed::new(Site::new(), 0o2755) };
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
            let script = format!("exec \"$1\" bob {closed}");
            assert_eq!(
                code(&run(&mut installed.script("sh", "-c", &script), MESSAGE)),
                0,
                "{closed}"
            );
            let records = if redis { installed.site.take_records() } else { only_file(&installed) };
            assert_eq!(records.last(), Some(&(End, String::new())));
            let body = records.iter().any(|(_, text)| text == "body");
            assert_eq!(body, !closed.contains('<'), "{closed}");
        }
    }
}

fn only_file(installed: &Installed) -> crate::support::Said {
    let mut files = installed.site.maildrop();
    assert_eq!(files.len(), 1);
    installed.site.empty_maildrop();
    files.remove(0).1
}

/// Uses standard descriptors that are open but unusable.
#[test]
fn unusable_standard_descriptors_are_reported_or_not_used() {
    let mut installed = Installed::with_redis();
    for (odd, reason) in [
        ("</", "error reading input: Is a directory"),
        ("0>/dev/null", "error reading input: Bad file descriptor"),
    ] {
        let output = run(&mut installed.script("sh", "-c", &format!("exec \"$1\" bob {odd}")), b"");
        assert_eq!(code(&output), 75);
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
    assert_eq!(installed.site.take_messages().len(), 0);
    for odd in ["1</dev/null", "2</dev/null", ">/dev/full 2>/dev/full", "1<&0", "2</"] {
        let script = format!("exec \"$1\" -f 'ann, eve' bob {odd}");
        assert_eq!(code(&run(&mut installed.script("sh", "-c", &script), MESSAGE)), 0, "{odd}");
        assert_eq!(installed.site.take_messages().len(), 1, "{odd}");
    }
}

#[test]
fn descriptors_that_are_left_open_are_closed() {
    let mut installed = Installed::with_redis();
    let script = r#"
        use Fcntl; $^F = 10000;
        my @kept = map { open(my $file, "<", "/etc/passwd") or die; $file } 1 .. 500;
        exec $ARGV[0], "bob";"#;
    assert_quiet_success(&run(&mut installed.script("perl", "-e", script), MESSAGE));
    assert_eq!(installed.site.take_messages().len(), 1);
}

#[test]
fn the_programs_work_in_any_folder() {
    let mut installed = Installed::with_redis();
    let gone = r#"cd "$(mktemp -d)" && rmdir "$PWD" && exec "$1" bob"#;
    assert_quiet_success(&run(&mut installed.script("sh", "-c", gone), MESSAGE));
    let closed = installed.site.folder("closed");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let mut command = installed.command(&[], "sendmail", &["bob"]);
    assert_quiet_success(&run(command.current_dir(closed), MESSAGE));
    assert_eq!(installed.site.take_messages().len(), 2);
}

#[test]
fn the_caller_s_umask_has_no_effect() {
    let installed = Installed::new(Site::new(), 0o2755);
    for umask in ["0", "777"] {
        let script = format!("umask {umask}; exec \"$1\" bob");
        assert_quiet_success(&run(&mut installed.script("sh", "-c", &script), MESSAGE));
        let metadata = std::fs::metadata(&installed.site.maildrop()[0].0).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o744);
        installed.site.empty_maildrop();
    }
}

/// Starts the program without any argument, so without name and recipient, and then with unusual
/// names.
#[test]
fn sendmail_needs_no_name() {
    let mut installed = Installed::with_redis();
    let nameless = r#"require "syscall.ph"; syscall(&SYS_execve, $ARGV[0], 0, 0); die $!"#;
    let output = run(&mut installed.script("perl", "-e", &syscall(nameless)), MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(
        stderr(&output).contains("Recipient addresses must be specified"),
        "{}",
        stderr(&output)
    );
    for name in ["", "/", "-", "\\xff", "/usr/lib/sendmail"] {
        let script = format!(r#"exec {{ $ARGV[0] }} "{name}", "bob""#);
        assert_quiet_success(&run(&mut installed.script("perl", "-e", &script), MESSAGE));
    }
    assert_eq!(installed.site.take_messages().len(), 5);
}

/// Inserts the number of the system call, because Debian's perl has no syscall.ph.
fn syscall(script: &str) -> String {
    let number = libc::SYS_execve;
    script.replace(r#"require "syscall.ph"; "#, "").replace("&SYS_execve", &number.to_string())
}

/// Gives nearly as many arguments as the kernel passes on, and then one argument that is too long.
#[test]
fn fifty_thousand_recipients_get_one_message() {
    let mut installed = Installed::with_redis();
    let script = r#"exec $ARGV[0], map { "u$_\@example.org" } 1 .. 50000"#;
    assert_quiet_success(&run(&mut installed.script("perl", "-e", script), MESSAGE));
    let records = installed.site.take_records();
    assert_eq!(records.iter().filter(|(kind, _)| *kind == Rcpt).count(), 50_000);
    let one = r#"exec $ARGV[0], "u" x 131000"#;
    let output = run(&mut installed.script("perl", "-e", one), MESSAGE);
    assert_eq!(code(&output), 75, "longer than line_length_limit");
    assert_eq!(installed.site.take_messages().len(), 0);
}

/// Blocks or ignores all signals that allow it.
#[test]
fn inherited_signal_settings_change_nothing() {
    for redis in [true, false] {
        let mut installed =
            if redis { Installed::with_redis() } else { Installed::new(Site::new(), 0o2755) };
        let script = r#"
            use POSIX; my $all = POSIX::SigSet->new; $all->fillset;
            $SIG{$_} = "IGNORE" for grep { !/^(KILL|STOP|NUM\d+|RTMIN|RTMAX|ZERO|IOT|CLD|POLL|UNUSED)$/ } keys %SIG;
            sigprocmask(SIG_BLOCK, $all) or die; exec $ARGV[0], "bob";"#;
        assert_quiet_success(&run(&mut installed.script("perl", "-e", script), MESSAGE));
        if redis {
            assert_eq!(installed.site.take_messages().len(), 1);
        } else {
            only_file(&installed);
        }
    }
}

/// Has the kernel ignore children. The name service is asked by a child process, whose end must be
/// reported.
#[test]
fn the_end_of_ignored_children_is_noticed() {
    let mut installed = Installed::with_redis();
    installed.site.postfix.set_main(&["authorized_submit_users = root, unknown"]).unwrap();
    let sendmail = installed.programs.join("sendmail").display().to_string();
    let script = r#"$SIG{CHLD} = "IGNORE"; exec $ARGV[0], "-fann", "bob""#;
    assert_quiet_success(&run(
        &mut installed.as_uid(4711, &["perl", "-e", script, &sendmail]),
        MESSAGE,
    ));
    let messages = installed.site.take_messages();
    assert_eq!((messages.len(), messages[0].uid), (1, 4711));
}

/// Sets a timer that goes on in the program. A program that the timer kills must leave no file, and
/// any other must have stored the message.
#[test]
fn a_timer_kills_before_there_is_a_file_or_not_at_all() {
    let installed = Installed::new(Site::new(), 0o2755);
    let mut killed = 0;
    for delay_us in (200..12_000).step_by(150) {
        let script = format!("use Time::HiRes 'ualarm'; ualarm({delay_us}); exec $ARGV[0], 'bob'");
        let mut command: Command = installed.script("perl", "-e", &script);
        let stored = run(&mut command, MESSAGE).status.success();
        killed += usize::from(!stored);
        assert_eq!(
            installed.site.postfix.queue_files("maildrop").len(),
            usize::from(stored),
            "{delay_us}"
        );
        assert_eq!(installed.site.maildrop().len(), usize::from(stored), "{delay_us}");
        installed.site.empty_maildrop();
    }
    assert!(killed > 0);
}
