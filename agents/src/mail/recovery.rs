//! Recovery: the comparison of a node's disk with Redis, which needs no other state.
//!
//! ```text
//!  Uncompared ─▶ Asking: arrive, what is committed? ─▶ Listing: what is in the queue? ─▶ compare
//! ```
//!
//! Redis is asked first. So each message that is committed here had its queue file when Redis was
//! asked, unless the disk was put back to an earlier state. Redis decides whether an absent file
//! proves that Postfix has sent the message: see "Proof of delivery" in `optimus.lua`.
//! [`super::comparison`] has the consequences for each file.
//!
//! A late list would be older than the next answer of Redis. So a listing that is given up ends
//! with its connection.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use handoff::protocol::{Proof, QueuedFile, Request};
use postfix_wire::QueueId;
use spool::{CommitNumber, Rest};

use super::comparison::{Findings, compare, key_of, rest};
use super::ledger::Fate;
use super::phase::{List, Phase, Serving, Then};
use super::report::{Held, Rename};
use super::{Inventory, Mail};

/// Pause before the next comparison, after pickup-rs has reported trouble or an unknown file.
const COMPARE_AFTER: Duration = Duration::from_secs(10);
/// Time without progress after which a step of recovery has failed. A scan of a million files on a
/// slow disk takes less.
pub(super) const RECOVERY_PATIENCE: Duration = Duration::from_secs(300);

impl Mail {
    /// Begins another comparison, in a phase that comes after one.
    pub(super) fn compare_again(&mut self) {
        let then = match &mut self.phase {
            Phase::Serving(_) => Then::Serve,
            Phase::Deciding { leave_by } => Then::Decide { leave_by: *leave_by },
            Phase::Leaving { held, .. } => return *held = Held::Later,
            _ => return,
        };
        self.enter(Phase::Uncompared { then });
    }

    /// Compares as after an arrival, since Redis has failed over or was started again. The new
    /// server may lack decisions of the old one. Files whose commits it lacks are committed anew.
    /// The new server may give numbers of lots and commits out again, so the known ones are
    /// forgotten. So are releases and discards that wait, and the answer to a report under way.
    /// All this holds as well while the node has no lease.
    pub(super) fn redis_changed(&mut self, now: Instant) {
        let then = Then::Decide { leave_by: self.phase.leave_by() };
        match &mut self.phase {
            Phase::Nameless | Phase::Outside { .. } | Phase::Ended(_) => (),
            Phase::CutOff { hand_back, .. } => hand_back.want(),
            Phase::Leaving { hand_back, held, .. } => {
                hand_back.want();
                *held = Held::Later;
            }
            Phase::Listing { then: after, .. } => {
                *after = then;
                self.reconnect(now);
            }
            Phase::Uncompared { .. }
            | Phase::Asking { .. }
            | Phase::Deciding { .. }
            | Phase::Serving(_) => self.enter(Phase::Uncompared { then }),
        }
        self.feeding.stop();
        self.feeding.forget_numbers();
        self.ledger.doubt_commits();
        self.releases.redis_changed();
    }

    /// Sets a comparison for later, since a reply doesn't fit the known state.
    pub(super) fn compare_soon(&mut self, now: Instant) {
        self.compare_at.get_or_insert(now + COMPARE_AFTER);
    }

    /// Notes that a request to pickup-rs failed, which may have been for the list of the queue.
    pub(super) fn pickup_failed(&mut self, now: Instant) {
        self.compare_soon(now);
        if let Phase::Listing { until, .. } = &mut self.phase {
            *until = (*until).min(now + COMPARE_AFTER);
        }
    }

