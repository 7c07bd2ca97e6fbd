//! Lanes of parked messages, and the choice of lots that this node takes from them.
//!
//! A message whose destinations have their share of the node is *parked*: Redis moves it from the
//! node's lot to the destination's *lane*, where it takes no node's credit. A lane is a queue of
//! small lots. Any node with room for the destination assigns some of these lots to itself. Mail
//! that comes from the inbox meanwhile is parked behind them, so that mail to one destination keeps
//! its turn.
//!
//! ```text
//!  look: lanes, window ─▶ known ─room─▶ pull: assign lots ─▶ fetch, feed ─▶ look again
//! ```
//!
//! The agent asks Redis again whenever its lease is renewed, agents come or go, or messages were
//! parked or pulled. An old answer does no harm, since Redis gives each lot to one node. If a
//! pulled message is parked again, its lane rests for a while, so that messages don't go in
//! circles.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use spool::{Domain, Lane, LotNumber};

use super::shares::Shares;

/// Time for which a lane rests when one of its pulled messages has been parked again.
const REST: Duration = Duration::from_secs(1);
/// Most messages that are pulled at once, beside the first lot.
const PULL_LIMIT: usize = 500;
/// Fraction of the window, as a divisor, that one parked lot may take, as lots are pulled whole.
const LOT_PART: usize = 16;

/// Known lanes, and lots from them; see the module.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    known: Vec<Lane>,
    /// Lots of this node that came from lanes.
    pulled: BTreeMap<LotNumber, Domain>,
    resting: BTreeMap<Domain, Instant>,
}

/// Returns the most messages of a parked lot.
pub(crate) fn lot_size(window: usize) -> usize {
    (window / LOT_PART).clamp(1, PULL_LIMIT)
}

impl Lanes {
    pub(crate) fn learn(&mut self, lanes: Vec<Lane>) {
        self.known = lanes;
    }

    /// Returns the destinations for which messages wait in a lane of their own.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Domain> {
        self.known.iter().map(|lane| &lane.to).filter(|to| **to != Domain::others())
    }

    pub(crate) fn is_pulled(&self, lot: LotNumber) -> bool {
        self.pulled.contains_key(&lot)
    }

    pub(crate) fn has_pulled(&self) -> bool {
        !self.pulled.is_empty()
    }

    /// Forgets pulled lots that are not open at this node.
    pub(crate) fn retain(&mut self, is_open: impl Fn(LotNumber) -> bool) {
        self.pulled.retain(|lot, _| is_open(*lot));
    }

    /// Notes that a message of this lot is parked, and has the lot's lane rest if it was pulled.
    pub(crate) fn parked(&mut self, now: Instant, lot: LotNumber) {
        if let Some(to) = self.pulled.get(&lot) {
            self.resting.insert(to.clone(), now + REST);
        }
    }

    pub(crate) fn look_at_the_clock(&mut self, now: Instant) {
        self.resting.retain(|_, until| *until > now);
    }

    /// Returns the time at which the first resting lane may be used again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// Returns the lots to pull now: of each lane in turn, while there is room for its destination.
    pub(crate) fn pull(&mut self, shares: &Shares, coming: usize) -> Vec<LotNumber> {
        let mut pull = Pull { shares, coming, lots: Vec::new() };
        let awake = |lane: &&mut Lane| !self.resting.contains_key(&lane.to);
        let mut lanes: Vec<(&mut Lane, usize)> =
            self.known.iter_mut().filter(awake).map(|lane| (lane, 0)).collect();
        // Each turn takes one lot of each lane that still has room.
        while !lanes.is_empty() {
            lanes.retain_mut(|(lane, taken)| pull.take_from(lane, taken));
        }
        self.known.retain(|lane| lane.lots_total > 0);
        self.pulled.extend(pull.lots.iter().cloned());
        pull.lots.into_iter().map(|(lot, _)| lot).collect()
    }
}

/// Lots chosen so far.
struct Pull<'a> {
    shares: &'a Shares,
    /// Number of messages that will be in flight soon.
    coming: usize,
    lots: Vec<(LotNumber, Domain)>,
}

