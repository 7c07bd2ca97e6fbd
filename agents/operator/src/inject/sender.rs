//! From messages to Redis: one thread composes, the other waits for Redis.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use postdrop_rs::bulk::Bulk;
use sansio::{Backoff, Policy};
use spool::MessageId;
use tokio::sync::mpsc;

use super::bar::Bar;
use super::pusher::{Composed, Pusher, Unsubmitted};
use super::source::Listed;
use super::state::{self, Failed, InjectState};
use super::walk::{InputPlace, Walk, WalkedMessage};

/// Most messages in a batch: as many as Redis takes at once.
const BATCH_MESSAGES: usize = 1_000;
/// Most bytes in a batch; a larger message is a batch of its own.
const BATCH_BYTES: usize = 1024 * 1024;
/// Most batches that are composed and not yet submitted.
const BATCHES_AHEAD: usize = 4;
/// Pause between two attempts, twice as long each time. An unanswered attempt may still be carried
/// out, and Redis then holds its messages until lots are cut, so there should be few.
const AGAIN: Policy = Policy::from_millis(250, 8_000);

pub(super) struct Sender {
    pub(super) pusher: Pusher,
    /// Whether a line of an mbox that may be a separator or text is text.
    pub(super) doubtful_is_text: bool,
    /// Time for which Redis may be away.
    pub(super) patience: Duration,
}

pub(super) struct InjectOutcome {
    pub(super) submitted: u64,
    pub(super) unusable: u64,
}

#[derive(Default)]
struct Batch {
    messages: Vec<Composed>,
    bytes: usize,
    failed: Vec<Failed>,
    /// Numbers of messages that had failed before, and haven't now.
    mended: Vec<u64>,
    end: InputPlace,
}

impl Batch {
    /// Takes the batch, and leaves an empty one that begins where it ends.
    fn take(&mut self) -> Self {
        let next = Self { end: self.end, ..Self::default() };
        std::mem::replace(self, next)
    }
}

impl Sender {
    pub(super) async fn run(mut self, bulk: Bulk, mut state: InjectState) -> Result<InjectOutcome> {
        let (to_redis, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let (files, place, first) = (state.files().to_vec(), state.done, state.first());
        let before: Vec<u64> = ends(&files);
        let mut bar = Bar::new(before.last().copied().unwrap_or(0), place.messages);
        let again = state.failed.values().map(|it| it.place).collect();
        let walk = Walk::new(files, again, place, bulk.message_bytes_max())
            .with_doubtful_as_text(self.doubtful_is_text);
        let composing = std::thread::spawn(move || compose(&bulk, walk, first, &to_redis));
        while let Some(batch) = batches.recv().await {
            batch.failed.iter().for_each(|it| bar.say(&format!("{}: {}", it.at, it.why)));
            self.submit(&batch, &bar).await?;
            let Batch { end, failed, mended, .. } = batch;
            state.note(end, failed, mended)?;
            let done = end.file.checked_sub(1).and_then(|it| before.get(it)).copied().unwrap_or(0);
            bar.at(done + end.mark.offset, end.messages);
        }
        match composing.join() {
            Ok(Ok(())) => (),
            Ok(Err(error)) => {
                bail!("injection: stopped: {error:#}; give the same command again to resume")
            }
            Err(_) => bail!(
                "injection: stopped: composing panicked; give the same command again to resume"
            ),
        }
        bar.end();
        let unusable = state.failed.len() as u64;
        let outcome = InjectOutcome { submitted: state.done.messages - unusable, unusable };
        state.end()?;
        Ok(outcome)
    }

    /// Submits a batch until Redis has it. Its names stay the same, so Redis keeps each message
    /// once.
    async fn submit(&mut self, batch: &Batch, bar: &Bar) -> Result<()> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        let (started, mut told) = (Instant::now(), false);
        let mut backoff = Backoff::new(AGAIN);
        loop {
            let Err(failure) = self.pusher.submit(&batch.messages).await? else { return Ok(()) };
            self.bear(&failure, started)?;
            if !told {
                let why = &failure.why;
                bar.say(&format!("{why}; waiting for at most {} s", self.patience.as_secs()));
                told = true;
            }
            tokio::time::sleep(backoff.lengthen()).await;
        }
    }

    /// Gives up when a failure lasts too long, or can't pass. A full or read-only Redis may be
    /// mended meanwhile, so it is waited for; a wrong password isn't.
    fn bear(&self, failure: &Unsubmitted, since: Instant) -> Result<()> {
        if !failure.is_retryable || since.elapsed() >= self.patience {
            let why = &failure.why;
            bail!("injection: stopped: {why}; give the same command again to resume");
        }
        Ok(())
    }
}

/// Returns for each file the sum of all bytes up to its end.
fn ends(files: &[Listed]) -> Vec<u64> {
    let sum = |sum: &mut u64, file: &Listed| {
        *sum += file.bytes;
        Some(*sum)
    };
    files.iter().scan(0, sum).collect()
}

/// Composes all messages in batches. Ends early when nobody receives them.
fn compose(
    bulk: &Bulk,
    mut walk: Walk,
    first: MessageId,
    to_redis: &mpsc::Sender<Batch>,
) -> Result<()> {
    let mut batch = Batch { end: walk.place(), ..Batch::default() };
    let outcome = loop {
        let found = match walk.next_message() {
            Ok(Some(found)) => found,
            other => break other.map(drop),
        };
        let (number, again) = (found.place.number(), found.again);
        match composed(bulk, first, found) {
            Ok(composed) => {
                let is_full = batch.bytes + composed.records.len() > BATCH_BYTES
                    && !batch.messages.is_empty();
                if is_full && to_redis.blocking_send(batch.take()).is_err() {
                    return Ok(());
                }
                batch.bytes += composed.records.len();
                batch.messages.push(composed);
                batch.mended.extend(again.then_some(number));
            }
            Err(failed) => batch.failed.push(failed),
        }
        batch.end = walk.place();
        if batch.messages.len() + batch.failed.len() >= BATCH_MESSAGES
            && to_redis.blocking_send(batch.take()).is_err()
        {
            return Ok(());
        }
    };
    let _ = to_redis.blocking_send(batch);
    outcome
}

/// Composes a message, or says why it can't be submitted.
fn composed(bulk: &Bulk, first: MessageId, found: WalkedMessage) -> Result<Composed, Failed> {
    let (WalkedMessage { place, at, message, .. }, arrival) = (found, state::now());
    let records =
        message.and_then(|it| bulk.records(&it[..], arrival).map_err(|error| error.to_string()));
    match records {
        Ok(records) => Ok(Composed { id: state::name(first, place.number()), arrival, records }),
        Err(why) => Err(Failed { place, at, why }),
    }
}
