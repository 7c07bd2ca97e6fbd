//! What a node has on disk against what Redis says it has: recovery from nothing but these two.
//!
//! Redis is asked first. So a message that Redis says is committed here had its queue file when
//! Redis was asked, unless the disk was put back to an earlier state. Whether the absence of its
//! file proves that Postfix is done with it, Redis decides: see "Proof of delivery" in
//! `optimus.lua`.
//!
//! | on disk | committed here in Redis | not |
//! |---|---|---|
//! | prepared | release | commit, and see |
//! | prepared, and ordered to be deleted or held | take the commit back, discard | commit, and see |
//! | with the queue manager | track | commit, and see; if refused, it may be sent twice |
//! | nothing, and its release was never asked for | take the commit back | feed again |
//! | nothing, otherwise | say that it is absent | feed again, if it was prepared |
//! | a file that can't be read | leave alone | leave alone |
//! | a file by another name | note its name, if the file of the old name is not there | leave alone |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pickup_rs::protocol::{Place, Proof, QueuedFile, Request};
use postfix_wire::QueueId;
use spool::{MessageId, Rest};

use super::feeding::FeedKey;
use super::ledger::{Disk, Fate};
use super::report::{HandoffOutcome, Owned, Rename};
use super::{Inventory, Mail, RECOVERY_PATIENCE, Recovery};

/// What follows from the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Committed, and still prepared.
    release: Vec<QueueId>,
    /// Committed, still prepared, and not to be sent.
    withdraw: Vec<(QueueId, MessageId)>,
    /// Committed, here, and to be released or with the queue manager.
    track: Vec<(QueueId, MessageId)>,
    /// Here, and resting in Postfix's deferred or hold queue.
    rest: Vec<(QueueId, Rest)>,
    /// Here, and not decided.
    undecided: Vec<(QueueId, FeedKey, HandoffOutcome)>,
    /// Committed, and here by another name: the old one and the new one.
    renamed: Vec<Rename>,
    /// Committed, and gone.
    gone: Vec<(QueueId, MessageId)>,
    /// All that is here.
    names: BTreeSet<QueueId>,
}

/// Compares. `committed` must have been read before `files` and `renamed`. `is_stopped` names the
/// files that must not be released.
fn compare(
    files: &[QueuedFile],
    renamed: &[QueuedFile],
    committed: &BTreeMap<QueueId, Owned>,
    is_stopped: impl Fn(&QueuedFile) -> bool,
) -> Findings {
    let mut findings = Findings::default();
    for file in files {
        findings.names.insert(file.queue_id.clone());
        if committed.get(&file.queue_id).is_some_and(|owned| owned.id == file.id) {
            findings.ours(file, is_stopped(file));
        } else {
            findings.undecided.push((file.queue_id.clone(), piece_of(file), how(file.place)));
        }
        findings.rest.extend(rest(file).map(|rest| (file.queue_id.clone(), rest)));
    }
    let all = files.iter().chain(renamed);
    let mut here: BTreeSet<(&QueueId, MessageId)> =
        all.map(|file| (&file.queue_id, file.id)).collect();
    let by_id: BTreeMap<MessageId, &QueueId> =
        committed.iter().map(|(name, it)| (it.id, name)).collect();
    for file in renamed {
        let Some(&was) = by_id.get(&file.id) else { continue };
        if *was != file.queue_id {
            // Its own file is there, or another copy was found before.
            if !here.insert((was, file.id)) {
                continue;
            }
            findings.renamed.push(Rename {
                id: file.id,
                was: was.clone(),
                now: file.queue_id.clone(),
            });
        }
        findings.names.insert(file.queue_id.clone());
        findings.ours(file, false);
        findings.rest.extend(rest(file).map(|rest| (file.queue_id.clone(), rest)));
    }
    let gone = committed.iter().filter(|(queue_id, owned)| !here.contains(&(*queue_id, owned.id)));
    findings.gone = gone.map(|(queue_id, owned)| (queue_id.clone(), owned.id)).collect();
    findings
}

