//! The course of one case: mail, waiting, and the account in the end.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::{Delivery, Tally};

use super::STRUCK;
use crate::fleet::{Arrival, Fleet, FleetPlan, INFO_AGENTS, Mood, Node};
use crate::mailer::{Mailer, Outcome};
use crate::patience::Patience;

/// Longest time without a submission or an arrival, in the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for the platform to be ready.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Time between two looks by `optimus status`, which is a program of its own.
const STATUS_LOOK: Duration = Duration::from_millis(200);
/// Time between two flushes of the queues.
const FLUSH: Duration = Duration::from_secs(1);
/// Loops that submit at once.
const LOOPS: u64 = 2;

/// One case under way.
pub struct Scene {
    mailers: Vec<Mailer>,
    pub(crate) fleet: Fleet,
    /// Number of messages of the case.
    pub(crate) messages: u64,
    name: String,
}

impl Scene {
    /// Makes a fleet and starts its agents.
    pub(super) fn new(name: &str, plan: FleetPlan, messages: u64) -> Result<Self> {
        let name = name.replace(|it: char| !it.is_ascii_alphanumeric(), "-");
        let mut fleet = plan.start()?;
        fleet.start_agents()?;
        let mut scene = Self { mailers: Vec::new(), fleet, messages, name };
        scene.wait_until_ready()?;
        Ok(scene)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let nodes = self.fleet.nodes.len();
        let is_ready = |fleet: &Fleet| {
            fleet.status().is_ok_and(|status| {
                let live = status.agents.iter().filter(|it| it.number.is_some()).count();
                let serving = status.nodes.iter().filter(|it| it.window > Some(0)).count();
                (live, serving) == (nodes + 4, nodes)
            })
        };
        let ready = self.wait_at_most(READY, STATUS_LOOK, |scene| is_ready(&scene.fleet))?;
        ready.map(drop).with_context(|| match self.fleet.status() {
            Ok(status) => format!("platform: not ready: {:?} {:?}", status.agents, status.nodes),
            Err(error) => format!("platform: not ready: {error:#}"),
        })
    }

    /// Returns the node that the case strikes.
    pub(crate) fn struck(&mut self) -> &mut Node {
        &mut self.fleet.nodes[STRUCK]
    }

    /// Begins to submit messages, each with a pause after it. The number finds them again.
    pub(crate) fn submit(&mut self, count: u64, pause: Duration) -> Result<usize> {
        let number = self.mailers.len();
        let name = format!("{}-{number}", self.name);
        let sendmail = testbed::bin("sendmail");
        let home = &self.fleet.home;
        self.mailers.push(Mailer::start_paced(home, &sendmail, &name, count, pause)?);
        Ok(number)
    }

    /// Submits messages as fast as two loops do, and waits for the last.
    pub(crate) fn submit_all(&mut self, count: u64) -> Result<()> {
        for part in 0..LOOPS {
            self.submit(count / LOOPS + u64::from(part < count % LOOPS), Duration::ZERO)?;
        }
        self.wait_for("submissions", |scene| scene.mailers.iter().all(Mailer::is_done))
    }

    /// Returns the number of accepted messages.
    pub(crate) fn accepted(&self) -> usize {
        self.mailers.iter().map(|it| it.accepted() as usize).sum()
    }

    /// Returns the number of accepted messages of one loop.
    pub(crate) fn accepted_of(&self, number: usize) -> u64 {
        self.mailers[number].accepted()
    }

    /// Whether all accepted messages have arrived, and none is still being submitted.
    pub(crate) fn has_arrived(&self) -> bool {
        self.mailers.iter().all(Mailer::is_done) && self.fleet.arrived() >= self.accepted()
    }

    /// Returns the number of accepted messages that have not arrived.
    pub(crate) fn missing(&self) -> usize {
        self.accepted().saturating_sub(self.fleet.arrived())
    }

