//! Agents that die or freeze while nodes are well.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::scene::Scene;
use super::{Measured, NodesCase, time};
use crate::fleet::{FleetPlan, Node};

/// Time between two messages of a steady flow, and their numbers before and after the strike.
const PACE: Duration = Duration::from_millis(50);
const BEFORE: u64 = 40;
const AFTER: u64 = 60;
/// Additional wait that a strike may cost.
const ALLOWED: Duration = Duration::from_millis(100);
/// Additional wait that a busy machine explains, and the end of a lease doesn't.
const NEAR: Duration = Duration::from_secs(2);
/// Limit for the lots of a dead Mail Agent to move.
const MOVED: Duration = Duration::from_secs(1);
/// Time limit of a measurement.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

const LOTS_MOVE: &str = "its lots move within 1 s";
const NO_WAIT: &str = "new mail waits less than 100 ms longer";

pub(super) const CASES: &[NodesCase] = &[
    NodesCase::new("Info Agent killed", NO_WAIT, |scene| {
        steady(scene, |scene| {
            scene.fleet.agents.kill_9("info-1");
            Ok(())
        })
    })
    .with(default_lease),
    NodesCase::new("Info Agent frozen", NO_WAIT, |scene| {
        steady(scene, |scene| scene.fleet.agents.freeze("info-1"))
    })
    .with(default_lease),
    NodesCase::new("Scheduler killed", NO_WAIT, |scene| {
        steady(scene, |scene| {
            scene.fleet.agents.kill_9("scheduler-1");
            Ok(())
        })
    })
    .with(default_lease)
    .met(),
    NodesCase::new("Mail Agent killed", LOTS_MOVE, |scene| {
        lots_move(scene, |node| {
            node.kill_agent();
            Ok(())
        })
    })
    .with(default_lease)
    .met(),
    NodesCase::new("Mail Agent frozen", LOTS_MOVE, |scene| {
        lots_move(scene, |node| node.freeze_agent())
    })
    .with(default_lease)
    .met(),
    NodesCase::new(
        "the paper's test: of two Mail Agents one killed half way",
        "0 lost, 0 sent twice",
        paper,
    )
    .with(|plan| default_lease(FleetPlan { nodes: 2, ..plan }))
    .met()
    .quick(),
];

fn default_lease(plan: FleetPlan) -> FleetPlan {
    FleetPlan { lease_ms: 5000, ..plan }
}

/// Strikes while messages come steadily, and compares their waits before and after.
fn steady(scene: &mut Scene, strike: fn(&mut Scene) -> Result<()>) -> Result<Measured> {
    let before = scene.submit(BEFORE, PACE)?;
    let began = Instant::now();
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let before = scene.longest_wait(before, began).context("waits before")?;
    strike(scene)?;
    let after = scene.submit(AFTER, PACE)?;
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let after = scene.longest_wait(after, began).context("waits after")?;
    let words = format!("{} ms, before {} ms", after.as_millis(), before.as_millis());
    let measured = Measured::new(after < before + ALLOWED, words);
    Ok(measured.or_near(after < before + NEAR))
}

/// Strikes the Mail Agent of a node that can't feed its lots, since its pickup-rs is frozen.
fn lots_move(scene: &mut Scene, strike: fn(&mut Node) -> Result<()>) -> Result<Measured> {
    // Each Mail Agent has worked, so its Scheduler knows it.
    scene.submit_backlog(scene.messages / 2)?;
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    scene.submit_backlog_and(scene.messages / 2, |node| node.freeze(&["pickup-rs"]))?;
    scene.wait_for_status(LIMIT, |it| it.pending > 0)?.context("struck node: no lots")?;
    let before = scene.fleet.counted("reassigned")?;
    let began = Instant::now();
    strike(scene.struck())?;
    // The Mail Agent may have handed lots back just before.
    let moves = |scene: &Scene| {
        scene.fleet.counted("reassigned").is_ok_and(|it| it > before) || scene.has_arrived()
    };
    let moved = scene.wait_at_most(LIMIT, LOOK, moves)?;
    let sent = scene.wait_for_arrival(LIMIT)?.map(|_| began.elapsed());
    scene.struck().thaw();
    scene.struck().kill_agent();
    scene.struck().start_agent()?;
    let words = format!("moved {}, all sent {}", time(moved), time(sent));
    let within = |limit| moved.is_some_and(|it| it < limit);
    Ok(Measured::new(within(MOVED), words).or_near(within(MOVED + NEAR)))
}

/// Kills one of two Mail Agents when half of the mail has arrived.
fn paper(scene: &mut Scene) -> Result<Measured> {
    let number = scene.submit(scene.messages, Duration::ZERO)?;
    let half = scene.messages / 2;
    scene.wait_for("half of the mail", |scene| scene.fleet.arrived() as u64 >= half)?;
    scene.struck().kill_agent();
    scene.wait_for("submissions", |scene| scene.accepted_of(number) == scene.messages)?;
    let arrived = scene.wait_for_arrival(LIMIT)?;
    let wait = scene.missing();
    scene.struck().start_agent()?;
    scene.finish()?;
    let tally = scene.account().tally;
    let all = match arrived {
        Some(_) => "all sent without it".to_owned(),
        None => format!("{wait} waited for its return"),
    };
    let words = format!("{} lost, {} twice; {all}", tally.lost, tally.duplicates);
    Ok(Measured::new((tally.lost, tally.duplicates) == (0, 0), words))
}
