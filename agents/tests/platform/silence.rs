//! Tests of silent connections to Redis, and of logs that nobody reads.

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::common::{LONG, Plan};

/// Waits until the server closes a silent connection.
fn until_closed(mut connection: UnixStream) {
    connection.set_read_timeout(Some(LONG)).unwrap();
    let heard = connection.read(&mut [0; 64]);
    assert!(matches!(heard, Ok(0)), "after {LONG:?}: {heard:?}");
}

#[test]
fn the_embedded_redis_closes_silent_connections_and_agents_keep_theirs() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.submit(1);
    platform.expect_all_once();
    let log = platform.log("optimus");
    until_closed(UnixStream::connect(platform.redis_socket()).unwrap());
    // The agents' connections are older than the closed one, and were never closed.
    let (whole, later) = (platform.log("optimus"), platform.log("optimus").split_off(log.len()));
    assert!(!whole.contains("connection=2"), "{whole}");
    assert!(!later.contains("WARN") && !later.contains("ERROR"), "{whole}");
    platform.submit(1);
    platform.expect_all_once();
}

/// Checks that redis-server's warning at its start doesn't block on a full pipe.
#[test]
fn a_log_that_nobody_reads_stops_neither_redis_nor_the_agents() {
    let mut platform = Plan::default().start();
    let (_reader, writer) = testbed::full_pipe().unwrap();
    let mut command = platform.command("optimus");
    let output = writer.try_clone().unwrap();
    let mut all = command.arg("run").stdout(output).stderr(writer).spawn().unwrap();
    platform.wait_for_redis();
    platform.submit(20);
    platform.expect_all_once();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(all.id() as i32), nix::sys::signal::SIGTERM)
        .unwrap();
    assert!(all.wait().unwrap().success());
}