    /// Waits for a condition as long as anything moves, and restarts agents that have ended by
    /// themselves.
    pub(crate) fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let mut patience = Patience::new(PATIENCE);
        while !is_so(self) {
            let tried: u64 = self.mailers.iter().map(Mailer::tried).sum();
            let moved = tried + self.fleet.arrivals().len() as u64;
            patience.look(moved).with_context(|| format!("waiting for {what}"))?;
            self.rest(LOOK)?;
        }
        Ok(())
    }

    /// Waits for a condition, at most for `limit`. Returns the time that it took.
    pub(crate) fn wait_at_most(
        &mut self,
        limit: Duration,
        between: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<Option<Duration>> {
        let started = Instant::now();
        loop {
            if is_so(self) {
                return Ok(Some(started.elapsed()));
            }
            if started.elapsed() >= limit {
                return Ok(None);
            }
            self.rest(between)?;
        }
    }

    /// Waits until all accepted mail has arrived, at most for `limit`.
    pub(crate) fn wait_for_arrival(&mut self, limit: Duration) -> Result<Option<Duration>> {
        self.wait_at_most(limit, LOOK, Self::has_arrived)
    }

    /// Waits until the state of the struck node meets a condition, at most for `limit`.
    pub(crate) fn wait_for_status(
        &mut self,
        limit: Duration,
        is_so: impl Fn(&status::NodeStatus) -> bool,
    ) -> Result<Option<Duration>> {
        self.wait_at_most(limit, STATUS_LOOK, |scene| {
            scene.fleet.status_of(STRUCK).is_ok_and(|it| it.is_some_and(|it| is_so(&it)))
        })
    }

    /// Waits until all lots are dealt, and then until the struck node has no uncommitted mail, at
    /// most for `limit`. Returns the time of the latter, and the number of messages that are left.
    pub(crate) fn wait_for_move(&mut self, limit: Duration) -> Result<(Option<Duration>, u64)> {
        let is_dealt = |scene: &Self| scene.fleet.status().is_ok_and(|it| it.backlog == 0);
        self.wait_at_most(READY, STATUS_LOOK, is_dealt)?.context("mail waits for a node")?;
        let moved = self.wait_for_status(limit, |it| it.pending == 0)?;
        let left = self.fleet.status_of(STRUCK)?.map_or(0, |it| it.pending);
        Ok((moved, left))
    }

    /// Lets this time pass, and restarts agents that have ended by themselves.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<()> {
        self.wait_at_most(time, LOOK, |_| false).map(drop)
    }

    fn rest(&mut self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        self.fleet.revive()
    }

    /// Submits messages while no Info Agent cuts lots, so that all lots are cut at once. Returns
    /// the time from which on they are cut.
    pub(crate) fn submit_backlog(&mut self, count: u64) -> Result<Instant> {
        self.submit_backlog_and(count, |_| Ok(()))
    }

    /// Submits a backlog, and strikes the struck node just before lots are cut.
    pub(crate) fn submit_backlog_and(
        &mut self,
        count: u64,
        strike: impl FnOnce(&mut Node) -> Result<()>,
    ) -> Result<Instant> {
        for name in INFO_AGENTS {
            self.fleet.agents.terminate(name)?;
        }
        self.submit_all(count)?;
        strike(self.struck())?;
        let begun = Instant::now();
        INFO_AGENTS.into_iter().try_for_each(|name| self.fleet.start_central(name))?;
        Ok(begun)
    }

    /// Has the struck node's target give no answer, submits all messages, and waits until the
    /// other nodes have sent theirs. The rest is committed to the struck node and stays there.
    /// Returns the number of those messages.
    pub(crate) fn fill_struck(&mut self) -> Result<usize> {
        self.struck().set_target(Mood::Silent);
        self.submit_backlog(self.messages)?;
        let of_others = |scene: &Self| {
            scene.fleet.status().is_ok_and(|status| {
                let busy = status.nodes.iter().filter(|it| it.load > 0);
                let is_committed = busy.clone().all(|it| it.committed > 0 && it.pending == 0);
                status.backlog == 0 && busy.count() == 1 && is_committed
            })
        };
        let sent = self.wait_at_most(READY, STATUS_LOOK, of_others)?;
        sent.context("struck node: does not hold the only mail, committed")?;
        Ok(self.missing())
    }

    /// Heals all targets, and waits until all mail has arrived and rests.
    pub fn finish(&mut self) -> Result<()> {
        for node in &self.fleet.nodes {
            node.heal_target()?;
        }
        let mut flushed = Instant::now();
        let mut patience = Patience::new(PATIENCE);
        while !(self.has_arrived() && self.fleet.is_at_rest()) {
            patience.look(self.fleet.arrivals().len() as u64).with_context(|| {
                format!("in the end: {} messages have not arrived", self.missing())
            })?;
            if flushed.elapsed() >= FLUSH {
                self.fleet.nodes.iter().try_for_each(Node::flush)?;
                flushed = Instant::now();
            }
            self.rest(LOOK)?;
        }
        Ok(())
    }

    /// Returns the longest time between acceptance and arrival among messages accepted within a
    /// span of time.
    pub(crate) fn longest_wait(&self, number: usize, since: Instant) -> Option<Duration> {
        let first = first_arrivals(&self.fleet.arrivals());
        let Outcome { accepted, accepted_at, .. } = self.mailers[number].outcome();
        let of_time = accepted.iter().zip(accepted_at).filter(|(_, at)| *at >= since);
        let waits = of_time.map(|(id, at)| Some(first.get(id)?.saturating_duration_since(at)));
        waits.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Returns the number of messages that arrived from each node.
    pub(crate) fn shares(&self) -> Vec<usize> {
        let arrivals = self.fleet.arrivals();
        let of = |node| arrivals.iter().filter(|it| it.node == node).count();
        (0..self.fleet.nodes.len()).map(of).collect()
    }

    /// Compares `sendmail`'s exit codes with the arrivals.
    pub fn account(&self) -> NodesAccount {
        let outcomes: Vec<Outcome> = self.mailers.iter().map(Mailer::outcome).collect();
        let accepted = outcomes.iter().flat_map(|it| &it.accepted).map(String::as_str);
        let arrivals = self.fleet.arrivals();
        let deliveries: Vec<Delivery> = arrivals.iter().map(|it| it.delivery.clone()).collect();
        let of_struck: HashSet<&str> = arrivals
            .iter()
            .filter(|it| it.node == STRUCK)
            .filter_map(|it| it.delivery.test_id.as_deref())
            .collect();
        let twice = Tally::duplicates(&deliveries);
        let twice_of_struck = twice.iter().filter(|it| of_struck.contains(*it)).count();
        let refused = outcomes.iter().map(|it| it.refused.len()).sum();
        let (tally, by_node) = (Tally::of(accepted, &deliveries), self.shares());
        NodesAccount { tally, refused, twice_of_struck, by_node }
    }

    /// Copies all logs to a folder beside the programs. Returns the folder.
    pub fn keep_evidence(&self) -> Result<std::path::PathBuf> {
        self.fleet.keep_evidence(&format!("nodes-{}", self.name))
    }
}

/// Result of a case, in messages.
#[derive(Debug, Clone)]
pub struct NodesAccount {
    /// Submissions against arrivals.
    pub tally: Tally,
    /// Number of messages that `sendmail` refused.
    pub refused: usize,
    /// Number of messages sent twice, of which the struck node sent a copy.
    pub twice_of_struck: usize,
    /// Number of copies that each node sent.
    pub by_node: Vec<usize>,
}

fn first_arrivals(arrivals: &[Arrival]) -> HashMap<String, Instant> {
    let mut first = HashMap::new();
    for arrival in arrivals {
        let Some(id) = &arrival.delivery.test_id else { continue };
        let earliest = first.entry(id.clone()).or_insert(arrival.at);
        *earliest = arrival.at.min(*earliest);
    }
    first
}