    /// Checks whether a step has taken too long, or a comparison is due.
    pub(super) fn look_for_stuck_recovery(&mut self, now: Instant) {
        match self.phase {
            Phase::Asking { then, until, .. } if until <= now => {
                self.enter(Phase::Uncompared { then });
            }
            Phase::Listing { until, .. } if until <= now => {
                tracing::error!("no inventory came from pickup-rs in time; connection made anew");
                self.reconnect(now);
            }
            _ if self.compare_due().is_some_and(|when| when <= now) => {
                self.compare_at = None;
                self.compare_again();
            }
            _ => (),
        }
    }

    /// Returns the time of a comparison that is set, in phases that can begin one.
    pub(super) fn compare_due(&self) -> Option<Instant> {
        let is_compared = matches!(self.phase, Phase::Deciding { .. } | Phase::Serving(_));
        self.compare_at.filter(|_| is_compared)
    }

    /// Begins a comparison if another process has commits for this node. This process must know
    /// them before the mark rises.
    pub(super) fn look_for_gaps(&mut self) {
        if self.phase.held() == Held::Too && self.ledger.numbers.has_gap() {
            tracing::info!("gap in commit numbers found; comparison begun");
            self.compare_again();
        }
    }

    pub(super) fn inventory_answered(&mut self, now: Instant, inventory: Inventory) {
        let Phase::Asking { then, .. } = self.phase else {
            return debug_assert!(false, "only an agent that asks waits for this answer");
        };
        let Inventory { committed, stopped, resting } = inventory;
        let known = self.ledger.known();
        let list = Box::new(List { committed, stopped, resting, known, ..List::default() });
        // The list will show all earlier events.
        self.compare_at = None;
        self.enter(Phase::Listing { then, until: now + RECOVERY_PATIENCE, list });
        self.link.send(Request::Inventory);
    }

    /// Leaves out files that can't be read, each of which may be this node's. Their messages are
    /// neither settled nor fed until pickup-rs can read the files, or sees them gone.
    pub(super) fn unreadable(&mut self, queue_ids: &[QueueId]) {
        let Phase::Listing { list, .. } = &mut self.phase else {
            return tracing::trace!(
                phase = self.phase.name(),
                "list of committed mail came too late"
            );
        };
        for queue_id in queue_ids {
            list.committed.remove(queue_id);
            list.known.remove(queue_id);
        }
    }

    /// Takes a part of the queue's list. `complete` comes with the last part.
    pub(super) fn listed(
        &mut self,
        now: Instant,
        mut files: Vec<QueuedFile>,
        mut renamed: Vec<QueuedFile>,
        complete: Option<Proof>,
    ) {
        let Phase::Listing { then, until, list } = &mut self.phase else {
            return tracing::trace!(
                phase = self.phase.name(),
                "list of committed mail came too late"
            );
        };
        list.files.append(&mut files);
        list.renamed.append(&mut renamed);
        *until = now + RECOVERY_PATIENCE;
        let Some(proof) = complete else { return };
        let (then, list) = (*then, std::mem::take(list));
        self.enter(match then {
            Then::Serve => Phase::Serving(Serving::begin()),
            Then::Decide { leave_by } => Phase::Deciding { leave_by },
        });
        self.compared(now, &list, proof);
        self.look_for_gaps();
    }

    /// Compares, and notes all findings.
    fn compared(&mut self, now: Instant, list: &List, proof: Proof) {
        let is_stopped = |it: &QueuedFile| {
            list.stopped.contains(&it.id) || self.ledger.is_withdrawn(&it.queue_id, it.id)
        };
        let found = compare(&list.files, &list.renamed, &list.committed, is_stopped);
        tracing::info!(
            files = list.files.len(),
            undecided = found.undecided.len(),
            release = found.release.len(),
            withdraw = found.withdraw.len(),
            renamed = found.renamed.len(),
            gone = found.gone.len(),
            "queue compared with Redis"
        );
        self.feeding.found(&list.files.iter().map(key_of).collect());
        self.number(list, &found, proof);
        self.miss(now, list, &found);
        self.own(&found);
        self.withdraw_stopped(&found);
        self.ledger.compared();
        // An answer from before the node was lost may have queued the release of some files.
        self.releases.withhold(&found.undecided.iter().map(|(queue_id, ..)| queue_id).collect());
        for (queue_id, key, how) in &found.undecided {
            if self.ledger.is_foreign(queue_id, key.id, *how) {
                continue;
            }
            self.ledger.uncommitted(queue_id, key.id);
            self.ledger.handed(queue_id.clone(), *key, *how);
        }
        self.note_rests(list, &found);
        self.releases.release(found.release);
        self.count(list);
        self.orders.look();
    }

