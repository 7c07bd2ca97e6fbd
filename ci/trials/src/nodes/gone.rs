//! Nodes that are gone for a while, or a part of them, while they hold committed mail.

use std::time::Duration;

use anyhow::{Context, Result};

use super::scene::Scene;
use super::{Measured, NodesCase, STRUCK, time};
use crate::fleet::{FleetPlan, SCHEDULERS};

/// Time limit for others to send the mail of a lost node.
const SENDING: Duration = Duration::from_secs(30);
/// Time limit for Postfix to send what it has.
const EMPTYING: Duration = Duration::from_secs(20);
/// Grace that no cut reaches, however busy the machine.
const LONG_GRACE_S: u64 = 60;
const LOOK: Duration = Duration::from_millis(100);

const NOTHING_TWICE: &str = "0 sent twice";

pub(super) const CASES: &[NodesCase] = &[
    NodesCase::new("Mail Agent ended, longer than the grace", NOTHING_TWICE, |scene| {
        without_agent(scene, |scene| scene.struck().end_agent())
    })
    .met(),
    NodesCase::new("Mail Agent killed, longer than the grace", NOTHING_TWICE, |scene| {
        without_agent(scene, |scene| {
            scene.struck().kill_agent();
            Ok(())
        })
    })
    .met(),
    NodesCase::new("cut off, shorter than the grace", NOTHING_TWICE, cut_shortly)
        .with(|plan| FleetPlan { grace_s: LONG_GRACE_S, ..plan })
        .met()
        .quick(),
    NodesCase::new(
        "cut off, longer than the grace",
        "0 sent twice but what was unreported",
        cut_long,
    )
    .names_twice(),
    NodesCase::new("dead, and back after the grace", NOTHING_TWICE, dead_and_back).names_twice(),
    NodesCase::new("suspended, longer than the grace", NOTHING_TWICE, suspended).names_twice(),
    NodesCase::new("pickup-rs frozen, longer than the grace", NOTHING_TWICE, pickup_frozen)
        .names_twice(),
    NodesCase::new("Mail Agent frozen, longer than the grace", NOTHING_TWICE, agent_frozen).met(),
    NodesCase::new("dead, and back while Schedulers are frozen", NOTHING_TWICE, unwatched).met(),
    NodesCase::new("Redis away, longer than the grace", NOTHING_TWICE, redis_away).met(),
];

/// Takes the Mail Agent from a node whose Postfix goes on, for longer than the grace.
fn without_agent(scene: &mut Scene, end: fn(&mut Scene) -> Result<()>) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    end(scene)?;
    scene.pass(longer_than_grace(scene))?;
    let moved = stays - scene.missing();
    scene.struck().heal_target()?;
    scene.wait_at_most(EMPTYING, LOOK, |scene| scene.fleet.nodes[STRUCK].is_at_rest())?;
    scene.struck().start_agent()?;
    scene.finish()?;
    told(scene, stays, &format!("{moved} sent by others"))
}

/// Cuts a node off for longer than a lease and less than the grace. It sends its mail meanwhile.
fn cut_shortly(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.fleet.cut(STRUCK)?;
    scene.pass(scene.fleet.plan.lease())?;
    scene.struck().heal_target()?;
    scene.pass(scene.fleet.plan.lease())?;
    scene.fleet.mend(STRUCK)?;
    scene.finish()?;
    told(scene, stays, "back")
}

/// Cuts a node off until others have sent its mail. Only then can the node send, too.
fn cut_long(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.fleet.cut(STRUCK)?;
    let sent = scene.wait_for_arrival(longer_than_grace(scene) + SENDING)?;
    scene.struck().heal_target()?;
    scene.wait_at_most(EMPTYING, LOOK, |scene| scene.fleet.nodes[STRUCK].is_at_rest())?;
    scene.fleet.mend(STRUCK)?;
    scene.finish()?;
    told(scene, stays, &format!("sent by others {}", time(sent)))
}

/// Kills all of a node, and starts it again when others have sent its mail.
fn dead_and_back(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().kill_agent();
    scene.struck().kill_postfix()?;
    let limit = longer_than_grace(scene) + SENDING;
    let sent = scene.wait_for_arrival(limit)?.context("mail of a dead node: not sent by others")?;
    scene.struck().heal_target()?;
    scene.struck().postfix.start()?;
    scene.struck().start_agent()?;
    scene.wait_at_most(EMPTYING, LOOK, |scene| scene.fleet.nodes[STRUCK].is_at_rest())?;
    scene.finish()?;
    told(scene, stays, &format!("sent by others {}", time(Some(sent))))
}

/// Suspends a whole node until others have sent its mail.
fn suspended(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().suspend()?;
    let sent = scene.wait_for_arrival(longer_than_grace(scene) + SENDING)?;
    scene.struck().heal_target()?;
    scene.struck().resume()?;
    scene.finish()?;
    told(scene, stays, &format!("sent by others {}", time(sent)))
}

/// Freezes pickup-rs for longer than the grace. Postfix runs, and sends what it has.
fn pickup_frozen(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().freeze(&["pickup-rs"])?;
    let sent = scene.wait_for_arrival(longer_than_grace(scene) + SENDING)?;
    scene.struck().heal_target()?;
    scene.wait_at_most(EMPTYING, LOOK, |scene| scene.fleet.nodes[STRUCK].is_at_rest())?;
    scene.struck().thaw();
    scene.finish()?;
    told(scene, stays, &format!("sent by others {}", time(sent)))
}

/// Freezes the Mail Agent for longer than the grace.
fn agent_frozen(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().freeze_agent()?;
    scene.pass(longer_than_grace(scene))?;
    let moved = stays - scene.missing();
    scene.struck().heal_target()?;
    scene.struck().thaw_agent()?;
    scene.finish()?;
    told(scene, stays, &format!("{moved} sent by others"))
}

/// Brings a node back while all Schedulers are frozen, who last saw it dead.
fn unwatched(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().kill_agent();
    scene.struck().kill_postfix()?;
    SCHEDULERS.into_iter().try_for_each(|name| scene.fleet.agents.freeze(name))?;
    scene.pass(longer_than_grace(scene))?;
    scene.struck().postfix.start()?;
    scene.struck().start_agent()?;
    let serves = |it: &status::NodeStatus| it.window > Some(0);
    scene.wait_for_status(SENDING, serves)?.context("node: not back")?;
    SCHEDULERS.into_iter().try_for_each(|name| scene.fleet.agents.thaw(name))?;
    scene.pass(2 * scene.fleet.plan.lease())?;
    let moved = stays - scene.missing();
    scene.finish()?;
    told(scene, stays, &format!("{moved} sent by others"))
}

/// Takes Redis away for longer than the grace.
fn redis_away(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.fleet.redis.kill9();
    scene.pass(longer_than_grace(scene))?;
    scene.fleet.redis.restart()?;
    scene.pass(2 * scene.fleet.plan.lease())?;
    let moved = stays - scene.missing();
    scene.finish()?;
    told(scene, stays, &format!("{moved} sent by others"))
}

fn longer_than_grace(scene: &Scene) -> Duration {
    scene.fleet.plan.grace() + 3 * scene.fleet.plan.lease()
}

/// Counts what was sent twice.
fn told(scene: &Scene, stays: usize, what: &str) -> Result<Measured> {
    let twice = scene.account().tally.duplicates;
    Ok(Measured::new(twice == 0, format!("{twice} of {stays} sent twice; {what}")))
}
