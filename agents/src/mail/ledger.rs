//! What pickup-rs has made of messages, and what of it Redis has been told.
//!
//! ```text
//!  held, stored, consumed ──▶ undecided ──report──▶ committed ──▶ tracked ──settled──▶ report ──▶ gone
//!                                              ├──▶ fenced, settled: discard
//!                                              └──▶ occupied: set aside until it is known what became of the file before
//! ```
//!
//! Settled means: seen to leave the queue after its release. A committed file that was gone before
//! that was never sent, and its commit is taken back. So is the commit of a prepared file whose
//! message an operator has ordered to be deleted or held: the file is *withdrawn*. Redis carries the
//! order out in the step that takes the commit back, and the file is discarded after that. This
//! process never releases a withdrawn file, whatever it reads of Redis later: what takes the commit
//! back may arrive there late.
//!
//! What became of a committed file that is absent, Redis decides, by the numbers of commits and by
//! the mark that the node's disk has: all commits up to that one are released, or are prepared and
//! will be.
//!
//! Everything Redis is to be told goes into one *report*: one round trip, and one fsync in Redis, for all that has
//! gathered. A report is worth its trip when nothing more is under way that it could wait for, when it has many
//! entries, or when its first entry has waited for some milliseconds. So a single message is never kept waiting, and of
//! many, dozens share a trip. What has been delivered has time: nobody waits for its settlement.
//!
//! A report that failed is put back whole and told again; every entry of it is idempotent. Nothing is released or
//! discarded before its entry has been answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use postfix_wire::QueueId;
use spool::{Act, CommitNumber, Domain, MessageId, Rest};

use super::feeding::Piece;

/// What pickup-rs made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// A prepared file, invisible to the queue manager.
    Held,
    /// A file the queue manager already has.
    Stored,
    /// No file: content rules bounced or discarded it.
    Consumed,
}

/// A file that Redis is asked to make ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The message in it.
    pub piece: Piece,
    /// Its name.
    pub queue_id: QueueId,
    /// Where it is, if it still is.
    pub how: How,
}

/// Whether files in hold are reported. While it isn't certain that they are there, they must not be: committed means sent
/// to Redis. What the queue manager has, or content rules took, is past recall, so Redis is told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Too,
    Later,
}

/// Whether we have heard of a file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

/// What Redis answers to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Now or before: this message is ours, as this file, by this number.
    Ours(CommitNumber),
    /// It is ours since before, and an operator has ordered that it isn't sent.
    Ordered(CommitNumber),
    /// It is not ours to send.
    Fenced,
    /// Somebody has sent it, or it must never be sent.
    Settled,
    /// Redis has never heard of it.
    Unknown,
    /// Another message is committed under this queue id.
    Occupied,
}

/// A committed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Which.
    pub id: MessageId,
    /// Its commit.
    pub number: CommitNumber,
}

/// A committed file that is there, and its commit is to get a new number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The message in it.
    pub id: MessageId,
    /// The name it was committed under.
    pub was: QueueId,
    /// Its name.
    pub now: QueueId,
}

/// What Redis answers to another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// Noted, now or before, with this number.
    Noted(CommitNumber),
    /// Another message is committed under the new name: compare again.
    Occupied,
    /// The message isn't committed under the old name.
    Unknown,
}

/// All that Redis is told at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files to be made ours.
    pub commits: Vec<Commit>,
    /// Files that are gone after their release.
    pub settles: Vec<(QueueId, MessageId)>,
    /// Committed files that were gone before their release, or are withdrawn.
    pub uncommits: Vec<(QueueId, MessageId)>,
    /// Committed files that are absent.
    pub absents: Vec<(QueueId, MessageId)>,
    /// The mark on disk when these were found to be absent.
    pub mark: CommitNumber,
    /// Committed files whose commits need another name or number.
    pub renames: Vec<Rename>,
    /// Orders of operators that this node's Postfix has carried out.
    pub obeyed: Vec<(QueueId, MessageId, Act)>,
    /// Files that rest in Postfix's deferred or hold queue.
    pub deferrals: Vec<(QueueId, MessageId, Rest)>,
    /// Messages that can't be used, and why.
    pub refusals: Vec<(Piece, String)>,
    /// Messages whose destinations have their share.
    pub parks: Vec<Parking>,
}

