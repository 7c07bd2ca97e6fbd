//! Messages that pickup-rs must feed, has under way, and must feed again.
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
//! A lot is *open* here from its first fetch until the last of its messages is resolved. An answer
//! of Redis adds no message to a lot that is open under the same epoch. So an answer from before a
//! commit can't bring a committed message back.
//!
//! A lot opened from a notice is *noticed* until an answer of Redis names it. Any client of Redis
//! may have published the notice, so the ids of the answer replace those of the notice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use postfix_wire::QueueId;
use sansio::Policy;
use spool::{Epoch, LotNumber, MessageId, SmallLot};
use tracing::Span;

/// One message in one tenure of its lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedKey {
    /// Lot of the message.
    pub lot: LotNumber,
    /// Epoch of the lot's tenure.
    pub epoch: Epoch,
    /// Id of the message.
    pub id: MessageId,
}

impl FeedKey {
    /// Returns a span for what is done about this message and its file.
    pub(crate) fn span(&self, queue_id: Option<&QueueId>) -> Span {
        let Self { lot, epoch, id } = self;
        let queue_id = queue_id.map(tracing::field::display);
        tracing::error_span!("message", %id, %lot, %epoch, queue_id)
    }
}

impl From<FeedKey> for spool::Tenured {
    fn from(FeedKey { lot, epoch, id }: FeedKey) -> Self {
        Self { id, lot, epoch }
    }
}

/// One of the node's lots as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLot {
    /// Number of the lot.
    pub lot: LotNumber,
    /// Epoch of the lot's tenure.
    pub epoch: Epoch,
    /// Messages that are not committed.
    pub ids: Vec<MessageId>,
}

/// Pauses before a refused message is fed again.
const AGAIN: Policy = Policy::from_millis(100, 60_000);

#[derive(Debug)]
struct OpenLot {
    epoch: Epoch,
    unresolved: BTreeSet<MessageId>,
    source: Source,
}

/// Origin of the facts about an open lot.
#[derive(Debug)]
enum Source {
    Redis,
    /// The lot's notice. `resolved` are the messages resolved since the last question for own lots,
    /// whose answer may still show them.
    Notice {
        resolved: BTreeSet<MessageId>,
    },
}

/// Open lots and their messages; see the module.
#[derive(Debug, Default)]
pub(crate) struct Feeding {
    lots: BTreeMap<LotNumber, OpenLot>,
    /// Lots done since the last question for own lots, whose answer may still show them.
    done: BTreeSet<(LotNumber, Epoch)>,
    /// Highest lot of all answers, and of the notices since the last answer.
    highest: LotNumber,
    /// Highest lot of all answers.
    answered: LotNumber,
    queue: VecDeque<FeedKey>,
    fed: BTreeSet<FeedKey>,
    unsure: Vec<FeedKey>,
    again: BTreeMap<(Instant, MessageId), FeedKey>,
    refusals: BTreeMap<MessageId, u32>,
}

impl Feeding {
    /// Notes that the question for own lots is put.
    pub(crate) fn asked(&mut self) {
        self.done.clear();
        for open in self.lots.values_mut() {
            if let Source::Notice { resolved } = &mut open.source {
                resolved.clear();
            }
        }
    }

    /// Takes the answer, which names all lots of this node.
    pub(crate) fn learn(&mut self, own: &[OwnLot]) {
        let ours: BTreeMap<LotNumber, Epoch> = own.iter().map(|it| (it.lot, it.epoch)).collect();
        self.lots.retain(|lot, open| ours.get(lot) == Some(&open.epoch));
        own.iter().for_each(|it| self.confirm(it));
        // A false notice may name any number, so its number counts only until the next answer.
        self.answered = ours.keys().copied().fold(self.answered, LotNumber::max);
        self.highest = self.answered;
        let lots = &self.lots;
        let is_open =
            |key: &FeedKey| lots.get(&key.lot).is_some_and(|open| open.epoch == key.epoch);
        self.queue.retain(is_open);
        self.again.retain(|_, key| is_open(key));
        self.unsure.retain(is_open);
        let lots = &self.lots;
        self.refusals.retain(|id, _| lots.values().any(|open| open.unresolved.contains(id)));
        for it in own.iter().filter(|it| !it.ids.is_empty()) {
            self.open(it, Source::Redis);
        }
    }

