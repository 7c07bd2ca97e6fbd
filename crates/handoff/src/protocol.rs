//! Protocol between a Mail Agent and pickup-rs.
//!
//! A Unix stream socket carries one JSON object per line in both directions, so that a person can
//! try it with socat:
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
//! answered by `held`, `stored`, `consumed`, `full` or `refused`, unless a side dies. After a
//! death, `inventory` tells which files are on disk.
//!
//! Answers and events are facts about files, not steps of a dialogue: the same one may come again.
//! For example, a cleanup process may finish its file after the pickup-rs that fed it died, and
//! after the inventory. When pickup-rs finds such a file, it says `held` (or `stored`) as if it had
//! just been fed. The agent commits it like any other. Redis decides which of two files of one
//! message counts, and the other is discarded.
//!
//! `settled` and `deferred` go to every connection that has sent a request other than `ping`. Both
//! events tell only of files that were stored, released, or reported as `queued`, `deferred` or
//! unreadable by an inventory. Neither event tells of a file that is known to be undecided.

use postfix_wire::QueueId;
use serde::{Deserialize, Serialize};
use spool::{Act, CommitNumber, Domain, Epoch, LotNumber, MessageId, SpoolId, Unfit};

/// Length in bytes of the longest request that pickup-rs reads: some thirty thousand ids. A longer
/// line is answered with `error`.
pub const REQUEST_LINE_LIMIT_BYTES: usize = 1 << 20;

/// Length in bytes of the longest reply. pickup-rs sends far shorter ones, so a peer that exceeds
/// it is not pickup-rs.
pub const REPLY_LINE_LIMIT_BYTES: usize = 1 << 20;

/// Most files in one line of an inventory.
pub const INVENTORY_FILES_PER_LINE: usize = 1_000;

/// Request of the Mail Agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named as what they hold")]
pub enum Request {
    /// Asks pickup-rs to read these messages from Redis and to feed them to cleanup.
    Feed {
        lot: LotNumber,
        epoch: Epoch,
        ids: Vec<MessageId>,
        /// Destinations that have their share. A message for none but these is not handed over.
        #[serde(default)]
        full: Vec<Domain>,
    },
    /// Asks for the release of these committed files: pickup-rs notes the mark on disk, moves the
    /// files to incoming and wakes the queue manager. With this request, all commits up to `mark`
    /// are released or need no release. When a named file has vanished, the mark isn't noted, nor
    /// is any of this connection until a request without one (0).
    Release {
        queue_ids: Vec<QueueId>,
        #[serde(default)]
        mark: CommitNumber,
    },
    /// Asks for the deletion of undecided files, whose messages are not this node's to send.
    Discard { queue_ids: Vec<QueueId> },
    /// Asks pickup-rs to carry out an operator's order for committed messages that Postfix has.
    Operate { act: Act, messages: Vec<Ordered> },
    /// Asks for a list of all queue files that carry an OPTIMUS id.
    Inventory,
    /// Asks for `pong`, which names the node and its state.
    Ping,
    /// Asks that this refused copy of a queue directory become a node of its own. With
    /// `even_with_mail`, even if Postfix goes on sending the mail in its queue.
    NewNode { even_with_mail: bool },
}

/// Another name of a queue file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewName {
    /// Former name.
    pub was: QueueId,
    /// New name.
    pub now: QueueId,
}

