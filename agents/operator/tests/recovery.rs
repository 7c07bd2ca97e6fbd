//! `optimus install` and `uninstall`, killed at their steps: the next command ends well, and there
//! is a whole `sendmail` at any time.
//!
//! Each run tries every third step, and begins at another one: all steps would take minutes. A
//! failure names its step. An `OPTIMUS_SEED` of the same remainder repeats it.
//!
//! Needs this build's programs with failpoints: `cargo build --workspace --all-features --bins`.

#![allow(clippy::unwrap_used)]

#[path = "install/system.rs"]
mod system;

use std::os::unix::process::ExitStatusExt;

use system::System;

const SIGKILL: i32 = 9;
/// Limit of steps; no command has as many.
const STEPS_MAX: u32 = 1_000;

/// Number of steps of which one is tried.
const STRIDE: u32 = 3;

fn steps() -> impl Iterator<Item = u32> {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = simulation::given_seed().unwrap_or_else(now);
    let first = (seed % u64::from(STRIDE)) as u32;
    eprintln!("from step {first} on, one of {STRIDE}");
    (first..STEPS_MAX).step_by(STRIDE as usize)
}

/// Runs the command until its `step`th step. Returns whether it was killed there.
fn is_killed_at(system: &System, step: u32, words: &[&str]) -> bool {
    system.sh(&format!(
        "mkdir -p /etc/postfix/failpoints && touch /etc/postfix/failpoints/install-{step}"
    ));
    let output = system.command(testbed::bin("optimus")).args(words).output().unwrap();
    // nsenter reports the signal, and a shell a status.
    let is_killed =
        output.status.signal() == Some(SIGKILL) || output.status.code() == Some(128 + SIGKILL);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(is_killed || output.status.success(), "{words:?}: {said}");
    system.sh("rm -r /etc/postfix/failpoints");
    is_killed
}

fn expect_a_whole_sendmail(system: &System) {
    let found = system.sh("for name in sendmail postdrop; do
             test -x /usr/sbin/$name && dpkg-divert --list /usr/sbin/$name > /dev/null || exit
             if cmp -s /usr/sbin/$name $STOCK/$name; then echo stock; else /usr/sbin/$name; fi
         done"
        .replace("$STOCK", system.scratch.path().join("stock").to_str().unwrap())
        .as_str());
    assert!(["stock", "sendmail 1"].contains(&found.lines().next().unwrap_or_default()), "{found}");
    assert!(["stock", "postdrop 1"].contains(&found.lines().nth(1).unwrap_or_default()), "{found}");
}

fn with_stock_kept() -> System {
    let system = System::in_memory();
    let stock = system.scratch.folder("stock").unwrap();
    for name in ["sendmail", "postdrop"] {
        std::fs::copy(format!("/usr/sbin/{name}"), stock.join(name)).unwrap();
    }
    system
}

#[test]
fn installing_can_be_killed_at_any_step() {
    let system = with_stock_kept();
    let (before, fakes) = (system.snapshot(), system.fakes("1"));
    let install = ["install", "--from", fakes.to_str().unwrap()];
    let end = steps().find(|step| {
        let is_killed = is_killed_at(&system, *step, &install);
        expect_a_whole_sendmail(&system);
        // Every other time, the command is repeated before the removal.
        if step % 2 == 0 {
            system.expect_optimus(&install);
            assert_eq!(system.sh("sendmail; postdrop"), "sendmail 1\npostdrop 1\n", "step {step}");
            assert!(system.expect_optimus(&install).contains("nothing to do"), "step {step}");
        }
        system.expect_optimus(&["uninstall"]);
        system.expect_as(&before, &format!("killed at step {step}"));
        !is_killed
    });
    assert!(end.unwrap() > 50, "{end:?}");
}

#[test]
fn uninstalling_can_be_killed_at_any_step() {
    let system = with_stock_kept();
    let (before, fakes) = (system.snapshot(), system.fakes("1"));
    let install = ["install", "--from", fakes.to_str().unwrap()];
    let end = steps().find(|step| {
        system.expect_optimus(&install);
        let is_killed = is_killed_at(&system, *step, &["uninstall"]);
        expect_a_whole_sendmail(&system);
        if step % 2 == 0 {
            system.expect_optimus(&install);
            assert_eq!(system.sh("sendmail; postdrop"), "sendmail 1\npostdrop 1\n", "step {step}");
        }
        system.expect_optimus(&["uninstall"]);
        system.expect_as(&before, &format!("killed at step {step}"));
        !is_killed
    });
    assert!(end.unwrap() > 50, "{end:?}");
}