    /// Replaces the ids of a lot's notice by those that Redis has. Other messages are not fed
    /// again, but pickup-rs still answers for those under way.
    fn confirm(&mut self, &OwnLot { lot, epoch, ref ids }: &OwnLot) {
        let Some(open) = self.lots.get_mut(&lot) else { return };
        let Source::Notice { resolved } = std::mem::replace(&mut open.source, Source::Redis) else {
            return;
        };
        let true_ids = ids.iter().copied().filter(|id| !resolved.contains(id)).collect();
        let noticed = std::mem::replace(&mut open.unresolved, true_ids);
        let new = open.unresolved.difference(&noticed);
        self.queue.extend(new.map(|&id| FeedKey { lot, epoch, id }));
        let unresolved = &open.unresolved;
        let is_true = |key: &FeedKey| key.lot != lot || unresolved.contains(&key.id);
        self.queue.retain(is_true);
        self.again.retain(|_, key| is_true(key));
        self.unsure.retain(is_true);
        if unresolved.is_empty() {
            self.lots.remove(&lot);
            self.done.insert((lot, epoch));
        }
    }

    /// Opens a lot that was just cut for this node, and returns whether it did. Lot numbers rise.
    /// So a notice of a number that isn't the highest is late or false, or Redis was restored.
    pub(crate) fn assigned(&mut self, &SmallLot { lot, ref ids }: &SmallLot) -> bool {
        let epoch = SmallLot::EPOCH;
        let is_new = lot > self.highest && !self.done.contains(&(lot, epoch));
        if is_new {
            let resolved = BTreeSet::new();
            self.open(&OwnLot { lot, epoch, ids: ids.clone() }, Source::Notice { resolved });
        }
        is_new
    }

    fn open(&mut self, own: &OwnLot, source: Source) {
        let &OwnLot { lot, epoch, ref ids } = own;
        if self.lots.contains_key(&lot) || self.done.contains(&(lot, epoch)) {
            return;
        }
        self.highest = self.highest.max(lot);
        tracing::debug!(%lot, %epoch, messages = ids.len(), "lot taken");
        self.queue.extend(ids.iter().map(|&id| FeedKey { lot, epoch, id }));
        let unresolved = ids.iter().copied().collect();
        self.lots.insert(lot, OpenLot { epoch, unresolved, source });
    }

