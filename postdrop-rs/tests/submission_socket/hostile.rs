//! Tests with peers that mean harm instead of sending mail.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use postfix_wire::attr;
use testbed::until;

use crate::server::{Callers, LIMIT, Where};
use crate::support::{OUR_POSTDROPD, WITH_LOG, assert_quiet_success, code, stderr};
use crate::{MESSAGE, records};

/// Reads all attribute lists until the server closes the connection.
fn answers(mut stream: &UnixStream) -> Vec<attr::Attributes> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // The server has not read all bytes that were sent.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let mut lists = Vec::new();
    let mut rest = &bytes[..];
    while let Some((list, length)) = attr::decode(rest).unwrap() {
        lists.push(list);
        rest = &rest[length..];
    }
    lists
}

fn reason(stream: &UnixStream) -> String {
    answers(stream).last().unwrap().require("reason").unwrap().to_owned()
}

fn others_are_served(callers: &mut Callers) {
    assert_quiet_success(&callers.run(Where::NoNewPrivileges, "sendmail", &["bob"], MESSAGE));
    assert_eq!(callers.installed.site.take_messages().len(), 1);
}

/// Makes more log lines than the queues of the log and of postdropd have room for.
#[test]
fn a_log_that_nobody_reads_delays_no_other_user() {
    const COMPLAINTS: usize = 300;
    let mut callers = Callers::with_redis();
    let site = &callers.installed.site;
    site.postfix.set_main(&["maillog_file ="]).unwrap();
    let (dev, log) = (site.folder("dev"), site.folder("logs").join("log"));
    let _unread = std::os::unix::net::UnixDatagram::bind(&log).unwrap();
    testbed::fill_socket(&log).unwrap();
    let [dev, log] = [&dev, &log].map(|path| path.to_str().unwrap());
    let server =
        callers.server_unready(&["sh", "-c", WITH_LOG, "sh", dev, log, OUR_POSTDROPD], &[]);
    until(LIMIT, "postdropd to listen", || UnixStream::connect(callers.socket()).is_ok()).unwrap();
    for _ in 0..COMPLAINTS {
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(reason(&stream).starts_with("uid=0: "));
    }
    others_are_served(&mut callers);
}

#[test]
fn silence_has_a_limit() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--idle-s", "1"]);
    let silent = server.connect();
    let mut stopped = server.connect();
    stopped.write_all(&records()[..7]).unwrap();
    let answers = answers(&silent);
    assert_eq!(answers.len(), 2);
    assert!(answers[1].require("reason").unwrap().contains("silent for too long"), "{answers:?}");
    assert!(reason(&stopped).contains("silent for too long"));
    server.wait_until_idle();
    others_are_served(&mut callers);
}

/// Connects a peer that is never silent for long, and never done.
#[test]
fn a_conversation_has_a_limit() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--total-s", "1"]);
    let mut endless = server.connect();
    let mut greeting = [0; 64];
    assert!(endless.read(&mut greeting).unwrap() > 0);
    endless.write_all(b"S\x00R\x01a").unwrap();
    while endless.write_all(b"R\x01a").is_ok() {}
    assert_eq!(
        reason(&endless),
        "the message may or may not be submitted: postdrop: killed: no end after 1 s"
    );
    server.wait_until_idle();
    others_are_served(&mut callers);
}

#[test]
fn a_message_cut_off_anywhere_is_not_submitted() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--connections-per-user", "500"]);
    let stream = records();
    let connections: Vec<_> = (0..=stream.len()).map(|length| (server.connect(), length)).collect();
    for (connection, length) in &connections {
        let mut connection = connection;
        connection.write_all(&stream[..*length]).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
    }
    // Some peers leave without the answer. The peer that has sent the whole message waits.
    let waits = |length: usize| length % 2 == stream.len() % 2;
    for (connection, length) in connections.into_iter().filter(|(_, length)| waits(*length)) {
        let reason =
            answers(&connection).last().unwrap().get("reason").unwrap_or_default().to_owned();
        assert!(
            reason.is_empty() || reason.starts_with("uid=0: malformed input"),
            "{length}: {reason}"
        );
    }
    assert_eq!(callers.installed.site.take_messages().len(), 1);
    server.wait_until_idle();
}

