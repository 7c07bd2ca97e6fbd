//! Tests with a Redis that is away, slow or full, or goes away during a submission. The message
//! must be durable in one place, or the program must end with 75 and leave no file.

#![allow(clippy::unwrap_used, reason = "a test")]

mod configuration;
mod disk;
mod doubt;
mod logging;
mod maildrop;
mod refusing;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use postfix_wire::QueueId;
use postfix_wire::record::RecordType::Attr;
use spool::keys;
use support::Site;

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";
/// Setting for tests in which the timeout runs out: short for quick tests, long enough for a busy
/// machine.
const TIMEOUT: &str = "[submit]\ntimeout_ms = 3000\n";

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Datagram socket in postlogd's place. It receives the programs' log lines.
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

/// Returns the id of the only message, which must be in doubt.
fn in_doubt(site: &Site) -> String {
    let files = site.maildrop();
    assert_eq!(files.len(), 1);
    let (path, records) = &files[0];
    assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o744);
    let name = file_name(path);
    let id: QueueId = name.strip_suffix(settings::IN_DOUBT_SUFFIX).unwrap().parse().unwrap();
    assert_eq!(id.inode(), Some(std::fs::metadata(path).unwrap().ino()));
    assert_eq!(records[0].0, Attr);
    records[0].1.strip_prefix("optimus_id=").unwrap().to_owned()
}

/// Answers the greeting of a connection as a master does. The message follows the answer.
fn greet(client: &mut UnixStream) {
    let (mut greeting, mut byte) = (Vec::new(), [0]);
    while !greeting.ends_with(b"HELLO\r\n$1\r\n2\r\n") {
        if !matches!(client.read(&mut byte), Ok(1)) {
            return;
        }
        greeting.push(byte[0]);
    }
    let _ = client.write_all(b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n");
}

/// Asks Redis about a message in doubt, as pickup-rs does, and returns the answer.
fn disown(site: &mut Site, id: &str) -> String {
    site.redis().cli(&["FCALL", "optimus_disown", "1", keys::SHARD, "", id]).unwrap()
}

fn load_library(site: &mut Site) {
    site.redis().cli(&["FUNCTION", "LOAD", "REPLACE", &spool::library()]).unwrap();
}
