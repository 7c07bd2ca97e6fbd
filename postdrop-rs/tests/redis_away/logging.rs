//! Tests of trouble with the log and standard error, which belong to other processes. The message
//! must be stored once in any case, and the program must end in time.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::{fill_socket, full_pipe};

use crate::support::{OUR_POSTDROP, OUR_SENDMAIL, Site, WITH_LOG, code, message, run, stderr};
use crate::{MESSAGE, MailLog, TIMEOUT};

/// Returns a site without Redis that logs to syslog.
fn site() -> Site {
    let site = Site::new();
    site.settings(TIMEOUT);
    site.postfix.set_main(&["maillog_file ="]).unwrap();
    site
}

/// Returns a command that runs a program with this log, for at most 60 s.
fn with_log(site: &Site, log: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = site.command("unshare", &["-m", "sh", "-c", WITH_LOG, "sh"]);
    command.arg(site.folder("dev")).arg(log).args(["timeout", "60", program]).args(arguments);
    command
}

fn assert_kept_once(site: &Site, output: &Output, why: &str) {
    assert_eq!(code(output), 0, "{why}: {}", stderr(output));
    assert_eq!(site.maildrop().len(), 1, "{why}");
    site.empty_maildrop();
}

#[test]
fn no_kind_of_syslog_socket_delays_a_message() {
    let site = site();
    let folder = site.folder("logs");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let _unread = UnixDatagram::bind(path("unread datagrams")).unwrap();
    fill_socket(&path("unread datagrams")).unwrap();
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
    fill_socket(&site.postfix.queue_dir().join("public/postlog")).unwrap();
    let output = run(&mut site.command("timeout", &["60", OUR_SENDMAIL, "bob"]), MESSAGE);
    assert_kept_once(&site, &output, "postlogd");
}

#[test]
fn standard_error_that_nobody_reads_delays_no_message() {
    let site = site();
    let (_reader, writer) = full_pipe().unwrap();
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