impl Pull<'_> {
    /// Takes one lot of the lane, if there is room for it. `taken` counts the lane's messages so
    /// far.
    fn take_from(&mut self, lane: &mut Lane, taken: &mut usize) -> bool {
        let Some(lot) = lane.lots.first() else { return false };
        let (lot, count) = (lot.lot, usize::try_from(lot.messages).unwrap_or(usize::MAX));
        let in_flight = self.shares.in_flight(&lane.to) + *taken;
        let room = self.shares.room(self.coming);
        // Each message takes from the room as well as from the share.
        let has_room = in_flight + 2 * count.saturating_sub(1) < room && self.coming < PULL_LIMIT;
        if !has_room && (in_flight > 0 || room == 0) {
            return false;
        }
        lane.lots.remove(0);
        lane.lots_total = lane.lots_total.saturating_sub(1);
        (*taken, self.coming) = (*taken + count, self.coming + count);
        self.lots.push((lot, lane.to.clone()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool::ReadyLot;

    fn domain(name: &str) -> Domain {
        format!("{name}.example").parse().unwrap()
    }

    fn lane(name: &str, lots: &[(u64, u64)]) -> Lane {
        let lots: Vec<_> =
            lots.iter().map(|&(n, messages)| ReadyLot { lot: LotNumber(n), messages }).collect();
        Lane { to: domain(name), lots_total: lots.len() as u64, lots }
    }

    fn lanes(known: Vec<Lane>) -> Lanes {
        Lanes { known, ..Lanes::default() }
    }

    const NONE: [u64; 0] = [];

    fn pulled(lanes: &mut Lanes, shares: &Shares, coming: usize) -> Vec<u64> {
        lanes.pull(shares, coming).into_iter().map(|lot| lot.0).collect()
    }

    #[test]
    fn lanes_take_turns_while_there_is_room_for_their_destination() {
        let mut shares = Shares::new(10);
        let known = || {
            lanes(vec![lane("a", &[(1, 1), (2, 1), (3, 1), (4, 1)]), lane("b", &[(5, 1), (6, 1)])])
        };
        assert_eq!(pulled(&mut known(), &shares, 0), [1, 5, 2, 6, 3, 4]);
        assert_eq!(pulled(&mut known(), &shares, 7), [1, 5]);
        assert_eq!(pulled(&mut known(), &shares, 10), NONE);
        for n in 0..4 {
            shares.begin(&format!("4C1B2000{n}").parse().unwrap(), vec![domain("a")]);
        }
        assert_eq!(pulled(&mut known(), &shares, 0), [1, 5, 6]);
    }

    #[test]
    fn a_lot_that_is_too_large_goes_to_a_node_that_has_nothing_for_its_destination() {
        let mut shares = Shares::new(10);
        let known = || lanes(vec![lane("a", &[(1, 50), (2, 50)])]);
        assert_eq!(pulled(&mut known(), &shares, 0), [1]);
        shares.begin(&"4C1B20000".parse().unwrap(), vec![domain("a")]);
        assert_eq!(pulled(&mut known(), &shares, 0), NONE);
    }

    #[test]
    fn a_lane_whose_message_is_parked_again_rests() {
        let (shares, now) = (Shares::new(10), Instant::now());
        let mut lanes = lanes(vec![lane("a", &[(1, 1), (2, 8)])]);
        assert_eq!(pulled(&mut lanes, &shares, 0), [1]);
        lanes.parked(now, LotNumber(9));
        assert_eq!(lanes.due(), None, "that one wasn't pulled");
        lanes.parked(now, LotNumber(1));
        assert_eq!((lanes.due(), pulled(&mut lanes, &shares, 0)), (Some(now + REST), vec![]));
        lanes.look_at_the_clock(now + REST);
        assert_eq!(pulled(&mut lanes, &shares, 0), [2]);
    }

    #[test]
    fn a_parked_lot_is_small_beside_the_window() {
        assert_eq!([1, 20, 2_000, 20_000].map(lot_size), [1, 1, 125, 500]);
    }
}
