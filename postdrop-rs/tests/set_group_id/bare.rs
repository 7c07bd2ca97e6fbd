//! Tests in small containers and chroots without devices, /proc, or the program that asks the name
//! service.

use std::process::{Command, Output};

use crate::MESSAGE;
use crate::support::installed::{AS_USER, Installed, USER, user};
use crate::support::{RecordType, assert_quiet_success, code, run, stderr};

/// Shell commands that replace getent by a script whose interpreter is missing. execve(2) fails as
/// for a missing getent.
const NO_GETENT: &str = r#"printf '#!/nonexistent\n' > "$1/none" && chmod 755 "$1/none" &&
    mount --bind "$1/none" /usr/bin/getent || exit 98
"#;
const NO_DEVICES: &str = "mount -t tmpfs none /dev || exit 98\n";
const NO_PROC: &str = "mount -t tmpfs none /proc || exit 98\n";

/// Runs `prepare` in the namespace, and then a program as `uid`.
fn bare(
    installed: &Installed,
    prepare: &str,
    uid: u32,
    program: &str,
    arguments: &[&str],
) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{prepare}{AS_USER}"), "sh"]);
    command.arg(installed.site.postfix.config_dir());
    command.args([uid, user().gid.as_raw()].map(|id| id.to_string()));
    command.arg(installed.programs.join(program)).args(arguments).current_dir("/");
    command
}

fn submitted(installed: &mut Installed, output: &Output) -> usize {
    assert_quiet_success(output);
    installed.site.take_messages().len()
}

/// Checks that random numbers come from the kernel, and that no program needs `/dev/null`.
#[test]
fn mail_is_submitted_without_devices_and_proc() {
    let mut installed = Installed::with_redis();
    let uid = user().uid.as_raw();
    for prepare in [NO_DEVICES, NO_PROC, &[NO_PROC, NO_DEVICES].concat()] {
        for arguments in [&["bob"][..], &["-t"], &["-f", "ann", "-F", "Ann", "bob"]] {
            let message = [b"To: bob\n", MESSAGE].concat();
            let output = run(&mut bare(&installed, prepare, uid, "sendmail", arguments), &message);
            assert_eq!(submitted(&mut installed, &output), 1, "{prepare}");
        }
        let records = crate::support::message(&[], &[], &[]);
        let output = run(&mut bare(&installed, prepare, uid, "postdrop", &["-r"]), &records);
        assert_eq!(
            (code(&output), installed.site.take_messages().len()),
            (0, 1),
            "{}",
            stderr(&output)
        );
    }
    // getent asks the name service. Its standard input and error must be open.
    let output =
        run(&mut bare(&installed, NO_DEVICES, 4711, "sendmail", &["-f", "ann", "bob"]), MESSAGE);
    assert_eq!(submitted(&mut installed, &output), 1);
    installed.site.postfix.set_main(&["authorized_submit_users = unknown"]).unwrap();
    let output =
        run(&mut bare(&installed, NO_DEVICES, 4711, "sendmail", &["-f", "ann", "bob"]), MESSAGE);
    assert_eq!(submitted(&mut installed, &output), 1);
    // postmap reads tables, and must run without devices as well.
    let table = "authorized_submit_users = regexp:{{/unknown/ x}}, inline:{unknown=x}";
    installed.site.postfix.set_main(&[table]).unwrap();
    let output =
        run(&mut bare(&installed, NO_DEVICES, 4711, "sendmail", &["-f", "ann", "bob"]), MESSAGE);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(installed.site.take_messages().len(), 1);
}

#[test]
fn a_missing_getent_matters_only_if_another_service_may_know() {
    let mut installed = Installed::with_redis();
    let of = |installed: &Installed, prepare: &str, uid: u32, arguments: &[&str]| {
        run(&mut bare(installed, prepare, uid, "sendmail", arguments), MESSAGE)
    };
    let uid = user().uid.as_raw();
    // The name service has only files, or is not configured. A user outside of the files is then
    // unknown, as with stock.
    let files = format!(
        "{NO_GETENT}printf 'passwd: files # x\\n' > \"$1/switch\"; mount --bind \"$1/switch\" \
            /etc/nsswitch.conf || exit 98\n"
    );
    let others = files.replace("passwd: files", "passwd: files ldap");
    let only = format!("authorized_submit_users = {USER}, unknown");
    for parameter in ["authorized_submit_users = static:all", &only] {
        installed.site.postfix.set_main(&[parameter]).unwrap();
        for prepare in [&files, &others] {
            let output = of(&installed, prepare, uid, &["bob"]);
            assert_quiet_success(&output);
            let records = installed.site.take_records();
            assert!(records.contains(&(RecordType::From, USER.to_owned())), "{records:?}");
        }
        let output = of(&installed, &files, 4711, &["-f", "ann", "bob"]);
        assert_eq!(submitted(&mut installed, &output), 1, "{parameter}");
    }
    let output = of(&installed, &files, 4711, &["bob"]);
    assert!(
        stderr(&output).contains("no login name found for user ID 4711"),
        "{}",
        stderr(&output)
    );
    // Another service may know the user, but can't be asked: the user is neither permitted nor
    // refused.
    let output = of(&installed, &others, 4711, &["-f", "ann", "bob"]);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("getent passwd 4711"), "{}", stderr(&output));
    assert_eq!(installed.site.take_messages().len(), 0);
}
