//! The ledger: files that pickup-rs has made of messages, and reports to Redis about them.
//!
//! ```text
//!  held, stored, consumed ─▶ undecided ─report─▶ committed ─▶ tracked ─settled─▶ report ─▶ gone
//!                                          ├──▶ fenced, settled: discard
//!                                          └──▶ occupied: set aside until it is known what
//!                                               became of the file before
//! ```
//!
//! A file is settled when it has left the queue after its release. A committed file that was gone
//! before its release was never sent, and its commit is taken back. A prepared file is *withdrawn*
//! when an operator has ordered its message to be deleted or held. Redis takes the commit of a
//! withdrawn file back and carries the order out in one step, and the file is discarded after that.
//! This process never releases a withdrawn file, whatever it reads from Redis later, since that
//! step may reach Redis late.
//!
//! Redis decides the fate of a committed file that is absent, by the number of its commit and the
//! mark on the node's disk. All commits up to the mark are released, or are prepared and will be.
//!
//! Invariant: a tracked file is neither undecided nor withdrawn. A file of another message may be,
//! under the same queue id.

mod invariants;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use postfix_wire::QueueId;
use spool::{Act, CommitNumber, Domain, MessageId, Rest, Start};

pub(crate) use self::verdict::Verdict;
use super::feeding::FeedKey;
use super::numbers::Numbers;
use super::report::{
    Commit, FlushHint, HandoffOutcome, Held, MailReport, Pace, Parking, REPORT_LIMIT, Rename,
};

/// Whether the ledger knows a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

/// Fate of a committed file that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The file is absent, and Redis decides.
    Absent,
    /// The file was gone before its release.
    NeverReleased,
}

/// Whether the queue directory is still in the state that pickup-rs last reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Disk {
    #[default]
    Same,
    /// pickup-rs was gone meanwhile, and the directory may have been put back.
    MayBePutBack,
}

/// Evidence for the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// pickup-rs saw the file leave, or the file is missing on the disk that it was on.
    Seen,
    /// The file is missing on a disk that may have been put back.
    Unproven,
}

/// A file without a decision.
#[derive(Debug)]
struct Undecided {
    key: FeedKey,
    how: HandoffOutcome,
    /// End of the file, if it has gone already.
    end: Option<End>,
    /// Rest of the file, if the queue manager has deferred it or somebody has put it on hold.
    rest: Option<Rest>,
}

/// Files of this node and the decisions about them; see the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    undecided: BTreeMap<QueueId, Undecided>,
    tracked: BTreeMap<QueueId, MessageId>,
    /// Prepared files that must not be released, and are discarded once their commit is taken back.
    withdrawn: BTreeMap<QueueId, MessageId>,
    /// Files with the queue manager that Redis has refused to commit. Redis isn't asked again about
    /// such a file. The entry leaves with the file.
    foreign: BTreeMap<QueueId, MessageId>,
    /// Commits under a queue id that Redis knows as another message's.
    occupied: Vec<Commit>,
    pub(crate) numbers: Numbers,
    /// State of the queue directory since these files were reported.
    disk: Disk,
    /// Start of this process, under which files were withdrawn.
    start: Option<Start>,
    /// Entries for the next reports.
    waiting: MailReport,
    /// Report under way.
    told: Option<MailReport>,
    /// Whether another Redis server may have taken that report.
    is_told_in_doubt: bool,
    pace: Pace,
}

impl Ledger {
    /// Notes that pickup-rs has made a file of this message, or none. A repetition changes nothing.
    pub(crate) fn handed(&mut self, queue_id: QueueId, key: FeedKey, how: HandoffOutcome) {
        if how != HandoffOutcome::Consumed {
            if self.knows(&queue_id, key.id) {
                return;
            }
            let file = Undecided { key, how, end: None, rest: None };
            if let Some(before) = self.undecided.insert(queue_id.clone(), file) {
                self.replaced(&queue_id, &before);
            }
            self.check(&queue_id, key.id);
        }
        self.waiting.commits.push(Commit { key, queue_id, how });
    }

