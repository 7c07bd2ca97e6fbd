//! An operator's will about a whole node.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::scene::Scene;
use super::{Measured, NodesCase, STRUCK, time};
use crate::fleet::FleetPlan;

/// Time limit for mail to be sent by others.
const SENDING: Duration = Duration::from_secs(60);
/// Time for a declaration that a node is lost to have others send its mail: an attendance of
/// pickup-rs counts for 10 s.
const DECLARED: Duration = Duration::from_secs(20);
/// Grace that no case reaches.
const LONG_GRACE_S: u64 = 3600;

pub(super) const CASES: &[NodesCase] = &[
    NodesCase::new("drained, and undrained", "takes nothing, then its share again", drained).met(),
    NodesCase::new("dead, and declared lost", "others send its mail within 20 s", declared_lost)
        .with(|plan| FleetPlan { grace_s: LONG_GRACE_S, ..plan })
        .met(),
];

/// Drains a node while mail flows, submits more, and lets the node take mail again.
fn drained(scene: &mut Scene) -> Result<Measured> {
    let part = scene.messages / 3;
    scene.submit_backlog(part)?;
    let began = Instant::now();
    optimus(scene, "drain")?;
    let took = began.elapsed();
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let before = scene.shares()[STRUCK];
    scene.submit_backlog(part)?;
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let meanwhile = scene.shares()[STRUCK] - before;
    optimus(scene, "undrain")?;
    scene.wait_for_status(SENDING, |it| it.window > Some(0))?;
    scene.submit_backlog(part)?;
    scene.wait_for("mail to arrive", Scene::has_arrived)?;
    let after = scene.shares()[STRUCK] - before - meanwhile;
    let words =
        format!("drained {}; took {meanwhile} of {part}, then {after} of {part}", time(Some(took)));
    Ok(Measured::new(meanwhile == 0 && after > 0, words))
}

/// Kills all of a node, and declares the node lost.
fn declared_lost(scene: &mut Scene) -> Result<Measured> {
    let stays = scene.fill_struck()?;
    scene.struck().kill_agent();
    scene.struck().kill_postfix()?;
    let began = Instant::now();
    optimus(scene, "lost")?;
    let sent = scene.wait_for_arrival(SENDING)?.map(|_| began.elapsed());
    let words = format!("{stays} there; all sent by others {}", time(sent));
    let measured = Measured::new(sent.is_some_and(|it| it <= DECLARED), words);
    Ok(measured.or_near(sent.is_some()))
}

fn optimus(scene: &mut Scene, word: &str) -> Result<()> {
    let host = scene.struck().host.clone();
    let mut command = scene.fleet.home.command(testbed::bin("optimus"));
    let output = command.args([word, &host]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "optimus {word} {host}: {}: {said}", output.status);
    Ok(())
}
