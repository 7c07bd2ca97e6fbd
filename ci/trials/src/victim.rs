//! Victims of a campaign and the ways to bring them back, or an administrator's deeds instead.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use simulation::Random;
use testbed::{kill_9, until};

use crate::administrator::{DEEDS, Deed};
use crate::away::{REACHED, stay_away};
use crate::notes::Notes;
use crate::platform::{AGENTS, ALL_IN_ONE, Platform};

/// Postfix's programs that are killed by themselves; master restarts them.
const DAEMONS: [&str; 3] = ["pickup-rs", "cleanup", "qmgr"];

/// Steps at which a program kills itself: of pickup-rs, then of the Mail Agent.
const FAILPOINTS: [&str; 7] = [
    "before-held",
    "held",
    "before-commit",
    "after-commit",
    "before-release",
    "after-release",
    "before-settle",
];

/// Most submitters killed in one strike, and the time to wait for one: submission may have ended.
const SUBMITTERS: usize = 10;
const SUBMITTING: Duration = Duration::from_secs(1);

/// Victim of a case.
#[derive(Debug, Clone, Copy)]
pub enum Victim {
    /// One agent.
    Agent(&'static str),
    /// `optimus run` with all agents; its Redis may outlive it or not.
    AllInOne,
    /// `optimus run` with its Redis, ended by SIGTERM.
    AllInOneAsked,
    /// A daemon under Postfix's master.
    Daemon(&'static str),
    /// redis-server.
    Redis,
    /// redis-server, which doesn't die but stands still for some seconds.
    SlowRedis,
    /// Postfix's master; its daemons end by themselves.
    Master,
    /// No victim: Postfix is stopped as an administrator stops it.
    Stop,
    /// Everything at once, as when the power fails.
    Power,
    /// The process that comes to this step of the hand-off.
    Failpoint(&'static str),
    /// Some `sendmail` at work.
    Submitters,
    /// No victim: an administrator is at work.
    Administrator(Deed),
}

/// Event that ends a strike after the victim is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// No event.
    None,
    /// The Mail Agent lost sight of messages under way, and recovers.
    Recovery,
    /// Lots may have been taken, so the strike ends when a window's worth of messages has been
    /// settled.
    Window,
}

impl fmt::Display for Victim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) | Self::Daemon(name) => formatter.write_str(name),
            Self::AllInOne => formatter.write_str("optimus run"),
            Self::AllInOneAsked => formatter.write_str("optimus run, SIGTERM"),
            Self::Redis => formatter.write_str("redis-server"),
            Self::SlowRedis => formatter.write_str("redis-server stands still"),
            Self::Master => formatter.write_str("master"),
            Self::Stop => formatter.write_str("postfix stop"),
            Self::Power => formatter.write_str("everything at once"),
            Self::Failpoint(name) => write!(formatter, "at {name}"),
            Self::Submitters => formatter.write_str("sendmail"),
            Self::Administrator(deed) => formatter.write_str(deed.name),
        }
    }
}

impl Victim {
    /// Returns all victims, in the order of a campaign.
    pub fn all() -> Vec<Self> {
        let agents = AGENTS.map(Self::Agent);
        let daemons = DAEMONS.map(Self::Daemon);
        let failpoints = FAILPOINTS.map(Self::Failpoint);
        let redis = [Self::Redis, Self::SlowRedis];
        let others = [Self::Master, Self::Stop, Self::Power, Self::AllInOne, Self::AllInOneAsked];
        let deeds = DEEDS.map(Self::Administrator);
        [&agents[..], &daemons, &redis, &others, &failpoints, &[Self::Submitters], &deeds].concat()
    }

    /// Whether all agents and Redis are in one process.
    pub(crate) fn is_all_in_one(self) -> bool {
        match self {
            Self::AllInOne | Self::AllInOneAsked => true,
            Self::Administrator(deed) => deed.all_in_one,
            _ => false,
        }
    }

    /// Whether it is an administrator. The notes on their deeds need queue ids that don't come
    /// again.
    pub(crate) fn is_administrator(self) -> bool {
        matches!(self, Self::Administrator(_))
    }

    /// Returns the event at which messages under way in the direct hand-off have ended.
    pub fn aftermath(self) -> Aftermath {
        match self {
            Self::Agent("mail-agent") | Self::Daemon("pickup-rs") => Aftermath::Recovery,
            Self::Master | Self::Stop | Self::Power | Self::Failpoint(_) => Aftermath::Recovery,
            Self::Redis | Self::SlowRedis => Aftermath::Window,
            _ => Aftermath::None,
        }
    }

    /// Whether the strike takes Redis back to an earlier state.
    pub fn rewinds(self) -> bool {
        matches!(self, Self::Administrator(Deed { rewinds: true, .. }))
    }