    /// Has Redis note which files rest. Ends holds of other files: the administrator has released
    /// them unseen. Otherwise, if the node was lost, such a hold would keep the message from being
    /// sent again.
    fn note_rests(&mut self, list: &List, found: &Findings) {
        for (queue_id, rest) in &found.rest {
            self.ledger.rests(queue_id, *rest);
        }
        let on_hold = self.ledger.told_on_hold();
        for file in list.files.iter().chain(&list.renamed).filter(|file| rest(file).is_none()) {
            let by_redis = list.resting.get(&file.id);
            if by_redis == Some(&Rest::OnHold) || on_hold.contains(&file.queue_id) {
                self.ledger.rests(&file.queue_id, Rest::Until(0));
            }
        }
    }

    /// Has Redis note new names, and give new numbers to commits from before the disk was put back.
    /// With their old numbers, absence of a file would never prove its delivery.
    fn number(&mut self, list: &List, found: &Findings, proof: Proof) {
        self.ledger.looked(proof.mark);
        let last = list.committed.values().map(|owned| owned.number).max();
        let covered: CommitNumber = last.unwrap_or_default().max(proof.mark).max(proof.floor);
        self.ledger.numbers.compared(covered);
        found.renamed.iter().for_each(|rename| self.ledger.rename(rename.clone()));
        for (queue_id, id) in &found.track {
            if list.committed.get(queue_id).is_some_and(|it| it.number <= proof.floor) {
                let (was, now) = (queue_id.clone(), queue_id.clone());
                self.ledger.rename(Rename { id: *id, was, now });
            }
        }
    }

    /// Notes known files that are gone without a commit.
    fn miss(&mut self, now: Instant, list: &List, found: &Findings) {
        for (queue_id, id) in &list.known {
            let is_committed = list.committed.get(queue_id).map(|it| it.id) == Some(*id);
            if is_committed || found.names.contains(queue_id) {
                continue;
            }
            if let Some(key) = self.ledger.missing(queue_id, *id) {
                self.feeding.feed_again(key);
                self.remark_vanished(now);
            }
        }
    }

    /// Notes committed files, those that are here and those that are gone.
    fn own(&mut self, found: &Findings) {
        for (queue_id, id) in &found.track {
            let undecided = self.ledger.ours(queue_id, *id);
            undecided.iter().for_each(|key| self.feeding.resolved(key));
        }
        for (queue_id, id) in &found.gone {
            let is_unasked = self.releases.is_unasked(queue_id);
            let fate = if is_unasked { Fate::NeverReleased } else { Fate::Absent };
            let undecided = self.ledger.was_ours(queue_id.clone(), *id, fate);
            undecided.iter().for_each(|key| self.feeding.resolved(key));
        }
        self.releases.forget_unasked();
    }

    /// Withdraws the prepared files that operators have stopped.
    fn withdraw_stopped(&mut self, found: &Findings) {
        self.ledger.forget_vanished(&found.names);
        // An answer that came while pickup-rs was away may have queued the release of some files.
        let stopped: BTreeSet<&QueueId> =
            found.withdraw.iter().map(|(queue_id, _)| queue_id).collect();
        self.releases.withhold(&stopped);
        for (queue_id, id) in &found.withdraw {
            let undecided = self.ledger.withdraw(queue_id.clone(), *id);
            undecided.iter().for_each(|key| self.feeding.resolved(key));
        }
    }

