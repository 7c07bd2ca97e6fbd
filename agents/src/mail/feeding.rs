//! What pickup-rs is to be fed, what it has been fed, and what must be fed again.
//!
//! ```text
//!  own lots ──learn──▶ queue ──feed──▶ fed ──held, stored, consumed──▶ (handed: the ledger's)
//!                        ▲               │ refused, retry                 │
//!                        └── again ◀─────┤                                │ committed, fenced, ...
//!                        ▲  (later)      │ pickup-rs gone                 ▼
//!                        └── unsure ◀────┘                             resolved
//!                  (not in the inventory)
//! ```
//!
//! A lot is *open* here while any of its messages is unresolved. What Redis says of an open lot under the epoch we know
//! is not news; that is how an answer from before a commit can't bring a committed message back.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use spool::{Epoch, LotNumber, MessageId};

/// One message in one tenure of its lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Piece {
    /// Its lot.
    pub lot: LotNumber,
    /// The tenure.
    pub epoch: Epoch,
    /// The message.
    pub id: MessageId,
}

/// One of the node's lots as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLot {
    /// Its number.
    pub lot: LotNumber,
    /// This tenure of it.
    pub epoch: Epoch,
    /// What is not committed.
    pub ids: Vec<MessageId>,
}

const AGAIN_SHORTEST: Duration = Duration::from_millis(100);
const AGAIN_LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct OpenLot {
    epoch: Epoch,
    unresolved: HashSet<MessageId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Feeding {
    lots: BTreeMap<LotNumber, OpenLot>,
    /// Lots done since the last question for own lots was put: its answer may still show them.
    done: HashSet<(LotNumber, Epoch)>,
    queue: VecDeque<Piece>,
    fed: HashSet<Piece>,
    unsure: Vec<Piece>,
    again: BTreeMap<(Instant, MessageId), Piece>,
    refusals: HashMap<MessageId, u32>,
}

impl Feeding {
    /// The question for own lots is put.
    pub(crate) fn asked(&mut self) {
        self.done.clear();
    }

    /// The answer: all lots this node has.
    pub(crate) fn learn(&mut self, own: &[OwnLot]) {
        let ours: HashMap<LotNumber, Epoch> = own.iter().map(|it| (it.lot, it.epoch)).collect();
        self.lots.retain(|lot, open| ours.get(lot) == Some(&open.epoch));
        let lots = &self.lots;
        let is_open = |piece: &Piece| lots.get(&piece.lot).is_some_and(|open| open.epoch == piece.epoch);
        self.queue.retain(is_open);
        self.again.retain(|_, piece| is_open(piece));
        self.unsure.retain(is_open);
        let lots = &self.lots;
        self.refusals.retain(|id, _| lots.values().any(|open| open.unresolved.contains(id)));
        for it in own.iter().filter(|it| !it.ids.is_empty()) {
            self.open(it);
        }
    }

    fn open(&mut self, own: &OwnLot) {
        let &OwnLot { lot, epoch, ref ids } = own;
        if self.lots.contains_key(&lot) || self.done.contains(&(lot, epoch)) {
            return;
        }
        tracing::debug!(%lot, %epoch, messages = ids.len(), "lot taken");
        self.queue.extend(ids.iter().map(|&id| Piece { lot, epoch, id }));
        self.lots.insert(lot, OpenLot { epoch, unresolved: ids.iter().copied().collect() });
    }

    /// The next messages to feed, all of one lot, when fewer than `ahead` are under way.
    pub(crate) fn next(&mut self, now: Instant, ahead: usize) -> Option<(LotNumber, Epoch, Vec<MessageId>)> {
        self.take_due(now);
        // Half empty before it is filled up: a request for each message would cost more than the message.
        if self.fed.len() > ahead / 2 {
            return None;
        }
        let &Piece { lot, epoch, .. } = self.queue.front()?;
        let room = ahead - self.fed.len();
        let same =
            self.queue.iter().take(room).take_while(|piece| (piece.lot, piece.epoch) == (lot, epoch)).count();
        let pieces: Vec<Piece> = self.queue.drain(..same).collect();
        self.fed.extend(&pieces);
        Some((lot, epoch, pieces.into_iter().map(|piece| piece.id).collect()))
    }

    fn take_due(&mut self, now: Instant) {
        while let Some(entry) = self.again.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.queue.push_back(entry.remove());
        }
    }

    /// pickup-rs has answered for this one.
    pub(crate) fn answered(&mut self, piece: &Piece) {
        self.fed.remove(piece);
    }

    /// Refused for now.
    pub(crate) fn refused(&mut self, now: Instant, piece: Piece) {
        self.fed.remove(&piece);
        if self.is_unresolved(&piece) {
            let times = self.refusals.entry(piece.id).or_default();
            let pause = AGAIN_SHORTEST.saturating_mul(1 << (*times).min(10)).min(AGAIN_LONGEST);
            *times += 1;
            self.again.insert((now + pause, piece.id), piece);
        }
    }

    /// Redis has decided about this one.
    pub(crate) fn resolved(&mut self, piece: &Piece) {
        self.refusals.remove(&piece.id);
        let Some(open) = self.lots.get_mut(&piece.lot).filter(|open| open.epoch == piece.epoch) else {
            return;
        };
        open.unresolved.remove(&piece.id);
        if open.unresolved.is_empty() {
            self.lots.remove(&piece.lot);
            self.done.insert((piece.lot, piece.epoch));
        }
    }

    /// pickup-rs has gone: what it was fed may or may not have become files.
    pub(crate) fn lost_sight(&mut self) {
        self.unsure.extend(self.fed.drain());
    }

    /// The inventory is here; these have files, and all else that was fed is fed again.
    pub(crate) fn found(&mut self, files: &HashSet<Piece>) {
        for piece in std::mem::take(&mut self.unsure) {
            if !files.contains(&piece) {
                self.feed_again(piece);
            }
        }
    }

    /// This one has no file and no decision.
    pub(crate) fn feed_again(&mut self, piece: Piece) {
        if self.is_unresolved(&piece) {
            self.queue.push_front(piece);
        }
    }

    /// Nothing more is to be fed; what has been fed will be answered.
    pub(crate) fn stop(&mut self) {
        self.lots.clear();
        self.queue.clear();
        self.again.clear();
        self.unsure.clear();
        self.refusals.clear();
    }

    fn is_unresolved(&self, piece: &Piece) -> bool {
        let open = self.lots.get(&piece.lot).filter(|open| open.epoch == piece.epoch);
        open.is_some_and(|open| open.unresolved.contains(&piece.id))
    }

    /// Whether there is no lot to work on.
    pub(crate) fn is_idle(&self) -> bool {
        self.lots.is_empty()
    }

    /// Whether pickup-rs has answered all it was fed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.fed.is_empty()
    }

    /// When a refused message is to be fed again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.again.keys().next().map(|(when, _)| *when)
    }
}