    /// Notes that Postfix has used a queue id again, so that the earlier file is gone. If the queue
    /// manager had it, it was sent.
    fn replaced(&mut self, queue_id: &QueueId, before: &Undecided) {
        let Undecided { key, how, .. } = *before;
        tracing::warn!(
            %queue_id, id = %key.id, handoff = ?how,
            "queue id used again before Redis decided about the first file"
        );
        if how == HandoffOutcome::Stored {
            let queue_id = queue_id.clone();
            self.waiting.commits.push(Commit { key, queue_id, how: HandoffOutcome::Consumed });
        }
    }

    fn knows(&self, queue_id: &QueueId, id: MessageId) -> bool {
        self.undecided.get(queue_id).is_some_and(|it| it.key.id == id)
            || self.tracked.get(queue_id) == Some(&id)
    }

    /// Notes that pickup-rs has refused the message for good.
    pub(crate) fn refused(&mut self, key: FeedKey, reason: String) {
        self.waiting.refusals.push((key, reason));
    }

    /// Notes that this message must wait for its destination, in a lot of at most `lot_size`.
    pub(crate) fn park(&mut self, key: FeedKey, to: Domain, lot_size: usize) {
        let has_room = |it: &&mut Parking| it.to == to && it.keys.len() < lot_size;
        match self.waiting.parks.iter_mut().find(has_room) {
            Some(parking) => parking.keys.push(key),
            None => self.waiting.parks.push(Parking { to, keys: vec![key] }),
        }
    }

    /// Notes that Postfix has removed this file.
    pub(crate) fn settled(&mut self, queue_id: &QueueId) -> Known {
        if let Some(id) = self.tracked.remove(queue_id) {
            self.waiting.settles.push((queue_id.clone(), id));
        } else if let Some(undecided) = self.undecided.get_mut(queue_id) {
            undecided.end = Some(End::Seen);
        } else if self.foreign.remove(queue_id).is_none() {
            return Known::No;
        }
        Known::Yes
    }

    /// Notes that pickup-rs found no file to release, so that the message was not sent.
    pub(crate) fn vanished(&mut self, queue_id: &QueueId) {
        if let Some(id) = self.tracked.remove(queue_id) {
            tracing::warn!(%queue_id, %id, "queue file vanished before its release");
            self.waiting.uncommits.push((queue_id.clone(), id));
        }
    }

    /// Notes that this file rests in Postfix.
    pub(crate) fn rests(&mut self, queue_id: &QueueId, rest: Rest) {
        if let Some(&id) = self.tracked.get(queue_id) {
            self.waiting.deferrals.push((queue_id.clone(), id, rest));
        } else if let Some(undecided) = self.undecided.get_mut(queue_id) {
            undecided.rest = Some(rest);
        }
    }

    /// Returns the files of which Redis will hear last that they are on hold.
    pub(crate) fn told_on_hold(&self) -> BTreeSet<QueueId> {
        let undecided =
            self.undecided.iter().filter_map(|(queue_id, it)| Some((queue_id, it.rest?)));
        let told = self.told.iter().flat_map(|report| &report.deferrals);
        let entries =
            told.chain(&self.waiting.deferrals).map(|(queue_id, _, rest)| (queue_id, *rest));
        let last: BTreeMap<&QueueId, Rest> = undecided.chain(entries).collect();
        let on_hold = last.into_iter().filter(|(_, rest)| *rest == Rest::OnHold);
        on_hold.map(|(queue_id, _)| queue_id.clone()).collect()
    }

    /// Notes that Postfix has carried out an operator's order for this file.
    pub(crate) fn obeyed(&mut self, queue_id: QueueId, id: MessageId, act: Act) {
        self.waiting.obeyed.push((queue_id, id, act));
    }

