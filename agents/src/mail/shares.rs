//! Shares of the node's window that destinations take.
//!
//! A destination may have as many messages in flight as the node has room for more, as queues in a
//! switch share a buffer (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
//! packet switches", 1998). So a destination that never answers holds half of the window and leaves
//! the rest to others. Two such destinations hold a third each. While there is much room, no share
//! limits anybody. One message to each destination may always be in flight.
//!
//! A file is in flight, and takes the node's credit, from its making until Postfix has removed or
//! deferred it, or it is on hold. A message to several destinations counts for each of them, and
//! waits only if all of them have their share.

use std::collections::BTreeMap;

use postfix_wire::QueueId;
use spool::Domain;

/// Most destinations named in one request to pickup-rs; of more, the ones with most messages.
const NAMED_LIMIT: usize = 100;

/// Files in flight by destination; see the module.
#[derive(Debug)]
pub(crate) struct Shares {
    window: usize,
    files: BTreeMap<QueueId, Vec<Domain>>,
    in_flight: BTreeMap<Domain, usize>,
}

impl Shares {
    pub(crate) fn new(window: u32) -> Self {
        Self { window: window as usize, files: BTreeMap::new(), in_flight: BTreeMap::new() }
    }

    /// Sets the window of the node, after other nodes have come or gone.
    pub(crate) fn resize(&mut self, window: u32) {
        self.window = window as usize;
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Notes that this file is in flight. A repetition changes nothing.
    pub(crate) fn begin(&mut self, queue_id: &QueueId, to: Vec<Domain>) {
        self.end(queue_id);
        to.iter().for_each(|to| *self.in_flight.entry(to.clone()).or_default() += 1);
        self.files.insert(queue_id.clone(), to);
    }

    /// Notes that this file is gone or at rest.
    pub(crate) fn end(&mut self, queue_id: &QueueId) {
        for to in self.files.remove(queue_id).into_iter().flatten() {
            let Some(count) = self.in_flight.get_mut(&to) else {
                return debug_assert!(false, "{queue_id}: counted for each destination");
            };
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&to);
            }
        }
    }

    /// Forgets all files, before a comparison names them anew.
    pub(crate) fn forget(&mut self) {
        self.files.clear();
        self.in_flight.clear();
    }

    /// Returns the number of messages that still fit into the window, beside the files and
    /// `coming`.
    pub(crate) fn room(&self, coming: usize) -> usize {
        self.window.saturating_sub(self.files.len() + coming)
    }

    /// Checks that the window has room for the files and so many messages that are fed. One may
    /// always be fed.
    pub(crate) fn assert_room_for(&self, fed: usize) {
        let all = self.files.len() + fed;
        debug_assert!(all <= self.window.max(self.files.len() + 1), "{all} in {}", self.window);
        let counted: usize = self.in_flight.values().sum();
        let destinations: usize = self.files.values().map(Vec::len).sum();
        debug_assert_eq!(counted, destinations, "each file counts for each of its destinations");
    }

    pub(crate) fn in_flight(&self, to: &Domain) -> usize {
        self.in_flight.get(to).copied().unwrap_or_default()
    }

    /// Returns how many messages of unknown destination may be under way. All of them may turn out
    /// to have the same one.
    pub(crate) fn ahead(&self) -> usize {
        (self.room(0) / 2).max(1)
    }

    /// Returns the destinations that have their share while so many messages are `coming`.
    pub(crate) fn full(&self, coming: usize) -> Vec<Domain> {
        let share = self.room(coming).max(1);
        let mut full: Vec<_> =
            self.in_flight.iter().filter(|(_, count)| **count >= share).collect();
        if full.len() > NAMED_LIMIT {
            full.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            full.truncate(NAMED_LIMIT);
        }
        full.into_iter().map(|(to, _)| to.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(n: usize) -> Domain {
        format!("d{n}.example").parse().unwrap()
    }

    fn queue_id(n: usize) -> QueueId {
        format!("4C1B2{n:05X}").parse().unwrap()
    }

    /// Gives destination `n` its whole share, and returns the number of messages in it.
    fn fill(shares: &mut Shares, n: usize) -> usize {
        for count in 0.. {
            if shares.full(0).contains(&domain(n)) {
                return count;
            }
            shares.begin(&queue_id(n * 1_000 + count), vec![domain(n)]);
        }
        unreachable!("a share binds at last")
    }

    #[test]
    fn destinations_that_take_for_ever_leave_room_for_others() {
        let mut shares = Shares::new(60);
        assert_eq!(fill(&mut shares, 1), 30, "one takes half");
        assert_eq!(fill(&mut shares, 2), 15);
        assert_eq!((fill(&mut shares, 3), shares.room(0)), (8, 7));
        // The first destination has sent half of its messages, and gets no more before the third
        // one.
        (0..15).for_each(|n| shares.end(&queue_id(1_000 + n)));
        assert_eq!(shares.full(0), []);
        assert_eq!([fill(&mut shares, 3), shares.room(0)], [15, 15]);
    }

    #[test]
    fn in_a_full_window_each_destination_has_one_message() {
        let mut shares = Shares::new(4);
        (0..4).for_each(|n| shares.begin(&queue_id(n), vec![domain(n)]));
        assert_eq!(shares.full(0), [0, 1, 2, 3].map(domain));
        assert_eq!((shares.room(0), shares.ahead()), (0, 1));
    }

    #[test]
    fn a_file_is_counted_once_and_for_each_destination() {
        let mut shares = Shares::new(10);
        for _ in 0..2 {
            shares.begin(&queue_id(1), vec![domain(1), domain(2)]);
        }
        assert_eq!([1, 2, 3].map(|n| shares.in_flight(&domain(n))), [1, 1, 0]);
        assert_eq!((shares.room(0), shares.room(4)), (9, 5));
        shares.end(&queue_id(1));
        shares.end(&queue_id(1));
        assert_eq!((shares.in_flight(&domain(1)), shares.room(0)), (0, 10));
    }

    #[test]
    fn of_too_many_the_largest_are_named() {
        let mut shares = Shares::new(400);
        for n in 0..200 {
            shares.begin(&queue_id(n), vec![domain(n)]);
            shares.begin(&queue_id(1_000 + n), vec![domain(n % 100)]);
        }
        assert_eq!(
            shares.full(0),
            (0..100)
                .map(domain)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
}
