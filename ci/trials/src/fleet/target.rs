//! Targets of mail: an SMTP server for each node, whose mood can change.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use testbed::{Namespace, Sink, SinkAnswer};

/// Treatment of recipients by a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes each message after this time.
    Takes(Duration),
    /// Gives no answer, until the mood changes.
    Silent,
    /// Refuses for now, with 450.
    Refuses,
}

/// A target. Its sessions end when dropped.
pub(super) struct Target {
    pub(super) sink: Sink,
    mood: Arc<Changing>,
}

struct Changing {
    mood: Mutex<Mood>,
    changed: Condvar,
}

impl Target {
    /// Starts a target on a namespace's loopback device.
    pub(super) fn start(namespace: &Namespace, mood: Mood) -> Result<Self> {
        let mood = Arc::new(Changing { mood: Mutex::new(mood), changed: Condvar::new() });
        let asked = Arc::clone(&mood);
        let sink = Sink::builder().without_content().answer(move |_| asked.answer());
        Ok(Self { sink: namespace.enter(|| sink.start())?, mood })
    }

    /// Changes the mood, also for recipients that wait.
    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
        self.mood.changed.notify_all();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.set(Mood::Refuses);
    }
}

impl Changing {
    fn lock(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) -> SinkAnswer {
        let is_silent = |mood: &mut Mood| *mood == Mood::Silent;
        let mood = self.changed.wait_while(self.lock(), is_silent);
        let mood = *mood.unwrap_or_else(PoisonError::into_inner);
        match mood {
            Mood::Takes(delay) => {
                std::thread::sleep(delay);
                SinkAnswer::Accept
            }
            Mood::Silent | Mood::Refuses => SinkAnswer::TempFail,
        }
    }
}
