//! The messages that arrived.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// One message that arrived, once per SMTP transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The header X-Test-Id, by which the one who submitted it knows it.
    pub test_id: Option<String>,
    /// The queue id of the Postfix that sent it, from the topmost Received header.
    pub queue_id: Option<String>,
    /// The header Message-ID, with its brackets.
    pub message_id: Option<String>,
    /// The envelope sender, without brackets.
    pub sender: String,
    /// The envelope recipients that were accepted, without brackets.
    pub rcpts: Vec<String>,
    /// Bytes of the content as transmitted, without dot-stuffing.
    pub size: u64,
    /// Milliseconds since the sink started.
    pub at_ms: u64,
    /// Header and body as transmitted, unless the sink was told to forget it.
    #[serde(skip)]
    pub content: Option<Vec<u8>>,
}

impl Delivery {
    /// Whether it went through the maildrop and stock pickup: cleanup has made its Message-ID, of
    /// the queue id. What pickup-rs hands over has one already.
    pub fn is_by_stock_pickup(&self) -> bool {
        let (Some(queue_id), Some(message_id)) = (&self.queue_id, &self.message_id) else {
            return false;
        };
        message_id.contains(&format!(".{queue_id}@"))
    }
}

/// Deliveries behind a lock, and a bell that rings for each.
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

    /// Records a delivery. When this returns it may be acknowledged.
    pub(super) fn record(&self, mut delivery: Delivery) -> Result<()> {
        delivery.at_ms = u64::try_from(self.started.elapsed().as_millis())?;
        let mut entries = self.lock();
        entries.test_ids.extend(delivery.test_id.clone());
        entries.deliveries.push(delivery);
        self.bell.notify_all();
        Ok(())
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

    /// Waits until `enough`.
    pub(super) fn wait(&self, limit: Duration, enough: impl Fn(&Entries) -> bool) -> Result<()> {
        let waiting = |entries: &mut Entries| !enough(entries);
        let (entries, timeout) = self
            .bell
            .wait_timeout_while(self.lock(), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let (count, seconds) = (entries.deliveries.len(), limit.as_secs_f32());
            bail!("the sink waited {seconds} s in vain, {count} deliveries so far");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
