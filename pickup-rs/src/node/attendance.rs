//! Attendance of the node: pickup-rs tells Redis which queue directory serves the node, and which
//! mark its disk has.
//!
//! ```text
//!  Unknown ──repeat the pair on disk, then a new nonce──▶ Here
//!     │                                                     │ superseded: begin again
//!     ▼                                                     ▼
//!  Refused ◀──a copy, or the original after a move──────────┘
//! ```
//!
//! Each call shows the nonce of the call before and gives a new one. Both are synced to this disk
//! first. After a crash Redis has one of the two nonces on the disk. A repeated call with the same
//! pair shows which one. After that call, a new process begins with a nonce that no copy of this
//! disk has. See `attend` in `optimus.lua`.
//!
//! A copy without any mail of OPTIMUS takes another name once the original certainly lives, or this
//! disk is certainly an old state. A copy with mail waits for the operator.
//!
//! The node also attends between the request for an inventory and the scan. So the mark and the
//! floor that Redis knows are those of the disk that is scanned.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::Flock;
use queue::Queue;
use queue::mark::{Line, Mark, MarkError};
use settings::Places;
use spool::{CommitNumber, Generation, NodeId, Spool, SpoolError};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::identity::{self, Carried, IdentityError};
use super::place::QueuePlace;
use super::standing::{LIVE, Standing};

/// Pause between two calls while a ring (a request to attend) or a higher mark waits.
const BEAT: Duration = Duration::from_secs(1);
/// Pause between two calls while neither a ring nor a higher mark waits.
const IDLE_BEAT: Duration = Duration::from_secs(3);
/// Pause between two calls while the node is refused. The served queue directory has a shorter
/// pause, so that directory calls first after Redis was away.
const REFUSED_BEAT: Duration = Duration::from_secs(5);
/// Time after which a refused queue directory is certainly a copy of one that is served. By then
/// the last call of a process that died has lapsed ([`LIVE`]).
const CERTAIN: Duration = Duration::from_secs(12);
/// Pause between two counts of the files that a copy carries.
const COUNT_PAUSE: Duration = Duration::from_secs(30);
/// Longest wait for the disk and Redis at the end of the process. `postfix stop` waits longer.
pub(super) const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// Pause between two attempts to take the lock of the process before.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Reason for which a server doesn't become a node of its own. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepsName {
    #[error(
        "this server: not made a node of its own: no other server serves node {0}; go on as before"
    )]
    Here(NodeId),
    #[error(
        "this server: not made a node of its own: Redis has not said who serves node {0}; try again"
    )]
    Unknown(NodeId),
    #[error(
        "this server: not made a node of its own: the queue carries {ours} messages of node \
         {node}, which both would send; stop Postfix and delete these messages, or give \
         --even-with-mail to have all sent twice"
    )]
    Carries { node: NodeId, ours: usize },
    #[error(
        "this server: not made a node of its own: the former process of node {0} may live, for up \
         to 10 s; try again"
    )]
    Waits(NodeId),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Attendance of one node, shared by its loop and the service.
#[derive(Debug)]
pub(crate) struct Attendance {
    node: NodeId,
    spool: Spool,
    places: Places,
    queue: Queue,
    mark: Arc<Mark>,
    rings: AtomicU64,
    bell: Notify,
    has_ended: AtomicBool,
    end: Notify,
    generation: AtomicU64,
    is_here: AtomicBool,
    /// The last standing that Redis has told.
    standing: Mutex<Standing>,
    /// Wakes the service for a new standing.
    changed: Notify,
    /// Failure to write or sync the mark, while it lasts.
    trouble: Mutex<Option<String>>,
}

/// State of the attendance loop.
#[derive(Debug, Default)]
struct Round {
    /// Whether Redis has the last nonce on this disk.
    is_known: bool,
    /// Whether Redis has a nonce that this process made.
    has_begun: bool,
    /// Whether Redis said before that the node is served here. Another place can only have begun
    /// later.
    was_here: bool,
    told: Option<(u64, CommitNumber, Instant)>,
    refusal: Option<Refusal>,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    since: Instant,
    /// Time at which the last refused call was sent. An answer says nothing about the time after
    /// its call, however late the answer arrives.
    asked: Instant,
    carried: Carried,
    counted: Instant,
}

impl Attendance {
    pub(crate) fn new(
        node: NodeId,
        spool: Spool,
        places: Places,
        queue: Queue,
    ) -> Result<Self, MarkError> {
        Ok(Self {
            mark: Arc::new(Mark::open(places.mark_file(), node.clone())?),
            node,
            spool,
            places,
            queue,
            rings: AtomicU64::new(0),
            bell: Notify::new(),
            has_ended: AtomicBool::new(false),
            end: Notify::new(),
            generation: AtomicU64::new(0),
            is_here: AtomicBool::new(false),
            standing: Mutex::new(Standing::Unknown),
            changed: Notify::new(),
            trouble: Mutex::default(),
        })
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Whether the node is served here, by the last answer of Redis.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here.load(Ordering::Relaxed)
    }

