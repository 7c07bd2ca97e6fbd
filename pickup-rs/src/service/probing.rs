//! Probes of this Postfix, and the cause for which it should get no mail.
//!
//! The log and cleanup's answers say that something is wrong, and not with what. So pickup-rs asks
//! by itself, without any message:
//!
//! | cause | evidence |
//! |---|---|
//! | cleanup | no cleanup process names a message within the patience |
//! | room | the disk of the queue doesn't take a small file |
//! | manager | the queue manager doesn't read a wake-up within the patience |
//!
//! A probe of cleanup and of the disk begins when a message is refused for a cause that may be
//! passing, or when no feeding has ended for a while. While a probe fails, it is repeated after
//! pauses. A message that cleanup takes, or a probe that succeeds, ends the cause. So a message
//! that no cleanup can take proves nothing against the node.
//!
//! The Mail Agents hear of each change by a pong.

use std::fs::{File, remove_file};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sansio::{Backoff, Policy};
use spool::Unfit;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{Service, ServiceEvent};
use crate::cleanup::Conversation;

/// Pauses between probes that fail.
const AGAIN: Policy = Policy::from_millis(200, 5_000);
/// Least pause between two probes that succeed, while messages fail or feedings last long.
const CALM: Duration = Duration::from_secs(1);
/// Size of the file that the disk must take: more than most messages.
const FILE_BYTES: usize = 64 * 1024;
/// Least time for a service of Postfix to answer. A process must be started meanwhile.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// Most such time, however long leases last: less than a wake-up lasts.
const PATIENCE_MAX: Duration = Duration::from_secs(8);
/// Most time without the end of a feeding.
const STALL_MAX: Duration = Duration::from_secs(2);

/// Causes that are proven, and the probe under way.
#[derive(Debug)]
pub(super) struct Probing {
    lease: Duration,
    /// Cause that concerns feeding: cleanup, or room.
    feeding: Option<Unfit>,
    /// Whether the queue manager doesn't answer.
    is_manager_silent: bool,
    /// Whether a probe runs or is set.
    is_at_work: bool,
    backoff: Backoff,
    last: Option<Instant>,
    /// Number of feedings that have ended.
    ended: u64,
    is_watching: bool,
    wake_ups: u64,
}

impl Probing {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            feeding: None,
            is_manager_silent: false,
            is_at_work: false,
            backoff: Backoff::new(AGAIN),
            last: None,
            ended: 0,
            is_watching: false,
            wake_ups: 0,
        }
    }

    /// Returns the cause for which the node should get no mail.
    pub(super) fn unfit(&self) -> Option<Unfit> {
        self.feeding.or(self.is_manager_silent.then_some(Unfit::Manager))
    }

    /// Time without the end of a feeding after which cleanup is probed.
    fn stall(&self) -> Duration {
        (self.lease / 3).min(STALL_MAX)
    }

    /// Time in which a service of Postfix must answer.
    fn patience(&self) -> Duration {
        (self.lease / 2).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Time in which the queue manager must read a wake-up. It may be at work on a message.
    fn manager_patience(&self) -> Duration {
        self.lease.clamp(PATIENCE_MIN, PATIENCE_MAX)
    }
}

/// A failed probe: the cause and its text.
#[derive(Debug)]
pub(crate) struct FailedProbe {
    cause: Unfit,
    why: String,
}

impl Service {
    /// Changes what is proven. The Mail Agents hear of another cause.
    fn prove(&mut self, change: impl FnOnce(&mut Probing)) {
        let before = self.probing.unfit();
        change(&mut self.probing);
        let now = self.probing.unfit();
        if now != before {
            match now {
                Some(cause) => warn!("{cause}: probe failed; mail goes to other nodes"),
                None => info!("all probes succeeded again"),
            }
            self.tell_agents(&self.pong(), &[]);
        }
    }

    /// Notes that a feeding has ended, in whatever way.
    pub(super) fn note_feeding_ended(&mut self) {
        self.probing.ended += 1;
    }

    /// Notes that cleanup has taken a message.
    pub(super) fn note_feeding_works(&mut self) {
        self.prove(|probing| probing.feeding = None);
    }

