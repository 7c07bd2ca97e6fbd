use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::*;
use channel::WAITING_MAX;

fn log_to(path: &Path) -> MailLog {
    let mut log = MailLog::new("pickup");
    log.channel = Arc::new(Mutex::new(Channel::to(path.to_owned())));
    log
}

fn next(receiver: &UnixDatagram) -> Option<String> {
    let mut datagram = [0; 4096];
    receiver.set_nonblocking(true).unwrap();
    let length = receiver.recv(&mut datagram).ok()?;
    Some(String::from_utf8_lossy(&datagram[..length]).into_owned())
}

fn text_of(line: &str) -> &str {
    line.split_once("]: ").unwrap().1
}

#[test]
fn a_line_to_postlogd_has_the_host_and_one_to_syslog_the_priority() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let mut log = log_to(&path);
    log.facility = facility("local3").unwrap();
    log.line(Severity::Warning, "a\nb");
    let line = next(&receiver).unwrap();
    let rest = format!(" postfix/pickup[{}]: warning: a?b", std::process::id());
    assert_eq!((&line[..5], &line["<156>Nov 21 09:04:00".len()..]), ("<156>", rest.as_str()));
    log.use_postlogd(path, "mail.example.org");
    log.line(Severity::Info, "4C1B21A0: uid=0");
    let rest = format!(" mail postfix/pickup[{}]: 4C1B21A0: uid=0", std::process::id());
    assert_eq!(next(&receiver).unwrap()["Nov 21 09:04:00".len()..], rest);
}

#[test]
fn unread_lines_wait_and_then_are_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let log = log_to(&path);
    let is_lossy = || log.channel.lock().unwrap().lost_is(2);
    let mut said = 0;
    while !is_lossy() {
        log.line(Severity::Info, &said.to_string());
        said += 1;
    }
    let mut heard = Vec::new();
    while let Some(line) = next(&receiver) {
        heard.push(text_of(&line).to_owned());
        log.flush();
    }
    let mut expected: Vec<_> = (0..said - 2).map(|number| number.to_string()).collect();
    expected.push("warning: mail log: 2 lines lost; see to syslog or postlogd".to_owned());
    assert!(said > WAITING_MAX, "{said}");
    assert_eq!(heard, expected);
}

#[test]
fn a_log_that_comes_late_or_again_gets_the_waiting_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = log_to(&path);
    log.line(Severity::Info, "early");
    for round in ["one", "two"] {
        let receiver = UnixDatagram::bind(&path).unwrap();
        log.line(Severity::Info, round);
        let heard: Vec<_> = std::iter::from_fn(|| next(&receiver)).collect();
        assert!(heard.last().unwrap().ends_with(round), "{heard:?}");
        assert_eq!(heard.len(), if round == "one" { 2 } else { 1 });
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_stream_gets_lines_and_is_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let listener = UnixListener::bind(&path).unwrap();
    let log = log_to(&path);
    log.line(Severity::Info, "first");
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = [0; 512];
    let length = stream.read(&mut text).unwrap();
    assert!(text[..length].ends_with(b"]: first\0"));
    // The reader stops reading.
    while !log.channel.lock().unwrap().lost_is(1) {
        log.line(Severity::Info, &"x".repeat(1000));
    }
}

#[test]
fn the_instance_chooses_the_log_and_stock_s_refusals_hold() {
    let configured = |text: &str| {
        let main_cf = MainCf::parse(text, Path::new("/etc/postfix"), "mail.example.org").unwrap();
        let mut log = MailLog::new("sendmail");
        log.configure(&main_cf).map(|()| log)
    };
    let log = configured("syslog_name = out\nsyslog_facility = local7\n").unwrap();
    assert_eq!((log.tag.as_str(), log.facility), ("out/sendmail", 23));
    let refused = |text: &str| configured(text).unwrap_err().to_string();
    let words = "file /etc/postfix/main.cf: parameter syslog_facility: unrecognized value: ";
    for name in ["kern", "security", "Mail", "x"] {
        assert_eq!(refused(&format!("syslog_facility = {name}\n")), format!("{words}{name}"));
    }
    assert!(
        refused("maillog_file = /etc/log\n")
            .starts_with("maillog_file value '/etc/log' does not match")
    );
    assert!(configured("maillog_file = /var/log/x\n").unwrap().host.is_some());
}

#[test]
fn a_line_can_neither_be_forged_nor_flooded() {
    assert_eq!(harmless("a\nfatal: \x1b[2J\0x\u{fffd}"), "a?fatal: ?[2J?x?");
    assert_eq!(harmless(&format!("x{}", "é".repeat(TEXT_BYTES_MAX))).len(), TEXT_BYTES_MAX - 1);
}