    /// Returns the message whose committed file has this name.
    pub(crate) fn tracked(&self, queue_id: &QueueId) -> Option<MessageId> {
        self.tracked.get(queue_id).copied()
    }

    /// Returns the tracked files that these orders are for.
    pub(crate) fn tracked_of(
        &self,
        orders: &BTreeMap<MessageId, Act>,
    ) -> Vec<(QueueId, MessageId, Act)> {
        let of = |(queue_id, id): (&QueueId, &MessageId)| {
            orders.get(id).map(|act| (queue_id.clone(), *id, *act))
        };
        self.tracked.iter().filter_map(of).collect()
    }

    /// Notes that Redis has committed this file to this node. Returns the message if it was
    /// undecided until now.
    pub(crate) fn ours(&mut self, queue_id: &QueueId, id: MessageId) -> Option<FeedKey> {
        self.tracked.insert(queue_id.clone(), id);
        let undecided = self.no_longer_undecided(queue_id, id);
        self.check(queue_id, id);
        undecided
    }

    /// Notes that a file which Redis has committed to this node is gone. Returns the message if it
    /// was undecided until now.
    pub(crate) fn was_ours(
        &mut self,
        queue_id: QueueId,
        id: MessageId,
        fate: Fate,
    ) -> Option<FeedKey> {
        if self.tracked.get(&queue_id) == Some(&id) {
            self.tracked.remove(&queue_id);
        }
        let undecided = self.no_longer_undecided(&queue_id, id);
        match fate {
            Fate::Absent => self.waiting.absents.push((queue_id, id)),
            Fate::NeverReleased => self.waiting.uncommits.push((queue_id, id)),
        }
        undecided
    }

    /// Takes the commit of a prepared file back, so that an operator's order is carried out.
    /// Returns the message if it was undecided until now.
    pub(crate) fn withdraw(&mut self, queue_id: QueueId, id: MessageId) -> Option<FeedKey> {
        tracing::info!(%queue_id, %id, "commit withdrawn by an operator's order");
        if self.tracked.get(&queue_id) == Some(&id) {
            self.tracked.remove(&queue_id);
        }
        let undecided = self.no_longer_undecided(&queue_id, id);
        self.withdrawn.insert(queue_id.clone(), id);
        self.check(&queue_id, id);
        self.waiting.uncommits.push((queue_id, id));
        undecided
    }

    /// Whether this process must not release the file, but discard it once its commit is taken
    /// back.
    pub(crate) fn is_withdrawn(&self, queue_id: &QueueId, id: MessageId) -> bool {
        self.withdrawn.get(queue_id) == Some(&id)
    }

    /// Notes that Redis has no commit of a file that is there. If the file was withdrawn, its
    /// commit is taken back by now. If it was tracked, the node was lost meanwhile. The next commit
    /// decides about the file.
    pub(crate) fn uncommitted(&mut self, queue_id: &QueueId, id: MessageId) {
        if self.tracked.get(queue_id) == Some(&id) {
            self.tracked.remove(queue_id);
        }
        if self.is_withdrawn(queue_id, id) {
            self.withdrawn.remove(queue_id);
            self.waiting.uncommits.retain(|(it, of)| (it, *of) != (queue_id, id));
        }
    }

    /// Forgets withdrawn and foreign files that are not among `names`, the names of all files of
    /// the node.
    pub(crate) fn forget_vanished(&mut self, names: &BTreeSet<QueueId>) {
        self.foreign.retain(|queue_id, _| names.contains(queue_id));
        self.withdrawn.retain(|queue_id, _| names.contains(queue_id));
    }

    /// Notes that pickup-rs has deleted this file.
    pub(crate) fn discarded(&mut self, queue_id: &QueueId) {
        self.withdrawn.remove(queue_id);
    }