/// Messages that must wait for a destination, in one lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// The destination.
    pub to: Domain,
    /// The messages.
    pub pieces: Vec<Piece>,
}

/// What became of a committed file that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Redis decides.
    Absent,
    /// It was gone before its release.
    NeverReleased,
}

/// Whether the queue directory is what it was when we last heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Same,
    /// Perhaps not: pickup-rs was gone meanwhile.
    MayBePutBack,
}

/// What has become of an undecided file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Move it to the queue manager.
    Release(QueueId),
    /// Delete it.
    Discard(QueueId),
    /// Find out first what became of the file that had this name before.
    Compare,
    /// Nothing to do with any file.
    Nothing,
}

/// Most entries of a kind in one report: some milliseconds of Redis's one thread.
const REPORT_LIMIT: usize = 500;
/// As many entries are worth a trip of their own: the cost of the trip is small beside theirs.
const WORTH_A_TRIP: usize = 32;
/// How long a commit waits for others. Short beside the time a message takes when there are many.
const COMMIT_PATIENCE: Duration = Duration::from_millis(10);
/// How long everything else waits for company.
const OTHER_PATIENCE: Duration = Duration::from_millis(50);

/// Whether there is something that a report should wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// More commits will come soon.
    Expected,
    /// No commits are to be expected: those that are here needn't wait.
    NoCommits,
    /// Nothing is worth waiting for.
    Nothing,
}

/// How a file has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was seen to leave, or is missing on the disk that it was on.
    Seen,
    /// It is missing on a disk that may have been put back.
    Unproven,
}

/// A file without a decision.
#[derive(Debug)]
struct Undecided {
    piece: Piece,
    how: How,
    /// How its file has gone already, if it has.
    end: Option<End>,
    /// The queue manager has deferred it already, or somebody has put it on hold.
    rest: Option<Rest>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    undecided: BTreeMap<QueueId, Undecided>,
    to_commit: VecDeque<Commit>,
    tracked: BTreeMap<QueueId, MessageId>,
    settles: VecDeque<(QueueId, MessageId)>,
    uncommits: VecDeque<(QueueId, MessageId)>,
    /// Prepared files that must not be released: discarded once their commit is taken back.
    withdrawn: BTreeMap<QueueId, MessageId>,
    absents: VecDeque<(QueueId, MessageId)>,
    absents_mark: CommitNumber,
    renames: VecDeque<Rename>,
    /// The last commit that we know of.
    last: CommitNumber,
    /// Commits under a queue id that Redis knows as another message's.
    occupied: Vec<Commit>,
    obeyed: VecDeque<(QueueId, MessageId, Act)>,
    deferrals: VecDeque<(QueueId, MessageId, Rest)>,
    refusals: VecDeque<(Piece, String)>,
    parks: VecDeque<Parking>,
    report: Option<Report>,
    /// Since when the first entry has waited to be told.
    commits_wait: Option<Instant>,
    others_wait: Option<Instant>,
}

impl Ledger {
    /// pickup-rs has made a file (or none) of this message. Hearing it again changes nothing.
    pub(crate) fn handed(&mut self, queue_id: QueueId, piece: Piece, how: How) {
        if how != How::Consumed {
            if self.knows(&queue_id, piece.id) {
                return;
            }
            self.undecided.insert(queue_id.clone(), Undecided { piece, how, end: None, rest: None });
        }
        self.to_commit.push_back(Commit { piece, queue_id, how });
    }

    fn knows(&self, queue_id: &QueueId, id: MessageId) -> bool {
        self.undecided.get(queue_id).is_some_and(|it| it.piece.id == id)
            || self.tracked.get(queue_id) == Some(&id)
    }

    /// The message itself is at fault.
    pub(crate) fn refused(&mut self, piece: Piece, reason: String) {
        self.refusals.push_back((piece, reason));
    }

