//! Redis is gone, slow, or goes away in mid-submission: the message is durable somewhere, exactly once, or the program
//! says 75 and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postfix_wire::QueueId;
use postfix_wire::record::RecordType::{Attr, End, From, Mesg, Norm, Rcpt, Xtra};
use support::{OUR_POSTDROP, OUR_SENDMAIL, Site, assert_quiet_success, code, run, said, stderr, stream};
use testbed::until_some;

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";
/// Where it must run out. Short, so that the tests are; long enough for a busy machine.
const TIMEOUT: &str = "[submit]\ntimeout_ms = 3000\n";

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A datagram socket where postlogd would be: what the programs log.
struct MailLog(UnixDatagram);

impl MailLog {
    fn of(site: &Site) -> Self {
        let socket = UnixDatagram::bind(site.postfix.queue_dir().join("public/postlog")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(length) = self.0.recv(&mut buffer) {
            lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        lines
    }
}

#[test]
fn without_redis_it_goes_to_the_maildrop_as_from_stock_postdrop() {
    let site = Site::new();
    let log = MailLog::of(&site);
    assert_quiet_success(&site.sendmail(&["-f", "ann", "bob"], MESSAGE));
    let ours = site.maildrop();
    assert_eq!(ours.len(), 1);
    let (path, records) = &ours[0];
    let metadata = std::fs::metadata(path).unwrap();
    let id: QueueId = file_name(path).parse().unwrap();
    assert_eq!(id.inode(), Some(metadata.ino()));
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o744, 0));
    assert!(!id.is_long());
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(" testbed postfix/sendmail[") && lines[0].contains(&format!("as {id}: ")),
        "{lines:?}"
    );

    site.empty_maildrop();
    let stock = site.stock(&mut site.command(support::STOCK_SENDMAIL, &["-f", "ann", "bob"]), MESSAGE);
    assert_eq!(stock.0.as_ref(), Some(records));
}

#[test]
fn the_maildrop_obeys_the_instance_s_queue_settings() {
    let site = Site::new();
    site.postfix
        .set_main(&["enable_long_queue_ids = yes", "hash_queue_names = maildrop", "hash_queue_depth = 2"])
        .unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let (path, _) = &site.maildrop()[0];
    let id: QueueId = file_name(path).parse().unwrap();
    assert!(id.is_long());
    assert_eq!(
        path.strip_prefix(site.postfix.queue_dir()).unwrap(),
        id.path(postfix_wire::QueueName::Maildrop, 2)
    );
}

#[test]
fn a_hashed_maildrop_has_messages_in_doubt_at_its_top() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    site.postfix.set_main(&["hash_queue_names = maildrop", "hash_queue_depth = 2"]).unwrap();
    let proxy = Proxy::start(&site, &[Deed::Swallow], || {});
    site.settings(&(proxy.settings() + TIMEOUT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    in_doubt(&site);
    assert_eq!(site.maildrop()[0].0.parent().unwrap(), site.postfix.queue_dir().join("maildrop"));
}

/// A closed pipe, as standard output or error.
fn closed_pipe() -> Stdio {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_device() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

/// Two addresses make sendmail warn, and one message.
#[test]
fn a_warning_nobody_can_be_told_of_loses_no_mail() {
    let site = Site::new();
    let log = MailLog::of(&site);
    for stderr in [closed_pipe(), full_device()] {
        let mut command = site.command(OUR_SENDMAIL, &["-f", "ann, carol", "bob"]);
        let mut child = command.stdin(Stdio::piped()).stderr(stderr).spawn().unwrap();
        child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(site.maildrop().len(), 1);
        site.empty_maildrop();
        let lines = log.lines();
        assert!(lines.iter().any(|line| line.contains("malformed sender")), "{lines:?}");
    }
}

/// The client is told where the message is only once it is there; that it can't be told changes nothing.
#[test]
fn an_answer_that_can_not_be_written_leaves_success_success() {
    let site = Site::new();
    let log = MailLog::of(&site);
    let records = stream(&[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x"), (Xtra, b""), (End, b"")]);
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let stdout = std::os::fd::OwnedFd::from(writer.try_clone().unwrap());
    let mut command = site.command(OUR_POSTDROP, &["-r"]);
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).spawn().unwrap();
    let mut greeting = [0; 512];
    assert!((&reader).read(&mut greeting).unwrap() > 0);
    // No room for the answer.
    while (&writer).write(&[0; 4096]).is_ok() {}
    while (&writer).write(&[0]).is_ok() {}
    child.stdin.take().unwrap().write_all(&records).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(site.maildrop().len(), 1);
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("standard output")), "{lines:?}");
}

#[test]
fn pickup_is_woken_on_its_socket_or_fifo() {
    let site = Site::new();
    let service = site.postfix.queue_dir().join("public/pickup");
    let mut fifo = std::fs::File::options().read(true).write(true).open(&service).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let mut byte = [0];
    fifo.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"W");

    std::fs::remove_file(&service).unwrap();
    let listener = UnixListener::bind(&service).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let mut request = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut request).unwrap();
    assert_eq!(request, b"W\0");
}

