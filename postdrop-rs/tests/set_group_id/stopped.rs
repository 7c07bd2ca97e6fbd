//! Tests with programs that their user stops (`SIGSTOP`), and with the connections that such
//! programs hold.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

use crate::MESSAGE;
use crate::support::assert_quiet_success;
use crate::support::installed::Installed;

/// Longest wait, far longer than a busy machine needs.
const LONG: Duration = Duration::from_secs(60);
/// Fewest connections with which Redis starts.
const CONNECTIONS: usize = 32;

fn set(installed: &Installed, setting: &str, value: &str) {
    let redis = installed.site.redis.as_ref().unwrap();
    assert_eq!(redis.cli(&["CONFIG", "SET", setting, value]).unwrap(), "OK");
}

/// Starts a `sendmail` and gives it its whole message.
fn sendmail(installed: &Installed) -> Child {
    let mut command: Command = installed.command(&[], "sendmail", &["bob"]);
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
    child
}

/// Returns whether the child is `sendmail` already, and has a socket.
fn is_connecting(child: &Child) -> bool {
    let of = |name: &str| format!("/proc/{}/{name}", child.id());
    let is_sendmail = std::fs::read_to_string(of("comm")).is_ok_and(|it| it == "sendmail\n");
    let links = std::fs::read_dir(of("fd")).into_iter().flatten().flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    is_sendmail && targets.filter(|it| it.to_string_lossy().starts_with("socket:")).count() > 0
}

fn signal(children: &[Child], signal: Signal) {
    for child in children {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
}

/// Checks that other users' mail still reaches Redis when one user's processes use up `maxclients`.
#[test]
fn stopped_sendmails_hold_connections_to_redis_for_a_limited_time() {
    let mut installed = Installed::with_redis();
    set(&installed, "maxclients", &CONNECTIONS.to_string());
    set(&installed, "timeout", &spool::SILENCE_LIMIT_S.to_string());
    // While Redis is paused, all programs wait for its first answer.
    installed.site.redis().pause();
    let mut stopped: Vec<Child> = (0..2 * CONNECTIONS).map(|_| sendmail(&installed)).collect();
    until(LONG, "all are connecting", || stopped.iter().all(is_connecting)).unwrap();
    signal(&stopped, Signal::SIGSTOP);
    installed.site.redis().resume();
    let ping = || installed.site.redis.as_ref().unwrap().cli(&["PING"]);
    until(LONG, "all connections are taken", || {
        ping().is_err_and(|error| error.to_string().contains("max number of clients"))
    })
    .unwrap();

    let output = installed.run(&[], "sendmail", &["bob"], MESSAGE);
    assert_quiet_success(&output);
    assert_eq!(installed.site.maildrop(), [], "the newcomer took the maildrop");
    assert_eq!(installed.site.take_messages().len(), 1);

    signal(&stopped, Signal::SIGCONT);
    assert!(stopped.iter_mut().all(|child| child.wait().unwrap().success()));
    let stored = installed.site.take_messages().len() + installed.site.maildrop().len();
    assert_eq!(stored, stopped.len());
}