    /// This message must wait for its destination, in a lot of at most `lot_size`.
    pub(crate) fn park(&mut self, piece: Piece, to: Domain, lot_size: usize) {
        let has_room = |it: &&mut Parking| it.to == to && it.pieces.len() < lot_size;
        match self.parks.iter_mut().find(has_room) {
            Some(parking) => parking.pieces.push(piece),
            None => self.parks.push_back(Parking { to, pieces: vec![piece] }),
        }
    }

    /// Postfix has removed this file.
    pub(crate) fn settled(&mut self, queue_id: &QueueId) -> Known {
        if let Some(id) = self.tracked.remove(queue_id) {
            self.settles.push_back((queue_id.clone(), id));
        } else if let Some(undecided) = self.undecided.get_mut(queue_id) {
            undecided.end = Some(End::Seen);
        } else {
            return Known::No;
        }
        Known::Yes
    }

    /// pickup-rs found nothing to release: nobody has sent it.
    pub(crate) fn vanished(&mut self, queue_id: &QueueId) {
        if let Some(id) = self.tracked.remove(queue_id) {
            tracing::warn!(%queue_id, %id, "queue file vanished before its release, made again");
            self.uncommits.push_back((queue_id.clone(), id));
        }
    }

    /// Notes that this file rests in Postfix.
    pub(crate) fn rests(&mut self, queue_id: &QueueId, rest: Rest) {
        if let Some(&id) = self.tracked.get(queue_id) {
            self.deferrals.push_back((queue_id.clone(), id, rest));
        } else if let Some(undecided) = self.undecided.get_mut(queue_id) {
            undecided.rest = Some(rest);
        }
    }

    /// Postfix has done with this file as an operator has ordered.
    pub(crate) fn obeyed(&mut self, queue_id: QueueId, id: MessageId, act: Act) {
        self.obeyed.push_back((queue_id, id, act));
    }

    /// Files of ours that these orders are for.
    pub(crate) fn tracked_of(&self, orders: &BTreeMap<MessageId, Act>) -> Vec<(QueueId, MessageId, Act)> {
        let of =
            |(queue_id, id): (&QueueId, &MessageId)| orders.get(id).map(|act| (queue_id.clone(), *id, *act));
        self.tracked.iter().filter_map(of).collect()
    }

    /// Redis has made this file ours. If we didn't know, says what was decided by that.
    pub(crate) fn ours(&mut self, queue_id: &QueueId, id: MessageId) -> Option<Piece> {
        self.tracked.insert(queue_id.clone(), id);
        self.no_longer_undecided(queue_id, id)
    }

    /// Redis had made this file ours, and it is gone. If we didn't know, says what was decided by that.
    pub(crate) fn was_ours(&mut self, queue_id: QueueId, id: MessageId, fate: Fate) -> Option<Piece> {
        if self.tracked.get(&queue_id) == Some(&id) {
            self.tracked.remove(&queue_id);
        }
        let undecided = self.no_longer_undecided(&queue_id, id);
        match fate {
            Fate::Absent => self.absents.push_back((queue_id, id)),
            Fate::NeverReleased => self.uncommits.push_back((queue_id, id)),
        }
        undecided
    }

    /// Takes the commit of a prepared file back, so that an operator's order is carried out. If
    /// nobody had told of the commit, returns what was decided by that.
    pub(crate) fn withdraw(&mut self, queue_id: QueueId, id: MessageId) -> Option<Piece> {
        tracing::info!(%queue_id, %id, "withdrawn by an operator's order");
        if self.tracked.get(&queue_id) == Some(&id) {
            self.tracked.remove(&queue_id);
        }
        let undecided = self.no_longer_undecided(&queue_id, id);
        self.uncommits.push_back((queue_id.clone(), id));
        self.withdrawn.insert(queue_id, id);
        undecided
    }

    /// Whether this process must not release the file, but discard it once its commit is taken back.
    pub(crate) fn is_withdrawn(&self, queue_id: &QueueId, id: MessageId) -> bool {
        self.withdrawn.get(queue_id) == Some(&id)
    }

    /// All files there are have these names.
    pub(crate) fn forget_vanished(&mut self, names: &BTreeSet<QueueId>) {
        self.withdrawn.retain(|queue_id, _| names.contains(queue_id));
    }

