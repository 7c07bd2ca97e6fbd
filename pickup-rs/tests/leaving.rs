//! Ends of pickup-rs: only after SIGTERM may another place serve the node at once. After any other
//! end the node counts as served until its last attendance has lapsed.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::{LIMIT, Site};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

/// Returns the time until which Redis counts the node as served, in Unix milliseconds.
fn live_until_ms(site: &Site, node: &str) -> u64 {
    let key = format!("{}node:{node}:agent", spool::keys::SHARD);
    site.redis.cli(&["HGET", &key, "live"]).unwrap().parse().unwrap()
}

/// Ends pickup-rs, and returns the times before and after that.
async fn ended_by(end: impl FnOnce(&Site, i32)) -> (u64, u64) {
    let site = Site::start();
    let node = site.agent().await.node().to_string();
    let pid = site.postfix.daemon_pids("pickup-rs").pop().unwrap();
    let before = live_until_ms(&site, &node);
    end(&site, pid);
    let has_ended = || !site.postfix.daemon_pids("pickup-rs").contains(&pid);
    until(LIMIT, "end of pickup-rs", has_ended).unwrap();
    (before, live_until_ms(&site, &node))
}

#[tokio::test]
async fn pickup_gives_the_node_up_at_sigterm() {
    let (before, after) =
        ended_by(|_, pid| kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap()).await;
    assert!(after < before, "another place may serve the node at once: {before}, {after}");
}

#[tokio::test]
async fn pickup_gives_the_node_up_when_postfix_stops() {
    let (before, after) = ended_by(|site, _| site.postfix.stop().unwrap()).await;
    assert!(after < before, "{before}, {after}");
}

/// On a busy machine, master may have died before pickup-rs runs. Then pickup-rs sees the end of
/// its link to master before the signal.
#[tokio::test]
async fn pickup_gives_the_node_up_though_master_dies_first() {
    let (before, after) = ended_by(|site, pid| {
        let master = site.postfix.master_pid();
        one_processor_of(master, pid);
        site.postfix.stop().unwrap();
    })
    .await;
    assert!(after < before, "{before}, {after}");
}

/// Lets a process run only while the other one, on the same processor, doesn't.
fn one_processor_of(other: i32, pid: i32) {
    let mine = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|&it| mine.is_set(it).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    for pid in [other, pid] {
        sched_setaffinity(Pid::from_raw(pid), &one).unwrap();
    }
    let idle = Command::new("chrt").args(["--idle", "--pid", "0", &pid.to_string()]).status();
    assert!(idle.unwrap().success());
}

#[tokio::test]
async fn pickup_keeps_the_node_when_it_is_killed_crashes_or_is_reloaded() {
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        let (before, after) = ended_by(|_, pid| kill(Pid::from_raw(pid), signal).unwrap()).await;
        assert!(after >= before, "{signal}: the next process of this Postfix goes on");
    }
    let (before, after) = ended_by(|site, _| site.postfix.reload().unwrap()).await;
    assert!(after >= before, "the next process of this Postfix goes on: {before}, {after}");
}
