//! Tests of lost answers, after which a message is in doubt until Redis is asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{PATIENT, Site, assert_quiet_success, code, stderr, without_time};
use crate::{MESSAGE, TIMEOUT, disown, file_name, greet, in_doubt, load_library};
use spool::keys;

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

/// Checks that a Redis that doesn't answer the greeting has no message. The message follows only
/// after that answer.
#[test]
fn a_stopped_redis_leaves_no_doubt_and_one_copy() {
    let mut site = Site::with_redis();
    site.settings(&format!("[redis]\nurl = \"{}\"\n{TIMEOUT}", site.redis.as_ref().unwrap().url()));
    site.redis().pause();
    let output = site.sendmail(&["bob"], MESSAGE);
    site.redis().resume();
    assert_quiet_success(&output);
    let files = site.maildrop();
    assert!(files.len() == 1 && !file_name(&files[0].0).contains('.'), "{files:?}");
    assert_eq!(site.take_messages().len(), 0);
}

/// Swallows every answer of Redis. The message is in doubt in the maildrop, and a lot in Redis has
/// the same message.
#[test]
fn an_answer_that_is_lost_after_a_lot_was_cut_leaves_one_message() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let proxy = Proxy::start(&site, &[Deed::Swallow], || {});
    site.settings(&(proxy.settings() + TIMEOUT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let id = in_doubt(&site);
    site.cut_lots();
    assert_eq!(disown(&mut site, &id), "known");
    let messages = site.take_messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].id.to_string(), id);
    // The two copies are one message.
    let stored = without_time(&messages[0].records);
    assert_eq!(site.maildrop()[0].1[1..], stored[..]);
}

/// Action of the proxy on one connection.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    /// Passes all bytes on, both ways.
    Pass,
    /// Passes the request on, waits for the answer, and closes the connection without it.
    Swallow,
    /// Closes the connection before Redis has read anything.
    Refuse,
}

/// Proxy between the program and a real Redis.
struct Proxy {
    socket: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy that does `deeds` in turn, and the last one again and again. Calls
    /// `after_answer` when Redis has answered a request whose answer the proxy swallows.
    fn start(
        site: &Site,
        deeds: &'static [Deed],
        after_answer: impl Fn() + Send + 'static,
    ) -> Self {
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

/// Serves one connection. Each request and each answer fits into one read, because both sides write
/// in one piece.
fn serve(mut client: UnixStream, redis: &Path, deed: Deed, after_answer: &dyn Fn()) {
    if deed == Deed::Refuse {
        return;
    }
    let mut server = UnixStream::connect(redis).unwrap();
    let mut buffer = vec![0; 1 << 20];
    greet(&mut client);
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
fn after_a_lost_answer_the_program_asks_again_and_there_is_one_copy() {
    let mut site = Site::with_redis();
    load_library(&mut site);
    let proxy =
        Proxy::start(&site, &[Deed::Refuse, Deed::Swallow, Deed::Swallow, Deed::Pass], || {});
    site.settings(&(proxy.settings() + PATIENT));
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
    // No lot has the message yet. So the maildrop's copy is sent, and the copies in the inbox are
    // dropped.
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
    // Redis has not read a byte. But the program may have written its whole request before it
    // noticed the close. The message is then rightly in doubt, and Redis doesn't know it.
    let name = file_name(&files[0].0);
    if name.ends_with(settings::IN_DOUBT_SUFFIX) {
        load_library(&mut site);
        let id = in_doubt(&site);
        assert_eq!(disown(&mut site, &id), "disowned");
    }
    assert_eq!(site.take_messages().len(), 0);
}

const ID_OF_ENTRY: &str = "return redis.call('LINDEX', KEYS[1], ARGV[1]):sub(1, 26)";

/// Kills Redis after it has stored the message and before its answer arrives, and starts it again.
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
    site.settings(&format!("[redis]\nurl = \"unix://{}\"\n{}", proxy.display(), PATIENT));
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!(site.maildrop(), []);
    // Each attempt made an entry, under one id. All entries but one are dropped when a lot
    // is cut.
    let redis = redis.lock().unwrap();
    assert_eq!(redis.cli(&["LLEN", keys::INBOX]).unwrap(), "2");
    let ids: Vec<String> =
        ["0", "1"].map(|n| redis.cli(&["EVAL", ID_OF_ENTRY, "1", keys::INBOX, n]).unwrap()).into();
    assert_eq!(ids[0], ids[1]);
}

/// Starts a proxy that swallows the first answer, after `after_answer`, and then passes everything
/// on.
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

/// Checks the error about a message in doubt that no maildrop can keep.
#[test]
fn a_message_in_doubt_without_a_maildrop_gives_75_and_says_so() {
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
