//! Nodes that are sick and hold their lease: frozen, without room, or without Postfix.

use std::time::Duration;

use anyhow::Result;

use super::scene::Scene;
use super::{Measured, NodesCase, STRUCK, time};
use crate::fleet::FleetPlan;

/// Time between two looks at the arrivals.
const LOOK: Duration = Duration::from_millis(50);
/// Time limit for mail that can move to be sent by others.
const MOVING: Duration = Duration::from_secs(30);
/// Grace that no freeze reaches, however busy the machine.
const LONG_GRACE_S: u64 = 600;
/// Size of a disk with room for some hundred messages.
const DISK_BYTES: usize = 8 << 20;
/// Time within which a node without room has handed its mail back, and others have sent it.
const SECONDS: Duration = Duration::from_secs(6);
/// Number of rounds of new mail in which a node that has room again must take some.
const ROUNDS: usize = 5;

const MOVES: &str = "lots move within 2 leases, nothing new goes there, status says why";

pub(super) const CASES: &[NodesCase] = &[
    NodesCase::new("pickup-rs frozen", MOVES, |scene| frozen(scene, &["pickup-rs"]))
        .with(long_grace)
        .met()
        .quick(),
    NodesCase::new("Postfix frozen", MOVES, |scene| frozen(scene, &["master", "qmgr"]))
        .with(long_grace)
        .met(),
    NodesCase::new(
        "Postfix dead, Mail Agent alive",
        "others send its mail after the grace",
        postfix_dead,
    )
    .met(),
    NodesCase::new("disk full", "handed back within 6 s, taken up again", disk_full)
        .with(|plan| FleetPlan { disk_bytes: Some(DISK_BYTES), ..plan })
        .met(),
];

fn long_grace(plan: FleetPlan) -> FleetPlan {
    FleetPlan { grace_s: LONG_GRACE_S, ..plan }
}

/// Submits a lot for each node, and freezes programs of one before it can feed. When that node has
/// had time to give its lot back, submits the rest, of which it should get nothing.
fn frozen(scene: &mut Scene, programs: &[&str]) -> Result<Measured> {
    let allowed = 2 * scene.fleet.plan.lease();
    let first = u64::from(scene.fleet.plan.lot) * scene.fleet.nodes.len() as u64;
    let begun = scene.submit_backlog_and(first, |node| node.freeze(programs))?;
    let (moved, left) = scene.wait_for_move(2 * allowed)?;
    let moved = moved.map(|_| begun.elapsed());
    let (stay, finding) = (scene.missing(), scene.fleet.finding_of(STRUCK)?);
    scene.submit_backlog(scene.messages.saturating_sub(first).max(first))?;
    scene.wait_at_most(MOVING, LOOK, |scene| scene.missing() <= stay)?;
    let new = scene.missing().saturating_sub(stay);
    scene.struck().thaw();
    let is_well = new == 0 && finding.is_some();
    let is_met = moved.is_some_and(|it| it <= allowed) && is_well;
    let words = format!(
        "{left} uncommitted stay, moved {}; then {new} new ones went there; status: {}",
        time(moved),
        finding.as_deref().unwrap_or("silent")
    );
    Ok(Measured::new(is_met, words).or_near(moved.is_some() && is_well))
}

/// Kills all of Postfix on a node that has committed mail, and waits for longer than the grace.
fn postfix_dead(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().kill_postfix()?;
    let sent = scene.wait_for_arrival(scene.fleet.plan.grace() + 2 * MOVING)?;
    let words = match sent {
        Some(_) => format!("{stays} there; all sent by others {}", time(sent)),
        None => format!("{stays} there; {} of them never sent", scene.missing()),
    };
    if sent.is_none() {
        scene.struck().postfix.start()?;
    }
    Ok(Measured::new(sent.is_some(), words))
}

/// Fills a node's disk, submits mail, makes room, and submits more.
fn disk_full(scene: &mut Scene) -> Result<Measured> {
    scene.struck().fill_disk()?;
    scene.submit_backlog(scene.messages / 2)?;
    let sent = scene.wait_for_arrival(MOVING)?;
    let stay = scene.missing();
    scene.struck().make_room()?;
    let before = scene.shares()[STRUCK];
    let serves = |scene: &Scene| scene.shares()[STRUCK] > before;
    for _ in 0..ROUNDS {
        scene.submit_backlog(scene.messages / 5)?;
        scene.wait_at_most(SECONDS / 3, LOOK, serves)?;
        if serves(scene) {
            break;
        }
    }
    let again = if serves(scene) { "takes mail again" } else { "takes no mail again" };
    let is_met = sent.is_some_and(|it| it <= SECONDS) && serves(scene);
    let words = format!("{stay} stay, all sent {}; then {again}", time(sent));
    Ok(Measured::new(is_met, words).or_near(sent.is_some() && serves(scene)))
}
