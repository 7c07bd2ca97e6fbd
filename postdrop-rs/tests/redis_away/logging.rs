//! Trouble with the log and standard error, which belong to other processes. The message is stored
//! once in any case, and its sender is told so in time.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe;

use crate::support::{OUR_POSTDROP, OUR_SENDMAIL, Site, code, message, run, stderr};
use crate::{MESSAGE, MailLog, TIMEOUT};

/// Runs a program for at most 60 s with another `/dev`, mounted on `$1`, whose `log` is a link to
/// `$2`.
const WITH_LOG: &str = r#"
dev=$1 log=$2; shift 2
mount -t tmpfs none "$dev" || exit 99
for name in null zero full random urandom; do
    touch "$dev/$name" && mount --bind "/dev/$name" "$dev/$name" || exit 99
done
ln -s "$log" "$dev/log" && ln -s /proc/self/fd "$dev/fd" && mount --move "$dev" /dev || exit 99
exec timeout 60 "$@"
"#;

/// Returns a site without Redis that logs to syslog.
fn site() -> Site {
    let site = Site::new();
    site.settings(TIMEOUT);
    site.postfix.set_main(&["maillog_file ="]).unwrap();
    site
}

fn with_log(site: &Site, log: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = site.command("unshare", &["-m", "sh", "-c", WITH_LOG, "sh"]);
    command.arg(site.folder("dev")).arg(log).arg(program).args(arguments);
    command
}

fn assert_kept_once(site: &Site, output: &Output, why: &str) {
    assert_eq!(code(output), 0, "{why}: {}", stderr(output));
    assert_eq!(site.maildrop().len(), 1, "{why}");
    site.empty_maildrop();
}

/// Sends to a socket until its queue is full.
fn fill(path: &Path) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", path).is_ok() {}
}

#[test]
fn no_kind_of_syslog_socket_delays_a_message() {
    let site = site();
    let folder = site.folder("logs");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let _unread = UnixDatagram::bind(path("unread datagrams")).unwrap();
    fill(&path("unread datagrams"));
    let stream = UnixListener::bind(path("unread stream")).unwrap();
    nix::sys::socket::listen(&stream, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _backlog = std::os::unix::net::UnixStream::connect(path("unread stream")).unwrap();
    drop(UnixDatagram::bind(path("nobody's socket")).unwrap());
    std::fs::write(path("file"), "").unwrap();
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in
        ["unread datagrams", "unread stream", "nobody's socket", "file", "fifo", ".", "nothing"]
    {
        let output = run(&mut with_log(&site, &path(name), OUR_SENDMAIL, &["bob"]), MESSAGE);
        assert_kept_once(&site, &output, name);
        let stream = message(&[], &[], &[]);
        let output = run(&mut with_log(&site, &path(name), OUR_POSTDROP, &["-r"]), &stream);
        assert_kept_once(&site, &output, name);
    }
}

#[test]
fn a_postlogd_that_reads_nothing_delays_no_message() {
    let site = Site::new();
    site.settings(TIMEOUT);
    let _log = MailLog::of(&site);
    fill(&site.postfix.queue_dir().join("public/postlog"));
    let output = run(&mut site.command("timeout", &["60", OUR_SENDMAIL, "bob"]), MESSAGE);
    assert_kept_once(&site, &output, "postlogd");
}

/// Returns a pipe without room: its reader, which must live, and its writer.
fn full_pipe() -> (OwnedFd, File) {
    let (reader, writer) = pipe().unwrap();
    let mut writer = File::from(writer);
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    // The flag must not stay set, because it would save the program.
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn standard_error_that_nobody_reads_delays_no_message() {
    let site = site();
    let (_reader, writer) = full_pipe();
    let mut command = site.command("timeout", &["60", OUR_SENDMAIL, "-f", "<ann", "bob"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stderr(writer).spawn().unwrap();
    child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(site.maildrop().len(), 1);
}

#[test]
fn lines_go_where_the_instance_says_and_a_wrong_facility_is_refused_as_by_stock() {
    let site = site();
    site.postfix.set_main(&["syslog_facility = local5", "syslog_name = out"]).unwrap();
    let path = site.folder("logs").join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    log.set_nonblocking(true).unwrap();
    for (program, arguments, input) in
        [(OUR_SENDMAIL, "bob", MESSAGE.to_vec()), (OUR_POSTDROP, "-r", message(&[], &[], &[]))]
    {
        let output = run(&mut with_log(&site, &path, program, &[arguments]), &input);
        assert_kept_once(&site, &output, program);
        let mut line = [0; 4096];
        let length = log.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]);
        let name = program.rsplit('/').next().unwrap();
        // Facility 21, severity 6.
        assert!(line.starts_with("<174>") && line.contains(&format!(" out/{name}[")), "{line}");
    }
    site.postfix.set_main(&["syslog_facility = kern"]).unwrap();
    let refused = run(&mut with_log(&site, &path, OUR_SENDMAIL, &["bob"]), MESSAGE);
    assert_eq!((code(&refused), site.maildrop().len()), (75, 0));
    assert!(stderr(&refused).contains("parameter syslog_facility: unrecognized value: kern"));
}