    /// Counts all files as in flight, except those that rest on disk or by Redis's account.
    fn count(&mut self, list: &List) {
        self.shares.forget();
        let all = list.files.iter().chain(&list.renamed);
        for file in all.filter(|file| rest(file).is_none() && !list.resting.contains_key(&file.id))
        {
            self.shares.begin(&file.queue_id, file.to.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use handoff::protocol::{FolderKind, NewName, Reply};
    use spool::{Act, Start};

    use super::super::report::{Committed, FlushHint, HandoffOutcome, MailReport};
    use super::super::samples::{file, id, owned, queue_id};
    use super::*;
    use crate::machine::Ask;

    fn mail(now: Instant) -> Mail {
        let generation = "00000000000000000000000001".parse().unwrap();
        let (name, term) = ("node".to_owned(), Duration::from_secs(1));
        Mail::new(super::super::MailConfig { generation, name, term, window: 1 }, now)
    }

    fn asking(mail: &mut Mail, now: Instant) {
        let (then, until) = (Then::Serve, now + RECOVERY_PATIENCE);
        mail.phase = Phase::Asking { then, until, inventory: Ask::default() };
    }

    fn is_recovered(mail: &Mail) -> bool {
        mail.phase.held() == Held::Too
    }

    /// Runs a recovery with these commits in Redis and these files in the queue.
    fn recover(mail: &mut Mail, committed: &[u64], files: Vec<QueuedFile>, mark: u64) {
        let now = Instant::now();
        let committed = committed.iter().map(|n| (queue_id(*n), owned(*n))).collect();
        mail.ledger.numbers.ask();
        asking(mail, now);
        mail.inventory_answered(now, Inventory { committed, ..Inventory::default() });
        let proof = Proof { mark: CommitNumber(mark), ..Proof::default() };
        mail.listed(now, files, Vec::new(), Some(proof));
    }

    fn reported(mail: &mut Mail, commits: &[Committed]) -> MailReport {
        let now = Instant::now();
        let report = mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        mail.reported(now, commits, &[], &BTreeSet::new());
        report
    }

    /// Checks the case of a virtual machine that was copied with its memory. The copy's agent has
    /// committed 1001 and is gone, with the file.
    #[test]
    fn the_mark_doesn_t_rise_over_commits_of_a_copy_of_this_process() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[1000], vec![file(1000, FolderKind::Queued)], 1000);
        mail.ledger.handed(
            queue_id(1002),
            key_of(&file(1002, FolderKind::Prepared)),
            HandoffOutcome::Held,
        );
        reported(&mut mail, &[Committed::Ours(CommitNumber(1002))]);
        assert_eq!((mail.release_request(), is_recovered(&mail)), (None, false));
        let files = vec![file(1000, FolderKind::Queued), file(1002, FolderKind::Prepared)];
        recover(&mut mail, &[1000, 1001, 1002], files, 1000);
        assert_eq!(mail.release_request(), None, "Redis has not decided");
        let report = reported(&mut mail, &[]);
        assert_eq!(report.absents, [(queue_id(1001), id(1001))]);
        assert_eq!(report.mark, CommitNumber(1000), "so it is sent again");
        let Some(Request::Release { mark, .. }) = mail.release_request() else {
            panic!("no release")
        };
        assert_eq!(mark, CommitNumber(1002));
    }

    /// Hands 951 over after a recovery with 950.
    fn with_an_undecided_file() -> Mail {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[950], vec![file(950, FolderKind::Queued)], 950);
        let key = key_of(&file(951, FolderKind::Prepared));
        mail.ledger.handed(queue_id(951), key, HandoffOutcome::Held);
        mail
    }

