//! Tests of memory: a large message needs no more than a small one, wherever the message goes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::support::installed::Installed;
use crate::support::{Site, code, peak_kib, run, stderr};

/// Returns a message of `mib` MiB.
fn message(mib: usize) -> Vec<u8> {
    let line = format!("{}\n", "x".repeat(1023));
    format!("Subject: x\n\n{}", line.repeat(mib << 10)).into_bytes()
}

/// Takes a message in Redis's place, after a greeting that ends in an empty password, and sends
/// `answer`. Returns the client's peak memory in KiB and the size of the message.
fn take(mut client: UnixStream, answer: &[u8]) -> Option<(u64, u64)> {
    let (mut some, mut bytes) = (vec![0; 1 << 16], 0);
    while !some[..bytes].ends_with(b"$0\r\n\r\n") {
        bytes += client.read(&mut some[bytes..]).ok().filter(|it| *it > 0)?;
    }
    client.write_all(b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n").unwrap();
    let (mut all, mut end) = (0, Vec::new());
    while !end.ends_with(b"\r\ninbox\r\n") {
        let read = client.read(&mut some).ok().filter(|it| *it > 0)?;
        all += read as u64;
        end = [&end[end.len().saturating_sub(16)..], &some[..read]].concat();
    }
    let peer = getsockopt(&client, PeerCredentials).unwrap().pid();
    let told = (peak_kib(peer), all);
    client.write_all(answer).unwrap();
    Some(told)
}

/// Serves a message in the embedded Redis's place.
fn redis(site: &Site, answer: &'static [u8]) -> Receiver<(u64, u64)> {
    let socket = site.postfix.queue_dir().join("public/optimus-redis");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
    let (told, hear) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            take(client, answer).into_iter().for_each(|it| told.send(it).unwrap());
        }
    });
    hear
}

fn site() -> Site {
    let site = Site::new();
    site.postfix.set_main(&["message_size_limit = 0"]).unwrap();
    site.settings("[submit]\ntimeout_ms = 60000\n");
    site
}

#[test]
fn a_large_message_to_redis_takes_no_more_memory_than_a_small_one() {
    let site = site();
    let told = redis(&site, b":1\r\n:0\r\n");
    let installed = Installed::new(site, 0o2755);
    let mut peaks = Vec::new();
    for mib in [1, 9, 96] {
        let output = installed.run(&[], "sendmail", &["bob"], &message(mib));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let (peak, bytes) = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(bytes > (mib as u64) << 20, "{bytes}");
        eprintln!("sendmail, {mib} MiB to Redis: peak {peak} KiB");
        peaks.push(peak);
    }
    assert!(peaks[2] < peaks[0] + 1024, "{peaks:?} KiB");
}

/// Submits a message with a memory limit below half of its size. The program itself needs less.
fn limited(installed: &Installed, mib: usize) -> Output {
    let script = "ulimit -S -c 0; exec prlimit --data=12582912 \"$1\" bob";
    run(&mut installed.script("sh", "-c", script), &message(mib))
}

/// Checks that the maildrop has the whole message, and returns the suffix of its file's name.
fn in_maildrop(site: &Site, mib: u64) -> String {
    let files = site.postfix.queue_files("maildrop");
    let [file] = &files[..] else { panic!("{files:?}") };
    let bytes = std::fs::read(file).unwrap();
    assert!(bytes.starts_with(b"T") && bytes.ends_with(b"E\0"));
    assert!(bytes.len() as u64 > mib << 20, "{}", bytes.len());
    file.extension().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
}

#[test]
fn a_large_message_goes_to_the_maildrop_with_little_memory() {
    let installed = Installed::new(site(), 0o2755);
    let output = limited(&installed, 32);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(in_maildrop(&installed.site, 32), "");
}

#[test]
fn a_large_message_in_doubt_is_kept_with_little_memory() {
    let site = site();
    site.settings("[submit]\ntimeout_ms = 3000\n");
    let told = redis(&site, b":");
    let installed = Installed::new(site, 0o2755);
    let output = limited(&installed, 32);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(told.try_recv().is_ok(), "Redis was given none");
    assert_eq!(in_maildrop(&installed.site, 32), "in-doubt");
}