impl Findings {
    fn ours(&mut self, file: &QueuedFile, is_stopped: bool) {
        let placed = (file.queue_id.clone(), file.id);
        match file.place {
            Place::Prepared if is_stopped => return self.withdraw.push(placed),
            Place::Prepared => self.release.push(file.queue_id.clone()),
            Place::Queued | Place::Deferred | Place::OnHold => (),
        }
        self.track.push(placed);
    }
}

fn piece_of(file: &QueuedFile) -> FeedKey {
    FeedKey { lot: file.lot, epoch: file.epoch, id: file.id }
}

fn how(place: Place) -> HandoffOutcome {
    match place {
        Place::Prepared => HandoffOutcome::Held,
        Place::Queued | Place::Deferred | Place::OnHold => HandoffOutcome::Stored,
    }
}

fn rest(file: &QueuedFile) -> Option<Rest> {
    match file.place {
        Place::Deferred => file.next_attempt_s.map(|next_s| Rest::Until(next_s * 1_000)),
        Place::OnHold => Some(Rest::OnHold),
        Place::Prepared | Place::Queued => None,
    }
}

impl Mail {
    pub(super) fn is_recovered(&self) -> bool {
        matches!(self.recovery, Recovery::Done)
    }

    pub(super) fn must_recover(&mut self) {
        match &mut self.recovery {
            Recovery::Listing { again, .. } => *again = true,
            Recovery::Needed | Recovery::Asking | Recovery::Done => {
                self.asks.inventory.forget();
                self.recovery = Recovery::Needed;
            }
        }
    }

    /// The step under way leads nowhere. A list that was asked for may still come, and is older
    /// than what Redis would be asked for next; so it must not be heard: only a new connection is
    /// sure of that.
    pub(super) fn recovery_failed(&mut self, now: Instant) {
        match self.recovery {
            Recovery::Listing { .. } => {
                tracing::error!("no inventory from pickup-rs, connecting again");
                self.link.begin_again(now);
                self.link_down();
            }
            Recovery::Needed | Recovery::Asking | Recovery::Done => self.must_recover(),
        }
    }

    pub(super) fn inventory_answered(&mut self, now: Instant, inventory: Inventory) {
        self.recovery_until = Some(now + RECOVERY_PATIENCE);
        let Inventory { committed, stopped, resting } = inventory;
        let known = self.ledger.known();
        let (files, renamed) = (Vec::new(), Vec::new());
        self.recovery =
            Recovery::Listing { committed, stopped, resting, known, files, renamed, again: false };
        self.link.send(Request::Inventory);
    }

    /// Files that are there and may be any of ours: what they hold is neither settled nor made
    /// again. When one can be read or is gone, pickup-rs says so.
    pub(super) fn unreadable(&mut self, queue_ids: &[QueueId]) {
        let Recovery::Listing { committed, known, .. } = &mut self.recovery else { return };
        for queue_id in queue_ids {
            committed.remove(queue_id);
            known.remove(queue_id);
        }
    }

    /// More of what is in the queue; with a proof, that was all.
    pub(super) fn listed(
        &mut self,
        now: Instant,
        mut more: Vec<QueuedFile>,
        mut more_renamed: Vec<QueuedFile>,
        complete: Option<Proof>,
    ) {
        let Recovery::Listing { files, renamed, .. } = &mut self.recovery else { return };
        files.append(&mut more);
        renamed.append(&mut more_renamed);
        self.recovery_until = Some(now + RECOVERY_PATIENCE);
        if let Some(proof) = complete {
            if let Recovery::Listing { committed, stopped, resting, known, files, renamed, again } =
                std::mem::replace(&mut self.recovery, Recovery::Done)
            {
                let is_stopped = |it: &QueuedFile| {
                    stopped.contains(&it.id) || self.ledger.is_withdrawn(&it.queue_id, it.id)
                };
                let found = compare(&files, &renamed, &committed, is_stopped);
                self.recovered(now, &found, &committed, &known, &files, proof);
                self.count(files.iter().chain(&renamed), &resting);
                if again {
                    self.must_recover();
                }
                self.look_for_gaps();
            }
        }
    }