#[test]
fn bytes_that_are_no_records_get_an_answer() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&[]);
    for nonsense in
        [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\0\0\0", b"S\xff\xff\xff\xff\xff\xff", b"T\x011"]
    {
        let mut stream = server.connect();
        stream.write_all(nonsense).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(reason(&stream).starts_with("uid=0: "), "{nonsense:?}");
    }
    others_are_served(&mut callers);
}

/// Checks that other users are served while one user takes all connections that it can get.
#[test]
fn a_thousand_connections_of_one_user_lock_no_other_user_out() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--connections-per-user", "10"]);
    let connections: Vec<_> = (0..1_000).map(|_| server.connect()).collect();
    let mut refused = 0;
    for mut stream in &connections[10..] {
        let mut bytes = [0; 256];
        let length = stream.read(&mut bytes).unwrap();
        let (list, _) = attr::decode(&bytes[..length]).unwrap().unwrap();
        let words = "submission socket: busy: 10 connections of user ID 0; try again later";
        refused +=
            usize::from(list.get("reason") == Some(words) && list.get("status") == Some("2"));
    }
    assert_eq!(refused, 990);
    assert_eq!(server.postdrops().len(), 10);
    others_are_served(&mut callers);
    // The peers can't fill the log.
    assert!(server.log().lines().count() < 10, "{}", server.log());
    drop(connections);
    server.wait_until_idle();
    assert_eq!(answers_to(&server.connect()), 1);
}

/// Script that occupies connections as several users, and prints a line for each.
const SITTERS: &str = r#"
use Socket; $| = 1;
for my $uid (4711 .. 4714) {
    my $near = fork // die;
    next if $near;
    ($(, $)) = (4711, "4711 4711"); ($<, $>) = ($uid, $uid);
    for (1 .. 4) {
        socket(my $peer, AF_UNIX, SOCK_STREAM, 0) or die;
        connect($peer, pack_sockaddr_un($ARGV[0])) or die "connect: $!";
        sysread($peer, my $greeting, 256) or die;
        syswrite($peer, "S\x00") or die;
        push our @peers, $peer;
    }
    print "sits\n";
    sleep 600;
}
sleep 600;
"#;

/// Running script, whose process group is killed when this value is dropped.
struct Sitters(Child);

impl Sitters {
    fn start(callers: &Callers) -> Self {
        let mut command = Command::new("/usr/bin/perl");
        command.args(["-e", SITTERS]).arg(callers.socket()).stdout(Stdio::piped()).process_group(0);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sitters {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Has four users take all connections and then be silent. A fifth user must be served again and
/// again.
#[test]
fn users_who_take_all_connections_lock_nobody_out() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--connections", "16"]);
    let mut sitters = Sitters::start(&callers);
    let mut lines = BufReader::new(sitters.0.stdout.take().unwrap()).lines();
    (0..4).for_each(|_| assert_eq!(lines.next().unwrap().unwrap(), "sits"));
    assert_eq!(server.postdrops().len(), 16);
    (0..20).for_each(|_| others_are_served(&mut callers));
    assert!(server.postdrops().len() >= 15, "only as many as needed are dismissed");
    drop(sitters);
    server.wait_until_idle();
}

/// Checks that a peer that is dismissed after its last byte has submitted its message and learns
/// so.
#[test]
fn a_dismissed_peer_learns_the_result_of_its_message() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--connections", "2"]);
    let (mut complete, mut unfinished) = (server.connect(), server.connect());
    for stream in [&mut complete, &mut unfinished] {
        assert!(stream.read(&mut [0; 256]).unwrap() > 0);
    }
    let postdrops = server.postdrops();
    postdrops.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
    complete.write_all(&records()).unwrap();
    unfinished.write_all(&records()[..7]).unwrap();
    // Root has two connections and another user has none, so the first of the two is dismissed.
    others_are_served(&mut callers);
    assert_eq!(server.postdrops().len(), 2);
    postdrops.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap());
    assert_eq!(answers(&complete).last().unwrap().get("status"), Some("0"));
    unfinished.shutdown(Shutdown::Write).unwrap();
    assert!(reason(&unfinished).contains("malformed input"));
    assert_eq!(callers.installed.site.take_messages().len(), 1);
}

