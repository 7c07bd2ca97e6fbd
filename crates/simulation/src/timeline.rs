//! Events that will happen, in the order of their times.

use std::collections::BTreeMap;

/// Events with times in a unit of the simulation's own. Those of one time keep their order.
#[derive(Debug, Clone)]
pub struct Timeline<E> {
    events: BTreeMap<(u64, u64), E>,
    inserted: u64,
}

impl<E> Default for Timeline<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), inserted: 0 }
    }
}

impl<E> Timeline<E> {
    /// Adds an event, behind those of the same time.
    pub fn insert(&mut self, time: u64, event: E) {
        self.inserted += 1;
        self.events.insert((time, self.inserted), event);
    }

    /// Returns the time of the next event, if there is one.
    pub fn next_time(&self) -> Option<u64> {
        self.events.first_key_value().map(|((time, _), _)| *time)
    }

    /// Removes and returns the next event.
    pub fn pop(&mut self) -> Option<E> {
        self.events.pop_first().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_time_in_their_order() {
        let mut timeline = Timeline::default();
        for (time, event) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            timeline.insert(time, event);
        }
        assert_eq!(timeline.next_time(), Some(1));
        let order: String = std::iter::from_fn(|| timeline.pop()).collect();
        assert_eq!((order.as_str(), timeline.next_time()), ("abcd", None));
    }
}