    /// pickup-rs has deleted this file.
    pub(crate) fn discarded(&mut self, queue_id: &QueueId) {
        self.withdrawn.remove(queue_id);
    }

    /// Another process may have had these files released: none of their commits is taken back.
    pub(crate) fn forget_withdrawn(&mut self) {
        let withdrawn = std::mem::take(&mut self.withdrawn);
        let is_other = |(queue_id, id): &(QueueId, MessageId)| withdrawn.get(queue_id) != Some(id);
        self.uncommits.retain(is_other);
        self.report.iter_mut().for_each(|report| report.uncommits.retain(is_other));
    }

    /// Another message may have the same queue id by now.
    fn no_longer_undecided(&mut self, queue_id: &QueueId, id: MessageId) -> Option<Piece> {
        self.undecided.get(queue_id).filter(|it| it.piece.id == id)?;
        self.undecided.remove(queue_id).map(|it| it.piece)
    }

    /// What was compared says what became of every file before. So what was set aside can be
    /// committed.
    pub(crate) fn compared(&mut self) {
        self.to_commit.extend(std::mem::take(&mut self.occupied));
    }

    /// Files that were there when we last heard of them.
    pub(crate) fn known(&self) -> BTreeMap<QueueId, MessageId> {
        let undecided = self.undecided.iter().map(|(queue_id, it)| (queue_id, it.piece.id));
        let tracked = self.tracked.iter().map(|(queue_id, id)| (queue_id, *id));
        undecided.chain(tracked).map(|(queue_id, id)| (queue_id.clone(), id)).collect()
    }

    /// This file, known when the queue was asked for, isn't in the queue, and wasn't committed
    /// then. If it is to be made again, says of what. Only a file that the queue manager had can
    /// have been committed since: prepared ones wait.
    ///
    /// Absence on a disk that was put back proves nothing: once it is committed, Redis decides.
    pub(crate) fn missing(&mut self, queue_id: &QueueId, id: MessageId, disk: Disk) -> Option<Piece> {
        if self.tracked.get(queue_id) == Some(&id) {
            self.tracked.remove(queue_id);
            match disk {
                Disk::Same => self.settles.push_back((queue_id.clone(), id)),
                Disk::MayBePutBack => self.absents.push_back((queue_id.clone(), id)),
            }
        }
        match self.undecided.get_mut(queue_id).filter(|it| it.piece.id == id)? {
            Undecided { how: How::Held, .. } => self.undecided.remove(queue_id).map(|it| it.piece),
            undecided => {
                undecided.end.get_or_insert(match disk {
                    Disk::Same => End::Seen,
                    Disk::MayBePutBack => End::Unproven,
                });
                None
            }
        }
    }

    /// The next report, if it is worth its trip and none is under way.
    pub(crate) fn next_report(&mut self, now: Instant, held: Held, company: Company) -> Option<Report> {
        let (commits, others) = (self.commits(held), self.others());
        note_waiting(&mut self.commits_wait, commits, now);
        note_waiting(&mut self.others_wait, others, now);
        if self.report.is_some() || !self.is_worth_a_trip(now, commits, company) {
            return None;
        }
        (self.commits_wait, self.others_wait) = (None, None);
        let report = Report {
            commits: self.take_commits(held),
            settles: take(&mut self.settles),
            uncommits: take(&mut self.uncommits),
            absents: take(&mut self.absents),
            mark: self.absents_mark,
            renames: take(&mut self.renames),
            obeyed: take(&mut self.obeyed),
            deferrals: take(&mut self.deferrals),
            refusals: take(&mut self.refusals),
            parks: take(&mut self.parks),
        };
        // Commits whose files are gone may have been all there was.
        if report == (Report { mark: report.mark, ..Report::default() }) {
            return None;
        }
        self.report = Some(report.clone());
        Some(report)
    }

    fn is_worth_a_trip(&self, now: Instant, commits: usize, company: Company) -> bool {
        match company {
            Company::Nothing if commits + self.others() > 0 => true,
            Company::NoCommits if commits > 0 => true,
            _ if commits + self.others() >= WORTH_A_TRIP => true,
            _ => self.due().is_some_and(|due| due <= now),
        }
    }