    /// Notes that this process serves the node under `start`. After another start no commit of a
    /// withdrawn file is taken back: a process in between may have released the files.
    pub(crate) fn arrived(&mut self, start: Start) {
        if self.start.replace(start) == Some(start) {
            return;
        }
        self.foreign.clear();
        let withdrawn = std::mem::take(&mut self.withdrawn);
        let is_other = |(queue_id, id): &(QueueId, MessageId)| withdrawn.get(queue_id) != Some(id);
        self.waiting.uncommits.retain(is_other);
        self.told.iter_mut().for_each(|report| report.uncommits.retain(is_other));
    }

    /// Removes and returns the undecided message of this file, unless another message has the queue
    /// id by now.
    fn no_longer_undecided(&mut self, queue_id: &QueueId, id: MessageId) -> Option<FeedKey> {
        self.undecided.get(queue_id).filter(|it| it.key.id == id)?;
        self.undecided.remove(queue_id).map(|it| it.key)
    }

    /// Notes that Redis may have lost commits that it confirmed. A comparison finds the others, and
    /// the lost ones are made again. Numbers begin anew with that comparison. The answer to a
    /// report under way may have lost commits and old numbers.
    pub(crate) fn doubt_commits(&mut self) {
        self.tracked.clear();
        self.foreign.clear();
        self.is_told_in_doubt = self.told.is_some();
        self.numbers = Numbers::default();
    }

    /// Notes that pickup-rs has gone. The disk may be another one when pickup-rs is back.
    pub(crate) fn lost_sight(&mut self) {
        self.disk = Disk::MayBePutBack;
    }

    /// Notes that a comparison has shown the fate of every earlier file. So commits that were set
    /// aside can be made.
    pub(crate) fn compared(&mut self) {
        self.disk = Disk::Same;
        self.waiting.commits.extend(std::mem::take(&mut self.occupied));
    }

    /// Returns the files that were there by the last replies of pickup-rs.
    pub(crate) fn known(&self) -> BTreeMap<QueueId, MessageId> {
        let undecided = self.undecided.iter().map(|(queue_id, it)| (queue_id, it.key.id));
        let tracked = self.tracked.iter().map(|(queue_id, id)| (queue_id, *id));
        undecided.chain(tracked).map(|(queue_id, id)| (queue_id.clone(), id)).collect()
    }

    /// Notes that a file which was known before a listing isn't in the list, and that Redis had no
    /// commit of it then. Returns the message if its file must be made again. Only a file that the
    /// queue manager had can have been committed since, as prepared files wait.
    ///
    /// Absence on a disk that was put back proves nothing, so Redis decides about a committed file.
    pub(crate) fn missing(&mut self, queue_id: &QueueId, id: MessageId) -> Option<FeedKey> {
        let disk = self.disk;
        if self.tracked.get(queue_id) == Some(&id) {
            self.tracked.remove(queue_id);
            match disk {
                Disk::Same => self.waiting.settles.push((queue_id.clone(), id)),
                Disk::MayBePutBack => self.waiting.absents.push((queue_id.clone(), id)),
            }
        }
        match self.undecided.get_mut(queue_id).filter(|it| it.key.id == id)? {
            Undecided { how: HandoffOutcome::Held, .. } => {
                self.undecided.remove(queue_id).map(|it| it.key)
            }
            undecided => {
                undecided.end.get_or_insert(match disk {
                    Disk::Same => End::Seen,
                    Disk::MayBePutBack => End::Unproven,
                });
                None
            }
        }
    }

    /// Returns the next report, if it is worth a round trip and no report is under way.
    pub(crate) fn next_report(
        &mut self,
        now: Instant,
        held: Held,
        hint: FlushHint,
    ) -> Option<MailReport> {
        let (commits, others) = (self.commits(held), self.waiting.others());
        self.pace.note(commits, others, now);
        if self.told.is_some() || !self.pace.is_time(commits, others, hint, now) {
            return None;
        }
        self.assert_invariants();
        self.pace = Pace::default();
        let report = MailReport { commits: self.take_commits(held), ..self.waiting.take_others() };
        // All waiting entries may have been commits whose files are gone.
        if report.is_empty() {
            return None;
        }
        self.told = Some(report.clone());
        Some(report)
    }