    /// Returns the last standing that Redis has told.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for another standing than the last one that was waited for. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        self.changed.notify_one();
    }

    /// Returns the failure of the disk for which the node can't attend.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.locked_trouble().clone()
    }

    fn locked_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure of the disk, and logs each new failure once.
    fn disk(&self, error: &io::Error) -> SpoolError {
        let words = unwritable(&self.places.mark_file(), error);
        let before = self.locked_trouble().replace(words.clone());
        if before.as_ref() != Some(&words) {
            warn!("{words}");
        }
        SpoolError::Unavailable(words)
    }

    /// Asks the node to attend, and returns the number of the ring. A standing with this ring or a
    /// later one was fetched after the call.
    pub(crate) fn ring(&self) -> u64 {
        let ring = self.rings.fetch_add(1, Ordering::Relaxed) + 1;
        self.bell.notify_one();
        ring
    }

    /// Stops the loop, because a later process of this Postfix takes over.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }

    /// Tells Redis that the node is no longer served, so that another place may serve it at once.
    pub(crate) async fn leave(&self) {
        let generation = self.generation.load(Ordering::Relaxed);
        let leaving = async { self.ask(generation, self.mark_synced().await?, true).await };
        if generation > 0 {
            let _ = timeout(LEAVE_LIMIT, leaving).await;
        }
    }

    /// Attends until the future is dropped. Returns when the node takes another name.
    pub(crate) async fn attend(&self) {
        let lock = self.wait_for_the_lock().await;
        let mut round =
            Round { is_known: self.mark.line().nonce == Generation::NONE, ..Round::default() };
        while !self.has_ended.load(Ordering::Relaxed) {
            let rings = self.rings.load(Ordering::Relaxed);
            if round.is_due(rings, self.mark.get()) {
                match self.attend_once(&mut round, rings).await {
                    Ok(None) => continue,
                    Ok(Some(_)) if self.takes_another_name(&round) => return,
                    Ok(Some(standing)) => self.tell(standing),
                    Err(error) if error.is_retryable() => {
                        debug!(%error, "attendance not noted by Redis");
                    }
                    Err(error) => warn!("{error}"),
                }
            }
            self.pause(&round).await;
        }
        // The next process of this Postfix takes the lock.
        drop(lock);
        std::future::pending::<()>().await;
    }

    /// Waits until a call may be needed. Two calls are at least one beat apart while mail flows.
    async fn pause(&self, round: &Round) {
        let is_due = round.is_due(self.rings.load(Ordering::Relaxed), self.mark.get());
        let rung = async {
            if is_due { std::future::pending().await } else { self.bell.notified().await }
        };
        let beat = if round.refusal.is_some() { REFUSED_BEAT } else { BEAT };
        tokio::select! {
            _ = timeout(beat, rung) => {}
            () = self.end.notified() => {}
        }
    }

    async fn wait_for_the_lock(&self) -> Flock<File> {
        loop {
            match self.mark.lock() {
                Ok(Some(lock)) => return lock,
                Ok(None) => sleep(LOCK_PAUSE).await,
                Err(error) => {
                    warn!("{error}");
                    sleep(BEAT).await;
                }
            }
        }
    }

    /// Makes one call. Returns `None` if another call must follow at once.
    async fn attend_once(
        &self,
        round: &mut Round,
        rings: u64,
    ) -> Result<Option<Standing>, SpoolError> {
        let generation = self.generation.load(Ordering::Relaxed);
        let is_replay = !round.is_known;
        if round.is_known {
            let nonce = Generation::new_after(self.mark.line().nonce);
            let nonce = nonce.map_err(SpoolError::of_random_numbers)?;
            self.mark.turn(nonce).map_err(|error| self.disk(&error))?;
            round.is_known = false;
        }
        let line = self.mark_synced().await?;
        self.locked_trouble().take();
        let asked = Instant::now();
        match self.ask(generation, line, false).await? {
            spool::Attended::Here { generation, floor } => {
                (round.is_known, round.refusal) = (true, None);
                if is_replay && !round.has_begun {
                    return Ok(None);
                }
                round.has_begun = true;
                round.told = Some((rings, line.mark, Instant::now()));
                self.generation.store(generation, Ordering::Relaxed);
                round.was_here = true;
                self.is_here.store(true, Ordering::Relaxed);
                Ok(Some(Standing::Here { generation, ring: rings, floor, asked }))
            }
            spool::Attended::Superseded => {
                self.begin_again(round);
                Ok(None)
            }
            spool::Attended::Wait => Err(SpoolError::Unavailable(
                "Redis was put back to an earlier state, and waits for a later copy of this disk"
                    .into(),
            )),
            spool::Attended::Occupied(host) => {
                Ok(Some(self.refused(round, host, true, asked).await))
            }
            spool::Attended::Elsewhere(host) => {
                let host = self.distinct(host);
                Ok(Some(self.refused(round, host, false, asked).await))
            }
        }
    }

    fn begin_again(&self, round: &mut Round) {
        self.generation.store(0, Ordering::Relaxed);
        let Round { refusal, was_here, .. } = *round;
        *round = Round { refusal, was_here, ..Round::default() };
    }

    async fn refused(
        &self,
        round: &mut Round,
        host: String,
        is_live: bool,
        asked: Instant,
    ) -> Standing {
        self.begin_again(round);
        self.is_here.store(false, Ordering::Relaxed);
        let known = round.refusal.filter(|it| it.counted.elapsed() < COUNT_PAUSE);
        let (carried, counted) = match known {
            Some(it) => (it.carried, it.counted),
            None => (self.count().await, Instant::now()),
        };
        let since = round.refusal.map_or_else(Instant::now, |it| it.since);
        let refusal = Refusal { since, asked, carried, counted };
        round.refusal = Some(refusal);
        let is_certain = !is_live || round.was_here || refusal.is_certain();
        Standing::Refused { host, is_live, is_certain, carried }
    }

    /// Returns words for the host that served the node. A host of this host's name is another
    /// machine, of which this one is a clone.
    fn distinct(&self, host: String) -> String {
        match QueuePlace::of(&self.places.queue_directory) {
            Ok(here) if here.host == host => format!("another machine of this name, {host}"),
            _ => host,
        }
    }

    /// Counts the files that a copy carries. A queue that can't be read counts as one unclear file.
    async fn count(&self) -> Carried {
        let queue = self.queue.clone();
        let counted = spawn_blocking(move || identity::carried(&queue)).await;
        counted.ok().and_then(Result::ok).unwrap_or(Carried { ours: 0, unclear: 1 })
    }

    async fn mark_synced(&self) -> Result<Line, SpoolError> {
        let mark = self.mark.clone();
        let synced = spawn_blocking(move || mark.sync()).await.map_err(io::Error::other);
        synced.and_then(|synced| synced).map_err(|error| self.disk(&error))
    }

    async fn ask(
        &self,
        generation: u64,
        line: Line,
        leaves: bool,
    ) -> Result<spool::Attended, SpoolError> {
        let QueuePlace { place, host } =
            QueuePlace::of(&self.places.queue_directory).map_err(|error| self.disk(&error))?;
        let Line { mark, last, nonce } = line;
        let (place, host) = (place.as_str(), host.as_str());
        let live = LIVE;
        let attendance =
            spool::Attendance { generation, last, nonce, mark, place, host, live, leaves };
        self.spool.attend(&self.node, &attendance).await
    }

    /// Returns whether a copy without mail took another name. The process must end then.
    fn takes_another_name(&self, round: &Round) -> bool {
        let may = |it: Refusal| it.is_certain() && it.carried == Carried::default();
        if !round.refusal.is_some_and(may) {
            return false;
        }
        match identity::carried(&self.queue) {
            Ok(Carried { ours: 0, unclear: 0 }) => self.renew().is_ok(),
            Ok(_) => false,
            Err(error) => {
                warn!("{error}");
                false
            }
        }
    }

    fn renew(&self) -> Result<NodeId, IdentityError> {
        match identity::renew(&self.places) {
            Ok(new) => {
                info!(copy_of = %self.node, node = %new, "copy became a node of its own");
                Ok(new)
            }
            Err(error) => {
                warn!("{error}");
                Err(error)
            }
        }
    }

    /// Makes a refused copy a node of its own, because the operator asked for it. The process must
    /// end then.
    pub(crate) fn take_another_name(
        &self,
        standing: &Standing,
        even_with_mail: bool,
    ) -> Result<NodeId, KeepsName> {
        let node = self.node.clone();
        match standing {
            Standing::Here { .. } => return Err(KeepsName::Here(node)),
            Standing::Unknown => return Err(KeepsName::Unknown(node)),
            Standing::Refused { is_certain: false, .. } => return Err(KeepsName::Waits(node)),
            Standing::Refused { .. } => {}
        }
        let Carried { ours, unclear } = identity::carried(&self.queue)?;
        if ours + unclear > 0 && !even_with_mail {
            return Err(KeepsName::Carries { node, ours: ours + unclear });
        }
        Ok(self.renew()?)
    }
}

/// Returns the error text for a mark that can't be written.
pub(crate) fn unwritable(mark: &Path, error: &io::Error) -> String {
    format!(
        "{}: can't be written and synced: {error}; see to the disk: feeding and \
         releases are stopped",
        mark.display()
    )
}

impl Round {
    fn is_due(&self, rings: u64, mark: CommitNumber) -> bool {
        self.told.is_none_or(|(ring, told, when)| {
            ring != rings || told != mark || when.elapsed() >= IDLE_BEAT
        })
    }
}

impl Refusal {
    fn is_certain(&self) -> bool {
        self.asked.saturating_duration_since(self.since) >= CERTAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to an earlier call may arrive when the time has passed.
    #[test]
    fn a_copy_is_certain_by_a_call_that_was_sent_after_the_time() {
        let since = Instant::now() - 2 * CERTAIN;
        let refusal = |asked| Refusal { since, asked, carried: Carried::default(), counted: since };
        assert!(!refusal(since - BEAT).is_certain());
        assert!(!refusal(since + CERTAIN - BEAT).is_certain());
        assert!(refusal(since + CERTAIN).is_certain());
    }
}
