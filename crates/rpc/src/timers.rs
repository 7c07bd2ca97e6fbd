//! A queue of timers, the next one first; one timer per key.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::Time;

/// Timers by key. Setting a timer again moves it.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    queue: BTreeSet<(Time, K)>,
    due: HashMap<K, Time>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { queue: BTreeSet::new(), due: HashMap::new() }
    }

    pub(crate) fn set(&mut self, key: K, at: Time) {
        if let Some(before) = self.due.insert(key, at) {
            self.queue.remove(&(before, key));
        }
        self.queue.insert((at, key));
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(at) = self.due.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the key of a timer that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<K> {
        let (_, key) = *self.queue.first().filter(|(at, _)| *at <= now)?;
        self.cancel(key);
        Some(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_once_and_not_when_cancelled() {
        let mut timers = Timers::new();
        timers.set('a', Time(30));
        timers.set('b', Time(20));
        timers.set('c', Time(10));
        timers.set('a', Time(15));
        timers.cancel('c');
        assert_eq!(timers.next(), Some(Time(15)));
        assert_eq!(timers.pop(Time(14)), None);
        assert_eq!(timers.pop(Time(99)), Some('a'));
        assert_eq!(timers.pop(Time(99)), Some('b'));
        assert_eq!((timers.pop(Time(99)), timers.len()), (None, 0));
    }
}