    fn commits(&self, held: Held) -> usize {
        match held {
            Held::Too => self.to_commit.len(),
            Held::Later => self.to_commit.iter().filter(|commit| commit.how != How::Held).count(),
        }
    }

    fn others(&self) -> usize {
        let parks: usize = self.parks.iter().map(|it| it.pieces.len()).sum();
        let gone = self.settles.len() + self.uncommits.len() + self.absents.len();
        let rest = self.deferrals.len() + self.refusals.len() + parks;
        gone + self.renames.len() + self.obeyed.len() + rest
    }

    /// When a report is worth its trip though nothing more comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        let commits = self.commits_wait.map(|since| since + COMMIT_PATIENCE);
        let others = self.others_wait.map(|since| since + OTHER_PATIENCE);
        commits.into_iter().chain(others).min()
    }

    /// Whether a report is under way.
    pub(crate) fn is_reporting(&self) -> bool {
        self.report.is_some()
    }

    fn take_commits(&mut self, held: Held) -> Vec<Commit> {
        let (mut commits, mut later) = (Vec::new(), Vec::new());
        while commits.len() < REPORT_LIMIT {
            let Some(commit) = self.to_commit.pop_front() else { break };
            if held == Held::Later && commit.how == How::Held {
                later.push(commit);
            } else if self.is_open(&commit) {
                commits.push(commit);
            }
        }
        put_back(&mut self.to_commit, later);
        commits
    }

    fn is_open(&self, commit: &Commit) -> bool {
        let undecided = || self.undecided.get(&commit.queue_id);
        commit.how == How::Consumed || undecided().is_some_and(|it| it.piece == commit.piece)
    }

    /// The report under way may not have arrived: all of it is told again.
    pub(crate) fn report_failed(&mut self) {
        let Some(report) = self.report.take() else { return };
        put_back(&mut self.to_commit, report.commits);
        put_back(&mut self.settles, report.settles);
        put_back(&mut self.uncommits, report.uncommits);
        put_back(&mut self.absents, report.absents);
        put_back(&mut self.renames, report.renames);
        put_back(&mut self.obeyed, report.obeyed);
        put_back(&mut self.deferrals, report.deferrals);
        put_back(&mut self.refusals, report.refusals);
        put_back(&mut self.parks, report.parks);
    }

    /// How many commits and names are in the report under way.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        self.report.as_ref().map_or((0, 0), |report| (report.commits.len(), report.renames.len()))
    }

    /// The report under way has been answered, commit by commit. What was told is returned.
    pub(crate) fn reported(&mut self) -> Report {
        self.report.take().unwrap_or_default()
    }

    /// This node has a commit of this number.
    pub(crate) fn numbered(&mut self, number: CommitNumber) {
        self.last = self.last.max(number);
    }

    /// The last commit that we know of.
    pub(crate) fn last(&self) -> CommitNumber {
        self.last
    }

    /// Whether Redis has to decide about files that are absent.
    pub(crate) fn has_absents(&self) -> bool {
        let under_way = self.report.as_ref().is_some_and(|report| !report.absents.is_empty());
        under_way || !self.absents.is_empty()
    }

    /// The queue has been looked through while the disk had this mark. What was found before is
    /// found again.
    pub(crate) fn looked(&mut self, mark: CommitNumber) {
        self.absents_mark = mark;
        self.renames.clear();
        self.absents.clear();
    }

    /// This file's commit needs another name or number.
    pub(crate) fn rename(&mut self, rename: Rename) {
        if rename.was != rename.now {
            self.tracked.remove(&rename.was);
        }
        self.renames.push_back(rename);
    }

    /// Redis has decided about this file.
    pub(crate) fn decided(&mut self, commit: Commit, outcome: Committed) -> Verdict {
        if !self.is_open(&commit) {
            return Verdict::Nothing;
        }
        if outcome == Committed::Occupied {
            tracing::warn!(queue_id = %commit.queue_id, id = %commit.piece.id, "queue id is another message's, comparing");
            self.occupied.push(commit);
            return Verdict::Compare;
        }
        let file = match commit.how {
            How::Consumed => None,
            How::Held | How::Stored => self.undecided.remove(&commit.queue_id),
        };
        match outcome {
            Committed::Ours(number) => {
                self.numbered(number);
                self.committed(commit, file.as_ref())
            }
            Committed::Ordered(number) => {
                self.numbered(number);
                self.ordered(commit, file.as_ref())
            }
            Committed::Fenced | Committed::Settled => not_ours(commit, outcome),
            Committed::Occupied | Committed::Unknown => {
                let Commit { queue_id, piece, .. } = commit;
                tracing::error!(%queue_id, id = %piece.id, "queue file of a message unknown to redis, left alone");
                Verdict::Nothing
            }
        }
    }

    /// `file` is what we know of the file, if there is one.
    fn committed(&mut self, commit: Commit, file: Option<&Undecided>) -> Verdict {
        let Commit { piece, queue_id, how } = commit;
        let Some(&Undecided { end: None, rest, .. }) = file else {
            match how {
                _ if file.is_some_and(|file| file.end == Some(End::Unproven)) => {
                    self.absents.push_back((queue_id, piece.id));
                }
                How::Held => self.uncommits.push_back((queue_id, piece.id)),
                How::Stored | How::Consumed => self.settles.push_back((queue_id, piece.id)),
            }
            return Verdict::Nothing;
        };
        if let Some(rest) = rest {
            self.deferrals.push_back((queue_id.clone(), piece.id, rest));
        }
        self.tracked.insert(queue_id.clone(), piece.id);
        match how {
            How::Held => Verdict::Release(queue_id),
            How::Stored | How::Consumed => Verdict::Nothing,
        }
    }

    /// A file that the queue manager has is ours like any other.
    fn ordered(&mut self, commit: Commit, file: Option<&Undecided>) -> Verdict {
        if commit.how == How::Held && file.is_some_and(|it| it.end.is_none()) {
            _ = self.withdraw(commit.queue_id, commit.piece.id);
            return Verdict::Nothing;
        }
        self.committed(commit, file)
    }

    /// Whether Redis has decided about all that was made.
    pub(crate) fn is_decided(&self) -> bool {
        let waiting = self.to_commit.len() + self.occupied.len() + self.undecided.len();
        self.report.is_none() && waiting == 0
    }

    /// Whether Redis knows all we know.
    pub(crate) fn is_told(&self) -> bool {
        self.is_decided() && self.others() == 0
    }
}

