//! The fragments of a message: unsent, under way, or arrived.
//!
//! The client sends a request's fragments, and asks for a reply's fragments; this module handles
//! both. A fragment counts as lost when one that left three or more later has arrived (RFC 9002,
//! section 6.1.1), or when the timer expires.

use std::collections::VecDeque;

/// Number of departures after a fragment by which a later, arrived one shows its loss.
const REORDERING: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    Waiting,
    Away { order: u32 },
    There,
}

/// The fragments of one message.
#[derive(Debug)]
pub(crate) struct Flight {
    states: Vec<Whereabouts>,
    /// Lowest fragment that has not left yet.
    unsent: u32,
    lost: VecDeque<u32>,
    away: u32,
    /// Fragments by the order in which they left; some have arrived since.
    left: VecDeque<(u32, u32)>,
    next_order: u32,
}

/// Result of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Whether the fragment hadn't arrived before.
    pub(crate) new: bool,
    /// Whether the arrival showed that others are lost.
    pub(crate) loss: bool,
}

impl Flight {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            states: vec![Whereabouts::Waiting; count as usize],
            unsent: 0,
            lost: VecDeque::new(),
            away: 0,
            left: VecDeque::new(),
            next_order: 0,
        }
    }

    /// Returns the number of fragments under way.
    pub(crate) fn away(&self) -> u32 {
        self.away
    }

    /// Returns whether every fragment has left once, and none must leave again.
    pub(crate) fn has_departed(&self) -> bool {
        self.unsent == self.count() && self.lost.is_empty()
    }

    /// Returns the number of all fragments.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.states.len()).unwrap_or(u32::MAX)
    }

    /// Returns the next fragment to leave: lost ones first.
    pub(crate) fn depart(&mut self) -> Option<u32> {
        let index = self.next_lost().or_else(|| self.next_unsent())?;
        let order = self.next_order;
        self.next_order += 1;
        *self.states.get_mut(index as usize)? = Whereabouts::Away { order };
        self.left.push_back((order, index));
        self.away += 1;
        Some(index)
    }

    /// Notes that fragment `index` has arrived.
    pub(crate) fn arrive(&mut self, index: u32) -> Arrival {
        let Some(state) = self.states.get_mut(index as usize) else {
            return Arrival { new: false, loss: false };
        };
        let before = std::mem::replace(state, Whereabouts::There);
        match before {
            Whereabouts::There => Arrival { new: false, loss: false },
            Whereabouts::Waiting => Arrival { new: true, loss: false },
            Whereabouts::Away { order } => {
                self.away -= 1;
                Arrival { new: true, loss: self.find_lost(order) }
            }
        }
    }

    /// Takes back the departure of a fragment that did not leave after all.
    pub(crate) fn call_back(&mut self, index: u32) {
        if let Some(state @ Whereabouts::Away { .. }) = self.states.get_mut(index as usize) {
            *state = Whereabouts::Waiting;
            self.away -= 1;
            self.lost.push_back(index);
        }
    }

    /// Marks all fragments under way as lost.
    pub(crate) fn lose_all(&mut self) {
        self.lose_before(u32::MAX);
    }

    fn find_lost(&mut self, arrived: u32) -> bool {
        arrived
            .checked_sub(REORDERING)
            .is_some_and(|order| self.lose_before(order.saturating_add(1)))
    }

    /// Marks fragments as lost that left before `order` and haven't arrived. Returns whether there
    /// were any.
    fn lose_before(&mut self, order: u32) -> bool {
        let mut any = false;
        while let Some((left, index)) = self.left.front().copied().filter(|(left, _)| *left < order)
        {
            self.left.pop_front();
            let Some(state) = self.states.get_mut(index as usize) else { continue };
            if *state == (Whereabouts::Away { order: left }) {
                *state = Whereabouts::Waiting;
                self.away -= 1;
                self.lost.push_back(index);
                any = true;
            }
        }
        any
    }

    fn next_lost(&mut self) -> Option<u32> {
        while let Some(index) = self.lost.pop_front() {
            if self.states.get(index as usize) == Some(&Whereabouts::Waiting) {
                return Some(index);
            }
        }
        None
    }

    fn next_unsent(&mut self) -> Option<u32> {
        while let Some(state) = self.states.get(self.unsent as usize) {
            let (index, waiting) = (self.unsent, *state == Whereabouts::Waiting);
            self.unsent += 1;
            if waiting {
                return Some(index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overtaken_fragment_is_lost_and_leaves_again_first() {
        let mut flight = Flight::new(10);
        let left: Vec<u32> = std::iter::from_fn(|| flight.depart()).take(6).collect();
        assert_eq!((left, flight.away()), (vec![0, 1, 2, 3, 4, 5], 6));
        assert_eq!(flight.arrive(2), Arrival { new: true, loss: false });
        assert_eq!(flight.arrive(3), Arrival { new: true, loss: true });
        assert_eq!(flight.arrive(3), Arrival { new: false, loss: false });
        assert_eq!((flight.depart(), flight.depart()), (Some(0), Some(6)));
        assert_eq!(
            flight.arrive(0),
            Arrival { new: true, loss: true },
            "1, 4 and 5 left before 0 did"
        );
    }

    #[test]
    fn a_lost_fragment_may_arrive_after_all() {
        let mut flight = Flight::new(2);
        while flight.depart().is_some() {}
        flight.lose_all();
        assert_eq!(flight.away(), 0);
        assert!(flight.arrive(0).new);
        assert_eq!((flight.depart(), flight.depart()), (Some(1), None));
        assert!(flight.arrive(1).new);
        assert_eq!(flight.away(), 0);
    }
}
