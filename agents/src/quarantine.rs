//! The limits of the quarantine: its total, each user's part, and its age.
//!
//! Any user may be able to make messages that can't be used, so the quarantine is bounded. Each
//! Scheduler looks at it every [`LOOK`], and has Redis give up the messages that [`excess`]
//! returns. Giving up a message twice is harmless, so two Schedulers may do it. A message that may
//! be good is never given up ([`handoff::refusal`]).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use handoff::refusal::is_worthless;
use settings::Quarantine as Limits;
use spool::{MessageId, Quarantined, Spool, SpoolError};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::daemon::Instance;

/// Time between two looks at the quarantine.
const LOOK: Duration = Duration::from_secs(10);
/// Bytes that a smaller message counts for. This is many times what Redis needs beside the
/// message's bytes, so the limits bound the number of messages, too.
const LEAST_BYTES: u64 = 16 << 10;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// A quarantined message that is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    id: MessageId,
    /// Time of its quarantine in Unix milliseconds, by Redis's clock.
    since_ms: u64,
    /// Submitting user; `None` where the message does not tell.
    uid: Option<u32>,
    bytes: u64,
}

/// The limit that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Passed {
    Age,
    User,
    Total,
}

/// Returns the messages that must go, in this order, each with the limit that it passed.
fn excess(now_ms: u64, kept: Vec<Kept>, limits: &Limits) -> Vec<(Kept, Passed)> {
    let oldest_ms = now_ms.saturating_sub(limits.age_days.saturating_mul(DAY_MS));
    let is_old = |it: &Kept| limits.age_days > 0 && it.since_ms < oldest_ms;
    let (old, mut rest): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(is_old);
    rest.sort_by_key(|it| (it.since_ms, it.id));
    let mut users: BTreeMap<Option<u32>, Pile> = BTreeMap::new();
    rest.into_iter().for_each(|it| users.entry(it.uid).or_default().add(it));
    let mut gone: Vec<(Kept, Passed)> = old.into_iter().map(|it| (it, Passed::Age)).collect();
    for pile in users.values_mut() {
        while let Some(it) = pile.beyond(limits.user_mb) {
            gone.push((it, Passed::User));
        }
    }
    while users.values().map(|it| it.bytes).sum::<u64>() > bytes_of(limits.total_mb) {
        let heaviest = users.values_mut().max_by_key(|it| it.bytes);
        let Some(it) = heaviest.and_then(Pile::pop) else { break };
        gone.push((it, Passed::Total));
    }
    gone
}

fn bytes_of(limit_mb: u64) -> u64 {
    if limit_mb == 0 { u64::MAX } else { limit_mb.saturating_mul(1 << 20) }
}

/// One user's quarantined messages, the oldest first.
#[derive(Debug, Default)]
struct Pile {
    bytes: u64,
    messages: VecDeque<Kept>,
}

impl Pile {
    fn add(&mut self, it: Kept) {
        self.bytes += it.bytes.max(LEAST_BYTES);
        self.messages.push_back(it);
    }

    fn pop(&mut self) -> Option<Kept> {
        let it = self.messages.pop_front()?;
        self.bytes -= it.bytes.max(LEAST_BYTES);
        Some(it)
    }

    fn beyond(&mut self, limit_mb: u64) -> Option<Kept> {
        if self.bytes > bytes_of(limit_mb) { self.pop() } else { None }
    }
}

/// A task that keeps the quarantine within its limits, until it is dropped.
#[derive(Debug)]
pub(crate) struct QuarantineKeeper {
    // The set aborts its task when it is dropped.
    _tasks: JoinSet<()>,
}

impl QuarantineKeeper {
    /// Starts the task. Must be called in a `LocalSet`.
    pub(crate) fn start(instance: &Instance) -> Self {
        let mut tasks = JoinSet::new();
        let keeper = Keeper {
            spool: instance.spool(),
            limits: instance.settings.quarantine.clone(),
            users: HashMap::new(),
        };
        tasks.spawn_local(keeper.run());
        Self { _tasks: tasks }
    }
}

