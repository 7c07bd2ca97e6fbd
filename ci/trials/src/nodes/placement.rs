//! Sharing out: nodes that are equal, slow, or refused by their target.

use std::time::Duration;

use anyhow::{Context, Result};

use super::scene::Scene;
use super::{Measured, NodesCase, STRUCK};
use crate::fleet::{FleetPlan, Mood};

/// Time of a message at a target where time is measured, and the factor of the slow node.
const DELAY: Duration = Duration::from_millis(200);
const SLOWER: u32 = 10;
/// Most messages that a node holds there: a few seconds' worth, as with much mail and the default.
const WINDOW: u32 = 40;
/// Messages that a node delivers at once there.
const AT_ONCE: u32 = 2;
/// Limit of the time, as a multiple of the ideal one.
const RATIO_MAX: f64 = 1.3;
/// Largest share of a node, as a multiple of an equal one.
const UNEVEN_MAX: f64 = 1.2;
/// Time limit of a measurement.
const LIMIT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(200);

pub(super) const CASES: &[NodesCase] = &[
    NodesCase::new("all nodes equal", "no share above 1.2 of an equal one", equal)
        .with(measurable)
        .met(),
    NodesCase::new("one node 10 times slower", "at most 1.3 of the ideal time", slow)
        .with(measurable),
    NodesCase::new("black hole", "less than an equal share", black_hole).with(measurable),
];

fn measurable(plan: FleetPlan) -> FleetPlan {
    FleetPlan { delay: DELAY, at_once: AT_ONCE, window: WINDOW, ..plan }
}

fn equal(scene: &mut Scene) -> Result<Measured> {
    scene.submit_backlog(scene.messages)?;
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let shares = scene.shares();
    let largest = shares.iter().max().copied().unwrap_or_default();
    let times = times_equal(scene, largest);
    let measured = Measured::new(times <= UNEVEN_MAX, format!("{times:.2}: {shares:?}"));
    Ok(measured.or_near(times <= 1.5 * UNEVEN_MAX))
}

/// Returns a share as a multiple of an equal one.
#[expect(clippy::cast_precision_loss, reason = "some hundred messages")]
fn times_equal(scene: &Scene, share: usize) -> f64 {
    (share * scene.fleet.nodes.len()) as f64 / scene.messages as f64
}

/// Submits mail to nodes of which one's target takes longer, and compares the time with that of an
/// ideal distribution.
fn slow(scene: &mut Scene) -> Result<Measured> {
    scene.struck().set_target(Mood::Takes(DELAY * SLOWER));
    let begun = scene.submit_backlog(scene.messages)?;
    scene.wait_at_most(LIMIT, LOOK, Scene::has_arrived)?.context("mail stays")?;
    let (took, ideal) = (begun.elapsed().as_secs_f64(), ideal_s(scene));
    let shares = scene.shares();
    let words = format!("{took:.1} s, ideal {ideal:.1} s; {} by the slow node", shares[STRUCK]);
    let measured = Measured::new(took <= RATIO_MAX * ideal, words);
    Ok(measured.or_near(took <= 2.0 * RATIO_MAX * ideal))
}

/// Returns the least time for all messages, seconds.
#[expect(clippy::cast_precision_loss, reason = "some hundred messages")]
fn ideal_s(scene: &Scene) -> f64 {
    let rate = f64::from(AT_ONCE) / DELAY.as_secs_f64();
    let nodes = (scene.fleet.nodes.len() - 1) as f64 + 1.0 / f64::from(SLOWER);
    scene.messages as f64 / (rate * nodes)
}

/// Submits mail to nodes of which one's target refuses all, until the others have sent the rest.
fn black_hole(scene: &mut Scene) -> Result<Measured> {
    scene.struck().set_target(Mood::Refuses);
    scene.submit_backlog(scene.messages)?;
    let is_dealt = |scene: &Scene| {
        scene.fleet.status().is_ok_and(|status| {
            status.backlog == 0 && status.nodes.iter().all(|it| it.pending == 0)
        })
    };
    scene.wait_at_most(LIMIT, LOOK, is_dealt)?.context("mail stays undealt")?;
    let drawn = scene.struck().taken();
    let times = times_equal(scene, drawn);
    let percent = times * 100.0 / scene.fleet.nodes.len() as f64;
    let words = format!("{drawn} of {} ({percent:.0} %)", scene.messages);
    Ok(Measured::new(times < 1.0, words))
}
