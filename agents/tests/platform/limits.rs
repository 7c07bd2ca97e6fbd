//! Tests of real limits, by an agent's log, `optimus run` and `optimus check`, and a bare
//! container.

use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

use super::common::{LONG, Plan, Platform};

/// Returns a program under a limit of prlimit(1).
fn limited(platform: &Platform, limit: &str, name: &str) -> Command {
    let mut command = platform.postfix.command("prlimit");
    command.arg(limit).arg(testbed::bin(name));
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Starts a process with a log file of its own. Also returns a reader of that file.
fn logging(platform: &Platform, command: &mut Command) -> (Child, impl Fn() -> String + use<>) {
    let path = platform.postfix.path().join("limited.log");
    let log = std::fs::File::create(&path).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    (child, move || std::fs::read_to_string(&path).unwrap())
}

#[test]
fn too_few_open_files_are_named_with_their_remedy() {
    let platform = Plan { redis: true, ..Plan::default() }.start();
    for files in 4..=12 {
        let limit = format!("--nofile={files}");
        let said = output(limited(&platform, &limit, "optimus").arg("check"));
        let is_reached = said.contains("os error 24");
        assert_eq!(is_reached, said.contains("RLIMIT_NOFILE"), "{files}: {said}");
        assert!(is_reached || files > 4, "{said}");
    }
    // The agent has started, and has no descriptor left for Redis.
    let command = &mut limited(&platform, "--nofile=9", "info-agent");
    let (mut agent, log) = logging(&platform, command);
    until(LONG, "the limit in the log", || log().contains("(os error 24)")).unwrap();
    let _ = agent.kill();
    agent.wait().unwrap();
    let line = log().lines().find(|it| it.contains("(os error 24)")).unwrap().to_owned();
    assert!(line.contains("; raise the open files of this process"), "{line}");
}

/// Limits mail_owner to one process while it has others already.
#[test]
fn a_limit_of_processes_is_named_when_redis_cannot_be_started() {
    let platform = Plan::default().start();
    let said = output(limited(&platform, "--nproc=1", "optimus").arg("run"));
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("redis-server: ") && last.contains("raise `ulimit -u` of the user"),
        "{said}"
    );
}

#[test]
fn neither_proc_nor_dev_is_needed_to_run_all_agents_and_redis() {
    let mut platform = Plan::default().start();
    let script = "mount -t tmpfs none /dev && mount -t tmpfs none /proc && exec \"$@\"";
    let mut command = platform.postfix.command("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(testbed::bin("optimus")).arg("run");
    let (mut all, log) = logging(&platform, &mut command);
    until(LONG, "redis to answer", || {
        let ended = all.try_wait().unwrap();
        assert!(ended.is_none(), "{}", log());
        std::os::unix::net::UnixStream::connect(platform.redis_socket()).is_ok()
    })
    .unwrap();
    platform.submit(5);
    platform.expect_all_once();
    kill(Pid::from_raw(i32::try_from(all.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(all.wait().unwrap().success(), "{}", log());
}