#[test]
fn stock_pickup_delivers_what_went_to_the_maildrop() {
    let sink = testbed::Sink::start().unwrap();
    let site = Site::new();
    site.postfix.set_main(&[&format!("relayhost = [127.0.0.1]:{}", sink.port())]).unwrap();
    site.start_postfix();
    assert_quiet_success(&site.sendmail(&["-f", "ann@example.org", "bob@example.org"], MESSAGE));
    let limit = Duration::from_secs(30);
    let deliveries =
        until_some(limit, "delivery", || Some(sink.received()).filter(|all| !all.is_empty())).unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].rcpts, ["bob@example.org"]);
}

#[test]
fn a_broken_configuration_is_a_reason_for_the_maildrop_and_is_named() {
    let site = Site::with_redis();
    let log = MailLog::of(&site);
    for (text, words) in [
        ("[redis]\nurl = 5\n", "optimus.toml"),
        ("[lots]\nsiez = 1\n", "optimus.toml: line 2 is wrong"),
        ("[redis]\nurl = \"redis://:hunter2@host\" x\n", "optimus.toml: line 2 is wrong"),
        ("redis = \"redis://:hunter2@host\"\n", "optimus.toml: line 1 is wrong"),
        ("[redis]\nurl = \"redis:/:hunter2@host\"\n", "...@host"),
        ("[redis]\nurl = \"http://x\"\n", "http://x"),
        ("[redis]\nurl = \"redis://127.0.0.1:1\"\n", "127.0.0.1:1"),
        ("[redis]\npassword_file = \"/nonexistent\"\n", "redis.password_file: /nonexistent"),
    ] {
        site.settings(text);
        assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
        assert_eq!(site.maildrop().len(), 1);
        site.empty_maildrop();
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains(words), "{text:?}: {lines:?}");
        assert!(!lines[0].contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn a_broken_main_cf_is_named_and_nothing_is_submitted() {
    let site = Site::with_redis();
    for (line, name) in [
        ("message_size_limit = big", "message_size_limit"),
        ("enable_long_queue_ids = perhaps", "enable_long_queue_ids"),
        ("syslog_name = ${", "syslog_name"),
    ] {
        let good = std::fs::read_to_string(site.postfix.config_dir().join("main.cf")).unwrap();
        site.postfix.set_main(&[line]).unwrap();
        let output = site.sendmail(&["bob"], MESSAGE);
        assert_eq!(code(&output), 75, "{line}");
        assert!(stderr(&output).contains(name) && stderr(&output).contains("main.cf"), "{}", stderr(&output));
        assert_eq!(code(&site.postdrop(&["-r"], b"")), 1);
        std::fs::write(site.postfix.config_dir().join("main.cf"), good).unwrap();
    }
    let output = run(Command::new(OUR_SENDMAIL).env("MAIL_CONFIG", "/nonexistent").arg("bob"), MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("/nonexistent/main.cf"), "{}", stderr(&output));
    assert_eq!(site.redis.as_ref().unwrap().cli(&["KEYS", "*"]).unwrap(), "");
}

/// Runs shell commands as root in a mount namespace of their own, with `$1` the queue directory.
fn in_own_mounts(site: &Site, script: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(site.postfix.queue_dir()).arg(OUR_SENDMAIL);
    command.env("MAIL_CONFIG", site.postfix.config_dir()).current_dir(site.postfix.path());
    let output = run(&mut command, MESSAGE);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
}

#[test]
fn with_a_full_disk_too_it_is_75_with_both_reasons_and_nothing_is_left() {
    let site = Site::new();
    let full = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o size=16k none "$1/maildrop" && head -c 100k /dev/zero | tr '\0' x |
           "$2" -F '' bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(full.contains("code 75\nend\n"), "{full}");
    assert!(full.contains("fatal: root(0): the message is not submitted: Redis: "), "{full}");
    assert!(full.contains("; maildrop: write ") && full.contains("No space left on device"), "{full}");
    // A file system that can't be written to.
    let read_only = in_own_mounts(
        &site,
        r#"mount -t tmpfs -o ro none "$1/maildrop" && "$2" bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(
        read_only.contains("code 75\nend\n") && read_only.contains("Read-only file system"),
        "{read_only}"
    );
    // A limit the caller has set.
    let limited = in_own_mounts(
        &site,
        r#"ulimit -f 8; head -c 100k /dev/zero | tr '\0' x | "$2" bob; echo "code $?"; ls -A "$1/maildrop"; echo end"#,
    );
    assert!(limited.contains("code 75\nend\n") && limited.contains("File too large"), "{limited}");
}

#[test]
fn without_maildrop_too_it_is_75() {
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
    assert!(answer.contains("status\x002\0reason\0the message is not submitted: Redis: "), "{answer:?}");
}

/// The one message that is kept in doubt: its id.
fn in_doubt(site: &Site) -> String {
    let files = site.maildrop();
    assert_eq!(files.len(), 1);
    let (path, records) = &files[0];
    assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o744);
    let name = file_name(path);
    let id: QueueId = name.strip_suffix(settings::LIMBO_SUFFIX).unwrap().parse().unwrap();
    assert_eq!(id.inode(), Some(std::fs::metadata(path).unwrap().ino()));
    assert_eq!(records[0].0, Attr);
    records[0].1.strip_prefix("optimus_id=").unwrap().to_owned()
}

/// What pickup-rs will be told about a message in doubt.
fn disown(site: &mut Site, id: &str) -> String {
    site.redis().cli(&["FCALL", "optimus_disown", "1", "optimus:{0}:", "", id]).unwrap()
}

fn load_library(site: &mut Site) {
    site.redis().cli(&["FUNCTION", "LOAD", "REPLACE", &spool::library()]).unwrap();
}

/// A Redis that takes everything and answers nothing: the message is in doubt, and Redis has it in the end.
#[test]
fn a_stopped_redis_leaves_the_message_in_doubt_and_one_copy() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    site.settings(&format!("[redis]\nurl = \"{}\"\n{TIMEOUT}", site.redis.as_ref().unwrap().url()));
    let pid = Pid::from_raw(site.redis().pid().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let output = site.sendmail(&["bob"], MESSAGE);
    kill(pid, Signal::SIGCONT).unwrap();
    assert_quiet_success(&output);
    let id = in_doubt(&site);
    // Whatever Redis makes of what it found in its sockets, it is asked before the file is used.
    until_some(Duration::from_secs(10), "Redis to read what was sent", || {
        Some(()).filter(|()| {
            site.redis.as_ref().unwrap().cli(&["LLEN", "optimus:{0}:inbox"]).is_ok_and(|length| length != "0")
        })
    })
    .unwrap();
    site.cut_lots();
    assert_eq!(disown(&mut site, &id), "known");
    let messages = site.take_messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].id.to_string(), id);
    // The two copies are one message.
    let stored = support::without_time(&messages[0].records);
    assert_eq!(site.maildrop()[0].1[1..], stored[..]);
}

