//! Tests of the end of `optimus run` and its Redis, and of Redis's return.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use testbed::{processes_under, until};

use super::common::{LONG, Plan, Platform, errors};

/// Line in redis-server's own log after a request to end.
const GOODBYE: &str = "bye bye";
/// Line about the end of Redis in the log of `optimus run`.
const ENDED: &str = "redis-server ended";

fn folder(platform: &Platform) -> PathBuf {
    platform.postfix.data_dir().join("optimus-redis")
}

fn log_of_redis(platform: &Platform) -> String {
    std::fs::read_to_string(folder(platform).join("log")).unwrap()
}

fn servers(folder: &Path) -> usize {
    processes_under(folder).iter().filter(|process| process.name == "redis-server").count()
}

fn until_all_serve(platform: &Platform) {
    platform.wait_for_redis();
    platform.until_status("all agents", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 3)
            && status["nodes"][0]["credit"] == 20000
    });
}

/// A thread that counts the servers in one folder, until a test asks for the highest count.
struct Watch {
    enough: Arc<AtomicBool>,
    looking: Option<JoinHandle<usize>>,
}

impl Watch {
    fn over(folder: PathBuf) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let seen = enough.clone();
        let look = move || {
            let mut most = 0;
            while !seen.load(Ordering::Relaxed) {
                most = most.max(servers(&folder));
            }
            most
        };
        Self { enough, looking: Some(std::thread::spawn(look)) }
    }

    fn most(mut self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        self.looking.take().unwrap().join().unwrap()
    }
}

#[test]
fn when_one_agent_fails_the_others_drain_and_redis_ends_last() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    until_all_serve(&platform);
    platform.submit(20);
    // This Mail Agent takes the place of the one in `optimus run`.
    let mut usurper = platform.command("mail-agent").spawn().unwrap();
    let status = platform.wait_for_end("optimus");
    usurper.kill().unwrap();
    usurper.wait().unwrap();
    let log = platform.log("optimus");
    assert!(!status.success(), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("mail agent: superseded: another one of this name has started"), "{log}");
    assert_eq!(log.matches("drained").count(), 2, "{log}");
    assert!(log.rfind("drained") < log.find(ENDED), "{log}");

    platform.start("optimus");
    platform.wait_for_redis();
    platform.expect_all_once();
}

/// Sends SIGINT to the whole process group, as Ctrl-C does.
#[test]
fn ctrl_c_drains_the_agents_before_redis_ends() {
    let mut platform = Plan::default().start();
    platform.start_with("optimus", |command| {
        command.process_group(0);
    });
    until_all_serve(&platform);
    let server = Pid::from_raw(processes_under(&folder(&platform))[0].pid);
    assert_ne!(getpgid(Some(server)).unwrap(), platform.pid("optimus"));
    platform.submit(20);
    killpg(platform.pid("optimus"), Signal::SIGINT).unwrap();
    let status = platform.wait_for_end("optimus");
    let log = platform.log("optimus");
    assert!(status.success() && errors(&log).is_empty(), "{log}");
    assert_eq!(log.matches("drained").count(), 3, "{log}");
    assert!(log.rfind("drained") < log.find(ENDED), "{log}");
    platform.start("optimus");
    platform.wait_for_redis();
    platform.expect_all_once();
}

#[test]
fn a_second_signal_ends_the_agents_at_once_and_redis_writes_out_what_it_has() {
    let mut platform =
        Plan { settings: "[agents]\nlease_ms = 3600000\n", ..Plan::default() }.start();
    platform.start("optimus");
    until_all_serve(&platform);
    platform.submit(20);
    let server = processes_under(&folder(&platform))[0].pid;
    // Without its Redis no agent can drain.
    kill(Pid::from_raw(server), Signal::SIGSTOP).unwrap();
    for what in ["drain began", "second signal"] {
        kill(platform.pid("optimus"), Signal::SIGTERM).unwrap();
        until(LONG, what, || platform.log("optimus").contains(what)).unwrap();
    }
    assert!(!platform.wait_for_end("optimus").success());
    kill(Pid::from_raw(server), Signal::SIGCONT).unwrap();
    until(LONG, "redis to end", || log_of_redis(&platform).contains(GOODBYE)).unwrap();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.expect_all_once();
}

#[test]
fn two_runs_and_kills_never_make_two_servers_of_one_folder() {
    let mut platform = Plan::default().start();
    let watch = Watch::over(folder(&platform));
    for round in 0..3 {
        platform.start("optimus");
        let mut second = platform.command("optimus").arg("run").spawn().unwrap();
        platform.wait_for_redis();
        platform.submit(20);
        // The process that started later has the agents. Then it dies, or the other one does.
        if round == 1 {
            second.kill().unwrap();
            platform.kill_9("optimus");
        } else {
            platform.kill_9("optimus");
            second.kill().unwrap();
        }
        second.wait().unwrap();
        platform.submit(5);
    }
    platform.start("optimus");
    platform.wait_for_redis();
    platform.expect_all_once();
    assert_eq!(watch.most(), 1);
}

/// Removes Redis's socket, as programs that clean up forgotten files may do.
#[test]
fn a_removed_socket_is_noticed_and_made_again() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    until_all_serve(&platform);
    platform.submit(20);
    std::fs::remove_file(platform.redis_socket()).unwrap();
    platform.wait_for_redis();
    platform.submit(20);
    platform.expect_all_once();
    let log = platform.log("optimus");
    assert!(log.contains("ERROR") && log.contains("socket was removed"), "{log}");
    // The new socket is as private as the first one.
    let fine = || platform.optimus(&["check"]).0;
    until(LONG, "nothing wrong with it", fine).unwrap();
    assert!(UnixStream::connect(platform.redis_socket()).is_ok());
}

#[test]
fn without_redis_the_agents_end_when_their_leases_do() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    for name in ["info-agent", "scheduler-agent"] {
        platform.start(name);
    }
    platform
        .until_status("both", |status| status["agents"].as_array().is_some_and(|it| it.len() == 2));
    platform.redis.as_mut().unwrap().kill9();
    for name in ["info-agent", "scheduler-agent"] {
        assert!(platform.terminate(name).success(), "{}", platform.log(name));
    }
}
