//! Tests with slow peers, and with peers that are no Redis. The program must end within its time
//! limit.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::support::{Site, assert_quiet_success};
use crate::{MESSAGE, MailLog, TIMEOUT, disown, file_name, greet, in_doubt, load_library};

/// Serves each connection as a peer in Redis's place.
fn peer(site: &Site, mut serve: impl FnMut(UnixStream) + Send + 'static) {
    let socket = site.postfix.path().join("peer");
    let listener = UnixListener::bind(&socket).unwrap();
    site.settings(&format!("[redis]\nurl = \"unix://{}\"\n{TIMEOUT}", socket.display()));
    thread::spawn(move || listener.incoming().for_each(|client| serve(client.unwrap())));
}

/// Reads a whole request, which follows the greeting and ends with the notice to agents.
fn request(client: &mut UnixStream) -> Vec<u8> {
    greet(client);
    let mut bytes = Vec::new();
    let mut some = [0; 65536];
    while !bytes.ends_with(b"\r\ninbox\r\n") {
        match client.read(&mut some) {
            Ok(length @ 1..) => bytes.extend_from_slice(&some[..length]),
            _ => break,
        }
    }
    bytes
}

/// Checks that a message without a proper answer is in doubt, and that Redis doesn't have it.
fn leaves_doubt(mut site: Site, reason: &str) {
    let log = MailLog::of(&site);
    load_library(&mut site);
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let id = in_doubt(&site);
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].contains(reason), "{lines:?}");
    assert_eq!(disown(&mut site, &id), "disowned");
}

#[test]
fn an_answer_cut_off_leaves_the_message_in_doubt() {
    for half in [":", ":1", ":1\r", "-OOM"] {
        let site = Site::with_redis();
        peer(&site, move |mut client| {
            request(&mut client);
            client.write_all(half.as_bytes()).unwrap();
        });
        leaves_doubt(site, "connection was closed");
    }
}

#[test]
fn an_endless_answer_leaves_the_message_in_doubt() {
    let site = Site::with_redis();
    peer(&site, |mut client| {
        request(&mut client);
        while client.write_all(b"+xxxxxxxxxxxxxxx").is_ok() {}
    });
    leaves_doubt(site, "is not Redis");
}

#[test]
fn silence_leaves_the_message_in_doubt() {
    let site = Site::with_redis();
    let mut kept = Vec::new();
    peer(&site, move |mut client| {
        request(&mut client);
        client.write_all(b":1").unwrap();
        kept.push(client);
    });
    leaves_doubt(site, "the time limit was reached");
}

/// Checks that such a server received only the greeting.
#[test]
fn a_server_that_is_no_redis_gets_no_message() {
    let site = Site::with_redis();
    let log = MailLog::of(&site);
    peer(&site, |mut client| {
        let _ = client.write_all(b"220 mx.example.org ESMTP\r\n");
        request(&mut client);
    });
    leaves_no_doubt(&site, MESSAGE);
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].contains("is not Redis"), "{lines:?}");
}

/// Checks that the program puts the pieces of an answer together.
#[test]
fn an_answer_in_pieces_is_an_answer() {
    let mut site = Site::with_redis();
    let redis = site.redis().socket();
    peer(&site, move |mut client| {
        let request = request(&mut client);
        for byte in answer_of(&redis, &request) {
            client.write_all(&[byte]).unwrap();
            thread::yield_now();
        }
    });
    site.settings(
        &(std::fs::read_to_string(site.postfix.config_dir().join("optimus.toml")).unwrap())
            .replace("3000", "60000"),
    );
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    assert_eq!((site.take_messages().len(), site.maildrop().len()), (1, 0));
}

/// Returns the answer of a real Redis, which is two numbers.
fn answer_of(redis: &Path, request: &[u8]) -> Vec<u8> {
    let mut server = UnixStream::connect(redis).unwrap();
    server.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.iter().filter(|byte| **byte == b'\n').count() < 2 {
        server.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    answer
}

/// Checks that the maildrop has the message under a name that stock pickup takes, because Redis
/// certainly doesn't have it.
fn leaves_no_doubt(site: &Site, message: &[u8]) {
    assert_quiet_success(&site.sendmail(&["bob"], message));
    let files = site.maildrop();
    assert_eq!(files.len(), 1);
    assert!(!file_name(&files[0].0).contains('.'), "{files:?}");
}

/// Sends a message that is larger than the kernel's buffer.
#[test]
fn a_message_that_nobody_reads_goes_to_the_maildrop() {
    let site = Site::new();
    let mut kept = Vec::new();
    peer(&site, move |client| kept.push(client));
    leaves_no_doubt(&site, &[MESSAGE, "x\n".repeat(2_000_000).as_bytes()].concat());
}

#[test]
fn a_full_queue_of_connections_sends_the_message_to_the_maildrop() {
    let site = Site::new();
    let path = site.postfix.path().join("peer");
    site.settings(&format!("[redis]\nurl = \"unix://{}\"\n{TIMEOUT}", path.display()));
    let listener =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let _queued = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    let log = MailLog::of(&site);
    leaves_no_doubt(&site, MESSAGE);
    let line = log.lines().remove(0);
    assert!(line.contains("net.core.somaxconn"), "{line}");
}
