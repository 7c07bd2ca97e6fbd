//! Reports to Redis about files and messages, and the times at which they are sent.
//!
//! All entries for Redis go into one *report*, which takes one round trip, and one fsync in Redis.
//! A report is sent when no further entry is expected, when it has many entries, or when its first
//! entry has waited for some milliseconds. So a single message never waits, and dozens of many
//! share a round trip. Settlements may wait longer, since nobody waits for them.
//!
//! A report that failed is sent again whole, since every entry is idempotent. A file is released or
//! discarded only when Redis has answered its entry.

use std::time::{Duration, Instant};

use postfix_wire::QueueId;
use spool::{Act, CommitNumber, Domain, MessageId, Rest};

use super::feeding::FeedKey;

/// Outcome of handing a message to pickup-rs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandoffOutcome {
    /// A prepared file, invisible to the queue manager.
    Held,
    /// A file that the queue manager already has.
    Stored,
    /// No file: content rules bounced or discarded it.
    Consumed,
}

/// A file that Redis is asked to commit to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Message in the file.
    pub key: FeedKey,
    /// Name of the file.
    pub queue_id: QueueId,
    /// Way in which pickup-rs handed the message off.
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
    /// The message is committed to this node, now or before, as this file and with this number.
    Ours(CommitNumber),
    /// The message was committed to this node before, and an operator has ordered not to send it.
    Ordered(CommitNumber),
    /// The node may not send the message, since its tenure of the lot is over.
    Fenced,
    /// The message was sent, or must never be sent.
    Settled,
    /// Redis doesn't know the message.
    Unknown,
    /// Another message is committed under this queue id.
    Occupied,
}

impl Committed {
    /// Whether the file is not this node's.
    pub(super) fn is_refusal(self) -> bool {
        match self {
            Self::Fenced | Self::Settled | Self::Unknown => true,
            Self::Ours(_) | Self::Ordered(_) | Self::Occupied => false,
        }
    }
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
    /// Id of the message.
    pub id: MessageId,
    /// Number of its commit.
    pub number: CommitNumber,
}

/// A committed file whose commit must get another name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Message in the file.
    pub id: MessageId,
    /// Name under which the file was committed.
    pub was: QueueId,
    /// Present name of the file.
    pub now: QueueId,
}

impl From<Rename> for spool::Rename {
    fn from(Rename { id, was, now }: Rename) -> Self {
        Self { id, was, now }
    }
}

/// Answer of Redis to a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// Redis has noted the name, now or before, with this number.
    Noted(CommitNumber),
    /// Another message is committed under the new name, so a comparison is needed.
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

/// Entries that Redis gets in one round trip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailReport {
    /// Files to commit to this node.
    pub commits: Vec<Commit>,
    /// Files that are gone after their release.
    pub settles: Vec<(QueueId, MessageId)>,
    /// Committed files that were gone before their release, or are withdrawn.
    pub uncommits: Vec<(QueueId, MessageId)>,
    /// Committed files that are absent.
    pub absents: Vec<(QueueId, MessageId)>,
    /// Mark on disk when the absent files were looked for.
    pub mark: CommitNumber,
    /// Committed files whose commits need another name or number.
    pub renames: Vec<Rename>,
    /// Orders of operators that this node's Postfix has carried out.
    pub obeyed: Vec<(QueueId, MessageId, Act)>,
    /// Files that rest in Postfix's deferred or hold queue.
    pub deferrals: Vec<(QueueId, MessageId, Rest)>,
    /// Messages that can't be used, each with the reason.
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
/// Number of entries that are sent at once: the trip costs little beside so many.
pub(crate) const WORTH_A_TRIP: usize = 32;
/// Time for which a commit waits for others; short beside the time that a message takes under load.
pub(crate) const COMMIT_PATIENCE: Duration = Duration::from_millis(10);
/// Time for which other entries wait for more.
pub(crate) const OTHER_PATIENCE: Duration = Duration::from_millis(50);

/// Whether prepared files are reported. They must not be while it is uncertain that they exist,
/// since Redis takes a committed message as sent. Files that the queue manager has, and messages
/// that content rules took, are reported at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Too,
    Later,
}

impl Held {
    /// Whether this commit is reported now.
    pub(crate) fn is_told(self, commit: &Commit) -> bool {
        self == Self::Too || commit.how != HandoffOutcome::Held
    }
}

/// Entries that a report should wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushHint {
    /// More commits will come soon.
    Expected,
    /// No more commits will come, so waiting ones are sent at once.
    NoCommits,
    /// A report with any entry is sent at once.
    Nothing,
}

impl MailReport {
    /// Returns the number of entries other than commits.
    pub(crate) fn others(&self) -> usize {
        let parks: usize = self.parks.iter().map(|it| it.keys.len()).sum();
        let gone = self.settles.len() + self.uncommits.len() + self.absents.len();
        let rest = self.deferrals.len() + self.refusals.len() + parks;
        gone + self.renames.len() + self.obeyed.len() + rest
    }

    /// Whether the report has no entries.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.others() == 0
    }

    /// Takes the oldest entries, without commits, up to the limit of each kind. Other entries may
    /// be about files whose names are still waiting, so they wait until the last of the renames.
    pub(crate) fn take_others(&mut self) -> Self {
        let renames = first(&mut self.renames);
        if !self.renames.is_empty() {
            return Self { mark: self.mark, renames, ..Self::default() };
        }
        Self {
            commits: Vec::new(),
            settles: first(&mut self.settles),
            uncommits: first(&mut self.uncommits),
            absents: first(&mut self.absents),
            mark: self.mark,
            renames,
            obeyed: first(&mut self.obeyed),
            deferrals: first(&mut self.deferrals),
            refusals: first(&mut self.refusals),
            parks: first_parks(&mut self.parks),
        }
    }

    /// Puts all entries of `told` before the waiting ones.
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

/// Takes whole lots until they have at least [`REPORT_LIMIT`] messages.
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

/// Times since when the first commit and the first other entry have waited.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    commits: Option<Instant>,
    others: Option<Instant>,
}

impl Pace {
    /// Notes how many commits and other entries wait now.
    pub(crate) fn note(&mut self, commits: usize, others: usize, now: Instant) {
        for (since, entries) in [(&mut self.commits, commits), (&mut self.others, others)] {
            match entries {
                0 => *since = None,
                _ => _ = since.get_or_insert(now),
            }
        }
    }

    /// Whether a report with so many entries must be sent at `now`.
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

    /// Returns the time at which the waiting entries must be sent without more.
    pub(crate) fn due(&self) -> Option<Instant> {
        let commits = self.commits.map(|since| since + COMMIT_PATIENCE);
        let others = self.others.map(|since| since + OTHER_PATIENCE);
        commits.into_iter().chain(others).min()
    }
}