fn not_ours(commit: Commit, outcome: Committed) -> Verdict {
    let Commit { piece: Piece { id, lot, epoch }, queue_id, how } = commit;
    match how {
        How::Held => {
            tracing::info!(%queue_id, %id, %lot, %epoch, ?outcome, "not ours to send");
            Verdict::Discard(queue_id)
        }
        How::Stored | How::Consumed => {
            tracing::warn!(%queue_id, %id, %lot, %epoch, ?outcome, ?how, "may be sent twice");
            Verdict::Nothing
        }
    }
}

fn note_waiting(since: &mut Option<Instant>, entries: usize, now: Instant) {
    match entries {
        0 => *since = None,
        _ => _ = since.get_or_insert(now),
    }
}

fn take<T>(queue: &mut VecDeque<T>) -> Vec<T> {
    let count = queue.len().min(REPORT_LIMIT);
    queue.drain(..count).collect()
}

fn put_back<T>(queue: &mut VecDeque<T>, entries: Vec<T>) {
    entries.into_iter().rev().for_each(|entry| queue.push_front(entry));
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool::{Epoch, LotNumber};

    fn piece(n: u128) -> Piece {
        Piece { lot: LotNumber(1), epoch: Epoch(1), id: MessageId::from_parts(1, n) }
    }

    fn queue_id(n: u128) -> QueueId {
        format!("4C1B2{n:05X}").parse().unwrap()
    }

    fn with(how: How, count: u128) -> Ledger {
        let mut ledger = Ledger::default();
        (1..=count).for_each(|n| ledger.handed(queue_id(n), piece(n), how));
        ledger
    }

    /// Reports the first commit and decides it so.
    fn decide(ledger: &mut Ledger, outcome: Committed) -> Verdict {
        ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        let commit = ledger.reported().commits.remove(0);
        ledger.decided(commit, outcome)
    }

    #[test]
    fn a_single_commit_goes_at_once_and_one_of_many_waits_for_company() {
        let now = Instant::now();
        let report =
            |count, company, at| with(How::Held, count).next_report(at, Held::Too, company).is_some();
        assert!(report(1, Company::NoCommits, now));
        assert!(!report(1, Company::Expected, now));
        assert!(report(WORTH_A_TRIP as u128, Company::Expected, now));
        let mut ledger = with(How::Held, 1);
        assert!(ledger.next_report(now, Held::Too, Company::Expected).is_none());
        assert_eq!(ledger.due(), Some(now + COMMIT_PATIENCE));
        assert!(ledger.next_report(now + COMMIT_PATIENCE, Held::Too, Company::Expected).is_some());
    }

    #[test]
    fn settlements_alone_have_time() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.ours(&queue_id(1), piece(1).id), None);
        ledger.settled(&queue_id(1));
        assert!(ledger.next_report(now, Held::Too, Company::NoCommits).is_none());
        let report = ledger.next_report(now + OTHER_PATIENCE, Held::Too, Company::NoCommits).unwrap();
        assert_eq!(report.settles, [(queue_id(1), piece(1).id)]);
    }

    #[test]
    fn one_report_at_a_time_and_a_failed_one_is_told_again_in_order() {
        let now = Instant::now();
        let mut ledger = with(How::Held, 3);
        let first = ledger.next_report(now, Held::Too, Company::Nothing).unwrap();
        ledger.handed(queue_id(9), piece(9), How::Held);
        assert_eq!(ledger.next_report(now, Held::Too, Company::Nothing), None);
        ledger.report_failed();
        let again = ledger.next_report(now, Held::Too, Company::Nothing).unwrap();
        assert_eq!(again.commits[..3], first.commits[..]);
        assert_eq!(again.commits[3].queue_id, queue_id(9));
    }

    #[test]
    fn what_is_ours_is_released_and_what_is_not_is_deleted() {
        let verdict = |how, outcome| decide(&mut with(how, 1), outcome);
        assert_eq!(verdict(How::Held, Committed::Ours(CommitNumber(7))), Verdict::Release(queue_id(1)));
        assert_eq!(verdict(How::Held, Committed::Fenced), Verdict::Discard(queue_id(1)));
        assert_eq!(verdict(How::Held, Committed::Settled), Verdict::Discard(queue_id(1)));
        assert_eq!(verdict(How::Held, Committed::Unknown), Verdict::Nothing, "left alone, for a person");
        for outcome in
            [Committed::Ours(CommitNumber(7)), Committed::Fenced, Committed::Settled, Committed::Unknown]
        {
            assert_eq!(
                verdict(How::Stored, outcome),
                Verdict::Nothing,
                "the queue manager has it: {outcome:?}"
            );
        }
    }

    #[test]
    fn what_content_rules_took_is_settled_when_it_is_ours() {
        let mut ledger = with(How::Consumed, 1);
        assert_eq!(decide(&mut ledger, Committed::Ours(CommitNumber(7))), Verdict::Nothing);
        let report = ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        assert_eq!(report.settles, [(queue_id(1), piece(1).id)]);
    }

    #[test]
    fn a_file_gone_before_its_commit_is_answered_is_settled_by_the_answer() {
        let mut ledger = with(How::Stored, 1);
        ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        assert_eq!(ledger.settled(&queue_id(1)), Known::Yes);
        let commit = ledger.reported().commits.remove(0);
        assert_eq!(ledger.decided(commit, Committed::Ours(CommitNumber(7))), Verdict::Nothing);
        let report = ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        assert_eq!(report.settles, [(queue_id(1), piece(1).id)]);
    }

    #[test]
    fn a_prepared_file_that_is_gone_is_never_settled() {
        let now = Instant::now();
        let mut ledger = with(How::Held, 2);
        let commits = ledger.next_report(now, Held::Too, Company::Nothing).unwrap().commits;
        ledger.settled(&queue_id(1));
        ledger.reported();
        for commit in commits {
            ledger.decided(commit, Committed::Ours(CommitNumber(7)));
        }
        ledger.vanished(&queue_id(2));
        ledger.vanished(&queue_id(2));
        let report = ledger.next_report(now, Held::Too, Company::Nothing).unwrap();
        assert_eq!(report.uncommits, [1, 2].map(|n| (queue_id(n), piece(n).id)));
        assert!(report.settles.is_empty() && !ledger.is_told());
        ledger.report_failed();
        let again = ledger.next_report(now, Held::Too, Company::Nothing).unwrap();
        assert_eq!(again.uncommits, report.uncommits);
        ledger.reported();
        assert!(ledger.is_told());
    }

    #[test]
    fn a_withdrawn_file_is_uncommitted_and_stays_withdrawn_until_it_is_discarded() {
        let mut ledger = with(How::Held, 1);
        assert_eq!(decide(&mut ledger, Committed::Ordered(CommitNumber(7))), Verdict::Nothing);
        let report = ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        assert_eq!(report.uncommits, [(queue_id(1), piece(1).id)]);
        ledger.reported();
        assert!(ledger.is_withdrawn(&queue_id(1), piece(1).id));
        ledger.discarded(&queue_id(1));
        assert!(!ledger.is_withdrawn(&queue_id(1), piece(1).id));
    }

    #[test]
    fn a_withdrawn_file_that_another_process_may_have_released_keeps_its_commit() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.withdraw(queue_id(1), piece(1).id), None);
        ledger.next_report(Instant::now(), Held::Too, Company::Nothing).unwrap();
        assert_eq!(ledger.withdraw(queue_id(2), piece(2).id), None);
        ledger.forget_withdrawn();
        ledger.report_failed();
        assert!(ledger.is_told());
    }

    #[test]
    fn an_order_for_a_file_that_the_queue_manager_has_withdraws_nothing() {
        let mut ledger = with(How::Stored, 1);
        assert_eq!(decide(&mut ledger, Committed::Ordered(CommitNumber(7))), Verdict::Nothing);
        assert_eq!(ledger.known(), BTreeMap::from([(queue_id(1), piece(1).id)]));
        assert!(ledger.is_told());
    }

    #[test]
    fn a_queue_id_that_is_another_message_s_is_committed_after_a_comparison() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.ours(&queue_id(1), piece(9).id);
        ledger.handed(queue_id(1), piece(1), How::Held);
        assert_eq!(decide(&mut ledger, Committed::Occupied), Verdict::Compare);
        assert_eq!(ledger.next_report(now, Held::Too, Company::Nothing), None, "not before");
        assert_eq!(ledger.was_ours(queue_id(1), piece(9).id, Fate::NeverReleased), None);
        ledger.compared();
        let report = ledger.next_report(now, Held::Too, Company::Nothing).unwrap();
        assert_eq!(report.uncommits, [(queue_id(1), piece(9).id)]);
        assert_eq!(report.commits.len(), 1);
    }

    #[test]
    fn files_in_hold_wait_while_it_is_not_certain_that_they_are_there() {
        let now = Instant::now();
        let mut ledger = with(How::Held, 1);
        ledger.handed(queue_id(2), piece(2), How::Stored);
        let report = ledger.next_report(now, Held::Later, Company::Nothing).unwrap();
        assert_eq!(report.commits.iter().map(|it| &it.queue_id).collect::<Vec<_>>(), [&queue_id(2)]);
        ledger.reported();
        assert_eq!(ledger.next_report(now, Held::Later, Company::Nothing), None);
        assert_eq!(ledger.due(), None, "nothing to wake up for");
    }

    #[test]
    fn hearing_of_a_file_twice_is_hearing_of_it_once() {
        let mut ledger = with(How::Held, 1);
        ledger.handed(queue_id(1), piece(1), How::Held);
        assert_eq!(decide(&mut ledger, Committed::Ours(CommitNumber(7))), Verdict::Release(queue_id(1)));
        ledger.handed(queue_id(1), piece(1), How::Held);
        assert!(ledger.is_told());
    }
}
