//! The cases of a campaign: which platform, and who dies in it.
//!
//! Most have one victim, killed several times, or an administrator at work instead. One more is a
//! site whose content rules ask for the direct hand-off (`docs/decisions/0004-*`), in which
//! everybody dies once.

use std::time::Duration;

use crate::platform::{Platform, PlatformBuilder};
use crate::victim::Victim;

/// Short leases, so that they end and lots move while a case runs; small lots and windows, so that
/// every step happens often.
const SETTINGS: &str = "[lots]\nsize = 50\n[mail]\nwindow = 300\n[agents]\nlease_ms = 1000\n";

/// The same window: what a node may have committed.
const WINDOW: usize = 300;

/// Follows on [`SETTINGS`]: a queue that carries no mail of ours, and has lost its identity, is a
/// new node, and what the former one had is sent again after this time.
const SHORT_GRACE: &str = "node_loss_grace_s = 3\n";

/// Only a scan sees a file leave that was requeued.
const RESCANS: &str = "[pickup]\nrescan_s = 2\n";

/// The direct hand-off can send twice what is in the window when somebody dies, so the window is
/// small.
const DIRECT_WINDOW: usize = 30;
const DIRECT_LOT: usize = 10;

/// How long the sink takes over each message, so that there are always some on their way to it; and
/// so long that an administrator meets them there.
const QUICKLY: Duration = Duration::from_millis(5);
const SLOWLY: Duration = Duration::from_millis(100);

/// The queue manager looks through its queues every 3 s instead of every five minutes.
const QUEUE_RUNS: (&str, &str) = ("queue_run_delay = 3s", "qmgr unix n - n 3 1 qmgr");

/// Stock pickup looks at its maildrop every second, for what an administrator has requeued.
const PICKUP: &str = "pickup unix n - n 1 1 pickup";

/// See the module.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    victims: Vec<Victim>,
    direct: bool,
}

impl Case {
    /// All of them, in the order of a campaign.
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
        // First who dies at a step, for which there must be mail yet to come.
        victims.sort_by_key(|victim| !victim.is_at_a_step());
        Self { name: "anybody, direct hand-off".to_owned(), victims, direct: true }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who is killed, in order: each of several once, one alone so often.
    pub fn schedule(&self, kills: u64) -> Vec<Victim> {
        match self.victims.as_slice() {
            [victim] => (0..kills).map(|_| *victim).collect(),
            victims => victims.to_vec(),
        }
    }

    /// Is an administrator at work?
    pub fn has_administrator(&self) -> bool {
        self.victims.iter().any(|victim| victim.is_administrator())
    }

    /// Does each strike take Redis back to an earlier state?
    pub fn rewinds(&self) -> bool {
        self.victims.iter().any(|victim| victim.rewinds())
    }

    /// Does each strike take away what proves that mail was delivered?
    fn disproves(&self) -> bool {
        self.victims.iter().any(|victim| victim.disproves())
    }

    /// Its platform, not started.
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
        // Long queue ids don't come again, and say when cleanup named the file.
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
        // A rule that does nothing is a rule.
        builder.main("header_checks = static:DUNNO").settings(&format!(
            "[lots]\nsize = {DIRECT_LOT}\n[agents]\nlease_ms = 1000\n[mail]\n\
                window = {DIRECT_WINDOW}\n"
        ))
    }

    fn acknowledgement(&self) -> Duration {
        if self.has_administrator() { SLOWLY } else { QUICKLY }
    }

    /// How many messages each strike may have sent twice.
    ///
    /// In the direct hand-off one may be, from cleanup's answer until Redis has committed it; a
    /// Mail Agent has at most its window of unsettled messages under way, in whatever step, and the
    /// last lot it was given may go beyond that. Without proof of delivery all that a node has
    /// committed may be.
    pub fn twice_per_kill(&self) -> usize {
        match self {
            _ if self.direct => DIRECT_WINDOW + DIRECT_LOT,
            _ if self.disproves() => WINDOW,
            _ => 0,
        }
    }
}
