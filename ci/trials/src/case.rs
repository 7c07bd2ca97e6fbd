//! The cases of a campaign, each with its platform and its victims.
//!
//! Most have one victim, killed several times, or an administrator at work instead. One more is a
//! site whose content rules ask for the direct hand-off (`docs/decisions/0004-*`); there every
//! victim is killed once.

use std::time::Duration;

use crate::platform::{Platform, PlatformBuilder};
use crate::victim::Victim;

/// Short leases, so that they end and lots move while a case runs. Lots and windows are small, so
/// that every step happens often.
const SETTINGS: &str = "[lots]\nsize = 50\n[mail]\nwindow = 300\n[agents]\nlease_ms = 1000\n";

/// Window of [`SETTINGS`]: the limit of a node's commits.
const WINDOW: usize = 300;

/// Addition to [`SETTINGS`] with a short grace. A queue that carries no mail of OPTIMUS, and has
/// lost its identity, is a new node. After this time the former node's messages are sent again.
const SHORT_GRACE: &str = "node_loss_grace_s = 3\n";

/// Frequent scans: only a scan notices that a requeued file has left.
const RESCANS: &str = "[pickup]\nrescan_s = 2\n";

/// Window of the direct hand-off. It is small, because a kill can send all its messages twice.
const DIRECT_WINDOW: usize = 30;
const DIRECT_LOT: usize = 10;

/// Time that the sink takes for each message, so that some are always on their way to it. It is
/// longer for an administrator, to find them there.
const QUICKLY: Duration = Duration::from_millis(5);
const SLOWLY: Duration = Duration::from_millis(100);

/// Queue runs every 3 s instead of every five minutes.
const QUEUE_RUNS: (&str, &str) = ("queue_run_delay = 3s", "qmgr unix n - n 3 1 qmgr");

/// Stock pickup, which looks at its maildrop every second for requeued mail.
const PICKUP: &str = "pickup unix n - n 1 1 pickup";

/// A case of a campaign; see the module.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    victims: Vec<Victim>,
    direct: bool,
}

impl Case {
    /// Returns all cases, in the order of a campaign.
    pub fn all() -> Vec<Self> {
        let single = |victim: Victim| Self {
            name: victim.to_string(),
            victims: vec![victim],
            direct: false,
        };
        let mut cases: Vec<Self> = Victim::all().into_iter().map(single).collect();
        cases.push(Self::direct());
        cases
    }

    fn direct() -> Self {
        let exists = |victim: &Victim| {
            !victim.is_all_in_one() && !victim.is_of_release() && !victim.is_administrator()
        };
        let mut victims: Vec<Victim> = Victim::all().into_iter().filter(exists).collect();
        // Victims that die at a step come first: they need messages that are still to come.
        victims.sort_by_key(|victim| !victim.is_at_a_step());
        Self { name: "anybody, direct hand-off".to_owned(), victims, direct: true }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the victims in order: each of several once, a single one `kills` times.
    pub fn schedule(&self, kills: u64) -> Vec<Victim> {
        match self.victims.as_slice() {
            [victim] => (0..kills).map(|_| *victim).collect(),
            victims => victims.to_vec(),
        }
    }

    /// Whether an administrator is at work.
    pub fn has_administrator(&self) -> bool {
        self.victims.iter().any(|victim| victim.is_administrator())
    }

    /// Whether each strike takes Redis back to an earlier state.
    pub fn rewinds(&self) -> bool {
        self.victims.iter().any(|victim| victim.rewinds())
    }

    /// Whether mail that arrived since a copy of Redis or of the queue directory may arrive again.
    pub fn repeats(&self) -> bool {
        self.rewinds() || self.victims.iter().any(|victim| victim.puts_back())
    }

    /// Whether each strike takes the proof that mail was delivered.
    fn disproves(&self) -> bool {
        self.victims.iter().any(|victim| victim.disproves())
    }

    /// Returns the case's platform, not started.
    pub fn platform(&self) -> PlatformBuilder {
        let builder = match self.victims.as_slice() {
            [victim] if victim.is_all_in_one() => Platform::builder(),
            _ => Platform::builder().separate(),
        };
        let builder = builder
            .delay(self.acknowledgement())
            .main(QUEUE_RUNS.0)
            .service(QUEUE_RUNS.1)
            .service(PICKUP);
        // Long queue ids don't come again, and they tell when cleanup named the file.
        let tells_files_apart = self.direct || self.has_administrator();
        let builder =
            if tells_files_apart { builder.main("enable_long_queue_ids = yes") } else { builder };
        if self.has_administrator() {
            let grace = if self.disproves() { SHORT_GRACE } else { "" };
            return builder.settings(SETTINGS).settings(grace).settings(RESCANS);
        }
        if !self.direct {
            return builder.settings(SETTINGS);
        }
        // Any rule makes the hand-off direct, also one without effect.
        builder.main("header_checks = static:DUNNO").settings(&format!(
            "[lots]\nsize = {DIRECT_LOT}\n[agents]\nlease_ms = 1000\n[mail]\n\
                window = {DIRECT_WINDOW}\n"
        ))
    }

    fn acknowledgement(&self) -> Duration {
        if self.has_administrator() { SLOWLY } else { QUICKLY }
    }

    /// Returns the number of messages that each strike may have sent twice.
    ///
    /// In the direct hand-off a message may be sent twice from cleanup's answer until its commit. A
    /// Mail Agent has at most its window of unsettled messages under way, and its last lot may go
    /// beyond that. Without proof of delivery all commits of a node may be sent twice.
    pub fn twice_per_kill(&self) -> usize {
        match self {
            _ if self.direct => DIRECT_WINDOW + DIRECT_LOT,
            _ if self.disproves() => WINDOW,
            _ => 0,
        }
    }
}