    /// Looks from time to time, while messages are being fed, whether any feeding ends.
    pub(super) fn watch_feedings(&mut self) {
        if std::mem::replace(&mut self.probing.is_watching, true) {
            return;
        }
        self.in_a_while(self.probing.stall(), ServiceEvent::Stalled(self.probing.ended));
    }

    pub(super) fn look_at_feedings(&mut self, ended: u64) {
        self.probing.is_watching = false;
        if self.feeding.is_empty() {
            return;
        }
        if self.probing.ended == ended {
            self.probe_soon();
        }
        self.watch_feedings();
    }

    /// Has cleanup and the disk probed, unless they were a moment ago.
    pub(super) fn probe_soon(&mut self) {
        let is_calm = self.probing.last.is_none_or(|last| last.elapsed() >= CALM);
        if is_calm && !self.probing.is_at_work && !self.retiring {
            self.probe();
        }
    }

    pub(super) fn probe(&mut self) {
        self.probing.is_at_work = true;
        let (cleanup, patience) = (self.feeder.cleanup_socket.clone(), self.probing.patience());
        let (file, events) = (self.probe_file.clone(), self.events.clone());
        tokio::spawn(async move {
            let _ = events.send(ServiceEvent::Probed(probed(&cleanup, file, patience).await));
        });
    }

    /// Takes the outcome of a probe.
    pub(super) fn probed(&mut self, outcome: Result<(), FailedProbe>) {
        self.probing.last = Some(Instant::now());
        match outcome {
            Ok(()) => {
                self.probing.is_at_work = false;
                self.probing.backoff.succeeded();
                self.note_feeding_works();
                if self.waiting.is_empty() && self.feeding.is_empty() {
                    self.note_room();
                }
            }
            Err(FailedProbe { cause, why }) => {
                if self.probing.feeding != Some(cause) {
                    warn!("{why}");
                }
                self.prove(|probing| probing.feeding = Some(cause));
                let pause = self.probing.backoff.lengthen();
                self.in_a_while(pause, ServiceEvent::Probe);
            }
        }
    }

    /// Notes that a wake-up of the queue manager has begun.
    pub(super) fn watch_wake_up(&mut self) {
        self.probing.wake_ups += 1;
        let patience = self.probing.manager_patience();
        self.in_a_while(patience, ServiceEvent::WakingLasts(self.probing.wake_ups));
    }

    /// Takes the end of the patience with a wake-up.
    pub(super) fn look_at_waking(&mut self, wake_up: u64) {
        if self.probing.wake_ups == wake_up && self.waking.is_under_way() {
            self.prove(|probing| probing.is_manager_silent = true);
        }
    }

    /// Notes whether the queue manager has read a wake-up. Returns whether to repeat it.
    pub(super) fn note_manager(&mut self, has_read: bool) -> bool {
        if has_read {
            self.prove(|probing| probing.is_manager_silent = false);
        }
        self.probing.is_manager_silent && !self.retiring
    }

    fn in_a_while(&self, pause: Duration, event: ServiceEvent) {
        let events = self.events.clone();
        tokio::spawn(async move {
            sleep(pause).await;
            // A failure to send means that the service has ended.
            let _ = events.send(event);
        });
    }
}

/// Probes the disk, and then cleanup, which itself waits where it can make no file. Cleanup drops a
/// message of which it gets nothing.
async fn probed(cleanup: &Path, file: PathBuf, patience: Duration) -> Result<(), FailedProbe> {
    let written = spawn_blocking(move || write(&file)).await.map_err(io::Error::other);
    written.and_then(|written| written).map_err(|error| FailedProbe {
        cause: Unfit::Room,
        why: format!("queue directory: can't be written: {error}; make room on its disk"),
    })?;
    let why = match timeout(patience, Conversation::open(cleanup, patience)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => format!("{error}; see to Postfix's cleanup"),
        Err(_) => {
            format!("cleanup: no answer within {patience:?}; see to Postfix's processes")
        }
    };
    Err(FailedProbe { cause: Unfit::Cleanup, why })
}

/// Writes a small file, and removes the file again.
fn write(path: &Path) -> io::Result<()> {
    let fill = || File::create(path)?.write_all(&[0; FILE_BYTES]);
    let written = fill();
    let removed = remove_file(path);
    written.and(removed)
}