    /// Returns the next messages to feed, all of one lot, when at most half of `ahead` are under
    /// way.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        ahead: usize,
    ) -> Option<(LotNumber, Epoch, Vec<MessageId>)> {
        self.take_due(now);
        // A request for each message would cost more than the message.
        if self.fed.len() > ahead / 2 {
            return None;
        }
        let &FeedKey { lot, epoch, .. } = self.queue.front()?;
        let room = ahead - self.fed.len();
        let same = self
            .queue
            .iter()
            .take(room)
            .take_while(|key| (key.lot, key.epoch) == (lot, epoch))
            .count();
        let keys: Vec<FeedKey> = self.queue.drain(..same).collect();
        debug_assert!(keys.iter().all(|key| !self.fed.contains(key)), "fed twice at once");
        self.fed.extend(&keys);
        debug_assert!(self.fed.len() <= ahead, "no more are fed than there is room for");
        Some((lot, epoch, keys.into_iter().map(|key| key.id).collect()))
    }

    fn take_due(&mut self, now: Instant) {
        while let Some(entry) = self.again.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.queue.push_back(entry.remove());
        }
    }

    /// Notes that pickup-rs has answered for this message.
    pub(crate) fn answered(&mut self, key: &FeedKey) {
        self.fed.remove(key);
    }

    /// Notes that pickup-rs has refused this message for now.
    pub(crate) fn refused(&mut self, now: Instant, key: FeedKey) {
        self.fed.remove(&key);
        if self.is_unresolved(&key) {
            let times = self.refusals.entry(key.id).or_default();
            *times = times.saturating_add(1);
            self.again.insert((now + AGAIN.pause(*times), key.id), key);
        }
    }

    /// Notes that Redis has decided about this message.
    pub(crate) fn resolved(&mut self, key: &FeedKey) {
        self.refusals.remove(&key.id);
        let Some(open) = self.lots.get_mut(&key.lot).filter(|open| open.epoch == key.epoch) else {
            return;
        };
        open.unresolved.remove(&key.id);
        if let Source::Notice { resolved } = &mut open.source {
            resolved.insert(key.id);
        }
        if open.unresolved.is_empty() {
            self.lots.remove(&key.lot);
            self.done.insert((key.lot, key.epoch));
        }
    }

    /// Notes that pickup-rs has gone. Messages under way may or may not have become files.
    pub(crate) fn lost_sight(&mut self) {
        self.unsure.extend(std::mem::take(&mut self.fed));
    }

    /// Notes the files of an inventory. Messages that were under way and have no file are fed
    /// again.
    pub(crate) fn found(&mut self, files: &BTreeSet<FeedKey>) {
        for key in std::mem::take(&mut self.unsure) {
            if !files.contains(&key) {
                self.feed_again(key);
            }
        }
    }

    /// Feeds a message again, unless it is resolved or its lot was taken away.
    pub(crate) fn feed_again(&mut self, key: FeedKey) {
        if self.is_unresolved(&key) {
            self.queue.push_front(key);
        }
    }

    /// Forgets all messages but those under way, for which pickup-rs will answer.
    pub(crate) fn stop(&mut self) {
        self.lots.clear();
        self.queue.clear();
        self.again.clear();
        self.unsure.clear();
        self.refusals.clear();
    }

    /// Redis is another server, where the next lot may have a lower number.
    pub(crate) fn forget_numbers(&mut self) {
        self.highest = LotNumber::default();
        self.answered = LotNumber::default();
    }

    fn is_unresolved(&self, key: &FeedKey) -> bool {
        let open = self.lots.get(&key.lot).filter(|open| open.epoch == key.epoch);
        open.is_some_and(|open| open.unresolved.contains(&key.id))
    }

    /// Returns the number of messages that pickup-rs has under way.
    pub(crate) fn under_way(&self) -> usize {
        self.fed.len()
    }

    /// Returns whether some message of this lot is unresolved.
    pub(crate) fn is_open(&self, lot: LotNumber) -> bool {
        self.lots.contains_key(&lot)
    }

    /// Returns whether some lot is known from a notice only.
    pub(crate) fn has_noticed(&self) -> bool {
        self.lots.values().any(|open| matches!(open.source, Source::Notice { .. }))
    }

    /// Returns whether there is no lot to work on.
    pub(crate) fn is_idle(&self) -> bool {
        self.lots.is_empty()
    }

    /// Returns whether pickup-rs has no message under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.fed.is_empty()
    }

    /// Returns the time at which a refused message must be fed again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.again.keys().next().map(|(when, _)| *when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> MessageId {
        MessageId::from_parts(1, n)
    }

    fn lot(number: u64, epoch: u64, ids: std::ops::Range<u128>) -> OwnLot {
        OwnLot { lot: LotNumber(number), epoch: Epoch(epoch), ids: ids.map(id).collect() }
    }

    fn key(number: u64, epoch: u64, n: u128) -> FeedKey {
        FeedKey { lot: LotNumber(number), epoch: Epoch(epoch), id: id(n) }
    }

    fn fed(feeding: &mut Feeding, ahead: usize) -> Option<(u64, usize)> {
        feeding.next(Instant::now(), ahead).map(|(lot, _, ids)| (lot.0, ids.len()))
    }

    #[test]
    fn a_request_names_one_lot_and_comes_when_half_is_done() {
        let mut feeding = Feeding::default();
        feeding.learn(&[lot(1, 1, 0..6), lot(2, 1, 6..20)]);
        assert_eq!([fed(&mut feeding, 8), fed(&mut feeding, 8)], [Some((1, 6)), None]);
        feeding.answered(&key(1, 1, 0));
        assert_eq!(fed(&mut feeding, 8), None, "five of eight are under way");
        feeding.answered(&key(1, 1, 1));
        assert_eq!(fed(&mut feeding, 8), Some((2, 4)));
    }

    #[test]
    fn a_lot_from_a_notice_is_opened_once_and_a_late_notice_opens_none() {
        let mut feeding = Feeding::default();
        let notice = |number, n| SmallLot { lot: LotNumber(number), ids: vec![id(n)] };
        assert!(feeding.assigned(&notice(3, 0)));
        assert_eq!(fed(&mut feeding, 8), Some((3, 1)));
        // A lot that is fetched after its notice isn't new.
        feeding.asked();
        feeding.learn(&[lot(3, 1, 0..1)]);
        assert_eq!(fed(&mut feeding, 8), None);
        feeding.answered(&key(3, 1, 0));
        feeding.resolved(&key(3, 1, 0));
        feeding.asked();
        assert_eq!([3, 2].map(|number| feeding.assigned(&notice(number, 0))), [false, false]);
        assert!(feeding.is_idle());
    }

    fn notice(number: u64, ids: std::ops::Range<u128>) -> SmallLot {
        SmallLot { lot: LotNumber(number), ids: ids.map(id).collect() }
    }

    fn resolve(feeding: &mut Feeding, key: &FeedKey) {
        feeding.answered(key);
        feeding.resolved(key);
    }

    /// Checks the case of a submitter who publishes the next lot's number before its lot is cut.
    #[test]
    fn a_lot_of_which_a_false_notice_came_first_is_fed_as_redis_has_it() {
        let mut feeding = Feeding::default();
        assert!(feeding.assigned(&notice(3, 0..2)));
        assert_eq!(feeding.next(Instant::now(), 1).map(|it| it.2), Some(vec![id(0)]));
        assert!(!feeding.assigned(&notice(3, 7..9)), "it is fetched");
        feeding.asked();
        feeding.learn(&[lot(3, 1, 7..9)]);
        assert!(!feeding.is_quiet(), "one message was fed");
        feeding.refused(Instant::now(), key(3, 1, 0));
        assert_eq!(feeding.due(), None, "it isn't fed again");
        assert_eq!(feeding.next(Instant::now(), 8).map(|it| it.2), Some(vec![id(7), id(8)]));
        resolve(&mut feeding, &key(3, 1, 0));
        assert!(feeding.is_open(LotNumber(3)));
        [7, 8].iter().for_each(|&n| resolve(&mut feeding, &key(3, 1, n)));
        assert!(feeding.is_idle());
    }

    #[test]
    fn an_answer_that_confirms_a_notice_brings_no_committed_message_back() {
        let mut feeding = Feeding::default();
        feeding.assigned(&notice(3, 0..3));
        assert_eq!(fed(&mut feeding, 8), Some((3, 3)));
        resolve(&mut feeding, &key(3, 1, 0));
        feeding.asked();
        resolve(&mut feeding, &key(3, 1, 1));
        feeding.learn(&[lot(3, 1, 0..3)]);
        feeding.answered(&key(3, 1, 2));
        let again = feeding.next(Instant::now(), 8).map(|it| it.2);
        assert_eq!(again, Some(vec![id(0)]), "only what Redis had after its decision");
    }

    #[test]
    fn a_false_notice_of_a_high_number_counts_until_the_next_answer() {
        let mut feeding = Feeding::default();
        assert!(feeding.assigned(&notice(u64::MAX, 0..1)));
        assert!(!feeding.assigned(&notice(3, 1..2)));
        feeding.asked();
        feeding.learn(&[lot(3, 1, 1..2)]);
        assert_eq!([3, 4].map(|n| feeding.assigned(&notice(n, 2..3))), [false, true]);
        feeding.asked();
        feeding.learn(&[]);
        assert!(!feeding.assigned(&notice(3, 1..2)), "Redis had this one");
    }

    /// Redis was restored from an older copy.
    #[test]
    fn after_a_change_of_redis_a_notice_of_a_lower_number_opens_its_lot() {
        let mut feeding = Feeding::default();
        feeding.learn(&[lot(1000, 1, 0..1)]);
        feeding.stop();
        feeding.forget_numbers();
        feeding.asked();
        feeding.learn(&[lot(7, 1, 1..2)]);
        assert_eq!([7, 8].map(|n| feeding.assigned(&notice(n, 2..3))), [false, true]);
    }

    #[test]
    fn an_answer_from_before_a_commit_brings_nothing_back() {
        let mut feeding = Feeding::default();
        feeding.asked();
        feeding.learn(&[lot(1, 1, 0..1)]);
        fed(&mut feeding, 8);
        feeding.asked();
        feeding.answered(&key(1, 1, 0));
        feeding.resolved(&key(1, 1, 0));
        feeding.learn(&[lot(1, 1, 0..1)]);
        assert!(feeding.is_idle(), "it was asked for before the message was committed");
        feeding.asked();
        feeding.learn(&[lot(1, 1, 0..1)]);
        assert!(!feeding.is_idle(), "Redis still has it, so it wasn't");
    }

    #[test]
    fn a_lot_taken_away_is_fed_no_further_and_a_new_tenure_from_the_start() {
        let mut feeding = Feeding::default();
        feeding.learn(&[lot(1, 1, 0..20)]);
        fed(&mut feeding, 4);
        feeding.learn(&[]);
        assert!(feeding.is_idle());
        feeding.learn(&[lot(1, 2, 0..20)]);
        assert_eq!(fed(&mut feeding, 40), Some((1, 20)));
    }

    #[test]
    fn what_pickup_took_along_is_fed_again_unless_it_has_a_file() {
        let mut feeding = Feeding::default();
        feeding.learn(&[lot(1, 1, 0..3)]);
        fed(&mut feeding, 8);
        feeding.lost_sight();
        assert!(feeding.is_quiet());
        feeding.found(&BTreeSet::from([key(1, 1, 1)]));
        assert_eq!(fed(&mut feeding, 8), Some((1, 2)));
    }

    #[test]
    fn what_is_refused_for_now_comes_again_later_and_later() {
        let now = Instant::now();
        let mut feeding = Feeding::default();
        feeding.learn(&[lot(1, 1, 0..1)]);
        fed(&mut feeding, 8);
        feeding.refused(now, key(1, 1, 0));
        assert_eq!(feeding.due(), Some(now + AGAIN.shortest));
        assert_eq!(feeding.next(now, 8), None);
        assert!(feeding.next(now + AGAIN.shortest, 8).is_some());
        feeding.refused(now, key(1, 1, 0));
        assert_eq!(feeding.due(), Some(now + 2 * AGAIN.shortest));
        (0..20).for_each(|_| feeding.refused(now, key(1, 1, 0)));
        assert!(feeding.due().is_some_and(|due| due <= now + AGAIN.longest));
    }
}
