//! A queue of timers, the next one first; one timer per key.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::Time;

/// Timers by key. Setting a timer again moves it.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Time, K)>,
    due: HashMap<K, Time>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), due: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Makes a queue without timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the key's timer to this time, in place of an earlier one.
    pub fn set(&mut self, key: K, at: Time) {
        if let Some(before) = self.due.insert(key, at) {
            self.queue.remove(&(before, key));
        }
        self.queue.insert((at, key));
    }

    /// Removes the key's timer, if there is one.
    pub fn cancel(&mut self, key: K) {
        if let Some(at) = self.due.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// Returns the time of the next timer.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Removes the first timer that is due, and returns its key.
    pub fn pop(&mut self, now: Time) -> Option<K> {
        let (_, key) = *self.queue.first().filter(|(at, _)| *at <= now)?;
        self.cancel(key);
        Some(key)
    }

    /// Returns the number of timers.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is no timer.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

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
    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, u64),
        Cancel(u8),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..8_u8, 0..20_u64).prop_map(|(key, at)| Step::Set(key, at)),
            1 => (0..8_u8).prop_map(Step::Cancel),
            2 => (0..20_u64).prop_map(Step::Pop),
        ]
    }

    proptest! {
        /// The model is a map from keys to times, of which the smallest (time, key) comes first.
        #[test]
        fn timers_do_what_a_map_does(steps in prop::collection::vec(step(), 0..200)) {
            let (mut timers, mut model) = (Timers::new(), BTreeMap::new());
            for step in steps {
                let first = model.iter().map(|(key, at)| (Time(*at), *key)).min();
                prop_assert_eq!(timers.next(), first.map(|(at, _)| at));
                match step {
                    Step::Set(key, at) => {
                        timers.set(key, Time(at));
                        model.insert(key, at);
                    }
                    Step::Cancel(key) => {
                        timers.cancel(key);
                        model.remove(&key);
                    }
                    Step::Pop(now) => {
                        let due = first.filter(|(at, _)| *at <= Time(now)).map(|(_, key)| key);
                        prop_assert_eq!(timers.pop(Time(now)), due);
                        due.map(|key| model.remove(&key));
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.is_empty(), model.is_empty());
            }
        }
    }
}
