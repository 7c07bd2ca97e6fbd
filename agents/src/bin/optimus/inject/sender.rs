//! From messages to Redis: one thread composes, the other waits for Redis.

use std::time::{Duration, Instant};

use agents::daemon::Instance;
use anyhow::{Result, bail};
use postdrop_rs::bulk::Bulk;
use spool::{MessageId, Spool, SpoolError, Submission};
use tokio::sync::mpsc;

use super::bar::Bar;
use super::source::{Listed, Messages, Place};
use super::state::{self, State};

/// As many as Redis takes at once.
const BATCH_MESSAGES: usize = 1_000;
/// Nor more than this; a larger message is a batch of its own.
const BATCH_BYTES: usize = 1024 * 1024;
/// Composed and not yet submitted.
const BATCHES_AHEAD: usize = 4;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Sender {
    pub(super) instance: Instance,
    pub(super) uid: u32,
    /// How long Redis may be away.
    pub(super) patience: Duration,
}

pub(super) struct Outcome {
    pub(super) submitted: u64,
    pub(super) unusable: u64,
}

#[derive(Default)]
struct Batch {
    messages: Vec<Composed>,
    bytes: usize,
    /// Said of messages that can't be used.
    troubles: Vec<String>,
    end: Place,
}

impl Batch {
    /// Leaves an empty one that begins where this one ends.
    fn take(&mut self) -> Self {
        let next = Self { end: self.end, ..Self::default() };
        std::mem::replace(self, next)
    }
}

struct Composed {
    id: MessageId,
    arrival: Duration,
    records: Vec<u8>,
}

impl Sender {
    pub(super) async fn run(&self, bulk: Bulk, mut state: State) -> Result<Outcome> {
        let (to_redis, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let (files, place, first) = (state.files().to_vec(), state.done, state.first());
        let before: Vec<u64> = ends(&files);
        let mut bar = Bar::new(before.last().copied().unwrap_or(0), place.messages);
        let composing =
            std::thread::spawn(move || compose(&bulk, Messages::new(files, place), first, &to_redis));
        let spool = self.instance.spool();
        while let Some(batch) = batches.recv().await {
            batch.troubles.iter().for_each(|it| bar.say(it));
            self.submit(&spool, &batch, &bar).await?;
            state.note(batch.end)?;
            let done = batch.end.file.checked_sub(1).and_then(|it| before.get(it)).copied().unwrap_or(0);
            bar.at(done + batch.end.offset, batch.end.messages);
        }
        if composing.join().is_err() {
            bail!("composing has failed; the place is kept");
        }
        bar.end();
        let Place { messages, unusable, .. } = state.done;
        state.end()?;
        Ok(Outcome { submitted: messages - unusable, unusable })
    }

    /// Until Redis has them. The same names each time, so once is enough however often it takes.
    async fn submit(&self, spool: &Spool, batch: &Batch, bar: &Bar) -> Result<()> {
        let host = self.instance.host();
        let all = batch.messages.iter().map(|it| Submission {
            id: it.id,
            uid: self.uid,
            arrival_ms: u64::try_from(it.arrival.as_millis()).unwrap_or(u64::MAX),
            host: &host,
            records: &it.records,
        });
        let all: Vec<Submission<'_>> = all.collect();
        if all.is_empty() {
            return Ok(());
        }
        let (started, mut told) = (Instant::now(), false);
        loop {
            let error = match spool.submit_many(&all).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.bear(&error, started)?;
            if !told {
                bar.say(&format!("{error}; waiting for at most {} s", self.patience.as_secs()));
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Full or read-only is away as well: somebody may mend it.
    fn bear(&self, error: &SpoolError, since: Instant) -> Result<()> {
        if since.elapsed() >= self.patience {
            bail!("{error}; the place is kept: give the same command again to go on");
        }
        Ok(())
    }
}

/// The sum of the files' bytes up to and with each.
fn ends(files: &[Listed]) -> Vec<u64> {
    let sum = |sum: &mut u64, file: &Listed| {
        *sum += file.bytes;
        Some(*sum)
    };
    files.iter().scan(0, sum).collect()
}

/// All messages in batches. Ends early when nobody wants them.
fn compose(bulk: &Bulk, mut messages: Messages, first: MessageId, to_redis: &mpsc::Sender<Batch>) {
    let mut batch = Batch { end: messages.place(), ..Batch::default() };
    while let Some(found) = messages.next_message() {
        let (number, arrival) = (found.next.messages, state::now());
        let records =
            found.message.and_then(|it| bulk.records(&it[..], arrival).map_err(|error| error.to_string()));
        let mut next = found.next;
        match records {
            Ok(records) => {
                let is_full = batch.bytes + records.len() > BATCH_BYTES && !batch.messages.is_empty();
                if is_full && to_redis.blocking_send(batch.take()).is_err() {
                    return;
                }
                batch.bytes += records.len();
                batch.messages.push(Composed { id: state::name(first, number), arrival, records });
            }
            Err(why) => {
                next = messages.count_unusable();
                batch.troubles.push(format!("{}: {why}", found.at));
            }
        }
        batch.end = next;
        if batch.messages.len() + batch.troubles.len() >= BATCH_MESSAGES
            && to_redis.blocking_send(batch.take()).is_err()
        {
            return;
        }
    }
    let _ = to_redis.blocking_send(batch);
}
