//! Tests of the memory that messages need at the server.

use std::io::Write;

use testbed::until;

use crate::server::{Callers, LIMIT, Where};
use crate::support::{RecordType, assert_quiet_success, of_process, peak_kib, stream};

const MESSAGES: usize = 60;
/// Size of one message, below the usual `message_size_limit`.
const BYTES: usize = 9_000_000;
/// Memory that one postdrop may need, in KiB, including its part of a message.
const EACH_KIB: u64 = 7 * 1024;

/// Returns a message without its end.
fn beginning() -> Vec<u8> {
    use RecordType::{From, Mesg, Norm, Rcpt};
    let line = [b'x'; 1000];
    let mut bytes = stream(&[(From, b"ann"), (Rcpt, b"bob"), (Mesg, b"")]);
    let lines = stream(&[(Norm, &line)]).repeat(BYTES / line.len());
    bytes.extend(lines);
    bytes
}

#[test]
fn sixty_large_messages_at_once_take_little_memory() {
    let callers = Callers::with_redis();
    let server = callers.server(&[]);
    let message = beginning();
    let mut connections: Vec<_> = (0..MESSAGES).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.write_all(&message).unwrap();
    }
    let has_read = |pid| of_process(pid, "io", "rchar:") >= message.len() as u64;
    until(LIMIT, "all is read", || {
        let postdrops = server.postdrops();
        postdrops.len() == MESSAGES && postdrops.into_iter().all(has_read)
    })
    .unwrap();
    let peaks: Vec<u64> = server.postdrops().into_iter().map(peak_kib).collect();
    let sum: u64 = peaks.iter().sum();
    eprintln!(
        "{MESSAGES} messages of {BYTES} bytes: {} KiB in all, {:?} at most",
        sum,
        peaks.iter().max()
    );
    assert!(sum < MESSAGES as u64 * EACH_KIB, "{peaks:?} KiB");
}

/// Submits a large message from a client that can't write to the maildrop, and so uses a folder
/// that is open to every user.
#[test]
fn a_large_message_through_the_socket_is_whole() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    let line = format!("{}\n", "x".repeat(999));
    let message = format!("Subject: x\n\n{}", line.repeat(BYTES / line.len()));
    for place in [Where::NoNewPrivileges, Where::Container, Where::Nowhere] {
        let output = callers.run(place, "sendmail", &["bob"], message.as_bytes());
        assert_quiet_success(&output);
        let records = callers.installed.site.take_records();
        let lines =
            records.iter().filter(|(kind, text)| *kind == RecordType::Norm && text.len() == 999);
        assert_eq!(lines.count(), BYTES / line.len(), "{place:?}");
    }
}
