//! What a Mail Agent and pickup-rs say to each other.
//!
//! A Unix stream socket, one JSON object per line in both directions, so that a person can try it
//! with socat:
//!
//! ```text
//! agent  ──▶ {"feed":{"lot":7,"epoch":1,"ids":["01KA…"]}}
//! pickup ──▶ {"held":{"id":"01KA…","lot":7,"epoch":1,"queue_id":"4C1B21A0","to":["example.org"]}}
//! agent      commits in Redis
//! agent  ──▶ {"release":{"queue_ids":["4C1B21A0"],"mark":12}}
//! pickup ──▶ {"released":{"queue_ids":["4C1B21A0"]}}
//! pickup ──▶ {"settled":{"queue_id":"4C1B21A0"}}
//! ```
//!
//! A request that can't be parsed is answered with `error` and changes nothing. Every fed id is
//! answered by `held`, `stored`, `consumed`, `full` or `refused`, unless a side dies; then
//! `inventory` tells what is on disk.
//!
//! Answers and events are facts about files, not steps of a dialogue: the same one may come again.
//! In particular a cleanup process that pickup-rs fed before it died may finish its file after the
//! inventory. When pickup-rs finds such a file it says `held` (or `stored`) as if it had just been
//! fed. The agent commits it like any other; Redis decides which of two files of one message is the
//! message, and the other is discarded.
//!
//! `settled` and `deferred` go to every connection that has asked for anything but `ping`, and only
//! for files that were stored, released, or reported as `queued`, `deferred` or unreadable by an
//! inventory: never for a file known to be undecided.

use postfix_wire::QueueId;
use serde::{Deserialize, Serialize};
use spool::{Act, CommitNumber, Domain, Epoch, LotNumber, MessageId, SpoolId};

/// The longest request pickup-rs reads, in bytes: some thirty thousand ids. A longer line is
/// answered with `error`.
pub const REQUEST_LINE_LIMIT_BYTES: usize = 1 << 20;

/// The longest reply, in bytes. Nothing pickup-rs says comes near it; a peer that exceeds it is not
/// pickup-rs.
pub const REPLY_LINE_LIMIT_BYTES: usize = 1 << 20;

/// Files in one line of an inventory.
pub const INVENTORY_FILES_PER_LINE: usize = 1_000;

/// From the Mail Agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named as what they hold")]
pub enum Request {
    /// Read these messages from Redis and feed them to cleanup.
    Feed {
        lot: LotNumber,
        epoch: Epoch,
        ids: Vec<MessageId>,
        /// Destinations that have their share: a message that goes nowhere else is not handed over.
        #[serde(default)]
        full: Vec<Domain>,
    },
    /// Committed: note the mark on disk, move to incoming and wake the queue manager. With this
    /// request, all commits up to `mark` are released or need no release.
    Release {
        queue_ids: Vec<QueueId>,
        #[serde(default)]
        mark: CommitNumber,
    },
    /// Not ours to send: delete.
    Discard { queue_ids: Vec<QueueId> },
    /// An operator has ordered this for committed messages that Postfix has: do it.
    Operate { act: Act, messages: Vec<Ordered> },
    /// List every queue file that carries an OPTIMUS id.
    Inventory,
    /// Are you there, and who are you?
    Ping,
    /// A copy of a node's queue directory is here, and refused: become a node of your own.
    /// `even_with_mail`: Postfix may go on sending what is in this queue.
    NewNode { even_with_mail: bool },
}