/// Reply of pickup-rs: an answer or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named as what they hold")]
pub enum Reply {
    /// The file is durable, and neither the queue manager nor `postsuper` sees it. The file waits
    /// for `release` or `discard`.
    Held {
        id: MessageId,
        lot: LotNumber,
        epoch: Epoch,
        queue_id: QueueId,
        /// The message's destinations, as [`QueuedFile::to`].
        #[serde(default)]
        to: Vec<Domain>,
    },
    /// After a direct hand-off: the file is durable and already the queue manager's.
    Stored {
        id: MessageId,
        lot: LotNumber,
        epoch: Epoch,
        queue_id: QueueId,
        /// The message's destinations, as [`QueuedFile::to`].
        #[serde(default)]
        to: Vec<Domain>,
    },
    /// Cleanup took the message and left no file, because content rules bounced or discarded it. No
    /// release is needed.
    Consumed { id: MessageId, lot: LotNumber, epoch: Epoch, queue_id: QueueId },
    /// The message was not handed over, and no file is left on disk. With `retry`, a later attempt
    /// may succeed; otherwise the message itself is at fault.
    Refused { id: MessageId, lot: LotNumber, epoch: Epoch, reason: String, retry: bool },
    /// The message was not handed over, and no file is left on disk: `full` named all its
    /// destinations.
    Full { id: MessageId, lot: LotNumber, epoch: Epoch, to: Vec<Domain> },
    /// The queue manager has these files, now or already before. For those that it has removed
    /// since, `settled` follows. A file that could not be moved, or that is unknown, is not listed;
    /// an `error` says why.
    Released { queue_ids: Vec<QueueId> },
    /// Prepared files that were gone before their release. Such files were never sent, so their
    /// messages must be fed again.
    Vanished { queue_ids: Vec<QueueId> },
    /// These files are deleted, or never existed. A file that is not an undecided one of OPTIMUS,
    /// or that was released by another process, is left alone, with an `error`.
    Discarded { queue_ids: Vec<QueueId> },
    /// Outcome of an order. `done` lists messages for which the order is carried out, now or
    /// before. `absent` lists those whose files had left the queue. For all others, an `error` says
    /// why. `done` has a renamed file under its new name, unless another process renamed the file.
    Operated {
        act: Act,
        done: Vec<QueueId>,
        absent: Vec<QueueId>,
        #[serde(default)]
        renamed: Vec<NewName>,
    },
    /// This node's files that carry an OPTIMUS id, and the names of files whose owner is unclear.
    /// One line has at most [`INVENTORY_FILES_PER_LINE`] of them. With `complete`, the list ends. A
    /// file in none of the lines was not in the queue during the whole scan.
    Inventory {
        files: Vec<QueuedFile>,
        /// Files with this node's attributes that name another queue id. Postfix renames files of
        /// short queue ids whose inode has changed, and `postsuper -r` makes copies.
        #[serde(default)]
        renamed: Vec<QueuedFile>,
        /// Files that can't be read, or are damaged. Any of them may be one of OPTIMUS; then its
        /// message is neither gone nor to be sent again.
        #[serde(default)]
        unreadable: Vec<QueueId>,
        /// Proof of delivery that an absent file gives. Only with `complete`.
        #[serde(default)]
        proof: Proof,
        complete: bool,
    },
    /// Identity of the node, its hand-off, the number of messages that pickup-rs feeds at once, and
    /// the spool, once known. With `trouble`, pickup-rs serves nothing, for this reason.
    Pong {
        node: String,
        handoff: Handoff,
        cleanups: usize,
        #[serde(default)]
        spool: Option<SpoolId>,
        #[serde(default)]
        trouble: Option<String>,
        /// Reason for which nothing is served for some seconds.
        #[serde(default)]
        waits: Option<String>,
        /// Pause of feeding, if there is one.
        #[serde(default)]
        pause: Option<Pause>,
        /// Cause for which this node should get no mail, by probes of its Postfix. A pong also
        /// comes without a ping, when this changes.
        #[serde(default)]
        unfit: Option<Unfit>,
        /// Whether Redis says that this queue directory serves the node.
        #[serde(default)]
        served: Served,
    },
    /// With `node`, this server is a node of that name now, and the process ends. Otherwise the
    /// server keeps its name, for this reason.
    NewNode { node: Option<String>, reason: String },
    /// Postfix has removed the queue file: delivered, bounced, or deleted by the administrator.
    /// Also sent for files that were listed as unreadable.
    Settled { queue_id: QueueId },
    /// The queue manager will try this file again at this time, in Unix seconds.
    Deferred { queue_id: QueueId, next_attempt_s: u64 },
    /// The file lies in Postfix's hold queue until the administrator releases it. `deferred`
    /// follows then.
    OnHold { queue_id: QueueId },
    /// The request could not be understood or carried out, and nothing was changed.
    Error { reason: String },
}

/// Proof that the disk gives about commits. The absence of a committed file proves its delivery if
/// the commit's number is above `floor` and at most `mark`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Number up to which all commits are released, as noted on the disk.
    pub mark: CommitNumber,
    /// Number of the last commit before the disk was put back to an earlier state.
    pub floor: CommitNumber,
}

/// Pause of feeding. Mail for this node waits in Redis meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Kind of the reason.
    pub cause: PauseCause,
    /// Text of the reason: object, failure, cause, remedy.
    pub reason: String,
    /// Age of the pause, in seconds.
    pub for_s: u64,
}

/// Kind of the reason for which pickup-rs feeds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// Redis can't be used.
    Redis,
    /// This queue directory is a copy of the node's.
    Copy,
    /// The node was served at another place seconds ago.
    Waits,
    /// The mark can't be written.
    Mark,
    /// Cleanup can't write its files.
    Room,
    /// Redis answers, and has not said whether the node is served here.
    Unanswered,
}

impl PauseCause {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Redis, Self::Copy, Self::Waits, Self::Mark, Self::Room, Self::Unanswered];
}

/// Whether a node is served from a queue directory, as Redis decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// The node is served from this directory. Default, because earlier versions assumed so.
    #[default]
    Here,
    /// Redis has not answered yet.
    Unknown,
    /// The node is served from another directory, of which this one is a copy.
    Elsewhere,
}

/// A message with an operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Name of the message's queue file.
    pub queue_id: QueueId,
    /// Message id, which is needed because Postfix uses queue ids again.
    pub id: MessageId,
}

/// One queue file in an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedFile {
    /// Message id, from the file's `optimus_id` attribute.
    pub id: MessageId,
    /// Lot, from the file's `optimus_lot` attribute.
    pub lot: LotNumber,
    /// Epoch, from the file's `optimus_lot` attribute.
    pub epoch: Epoch,
    /// Name of the file.
    pub queue_id: QueueId,
    /// Kind of folder that has the file.
    pub place: FolderKind,
    /// Time of the next attempt, in Unix seconds; for deferred files.
    pub next_attempt_s: Option<u64>,
    /// Domains of the recipients as submitted, or the first of them: as many as fit into the file's
    /// attributes. Empty for files of earlier versions.
    #[serde(default)]
    pub to: Vec<Domain>,
}

/// Kind of folder that has a queue file, as far as recovery distinguishes folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderKind {
    /// In the folder of OPTIMUS for undecided files, not yet released.
    Prepared,
    /// In incoming or active, where the queue manager has the file; or in corrupt, where the file
    /// stays undelivered.
    Queued,
    /// In Postfix's deferred queue.
    Deferred,
    /// In Postfix's hold queue: the site put the released file there, or the site's content rules
    /// did.
    OnHold,
}

/// Way of a message to the queue manager. See `docs/decisions/0004-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handoff {
    /// Two phases: a message is held, then committed and released.
    Hold,
    /// One phase: the queue manager has the message at once. Needed where the site's own rules may
    /// put mail on hold, because cleanup doesn't say which rule did.
    Direct,
}