/// Stops a postdrop as its user, who may do anything with the user's own processes.
#[test]
fn a_postdrop_that_its_user_has_stopped_stops_nobody_else() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--total-s", "5"]);
    let mut stopped = server.connect();
    assert!(stopped.read(&mut [0; 256]).unwrap() > 0);
    for postdrop in server.postdrops() {
        kill(Pid::from_raw(postdrop), Signal::SIGSTOP).unwrap();
    }
    stopped.write_all(&records()).unwrap();
    others_are_served(&mut callers);
    assert_eq!(
        reason(&stopped),
        "the message may or may not be submitted: postdrop: killed: no end after 5 s"
    );
    assert_eq!(callers.installed.site.take_messages().len(), 0);
}

/// Opens connections that need more descriptors than a service usually has. Each needs two.
#[test]
fn the_server_has_descriptors_for_all_connections() {
    let callers = Callers::with_redis();
    let limited = ["prlimit", "--nofile=64:4096", OUR_POSTDROPD];
    let server = callers.server_unready(&limited, &["--connections-per-user", "200"]);
    until(LIMIT, "postdropd to listen", || UnixStream::connect(callers.socket()).is_ok()).unwrap();
    let connections: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for mut stream in &connections {
        let mut greeting = [0; 256];
        let length = stream.read(&mut greeting).unwrap();
        let (greeting, _) = attr::decode(&greeting[..length]).unwrap().unwrap();
        assert!(greeting.get("queue_id").is_some(), "{greeting:?}");
    }
}

fn answers_to(stream: &UnixStream) -> usize {
    stream.shutdown(Shutdown::Write).unwrap();
    answers(stream).len()
}

#[test]
fn a_busy_server_refuses_a_peer_with_the_reason() {
    let callers = Callers::with_redis();
    let server = callers.server(&["--connections", "1"]);
    let mut held = server.connect();
    assert!(held.read(&mut [0; 64]).unwrap() > 0);
    for place in Where::ALL {
        let output = callers.run(place, "sendmail", &["bob"], MESSAGE);
        assert_eq!(code(&output), 75);
        assert_eq!(
            stderr(&output),
            "sendmail: fatal: submission socket: busy: 1 connections; try again later\n"
        );
        let output = callers.run(place, "postdrop", &["-r"], &records());
        assert_eq!((code(&output), output.stdout.len()), (1, 0));
    }
}

/// Checks that a postdrop that prints many lines blocks neither itself nor the server.
#[test]
fn the_server_reads_postdrop_s_complaints() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&[]);
    let mut stream = Vec::new();
    let complaints = 5_000;
    for _ in 0..complaints {
        stream.extend_from_slice(b"A\x09forged=it");
    }
    stream.extend_from_slice(&records());
    let mut connection = server.connect();
    connection.write_all(&stream).unwrap();
    let answers = answers(&connection);
    assert_eq!(answers.last().unwrap().get("status"), Some("0"));
    assert_eq!(callers.installed.site.take_messages().len(), 1);
}

/// Script that connects, and stops each process that then belongs to its user: postdrop, or the run
/// of postdropd before it.
const STOPPER: &str = r#"
use Socket; $| = 1;
for my $try (1 .. 40) {
    my $near = fork // die; exit 0 if !$near; waitpid($near, 0);
    socket(my $peer, AF_UNIX, SOCK_STREAM, 0) or die;
    connect($peer, pack_sockaddr_un($ARGV[0])) or die "connect: $!";
    push our @peers, $peer;
    for my $look (1 .. 2000) {
        last if grep { kill 'STOP', $near + $_ } 1 .. 6;
    }
}
print "done\n";
sleep 600;
"#;

#[test]
fn a_peer_that_stops_its_postdrop_stops_nobody_else() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&["--connections-per-user", "50"]);
    let socket = callers.socket().display().to_string();
    let mut stopper = callers.installed.as_uid(4711, &["/usr/bin/perl", "-e", STOPPER, &socket]);
    let mut stopper = stopper.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(stopper.stdout.take().unwrap()).read_line(&mut line).unwrap();
    others_are_served(&mut callers);
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    assert_eq!(line, "done\n");
    // Only processes that still exist were stopped.
    for pid in server.postdrops() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    server.wait_until_idle();
}
