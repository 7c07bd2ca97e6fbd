//! Reports to Redis of files and messages, and the moments at which they go.
//!
//! Everything Redis is to be told goes into one *report*: one round trip, and one fsync in Redis,
//! for all that has gathered. A report is worth its trip when nothing more is under way that it
//! could wait for, when it has many entries, or when its first entry has waited for some
//! milliseconds. So a single message is never kept waiting, and of many, dozens share a trip. What
//! has been delivered has time: nobody waits for its settlement.
//!
//! A report that failed is put back whole and told again; every entry of it is idempotent. Nothing
//! is released or discarded before its entry has been answered.

use std::time::{Duration, Instant};

use postfix_wire::QueueId;
use spool::{Act, CommitNumber, Domain, MessageId, Rest};

use super::feeding::FeedKey;

/// Outcome of handing a message to pickup-rs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandoffOutcome {
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
    pub key: FeedKey,
    /// Name of the file.
    pub queue_id: QueueId,
    /// Place of the file, if it is still there.
    pub how: HandoffOutcome,
}

impl From<Commit> for spool::Commit {
    fn from(Commit { key: FeedKey { lot, epoch, id }, queue_id, how: _ }: Commit) -> Self {
        Self { id, lot, epoch, queue_id }
    }
}

/// Answer of Redis to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Now or before: this message is ours, as this file, by this number.
    Ours(CommitNumber),
    /// The message is ours since before, and an operator has ordered that it isn't sent.
    Ordered(CommitNumber),
    /// The message is not ours to send.
    Fenced,
    /// Somebody has sent it, or it must never be sent.
    Settled,
    /// Redis has never heard of it.
    Unknown,
    /// Another message is committed under this queue id.
    Occupied,
}

impl From<(spool::Committed, CommitNumber)> for Committed {
    fn from((outcome, number): (spool::Committed, CommitNumber)) -> Self {
        match outcome {
            spool::Committed::Committed | spool::Committed::Already => Self::Ours(number),
            spool::Committed::Ordered => Self::Ordered(number),
            spool::Committed::Occupied => Self::Occupied,
            spool::Committed::Fenced => Self::Fenced,
            spool::Committed::Settled => Self::Settled,
            spool::Committed::Unknown => Self::Unknown,
        }
    }
}

/// A committed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The message.
    pub id: MessageId,
    /// Number of its commit.
    pub number: CommitNumber,
}

/// A committed file that is there, and its commit is to get a new number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The message in it.
    pub id: MessageId,
    /// The name it was committed under.
    pub was: QueueId,
    /// Name of the file.
    pub now: QueueId,
}

impl From<Rename> for spool::Rename {
    fn from(Rename { id, was, now }: Rename) -> Self {
        Self { id, was, now }
    }
}

/// Answer of Redis to another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// Noted, now or before, with this number.
    Noted(CommitNumber),
    /// Another message is committed under the new name: compare again.
    Occupied,
    /// The message isn't committed under the old name.
    Unknown,
}

impl From<(spool::Renamed, CommitNumber)> for Renamed {
    fn from((outcome, number): (spool::Renamed, CommitNumber)) -> Self {
        match outcome {
            spool::Renamed::Renamed | spool::Renamed::Already => Self::Noted(number),
            spool::Renamed::Occupied => Self::Occupied,
            spool::Renamed::Unknown => Self::Unknown,
        }
    }
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
    pub refusals: Vec<(FeedKey, String)>,
    /// Messages whose destinations have their share.
    pub parks: Vec<Parking>,
}

/// Messages that must wait for a destination, in one lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// The destination.
    pub to: Domain,
    /// The messages.
    pub keys: Vec<FeedKey>,
}

/// Most entries of a kind in one report: some milliseconds of Redis's one thread.
pub(crate) const REPORT_LIMIT: usize = 500;
/// Number of entries worth a trip of their own: the cost of the trip is small beside theirs.
pub(crate) const WORTH_A_TRIP: usize = 32;
/// Time that a commit waits for others. Short beside the time a message takes when there are many.
pub(crate) const COMMIT_PATIENCE: Duration = Duration::from_millis(10);
/// Time that everything else waits for company.
pub(crate) const OTHER_PATIENCE: Duration = Duration::from_millis(50);