    /// Whether the strike takes the queue directory back to an earlier state.
    pub(crate) fn puts_back(self) -> bool {
        matches!(self, Self::Administrator(Deed { puts_back: true, .. }))
    }

    /// Whether the strike takes a node's proof of delivery.
    pub(crate) fn disproves(self) -> bool {
        matches!(self, Self::Administrator(Deed { disproves: true, .. }))
    }

    /// Whether the victim dies when the next message comes to a step.
    pub(crate) fn is_at_a_step(self) -> bool {
        matches!(self, Self::Failpoint(_))
    }

    /// Whether the step is between commit and release, which the direct hand-off doesn't have.
    pub(crate) fn is_of_release(self) -> bool {
        matches!(self, Self::Failpoint(name) if name.ends_with("release"))
    }

    /// Kills the victim, and restarts it where no supervisor does.
    pub fn strike(
        self,
        platform: &mut Platform,
        random: &mut Random,
        notes: &mut Notes,
    ) -> Result<()> {
        match self {
            Self::Agent(name) => strike_agent(platform, name, random),
            Self::AllInOne => strike_agent(platform, ALL_IN_ONE, random),
            Self::AllInOneAsked => ask_agent(platform, ALL_IN_ONE, random),
            Self::Daemon(name) => strike_daemon(platform, name),
            Self::Redis => strike_redis(platform, random),
            Self::SlowRedis => pause_redis(platform, random),
            Self::Master => strike_master(platform, random),
            Self::Stop => stop_postfix(platform, random),
            Self::Power => strike_all(platform, random),
            Self::Failpoint(name) => strike_at(platform, name),
            Self::Submitters => strike_submitters(platform, random),
            Self::Administrator(deed) => (deed.act)(platform, random, notes),
        }
    }
}

fn strike_agent(platform: &mut Platform, name: &str, random: &mut Random) -> Result<()> {
    platform.agents.kill_9(name);
    stay_away(random);
    platform.start_agent(name)
}

/// Kills a daemon, and returns when master has started another one.
fn strike_daemon(platform: &Platform, name: &str) -> Result<()> {
    let killed = platform.postfix.kill9_daemon(name)?;
    until(REACHED, &format!("another {name}"), || {
        platform.postfix.daemon_pids(name).iter().any(|pid| *pid != killed)
    })
}

fn ask_agent(platform: &mut Platform, name: &str, random: &mut Random) -> Result<()> {
    platform.agents.terminate(name)?;
    stay_away(random);
    platform.start_agent(name)
}

fn pause_redis(platform: &Platform, random: &mut Random) -> Result<()> {
    let redis = platform.redis.as_ref().context("platform: has no redis-server of its own")?;
    redis.pause();
    stay_away(random);
    redis.resume();
    Ok(())
}

fn stop_postfix(platform: &Platform, random: &mut Random) -> Result<()> {
    platform.postfix.stop()?;
    stay_away(random);
    platform.postfix.start()
}

fn strike_redis(platform: &mut Platform, random: &mut Random) -> Result<()> {
    let redis = platform.redis.as_mut().context("platform: has no redis-server of its own")?;
    redis.kill9();
    stay_away(random);
    redis.restart()
}

fn strike_master(platform: &Platform, random: &mut Random) -> Result<()> {
    platform.postfix.kill9_master();
    stay_away(random);
    platform.postfix.start()
}

fn strike_all(platform: &mut Platform, random: &mut Random) -> Result<()> {
    let daemons = testbed::processes_under(platform.postfix.queue_dir());
    daemons.iter().for_each(|daemon| kill_9(daemon.pid));
    AGENTS.iter().for_each(|name| platform.agents.kill_9(name));
    let redis = platform.redis.as_mut().context("platform: has no redis-server of its own")?;
    redis.kill9();
    stay_away(random);
    redis.restart()?;
    platform.postfix.start()?;
    platform.start_agents()
}

/// Sets the trap and waits until a process has died in it. One that died in an earlier trap may end
/// only now.
fn strike_at(platform: &mut Platform, name: &str) -> Result<()> {
    let trap = platform.failpoint(name);
    std::fs::write(&trap, "")?;
    let mut revived = Ok(());
    until(REACHED, &format!("failpoint {name} to be reached"), || {
        revived = platform.revive();
        revived.is_err() || !trap.exists()
    })?;
    revived?;
    platform.revive()
}

fn strike_submitters(platform: &Platform, random: &mut Random) -> Result<()> {
    for _ in 0..SUBMITTERS {
        let mut ours = Vec::new();
        let found = until(SUBMITTING, "a sendmail at work", || {
            ours = testbed::processes_under(platform.postfix.path());
            ours.retain(|it| it.name == "sendmail");
            !ours.is_empty()
        });
        if found.is_err() {
            break;
        }
        ours.iter().for_each(|it| kill_9(it.pid));
        std::thread::sleep(Duration::from_millis(random.between(0, 20)));
    }
    Ok(())
}