/// From pickup-rs: answers and events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named as what they hold")]
pub enum Reply {
    /// Durable, and invisible to the queue manager and to `postsuper`; waits for `release` or
    /// `discard`.
    Held {
        id: MessageId,
        lot: LotNumber,
        epoch: Epoch,
        queue_id: QueueId,
        /// The message's destinations, as [`QueuedFile::to`].
        #[serde(default)]
        to: Vec<Domain>,
    },
    /// Direct hand-off: durable and already the queue manager's.
    Stored {
        id: MessageId,
        lot: LotNumber,
        epoch: Epoch,
        queue_id: QueueId,
        /// The message's destinations, as [`QueuedFile::to`].
        #[serde(default)]
        to: Vec<Domain>,
    },
    /// Cleanup took it and left no file: content rules bounced or discarded it. Nothing to release.
    Consumed { id: MessageId, lot: LotNumber, epoch: Epoch, queue_id: QueueId },
    /// Not handed over, nothing left on disk. `retry`: later may be better; else the message itself
    /// is at fault.
    Refused { id: MessageId, lot: LotNumber, epoch: Epoch, reason: String, retry: bool },
    /// Not handed over, nothing left on disk: `full` named all of the message's destinations.
    Full { id: MessageId, lot: LotNumber, epoch: Epoch, to: Vec<Domain> },
    /// The queue manager's now, or were already; of those it has removed since, `settled` is said
    /// as well. A file that could not be moved, or that nobody has heard of, is not listed; an
    /// `error` says why.
    Released { queue_ids: Vec<QueueId> },
    /// Prepared files that were gone when they were to be released: nobody has sent them, so they
    /// must be made again.
    Vanished { queue_ids: Vec<QueueId> },
    /// Deleted, or never there. A file that is not an undecided one of ours, and one that somebody
    /// else has released, is left alone, with an `error`.
    Discarded { queue_ids: Vec<QueueId> },
    /// Messages with which Postfix now does as was ordered, whoever has seen to it; and those whose
    /// files had left the queue. An `error` says why there are others.
    Operated { act: Act, done: Vec<QueueId>, absent: Vec<QueueId> },
    /// This node's files that carry an OPTIMUS id, and the names of files that are there but don't
    /// say whose they are, at most [`INVENTORY_FILES_PER_LINE`] at a time. With `complete`, the
    /// list ends: a file that was in none of the lists since the request was not in the queue when
    /// it was complete.
    Inventory {
        files: Vec<QueuedFile>,
        /// Files with this node's attributes and another name than these say: Postfix gives short
        /// queue ids anew when a file's inode is another one, and `postsuper -r` makes a copy.
        #[serde(default)]
        renamed: Vec<QueuedFile>,
        /// They can't be read, or are damaged. One of them may be ours; then its message is neither
        /// gone nor to be sent again.
        #[serde(default)]
        unreadable: Vec<QueueId>,
        /// With `complete`: what the absence of a file proves.
        #[serde(default)]
        proof: Proof,
        complete: bool,
    },
    /// This node's identity, how it hands off, how many messages it feeds at once, and the spool
    /// that it reads from, once it has found one. With `trouble` nothing is served now, for this
    /// reason.
    Pong {
        node: String,
        handoff: Handoff,
        cleanups: usize,
        #[serde(default)]
        spool: Option<SpoolId>,
        #[serde(default)]
        trouble: Option<String>,
        /// Why nothing is served for some seconds.
        #[serde(default)]
        waits: Option<String>,
        /// Whether this queue directory is the node's.
        #[serde(default)]
        served: Served,
    },
    /// This server is another node now; the process ends. Or it stays what it is, for this reason.
    NewNode { node: Option<String>, reason: String },
    /// Postfix has removed the queue file: delivered, bounced, or deleted by the administrator.
    /// Also said of files that were listed as unreadable.
    Settled { queue_id: QueueId },
    /// Postfix will try again at this time (Unix seconds).
    Deferred { queue_id: QueueId, next_attempt_s: u64 },
    /// The file lies in Postfix's hold queue until the administrator releases it. Then `deferred`
    /// tells of it.
    OnHold { queue_id: QueueId },
    /// The request could not be understood or carried out; nothing was changed.
    Error { reason: String },
}

/// What the disk says of commits. The absence of a committed file proves its delivery when the
/// commit's number is above `floor` and at most `mark`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// All commits up to this one are released, by what is noted on disk.
    pub mark: CommitNumber,
    /// The last commit before the disk was put back to an earlier state.
    pub floor: CommitNumber,
}

/// Whether a node is served from a queue directory. Redis says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// From this one. Versions before took that for granted.
    #[default]
    Here,
    /// Redis has not been heard yet.
    Unknown,
    /// From another one, of which this one is a copy.
    Elsewhere,
}

/// A message that an operator has ordered something for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Its queue file.
    pub queue_id: QueueId,
    /// The message: Postfix gives queue ids again.
    pub id: MessageId,
}

/// One queue file in an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedFile {
    /// From the file's `optimus_id` attribute.
    pub id: MessageId,
    /// From its `optimus_lot` attribute.
    pub lot: LotNumber,
    /// From its `optimus_lot` attribute.
    pub epoch: Epoch,
    /// The file's name.
    pub queue_id: QueueId,
    /// Where it lies.
    pub place: Place,
    /// When the queue manager will try it again, Unix seconds; for deferred files.
    pub next_attempt_s: Option<u64>,
    /// The domains of the recipients as they were submitted, or the first of them: no more than fit
    /// into the file's attributes. None in files of earlier versions.
    #[serde(default)]
    pub to: Vec<Domain>,
}

/// Where a queue file lies, as far as recovery cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In our own folder, not yet released: undecided.
    Prepared,
    /// The queue manager's: incoming or active. Also corrupt, where nobody delivers it, but it is
    /// still there.
    Queued,
    /// In deferred.
    Deferred,
    /// In hold, put there by the site after release or by its own rules.
    OnHold,
}

/// How messages reach the queue manager. See `docs/decisions/0004-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handoff {
    /// Two phases: held, committed, released.
    Hold,
    /// One phase, because the site's own rules may put mail on hold and cleanup does not say which
    /// it was.
    Direct,
}