/// Whether prepared files are reported. While it isn't certain that they are there, they must not
/// be: committed means sent to Redis. What the queue manager has, or content rules took, is past
/// recall, so Redis is told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Too,
    Later,
}

impl Held {
    /// Whether Redis is told of this one.
    pub(crate) fn is_told(self, commit: &Commit) -> bool {
        self == Self::Too || commit.how != HandoffOutcome::Held
    }
}

/// Whether there is something that a report should wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushHint {
    /// More commits will come soon.
    Expected,
    /// No commits are to be expected: those that are here needn't wait.
    NoCommits,
    /// Nothing is worth waiting for.
    Nothing,
}

impl Report {
    /// Returns how many entries there are that are no commits.
    pub(crate) fn others(&self) -> usize {
        let parks: usize = self.parks.iter().map(|it| it.keys.len()).sum();
        let gone = self.settles.len() + self.uncommits.len() + self.absents.len();
        let rest = self.deferrals.len() + self.refusals.len() + parks;
        gone + self.renames.len() + self.obeyed.len() + rest
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.others() == 0
    }

    /// Takes from here what has waited longest, but for commits.
    pub(crate) fn take_others(&mut self) -> Self {
        Self {
            commits: Vec::new(),
            settles: first(&mut self.settles),
            uncommits: first(&mut self.uncommits),
            absents: first(&mut self.absents),
            mark: self.mark,
            renames: first(&mut self.renames),
            obeyed: first(&mut self.obeyed),
            deferrals: first(&mut self.deferrals),
            refusals: first(&mut self.refusals),
            parks: first_parks(&mut self.parks),
        }
    }

    /// Puts all of `told` before what waits here.
    pub(crate) fn put_back(&mut self, told: Self) {
        put_before(&mut self.commits, told.commits);
        put_before(&mut self.settles, told.settles);
        put_before(&mut self.uncommits, told.uncommits);
        put_before(&mut self.absents, told.absents);
        put_before(&mut self.renames, told.renames);
        put_before(&mut self.obeyed, told.obeyed);
        put_before(&mut self.deferrals, told.deferrals);
        put_before(&mut self.refusals, told.refusals);
        put_before(&mut self.parks, told.parks);
    }
}

fn first<T>(waiting: &mut Vec<T>) -> Vec<T> {
    let count = waiting.len().min(REPORT_LIMIT);
    waiting.drain(..count).collect()
}

/// Whole lots, until there are as many messages.
fn first_parks(waiting: &mut Vec<Parking>) -> Vec<Parking> {
    let mut messages = 0;
    let is_within = |it: &&Parking| {
        let before = messages;
        messages += it.keys.len();
        before < REPORT_LIMIT
    };
    let count = waiting.iter().take_while(is_within).count();
    waiting.drain(..count).collect()
}

fn put_before<T>(waiting: &mut Vec<T>, told: Vec<T>) {
    waiting.splice(..0, told);
}

/// Since when the first entry has waited to be told.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    commits: Option<Instant>,
    others: Option<Instant>,
}

impl Pace {
    /// So many commits and other entries wait now.
    pub(crate) fn note(&mut self, commits: usize, others: usize, now: Instant) {
        for (since, entries) in [(&mut self.commits, commits), (&mut self.others, others)] {
            match entries {
                0 => *since = None,
                _ => _ = since.get_or_insert(now),
            }
        }
    }

    /// Whether a report with so many entries is worth its trip.
    pub(crate) fn is_time(
        &self,
        commits: usize,
        others: usize,
        hint: FlushHint,
        now: Instant,
    ) -> bool {
        match hint {
            FlushHint::Nothing if commits + others > 0 => true,
            FlushHint::NoCommits if commits > 0 => true,
            _ if commits + others >= WORTH_A_TRIP => true,
            _ => self.due().is_some_and(|due| due <= now),
        }
    }

    /// Returns when a report is worth its trip though nothing more comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        let commits = self.commits.map(|since| since + COMMIT_PATIENCE);
        let others = self.others.map(|since| since + OTHER_PATIENCE);
        commits.into_iter().chain(others).min()
    }
}