    /// Checks that a promoted replica, which lacks both commits and goes on from the mark of the
    /// disk, commits both files before the mark covers them and the prepared one is released.
    fn commits_anew(mut mail: Mail) {
        let files = vec![file(950, FolderKind::Queued), file(951, FolderKind::Prepared)];
        recover(&mut mail, &[], files, 950);
        let released = |mail: &mut Mail| match mail.release_request() {
            Some(Request::Release { queue_ids, mark }) => (queue_ids, mark.0),
            other => panic!("{other:?}"),
        };
        assert_eq!(released(&mut mail), (Vec::new(), 950));
        reported(&mut mail, &[951, 952].map(|n| Committed::Ours(CommitNumber(n))));
        assert_eq!(released(&mut mail), (vec![queue_id(951)], 952));
    }

    #[test]
    fn a_file_that_only_the_redis_before_committed_is_released_after_a_new_commit() {
        let mut mail = with_an_undecided_file();
        reported(&mut mail, &[Committed::Ours(CommitNumber(951))]);
        // pickup-rs was not told of the release.
        mail.redis_changed(Instant::now());
        commits_anew(mail);
    }

    /// Checks a report whose commits the old master answered, and the rest of it the new one.
    #[test]
    fn an_answer_of_the_redis_before_counts_for_nothing() {
        let (mut mail, now) = (with_an_undecided_file(), Instant::now());
        mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        mail.redis_changed(now);
        mail.reported(now, &[Committed::Ours(CommitNumber(951))], &[], &BTreeSet::new());
        commits_anew(mail);
    }

    /// The Mail Agent may die before Redis has taken the commit back.
    #[test]
    fn no_mark_covers_a_file_that_vanished_until_its_commit_is_taken_back() {
        let (mut mail, now) = (mail(Instant::now()), Instant::now());
        recover(&mut mail, &[7], vec![file(7, FolderKind::Queued)], 7);
        let hand = |mail: &mut Mail, n| {
            let key = key_of(&file(n, FolderKind::Prepared));
            mail.ledger.handed(queue_id(n), key, HandoffOutcome::Held);
        };
        let mark = |mail: &mut Mail| match mail.release_request() {
            Some(Request::Release { queue_ids, mark }) => Some((queue_ids.len(), mark.0)),
            _ => None,
        };
        hand(&mut mail, 8);
        reported(&mut mail, &[Committed::Ours(CommitNumber(8))]);
        assert_eq!(mark(&mut mail), Some((1, 8)));
        mail.heard(now, Reply::Vanished { queue_ids: vec![queue_id(8)] });
        assert_eq!(mark(&mut mail), Some((0, 0)));
        hand(&mut mail, 9);
        let report = mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        assert_eq!(report.uncommits, [(queue_id(8), id(8))]);
        assert_eq!(mark(&mut mail), None, "under way");
        mail.reported(now, &[Committed::Ours(CommitNumber(9))], &[], &BTreeSet::new());
        assert_eq!(mark(&mut mail), Some((1, 9)));
    }

    /// Other releases go out while Redis is asked to take a withdrawn commit back.
    #[test]
    fn a_withdrawn_file_keeps_the_mark_from_no_release() {
        let (mut mail, now) = (mail(Instant::now()), Instant::now());
        recover(&mut mail, &[7], vec![file(7, FolderKind::Queued)], 7);
        mail.ledger.withdraw(queue_id(8), id(8));
        assert!(!mail.ledger.has_uncommits());
        let report = mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        assert_eq!(report.uncommits, [(queue_id(8), id(8))]);
        assert!(!mail.ledger.has_uncommits(), "under way");
    }

    /// pickup-rs has died before it discarded the file.
    #[test]
    fn redis_decides_anew_about_a_withdrawn_file_whose_commit_was_taken_back() {
        let (mut mail, now) = (mail(Instant::now()), Instant::now());
        recover(&mut mail, &[7], vec![file(7, FolderKind::Queued)], 7);
        mail.ledger.withdraw(queue_id(8), id(8));
        mail.ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        mail.reported(now, &[], &[], &BTreeSet::new());
        recover(
            &mut mail,
            &[7],
            vec![file(7, FolderKind::Queued), file(8, FolderKind::Prepared)],
            7,
        );
        let report = reported(&mut mail, &[Committed::Fenced]);
        assert_eq!(report.commits.len(), 1);
        assert!(report.uncommits.is_empty());
    }