    fn commits(&self, held: Held) -> usize {
        self.waiting.commits.iter().filter(|commit| held.is_told(commit)).count()
    }

    /// Returns the time at which the waiting entries are worth a round trip by themselves.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pace.due()
    }

    /// Whether a report is under way.
    pub(crate) fn is_reporting(&self) -> bool {
        self.told.is_some()
    }

    /// Takes waiting commits, and leaves out those whose files are gone.
    fn take_commits(&mut self, held: Held) -> Vec<Commit> {
        let (mut commits, mut later) = (Vec::new(), Vec::new());
        let mut waiting = std::mem::take(&mut self.waiting.commits).into_iter();
        while commits.len() < REPORT_LIMIT {
            let Some(commit) = waiting.next() else { break };
            match held.is_told(&commit) {
                false => later.push(commit),
                true if self.is_open(&commit) => commits.push(commit),
                true => {}
            }
        }
        self.waiting.commits = later.into_iter().chain(waiting).collect();
        commits
    }

    fn is_open(&self, commit: &Commit) -> bool {
        let undecided = || self.undecided.get(&commit.queue_id);
        commit.how == HandoffOutcome::Consumed || undecided().is_some_and(|it| it.key == commit.key)
    }

    /// Puts the report under way back, since it may not have reached Redis.
    pub(crate) fn report_failed(&mut self) {
        self.is_told_in_doubt = false;
        if let Some(told) = self.told.take() {
            self.waiting.put_back(told);
        }
    }

    /// Whether the answer to the report under way counts for nothing, so that the report must be
    /// put back.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_told_in_doubt
    }

    /// Returns the numbers of commits and of renames in the report under way.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        self.told.as_ref().map_or((0, 0), |report| (report.commits.len(), report.renames.len()))
    }

    /// Returns the report under way, which Redis has answered.
    pub(crate) fn reported(&mut self) -> MailReport {
        debug_assert!(self.told.is_some(), "an answer to a report that nobody has sent");
        self.told.take().unwrap_or_default()
    }

    /// Whether a decision of Redis about absent files is missing.
    pub(crate) fn has_absents(&self) -> bool {
        let under_way = self.told.as_ref().is_some_and(|report| !report.absents.is_empty());
        under_way || !self.waiting.absents.is_empty()
    }

    /// Whether Redis has yet to take back the commit of a file that vanished and was never sent. A
    /// withdrawn file doesn't count: it is there for a later process to find.
    pub(crate) fn has_uncommits(&self) -> bool {
        let told = self.told.iter().flat_map(|report| &report.uncommits);
        let mut uncommits = told.chain(&self.waiting.uncommits);
        uncommits.any(|(queue_id, id)| !self.is_withdrawn(queue_id, *id))
    }

    /// Notes that pickup-rs has listed the queue while the disk had this mark. The list replaces
    /// earlier findings.
    pub(crate) fn looked(&mut self, mark: CommitNumber) {
        self.waiting.mark = mark;
        self.waiting.renames.clear();
        self.waiting.absents.clear();
    }

    /// Notes that this file's commit needs another name or number.
    pub(crate) fn rename(&mut self, rename: Rename) {
        if rename.was != rename.now {
            self.tracked.remove(&rename.was);
        }
        self.waiting.renames.push(rename);
    }

    /// Whether Redis has decided about all files.
    pub(crate) fn is_decided(&self) -> bool {
        let waiting = self.waiting.commits.len() + self.occupied.len() + self.undecided.len();
        self.told.is_none() && waiting == 0
    }

    /// Whether Redis knows all that this ledger knows.
    pub(crate) fn is_told(&self) -> bool {
        self.is_decided() && self.waiting.others() == 0
    }
}

#[cfg(test)]
mod tests;