/// What the proxy does with a connection.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    /// Passes everything on, both ways.
    Pass,
    /// Passes the request on, waits for the answer, and closes instead of giving it.
    Swallow,
    /// Closes before Redis has read anything.
    Refuse,
}

/// Between the program and a real Redis.
struct Proxy {
    socket: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// Does `deeds` in turn, the last one again and again. `after_answer` runs when Redis has answered a request that
    /// is swallowed.
    fn start(site: &Site, deeds: &'static [Deed], after_answer: impl Fn() + Send + 'static) -> Self {
        let socket = site.postfix.path().join("proxy");
        let redis = site.redis.as_ref().unwrap().socket();
        let listener = UnixListener::bind(&socket).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let proxy = Self { socket, connections: connections.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let turn = connections.fetch_add(1, Ordering::SeqCst).min(deeds.len() - 1);
                serve(client.unwrap(), &redis, deeds[turn], &after_answer);
            }
        });
        proxy
    }

    fn settings(&self) -> String {
        format!("[redis]\nurl = \"unix://{}\"\n", self.socket.display())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One request and its answer; each fits into one read here, because both sides write it in one piece.
fn serve(mut client: UnixStream, redis: &Path, deed: Deed, after_answer: &dyn Fn()) {
    if deed == Deed::Refuse {
        return;
    }
    let mut server = UnixStream::connect(redis).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        server.write_all(&buffer[..length]).unwrap();
        let answered = server.read(&mut buffer).unwrap_or(0);
        if deed == Deed::Swallow {
            after_answer();
            return;
        }
        client.write_all(&buffer[..answered]).unwrap();
    }
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_and_there_is_one_copy() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let proxy = Proxy::start(&site, &[Deed::Refuse, Deed::Swallow, Deed::Swallow, Deed::Pass], || {});
    site.settings(&(proxy.settings() + support::PATIENT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(proxy.connections(), 4);
    assert_eq!(site.take_messages().len(), 1);
    assert_eq!(site.maildrop(), []);
}

#[test]
fn an_answer_that_never_comes_leaves_the_message_in_doubt_and_one_copy() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let proxy = Proxy::start(&site, &[Deed::Swallow], || {});
    site.settings(&(proxy.settings() + TIMEOUT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert!(proxy.connections() > 1);
    let id = in_doubt(&site);
    // Not in a lot yet, so the maildrop's copy is sent, and those in the inbox are dropped.
    assert_eq!(disown(&mut site, &id), "disowned");
    assert_eq!(site.take_messages().len(), 0);
}

#[test]
fn a_connection_closed_before_redis_reads_leaves_one_copy_and_none_in_redis() {
    let mut site = Site::with_redis();
    let proxy = Proxy::start(&site, &[Deed::Refuse], || {});
    site.settings(&(proxy.settings() + TIMEOUT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let files = site.maildrop();
    assert_eq!(files.len(), 1);
    // Refused before Redis read a byte, but the program may have written all of its request before it noticed; then
    // it is right to be in doubt, and Redis, asked, has never heard of it.
    let name = file_name(&files[0].0);
    if name.ends_with(settings::LIMBO_SUFFIX) {
        load_library(&mut site);
        let id = in_doubt(&site);
        assert_eq!(disown(&mut site, &id), "disowned");
    }
    assert_eq!(site.take_messages().len(), 0);
}

const ID_OF_ENTRY: &str = "return redis.call('LINDEX', 'optimus:{0}:inbox', ARGV[1]):sub(1, 26)";

/// Redis is killed after it has stored the message and before its answer arrives, and comes back.
#[test]
fn redis_killed_between_request_and_answer_leaves_one_copy() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let redis = Arc::new(Mutex::new(site.redis.take().unwrap()));
    let shared = redis.clone();
    let folder = site.postfix.path().to_owned();
    site.redis = Some(testbed::Redis::start_in(&site.folder("other"), &[]).unwrap());
    let socket = redis.lock().unwrap().socket();
    let proxy = proxy_to(&folder, socket, move || shared.lock().unwrap().restart().unwrap());
    site.settings(&format!("[redis]\nurl = \"unix://{}\"\n{}", proxy.display(), support::PATIENT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop(), []);
    // Once for each attempt, under one id: all but one are dropped when a lot is cut.
    let redis = redis.lock().unwrap();
    assert_eq!(redis.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "2");
    let ids: Vec<String> = ["0", "1"].map(|n| redis.cli(&["EVAL", ID_OF_ENTRY, "0", n]).unwrap()).into();
    assert_eq!(ids[0], ids[1]);
}

/// Swallows the first answer, after `after_answer`, and passes everything on from then.
fn proxy_to(folder: &Path, redis: PathBuf, after_answer: impl Fn() + Send + 'static) -> PathBuf {
    let socket = folder.join("proxy");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for (turn, client) in listener.incoming().enumerate() {
            let deed = if turn == 0 { Deed::Swallow } else { Deed::Pass };
            serve(client.unwrap(), &redis, deed, &after_answer);
        }
    });
    socket
}

/// In doubt and no maildrop: the user is told just that.
#[test]
fn in_doubt_without_maildrop_is_75_and_says_so() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let proxy = Proxy::start(&site, &[Deed::Swallow], || {});
    site.settings(&(proxy.settings() + TIMEOUT));
    std::fs::remove_dir(site.postfix.queue_dir().join("maildrop")).unwrap();
    let output = site.sendmail(&["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(
        stderr(&output).contains("the message may or may not be submitted: Redis: "),
        "{}",
        stderr(&output)
    );
}

/// Redis says no for good: nothing is in doubt, and the reason is logged.
#[test]
fn a_redis_that_refuses_is_a_reason_for_the_maildrop() {
    let mut site = Site::with_redis();
    let log = MailLog::of(&site);
    load_library(&mut site);
    site.redis().cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    assert!(log.lines()[0].contains("OOM"));
    site.empty_maildrop();
    site.redis().cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    site.redis().cli(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop().len(), 1);
    assert!(log.lines()[0].contains("NOAUTH"));
    site.empty_maildrop();

    let password = site.postfix.path().join("password");
    std::fs::write(&password, "secret\nsecond line\n").unwrap();
    let url = site.redis().url();
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o640)).unwrap();
    let password = password.display();
    site.settings(&format!("[redis]\nurl = \"{url}\"\npassword_file = \"{password}\"\n{}", support::PATIENT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!((site.maildrop(), log.lines()), (Vec::new(), Vec::new()));
}

/// Submission takes no function, so it waits for no agent either.
#[test]
fn mail_is_submitted_to_a_redis_that_has_no_functions() {
    let mut site = Site::with_redis();
    for _ in 0..2 {
        assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    }
    assert_eq!(site.redis().cli(&["FUNCTION", "LIST"]).unwrap(), "");
    assert_eq!(site.take_messages().len(), 2);
}

#[test]
fn a_client_that_dies_in_mid_message_submits_nothing() {
    let mut site = Site::with_redis();
    let bytes = stream(&[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x")]);
    let output = run(&mut site.command(OUR_POSTDROP, &["-r"]), &bytes);
    assert_eq!(code(&output), 0);
    assert_eq!(said(&bytes).len(), 4);
    assert_eq!((site.take_messages().len(), site.maildrop().len()), (0, 0));
}