    /// Checks the case of a node that was lost while this process lived. An answer that came while
    /// pickup-rs was away has queued the release.
    #[test]
    fn redis_decides_anew_about_a_prepared_file_whose_commit_it_no_longer_has() {
        let mut mail = mail(Instant::now());
        let prepared = || vec![file(7, FolderKind::Prepared)];
        recover(&mut mail, &[7], prepared(), 7);
        recover(&mut mail, &[], prepared(), 7);
        let release = mail.releases.next_release(CommitNumber(7));
        let is_released = matches!(release, Some(Request::Release { queue_ids, .. })
            if !queue_ids.is_empty());
        assert!(!is_released, "others may have the message");
        let report = reported(&mut mail, &[Committed::Fenced]);
        assert_eq!(report.commits.len(), 1);
        let discard = Request::Discard { queue_ids: vec![queue_id(7)] };
        assert_eq!(mail.releases.next_discard(), Some(discard));
    }

    /// Checks the case of a node that came back after its loss: Postfix has mail that others send.
    #[test]
    fn redis_is_asked_once_about_a_file_that_it_has_refused_and_postfix_has() {
        let now = Instant::now();
        for outcome in [Committed::Fenced, Committed::Settled, Committed::Unknown] {
            let mut mail = mail(now);
            let deferred = || vec![file(7, FolderKind::Deferred)];
            recover(&mut mail, &[], deferred(), 0);
            reported(&mut mail, &[outcome]);
            recover(&mut mail, &[], deferred(), 0);
            let report = mail.ledger.next_report(now, Held::Too, FlushHint::Nothing);
            assert_eq!(report, None, "{outcome:?}");
            let left = Reply::Settled { queue_id: queue_id(7) };
            mail.heard(now, left.clone());
            assert_eq!(mail.compare_due(), None, "{outcome:?}");
            mail.heard(now, left);
            assert!(mail.compare_due().is_some(), "an unknown file");
        }
    }

    #[test]
    fn a_refused_file_is_asked_about_under_another_start_and_in_another_redis() {
        let now = Instant::now();
        let changes: [fn(&mut Mail); 2] =
            [|mail| mail.ledger.arrived(Start(2)), |mail| mail.redis_changed(Instant::now())];
        for change in changes {
            let mut mail = mail(now);
            mail.ledger.arrived(Start(1));
            recover(&mut mail, &[], vec![file(7, FolderKind::Queued)], 0);
            reported(&mut mail, &[Committed::Fenced]);
            change(&mut mail);
            recover(&mut mail, &[], vec![file(7, FolderKind::Queued)], 0);
            assert_eq!(reported(&mut mail, &[Committed::Fenced]).commits.len(), 1);
        }
    }

