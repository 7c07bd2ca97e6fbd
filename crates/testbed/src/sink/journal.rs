//! Messages that have arrived at the sink.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// A message that arrived, once per SMTP transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Content of X-Test-Id, by which a test knows the message.
    pub test_id: Option<String>,
    /// Queue id of the sending Postfix, from the topmost Received header.
    pub queue_id: Option<String>,
    /// Content of Message-ID, with its brackets.
    pub message_id: Option<String>,
    /// Envelope sender, without brackets.
    pub sender: String,
    /// Envelope recipients that were accepted, without brackets.
    pub rcpts: Vec<String>,
    /// Size of the content as transmitted, without dot-stuffing, bytes.
    pub size: u64,
    /// Time of the arrival, milliseconds since the sink started.
    pub at_ms: u64,
    /// Header and body as transmitted, unless the sink forgets content.
    #[serde(skip)]
    pub content: Option<Vec<u8>>,
}

impl Delivery {
    /// Whether the message came through the maildrop and stock pickup. Cleanup makes the Message-ID
    /// of such a message from the queue id. A message of pickup-rs has a Message-ID already.
    pub fn is_by_stock_pickup(&self) -> bool {
        let (Some(queue_id), Some(message_id)) = (&self.queue_id, &self.message_id) else {
            return false;
        };
        message_id.contains(&format!(".{queue_id}@"))
    }
}

/// Deliveries behind a lock, with a condition for waiting.
pub(super) struct Journal {
    started: Instant,
    entries: Mutex<Entries>,
    bell: Condvar,
}

#[derive(Default)]
pub(super) struct Entries {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) test_ids: HashSet<String>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), entries: Mutex::default(), bell: Condvar::new() }
    }

    /// Records a delivery. The caller may acknowledge the delivery afterwards.
    pub(super) fn record(&self, mut delivery: Delivery) -> Result<()> {
        delivery.at_ms = u64::try_from(self.started.elapsed().as_millis())?;
        let mut entries = self.lock();
        entries.test_ids.extend(delivery.test_id.clone());
        entries.deliveries.push(delivery);
        self.bell.notify_all();
        Ok(())
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn received(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().deliveries.len()
    }

    pub(super) fn distinct(&self) -> usize {
        self.lock().test_ids.len()
    }

    /// Waits until `enough` returns true for the entries. Fails after `limit`.
    pub(super) fn wait(&self, limit: Duration, enough: impl Fn(&Entries) -> bool) -> Result<()> {
        let waiting = |entries: &mut Entries| !enough(entries);
        let (entries, timeout) = self
            .bell
            .wait_timeout_while(self.lock(), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let (count, seconds) = (entries.deliveries.len(), limit.as_secs_f32());
            bail!("sink: expected deliveries did not come within {seconds} s; {count} came so far");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
