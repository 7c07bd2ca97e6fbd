//! Tests of deaths of peers, of postdrop and of the server. A message must be stored whole or not
//! at all, and the sender must learn which.

use std::io::{Read, Write};
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{until, until_some};

use crate::records;
use crate::server::{Callers, LIMIT, Server, Where};
use crate::support::{code, spawn};

/// Exit code of postdrop for cleanup's status "queue file write error". sendmail and smtpd take
/// that code for a temporary failure.
const WRITE_ERROR: i32 = 2;

/// Starts a postdrop that has sent its greeting and has received half of a message.
fn half_told(callers: &Callers) -> Child {
    let mut command = callers.command(Where::NoNewPrivileges, "postdrop", &["-r"]);
    let mut child = spawn(&mut command);
    let mut greeting = [0; 64];
    assert!(child.stdout.as_mut().unwrap().read(&mut greeting).unwrap() > 0);
    let (half, _) = halves();
    child.stdin.as_mut().unwrap().write_all(&half).unwrap();
    child
}

fn halves() -> (Vec<u8>, Vec<u8>) {
    let mut first = records();
    let second = first.split_off(first.len() / 2);
    (first, second)
}

fn tell_the_rest(child: &mut Child) {
    let mut input = child.stdin.take().unwrap();
    input.write_all(&halves().1).unwrap();
}

fn the_postdrop(server: &Server) -> i32 {
    until_some(LIMIT, "postdrop", || server.postdrops().pop()).unwrap()
}

/// Counts stored messages, in Redis and in the maildrop, finished or not.
fn stored(callers: &mut Callers) -> usize {
    let files = callers.installed.site.postfix.queue_files("maildrop").len();
    callers.installed.site.take_messages().len() + files
}

#[test]
fn a_killed_server_and_postdrop_give_a_write_error_and_store_nothing() {
    let mut callers = Callers::with_redis();
    let mut server = callers.server(&[]);
    let mut child = half_told(&callers);
    let postdrop = the_postdrop(&server);
    server.kill9();
    kill(Pid::from_raw(postdrop), Signal::SIGKILL).unwrap();
    until(LIMIT, "end of postdrop", || {
        !std::path::Path::new(&format!("/proc/{postdrop}/fd/0")).exists()
    })
    .unwrap();
    tell_the_rest(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), WRITE_ERROR);
    let answer = String::from_utf8_lossy(&output.stdout);
    // Chance decides whether the socket has room for the second half. The message is in doubt only
    // if it has.
    let words = ["is not", "may or may not be"]
        .map(|what| format!("the message {what} submitted: submission socket"));
    assert!(words.iter().any(|words| answer.contains(words)), "{answer:?}");
    assert_eq!(stored(&mut callers), 0);
}

#[test]
fn a_killed_server_ends_no_conversation() {
    let mut callers = Callers::with_redis();
    let mut server = callers.server(&[]);
    let mut child = half_told(&callers);
    server.kill9();
    tell_the_rest(&mut child);
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
    assert_eq!(stored(&mut callers), 1);
}

#[test]
fn a_killed_postdrop_gives_a_write_error_and_stores_nothing() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&[]);
    let mut child = half_told(&callers);
    kill(Pid::from_raw(the_postdrop(&server)), Signal::SIGKILL).unwrap();
    server.wait_until_idle();
    tell_the_rest(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), WRITE_ERROR);
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .contains("the message may or may not be submitted: postdrop: killed by signal 9")
    );
    assert_eq!(stored(&mut callers), 0);
}

#[test]
fn a_peer_that_dies_in_mid_message_stores_nothing() {
    let mut callers = Callers::with_redis();
    let server = callers.server(&[]);
    let mut child = half_told(&callers);
    child.kill().unwrap();
    child.wait().unwrap();
    server.wait_until_idle();
    assert_eq!(stored(&mut callers), 0);
}

/// Checks that the server turns no accepted peer away.
#[test]
fn a_server_that_must_end_serves_its_peers_and_removes_its_socket() {
    let mut callers = Callers::with_redis();
    let mut server = callers.server(&[]);
    let mut child = half_told(&callers);
    server.terminate();
    until(LIMIT, "the socket to go", || !callers.socket().exists()).unwrap();
    assert_eq!(server.child.try_wait().unwrap(), None);
    tell_the_rest(&mut child);
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(stored(&mut callers), 1);
}