    /// A failover takes longer than a lease lasts.
    #[test]
    fn what_was_committed_in_another_redis_before_the_lease_lapsed_is_committed_again() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[7], vec![file(7, FolderKind::Queued)], 7);
        mail.phase = Phase::Outside { fenced: None, leave_by: None };
        mail.redis_changed(Instant::now());
        recover(&mut mail, &[], vec![file(7, FolderKind::Queued)], 7);
        let report = reported(&mut mail, &[Committed::Ours(CommitNumber(8))]);
        assert_eq!(report.commits.len(), 1, "{report:?}");
    }

    /// Checks that a file which was released from hold unseen, and is on its way, keeps no hold: by
    /// Redis's account, or by an entry that has not reached Redis.
    #[test]
    fn a_hold_that_ended_unseen_ends_in_redis() {
        let (mut mail, now) = (mail(Instant::now()), Instant::now());
        let committed = [1, 2, 3, 4].map(|n| (queue_id(n), owned(n)));
        recover(&mut mail, &[1, 2, 3, 4], Vec::new(), 9);
        committed.iter().for_each(|(queue_id, it)| _ = mail.ledger.ours(queue_id, it.id));
        mail.ledger.rests(&queue_id(2), Rest::OnHold);
        let resting = [(1, Rest::OnHold), (3, Rest::Until(5)), (4, Rest::OnHold)];
        let inventory = Inventory {
            committed: committed.into_iter().collect(),
            resting: resting.map(|(n, rest)| (id(n), rest)).into_iter().collect(),
            ..Inventory::default()
        };
        asking(&mut mail, now);
        mail.inventory_answered(now, inventory);
        let mut files = [1, 2, 3].map(|n| file(n, FolderKind::Queued)).to_vec();
        files.push(file(4, FolderKind::OnHold));
        mail.listed(now, files, Vec::new(), Some(Proof::default()));
        let report = mail.ledger.next_report(now, Held::Later, FlushHint::Nothing).unwrap();
        let told: BTreeMap<u64, Rest> =
            report.deferrals.iter().map(|(_, id, rest)| (id.unix_ms(), *rest)).collect();
        let awake = Rest::Until(0);
        assert_eq!(told, BTreeMap::from([(1, awake), (2, awake), (4, Rest::OnHold)]));
    }

    /// Checks the case of a file that postsuper renames while pickup-rs and this Mail Agent run.
    #[test]
    fn a_file_that_another_process_has_renamed_is_compared() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[7], vec![file(7, FolderKind::OnHold)], 7);
        let mut told = |was| {
            let renamed = vec![NewName { was: queue_id(was), now: queue_id(17) }];
            let (act, done, absent) = (Act::Release, Vec::new(), Vec::new());
            mail.heard(Instant::now(), Reply::Operated { act, done, absent, renamed });
            mail.compare_due().is_some()
        };
        assert!(!told(8), "not this node's");
        assert!(told(7));
    }

    #[test]
    fn settled_commits_before_the_first_one_cost_one_comparison() {
        let mut mail = mail(Instant::now());
        recover(&mut mail, &[], Vec::new(), 0);
        mail.ledger.handed(
            queue_id(7),
            key_of(&file(7, FolderKind::Prepared)),
            HandoffOutcome::Held,
        );
        reported(&mut mail, &[Committed::Ours(CommitNumber(7))]);
        assert!(!is_recovered(&mail));
        recover(&mut mail, &[7], vec![file(7, FolderKind::Prepared)], 0);
        assert!(is_recovered(&mail));
        mail.ledger.handed(
            queue_id(8),
            key_of(&file(8, FolderKind::Prepared)),
            HandoffOutcome::Held,
        );
        reported(&mut mail, &[Committed::Ours(CommitNumber(8))]);
        assert!(is_recovered(&mail));
    }

    #[test]
    fn what_may_be_in_a_file_that_can_t_be_read_is_left_alone() {
        let now = Instant::now();
        let mut mail = mail(now);
        let committed = [1, 2].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        let known = BTreeMap::from([(queue_id(3), id(3))]);
        mail.ledger.handed(
            queue_id(3),
            key_of(&file(3, FolderKind::Prepared)),
            HandoffOutcome::Held,
        );
        let list = Box::new(List { committed, known, ..List::default() });
        mail.phase = Phase::Listing { then: Then::Serve, until: now + RECOVERY_PATIENCE, list };
        mail.unreadable(&[queue_id(1), queue_id(3)]);
        mail.listed(now, Vec::new(), Vec::new(), Some(Proof::default()));
        assert_eq!(mail.ledger.known(), BTreeMap::from([(queue_id(3), id(3))]));
        let report = mail.ledger.next_report(now, Held::Later, FlushHint::Nothing).unwrap();
        assert_eq!(report.absents, [(queue_id(2), id(2))]);
    }
}
