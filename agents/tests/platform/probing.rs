//! Tests of Mail Agents that a Scheduler finds dead or frozen by its probes, while their leases
//! would last for a minute.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

use super::DAEMONS;
use super::common::{LONG, Plan, Platform};

const COUNT: usize = 20;
/// Half of a lease.
const LIMIT: Duration = Duration::from_secs(30);

/// Two servers: the first one has all agents, and the second one a Mail Agent that has lots, and
/// whose pickup-rs is frozen.
struct Two {
    first: Platform,
    second: Platform,
}

impl Two {
    fn start() -> Self {
        let settings = "[agents]\nlease_ms = 60000\n";
        let mut first = Plan { redis: true, settings, ..Plan::default() }.start();
        let mut second = Plan { settings, ..Plan::default() }.start_beside(&first);
        DAEMONS.iter().for_each(|name| first.start(name));
        second.start("mail-agent");
        let two = Self { first, second };
        let is_reached = || two.first.log("scheduler-agent").matches("Mail Agent reached").count();
        until(LONG, "both Mail Agents to be reached", || is_reached() == 2).unwrap();
        two.signal_pickup(Signal::SIGSTOP);
        two
    }

    fn signal_pickup(&self, signal: Signal) {
        for pid in self.second.postfix.daemon_pids("pickup-rs") {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }

    /// Submits mail until the second node has some.
    fn submit(&mut self) {
        self.first.submit(COUNT);
        let status = self.first.until_status("both to have lots", |status| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().any(|node| node["lots"].as_u64() > Some(0))
        });
        assert_eq!(self.second.sink.count(), 0, "{status}");
    }

    /// Waits until the first server has sent everything.
    fn expect_moved(&self) {
        let began = Instant::now();
        until(LIMIT, "the first server to send all", || self.first.sink.distinct() == COUNT)
            .unwrap_or_else(|error| panic!("{error}: {}", self.first.log("scheduler-agent")));
        eprintln!("all mail sent by the other node after {:?}", began.elapsed());
    }
}

#[test]
fn a_killed_mail_agent_s_lots_arrive_long_before_its_lease_ends() {
    let mut two = Two::start();
    two.submit();
    two.second.kill_9("mail-agent");
    two.expect_moved();
    two.first.expect_all_once();
    two.signal_pickup(Signal::SIGCONT);
    two.second.start("mail-agent");
    let status = two.first.until_status("it to be back", |status| {
        let agents = status["agents"].as_array().unwrap();
        let is_alive = |it: &&serde_json::Value| it["lease_left_ms"].as_i64() > Some(0);
        agents.iter().filter(|it| it["kind"] == "mail").filter(is_alive).count() == 2
    });
    assert_eq!(two.second.sink.count(), 0, "{status}");
}

#[test]
fn a_frozen_mail_agent_s_lots_move_and_it_comes_back() {
    let mut two = Two::start();
    two.submit();
    let agent = two.second.pid("mail-agent");
    kill(agent, Signal::SIGSTOP).unwrap();
    two.expect_moved();
    two.first.expect_all_once();
    two.signal_pickup(Signal::SIGCONT);
    kill(agent, Signal::SIGCONT).unwrap();
    let words = "Mail Agent lives, and did not answer probes";
    let is_said = || two.first.log("scheduler-agent").contains(words);
    until(LIMIT, "it to be back, and the log to say so", is_said).unwrap();
    assert_eq!(two.second.sink.count(), 0);
    two.first.submit(COUNT);
    until(LONG, "mail to arrive", || {
        two.first.sink.distinct() + two.second.sink.distinct() == 2 * COUNT
    })
    .unwrap();
}