struct Keeper {
    spool: Spool,
    limits: Limits,
    /// Submitting users of the messages that were seen before: each message is read once.
    users: HashMap<MessageId, Option<u32>>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "limits of the quarantine not checked");
            }
            sleep(LOOK).await;
        }
    }

    async fn look(&mut self) -> Result<(), SpoolError> {
        let all = self.spool.all_quarantined().await?;
        self.users.retain(|id, _| all.iter().any(|it| it.id == *id));
        if all.is_empty() {
            return Ok(());
        }
        let now_ms = self.spool.overview(0).await?.now_ms;
        let mut kept = Vec::new();
        for it in all.into_iter().filter(|it| is_worthless(&it.reason)) {
            kept.push(self.kept(it).await?);
        }
        self.give_up(excess(now_ms, kept, &self.limits)).await
    }

    async fn kept(&mut self, it: Quarantined) -> Result<Kept, SpoolError> {
        let uid = match self.users.get(&it.id) {
            Some(uid) => *uid,
            None => self.spool.submitted_by(it.id).await?,
        };
        self.users.insert(it.id, uid);
        Ok(Kept { id: it.id, since_ms: it.since_ms, uid, bytes: it.bytes })
    }

    async fn give_up(&self, excess: Vec<(Kept, Passed)>) -> Result<(), SpoolError> {
        let ids: Vec<MessageId> = excess.iter().map(|(it, _)| it.id).collect();
        let answers = self.spool.make_room(&ids).await?;
        for ((it, limit), answer) in excess.into_iter().zip(answers) {
            if answer == spool::Dropped::Dropped {
                let Kept { id, uid, bytes, .. } = it;
                tracing::warn!(
                    %id, uid, bytes, ?limit,
                    "message given up: quarantine beyond a limit"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;
    const NOW_MS: u64 = 100 * DAY_MS;

    fn kept(n: u128, uid: u32, bytes: u64) -> Kept {
        let since_ms = NOW_MS - 1_000 + n as u64;
        Kept { id: MessageId::from_parts(1, n), since_ms, uid: Some(uid), bytes }
    }

    fn gone(kept: Vec<Kept>, total_mb: u64, user_mb: u64) -> Vec<(u128, Passed)> {
        let limits = Limits { total_mb, user_mb, age_days: 30 };
        let gone = excess(NOW_MS, kept, &limits);
        gone.into_iter().map(|(it, why)| (u128::from(it.since_ms + 1_000 - NOW_MS), why)).collect()
    }

    #[test]
    fn nothing_goes_within_the_limits() {
        assert_eq!(gone(vec![kept(1, 7, MB), kept(2, 8, MB)], 2, 1), []);
        assert_eq!(gone((0..1_000).map(|n| kept(n, 7, MB)).collect(), 0, 0), [], "0 is no limit");
    }

    #[test]
    fn a_user_beyond_the_limit_loses_the_oldest_and_nobody_else_does() {
        let all = vec![kept(3, 7, MB), kept(1, 8, MB), kept(2, 7, MB), kept(4, 7, MB)];
        assert_eq!(gone(all, 100, 2), [(2, Passed::User)]);
    }

    #[test]
    fn the_heaviest_user_pays_for_the_total() {
        let all = vec![kept(1, 8, MB), kept(2, 7, 2 * MB), kept(3, 7, 2 * MB), kept(4, 7, MB)];
        assert_eq!(gone(all, 4, 100), [(2, Passed::Total)]);
    }

    #[test]
    fn small_messages_count_for_more_than_their_bytes() {
        let all: Vec<Kept> = (0..65).map(|n| kept(n, 7, 1)).collect();
        assert_eq!(gone(all, 100, 1), [(0, Passed::User)]);
    }

    #[test]
    fn a_message_beyond_the_age_goes_whichever_user_submitted_it() {
        let old = Kept { since_ms: NOW_MS - 31 * DAY_MS, ..kept(1, 7, 1) };
        let gone = excess(NOW_MS, vec![old.clone(), kept(2, 7, 1)], &Limits::default());
        assert_eq!(gone, [(old, Passed::Age)]);
    }
}