    /// What is in flight: all but what Redis knows to rest, though Postfix may be at it again.
    fn count<'a>(
        &mut self,
        files: impl Iterator<Item = &'a QueuedFile>,
        resting: &BTreeSet<MessageId>,
    ) {
        self.shares.forget();
        for file in files.filter(|file| rest(file).is_none() && !resting.contains(&file.id)) {
            self.shares.begin(&file.queue_id, file.to.clone());
        }
    }

    /// What became of a committed file that is gone: the one place that judges it.
    fn fate(&self, queue_id: &QueueId) -> Fate {
        if self.unasked.contains(queue_id) { Fate::NeverReleased } else { Fate::Absent }
    }

    fn recovered(
        &mut self,
        now: Instant,
        found: &Findings,
        committed: &BTreeMap<QueueId, Owned>,
        known: &BTreeMap<QueueId, MessageId>,
        files: &[QueuedFile],
        proof: Proof,
    ) {
        tracing::info!(
            files = files.len(),
            undecided = found.undecided.len(),
            release = found.release.len(),
            withdraw = found.withdraw.len(),
            renamed = found.renamed.len(),
            gone = found.gone.len(),
            "recovered"
        );
        self.feeding.found(&files.iter().map(piece_of).collect());
        let is_missing = |(queue_id, id): &(&QueueId, &MessageId)| {
            !found.names.contains(*queue_id)
                && committed.get(*queue_id).map(|it| it.id) != Some(**id)
        };
        self.number(committed, found, proof);
        let disk =
            if std::mem::take(&mut self.lost_sight) { Disk::MayBePutBack } else { Disk::Same };
        for (queue_id, id) in known.iter().filter(is_missing) {
            if let Some(key) = self.ledger.missing(queue_id, *id, disk) {
                self.feeding.feed_again(key);
                self.remark_vanished(now);
            }
        }
        let ours = found.track.iter().filter_map(|(queue_id, id)| self.ledger.ours(queue_id, *id));
        ours.for_each(|key| self.feeding.resolved(&key));
        for (queue_id, id) in &found.gone {
            let fate = self.fate(queue_id);
            let undecided = self.ledger.was_ours(queue_id.clone(), *id, fate);
            undecided.iter().for_each(|key| self.feeding.resolved(key));
        }
        self.ledger.forget_vanished(&found.names);
        // An answer that came while pickup-rs was away may have asked for the release of some.
        let withdrawn: BTreeSet<&QueueId> =
            found.withdraw.iter().map(|(queue_id, _)| queue_id).collect();
        self.releases.retain(|queue_id| !withdrawn.contains(queue_id));
        for (queue_id, id) in &found.withdraw {
            let undecided = self.ledger.withdraw(queue_id.clone(), *id);
            undecided.iter().for_each(|key| self.feeding.resolved(key));
        }
        self.unasked.clear();
        self.ledger.compared();
        for (queue_id, key, how) in &found.undecided {
            self.ledger.handed(queue_id.clone(), *key, *how);
        }
        for (queue_id, rest) in &found.rest {
            self.ledger.rests(queue_id, *rest);
        }
        self.releases.extend(found.release.iter().cloned());
        self.must_fetch = true;
        self.orders.look();
    }

    /// Has new names noted, and new numbers given to commits that were made before the disk was put
    /// back: of those absence would never prove anything.
    fn number(&mut self, committed: &BTreeMap<QueueId, Owned>, found: &Findings, proof: Proof) {
        self.ledger.looked(proof.mark);
        let last = committed.values().map(|owned| owned.number).max().unwrap_or_default();
        self.ledger.numbers.compared(last.max(proof.mark).max(proof.floor));
        found.renamed.iter().for_each(|rename| self.ledger.rename(rename.clone()));
        for (queue_id, id) in &found.track {
            if committed.get(queue_id).is_some_and(|it| it.number <= proof.floor) {
                let (was, now) = (queue_id.clone(), queue_id.clone());
                self.ledger.rename(Rename { id: *id, was, now });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Committed, FlushHint, Held, Report};
    use super::*;
    use spool::{CommitNumber, Epoch, LotNumber};

    fn queue_id(n: u64) -> QueueId {
        format!("4C1B2{n:05X}").parse().unwrap()
    }

    fn id(n: u64) -> MessageId {
        MessageId::from_parts(n, 0)
    }

    fn owned(n: u64) -> Owned {
        Owned { id: id(n), number: CommitNumber(n) }
    }

    fn file(n: u64, place: Place) -> QueuedFile {
        let next_attempt_s = (place == Place::Deferred).then_some(7);
        QueuedFile {
            id: id(n),
            lot: LotNumber(1),
            epoch: Epoch(1),
            queue_id: queue_id(n),
            place,
            next_attempt_s,
            to: Vec::new(),
        }
    }

    #[test]
    fn each_case_of_the_table() {
        let files = [
            file(1, Place::Prepared),
            file(2, Place::Queued),
            file(3, Place::Deferred),
            file(4, Place::Prepared),
            file(5, Place::Queued),
            file(7, Place::OnHold),
            file(8, Place::Prepared),
        ];
        let committed = [1, 2, 3, 6, 7, 8].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        // An order is not this agent's to carry out for files that the queue manager has.
        let found = compare(&files, &[], &committed, |it| [2, 4, 8].map(id).contains(&it.id));
        assert_eq!(found.release, [queue_id(1)]);
        assert_eq!(found.withdraw, [(queue_id(8), id(8))]);
        assert_eq!(found.track, [1, 2, 3, 7].map(|n| (queue_id(n), id(n))));
        assert_eq!(found.rest, [(queue_id(3), Rest::Until(7_000)), (queue_id(7), Rest::OnHold)]);
        let undecided: Vec<_> =
            found.undecided.iter().map(|(queue_id, _, how)| (queue_id.clone(), *how)).collect();
        assert_eq!(
            undecided,
            [(queue_id(4), HandoffOutcome::Held), (queue_id(5), HandoffOutcome::Stored)]
        );
        assert_eq!(found.gone, [(queue_id(6), id(6))]);
    }

    #[test]
    fn a_queue_id_given_again_is_another_file() {
        let committed = BTreeMap::from([(queue_id(1), owned(9))]);
        let found = compare(&[file(1, Place::Prepared)], &[], &committed, |_| false);
        assert_eq!((found.undecided.len(), found.gone), (1, vec![(queue_id(1), id(9))]));
    }

    #[test]
    fn a_file_by_another_name_is_the_committed_one_only_where_that_is_not_there() {
        let by_name = |n, name| QueuedFile { queue_id: queue_id(name), ..file(n, Place::Deferred) };
        let committed = [1, 2, 3].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        let files = [file(1, Place::Queued)];
        let renamed = [by_name(1, 11), by_name(2, 12), by_name(2, 22), by_name(4, 14)];
        let found = compare(&files, &renamed, &committed, |_| false);
        assert_eq!(found.renamed, [Rename { id: id(2), was: queue_id(2), now: queue_id(12) }]);
        assert_eq!(found.track, [(queue_id(1), id(1)), (queue_id(12), id(2))]);
        assert_eq!(found.gone, [(queue_id(3), id(3))]);
        assert_eq!(found.undecided, [], "a copy is Postfix's alone");
        let noted = BTreeMap::from([(queue_id(12), owned(2))]);
        let found = compare(&[], &renamed[1..2], &noted, |_| false);
        assert_eq!((found.track, found.gone), (vec![(queue_id(12), id(2))], vec![]));
    }

    fn mail(now: Instant) -> Mail {
        let generation = "00000000000000000000000001".parse().unwrap();
        let (name, term) = ("node".to_owned(), std::time::Duration::from_secs(1));
        Mail::new(super::super::Config { generation, name, term, window: 1 }, now)
    }

    /// Compares what Redis has with what is in the queue.
    fn recover(mail: &mut Mail, committed: &[u64], files: Vec<QueuedFile>, mark: u64) {
        let now = Instant::now();
        let committed = committed.iter().map(|n| (queue_id(*n), owned(*n))).collect();
        mail.ledger.numbers.ask();
        mail.inventory_answered(now, Inventory { committed, ..Inventory::default() });
        let proof = Proof { mark: CommitNumber(mark), ..Proof::default() };
        mail.listed(now, files, Vec::new(), Some(proof));
    }

    fn reported(mail: &mut Mail, commits: &[Committed]) -> Report {
        let now = Instant::now();
        let report = mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        mail.reported(now, commits, &[], &BTreeSet::new());
        report
    }

    /// A virtual machine was copied with its memory. Its agent has committed 1001 and is gone, with
    /// the file.
    #[test]
    fn the_mark_doesn_t_rise_over_commits_of_a_copy_of_this_process() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[1000], vec![file(1000, Place::Queued)], 1000);
        mail.ledger.handed(
            queue_id(1002),
            piece_of(&file(1002, Place::Prepared)),
            HandoffOutcome::Held,
        );
        reported(&mut mail, &[Committed::Ours(CommitNumber(1002))]);
        assert_eq!((mail.release(), mail.is_recovered()), (None, false));
        let files = vec![file(1000, Place::Queued), file(1002, Place::Prepared)];
        recover(&mut mail, &[1000, 1001, 1002], files, 1000);
        assert_eq!(mail.release(), None, "Redis has not decided");
        let report = reported(&mut mail, &[]);
        assert_eq!(report.absents, [(queue_id(1001), id(1001))]);
        assert_eq!(report.mark, CommitNumber(1000), "so it is sent again");
        let Some(Request::Release { mark, .. }) = mail.release() else { panic!("no release") };
        assert_eq!(mark, CommitNumber(1002));
    }

    #[test]
    fn settled_commits_before_the_first_one_cost_one_comparison() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[], Vec::new(), 0);
        mail.ledger.handed(queue_id(7), piece_of(&file(7, Place::Prepared)), HandoffOutcome::Held);
        reported(&mut mail, &[Committed::Ours(CommitNumber(7))]);
        assert!(!mail.is_recovered());
        recover(&mut mail, &[7], vec![file(7, Place::Prepared)], 0);
        assert!(mail.is_recovered());
        mail.ledger.handed(queue_id(8), piece_of(&file(8, Place::Prepared)), HandoffOutcome::Held);
        reported(&mut mail, &[Committed::Ours(CommitNumber(8))]);
        assert!(mail.is_recovered());
    }

    #[test]
    fn what_may_be_in_a_file_that_can_t_be_read_is_left_alone() {
        let now = Instant::now();
        let mut mail = mail(now);
        let committed = [1, 2].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        let known = BTreeMap::from([(queue_id(3), id(3))]);
        mail.ledger.handed(queue_id(3), piece_of(&file(3, Place::Prepared)), HandoffOutcome::Held);
        let (stopped, resting) = (BTreeSet::new(), BTreeSet::new());
        let (files, renamed) = (Vec::new(), Vec::new());
        mail.recovery =
            Recovery::Listing { committed, stopped, resting, known, files, renamed, again: false };
        mail.unreadable(&[queue_id(1), queue_id(3)]);
        mail.listed(now, Vec::new(), Vec::new(), Some(Proof::default()));
        assert_eq!(mail.ledger.known(), BTreeMap::from([(queue_id(3), id(3))]));
        let report = mail.ledger.next_report(now, Held::Later, FlushHint::Nothing).unwrap();
        assert_eq!(report.absents, [(queue_id(2), id(2))]);
    }
}
