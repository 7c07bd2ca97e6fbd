//! The client of the daemons: every function of `optimus.lua` as a method.
//!
//! All calls share one connection, made when first needed and made again when it breaks. A call
//! that finds the connection broken is repeated on the new one, a few times at most. A repetition
//! is safe because every function is idempotent. A batch is one call, so any number of messages
//! cost Redis one fsync. The client decides nothing itself. One file, because it is read beside
//! `optimus.lua`, function by function.

mod answers;
mod connection;
mod directory;
mod error;
mod identity;
mod inbox;
mod listing;
mod lost;
mod memory;
mod opening;
mod operate;
mod place;
mod proof;
mod publications;
mod quarantine;
mod vitals;
mod weakness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use postfix_wire::QueueId;
use redis::{Cmd, FromRedisValue};

use crate::keys::SHARD;
use crate::{
    CommitNumber, Damage, Domain, Epoch, LotNumber, Message, MessageId, NodeId, Server, Start,
};
pub use answers::*;
pub use connection::LibraryState;
use connection::{Connection, Library};
pub use directory::*;
pub use error::SpoolError;
use identity::Memory;
pub use identity::remembered;
pub use listing::{Listed, Listing};
pub use lost::{Lost, Taken};
pub use memory::Remembered;
pub use operate::{Act, Obeyed, Operated, OrdersAt, Standing};
pub use place::MessagePlace;
use proof::Numbered;
pub use proof::{Attendance, Attended, LastAttendance, Rename};
pub use publications::{Publication, Publications, SmallLot};
pub use vitals::Vitals;
pub use weakness::{Effect, Weakness};

/// Most entries in one call of a batch function, as in `optimus.lua`. Longer batches are sent in
/// several calls.
pub const BATCH_MAX: usize = 1000;
/// Number of messages requested at once. Each is a command of its own, so that the time limit is
/// for one message.
const GETS_AT_ONCE: usize = 16;
/// Time limit for the largest message over a slow network, either way. Under the limit of other
/// calls such a message would never arrive, and each repeated submission would store one more copy.
const MESSAGE_LIMIT: Duration = Duration::from_secs(30);
const INVENTORY_PAGE: usize = 1000;

/// Client of the spool in one Redis. Clones are cheap and share the connection.
#[derive(Debug, Clone)]
pub struct Spool {
    connection: Arc<Connection>,
    now_ms: Option<u64>,
}

/// Fencing token of a Mail Agent. A call with it is refused ([`SpoolError::Superseded`]) once a
/// later Mail Agent of the node has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FencingToken {
    /// The Mail Agent's node.
    pub node: NodeId,
    /// Number of the Mail Agent's start.
    pub start: Start,
}

/// One message to be committed to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Id of the message.
    pub id: MessageId,
    /// Number of the lot from which the message was fed.
    pub lot: LotNumber,
    /// Epoch of that lot when it was fetched.
    pub epoch: Epoch,
    /// Queue id of the message's file.
    pub queue_id: QueueId,
}

/// One message of a lot, in a node's tenure of that lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenured {
    /// Id of the message.
    pub id: MessageId,
    /// Number of its lot.
    pub lot: LotNumber,
    /// Epoch of that lot when it was fetched.
    pub epoch: Epoch,
}

/// A node's evidence that a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The file vanished before its release.
    NeverReleased,
    /// The file is gone, and may have been released before.
    MayBeSent,
}

impl Unsent {
    /// Returns the name of the lifetime counter for such messages.
    fn count(self) -> &'static str {
        match self {
            Self::NeverReleased => "uncommitted",
            Self::MayBeSent => "resent",
        }
    }
}

/// A message and its queue file on some node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Queue id of the message's file.
    pub queue_id: QueueId,
    /// Id of the message.
    pub id: MessageId,
}

/// A message that rests in Postfix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// Queue id of the message's file.
    pub queue_id: QueueId,
    /// Id of the message.
    pub id: MessageId,
    /// End of the rest.
    pub rest: Rest,
}

/// End of a committed message's rest in its node's Postfix, during which it takes no credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rest {
    /// The next attempt of the deferred message, Unix milliseconds.
    Until(u64),
    /// The administrator's release from the hold queue.
    OnHold,
}

impl redis::ToRedisArgs for Rest {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        match self {
            Self::Until(next_attempt_ms) => out.write_arg_fmt(next_attempt_ms),
            Self::OnHold => out.write_arg(b"+inf"),
        }
    }
}

impl redis::ToSingleRedisArg for Rest {}

impl Rest {
    /// Returns the rest that a score of the node's deferred messages stands for.
    fn of_score(score: f64) -> Self {
        if score.is_finite() { Self::Until(score as u64) } else { Self::OnHold }
    }
}

/// Whether a function that moves a limited number of entries in each call must be called again.
/// Fails when it moved none though more are left.
fn goes_on(function: &str, moved: u64, more: bool) -> Result<bool, SpoolError> {
    if more && moved == 0 {
        return Err(SpoolError::Malformed(format!(
            "{function} moved nothing, though more is left"
        )));
    }
    Ok(more)
}

impl Spool {
    /// Returns a client that connects when first needed, and stays with the spool that it finds
    /// then.
    pub fn new(server: Server) -> Self {
        Self::with(server, Library::Load, None)
    }

    /// Returns a client for the spool whose identity is in `file`, as all processes of an instance
    /// use. Without one there, the client remembers the first spool that it finds.
    pub fn serving(server: Server, file: PathBuf) -> Self {
        Self::with(server, Library::Load, Some(file))
    }

    /// Returns a client for reading and submitting, which never loads the function library. Its
    /// calls fail if Redis's library lacks their functions: see [`Spool::library`].
    pub fn looking(server: Server) -> Self {
        Self::with(server, Library::Leave, None)
    }

    fn with(server: Server, policy: Library, file: Option<PathBuf>) -> Self {
        let connection = Connection::new(server, policy, Memory::new(file));
        Self { connection: Arc::new(connection), now_ms: None }
    }

    /// Returns the client with another clock than Redis's, for tests: every function takes
    /// `unix_ms` for the present.
    pub fn at(&self, unix_ms: u64) -> Self {
        Self { now_ms: Some(unix_ms), ..self.clone() }
    }

    /// Returns the server that this client was made for.
    pub fn server(&self) -> &Server {
        self.connection.server()
    }

    /// Returns the state of the function library in Redis. Changes nothing.
    pub async fn library(&self) -> Result<LibraryState, SpoolError> {
        self.connection.library().await
    }

    /// Checks that Redis answers and has a usable function library.
    pub async fn ping(&self) -> Result<(), SpoolError> {
        self.connection.run(&redis::cmd("PING")).await.map(|_: String| ())
    }

    fn function_on(&self, prefix: &str, name: &str) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(format!("optimus_{name}")).arg(1).arg(prefix);
        command.arg(self.now_ms.map(|now| now.to_string()).unwrap_or_default());
        command
    }

    fn function(&self, name: &str) -> Cmd {
        self.function_on(SHARD, name)
    }

    fn fenced_by(&self, name: &str, token: &FencingToken) -> Cmd {
        let mut command = self.function(name);
        command.arg(&token.node).arg(token.start);
        command
    }

    /// Calls a batch function, several times if the entries are over its limit. The answers are in
    /// the entries' order.
    async fn batch<E, A: FromRedisValue>(
        &self,
        start: &Cmd,
        entries: &[E],
        add: impl Fn(&mut Cmd, &E),
    ) -> Result<Vec<A>, SpoolError> {
        let mut answers = Vec::with_capacity(entries.len());
        for chunk in entries.chunks(BATCH_MAX) {
            let mut command = start.clone();
            chunk.iter().for_each(|entry| add(&mut command, entry));
            let some: Vec<A> = self.connection.run(&command).await?;
            if some.len() != chunk.len() {
                return Err(SpoolError::Malformed(format!(
                    "{} answers to {} entries",
                    some.len(),
                    chunk.len()
                )));
            }
            answers.extend(some);
        }
        Ok(answers)
    }

    /// Assigns ready lots to nodes. A second call returns [`Assigned::Already`].
    pub async fn assign(&self, lots: &[(LotNumber, NodeId)]) -> Result<Vec<Assigned>, SpoolError> {
        self.batch(&self.function("assign"), lots, |command, (lot, node)| {
            command.arg(lot).arg(node);
        })
        .await
    }

    /// Takes parked lots for a Mail Agent's node. A second call returns [`Assigned::Already`].
    pub async fn pull(
        &self,
        token: &FencingToken,
        lots: &[LotNumber],
    ) -> Result<Vec<Assigned>, SpoolError> {
        self.batch(&self.fenced_by("pull", token), lots, |command, lot| _ = command.arg(lot)).await
    }

    /// Returns the lots assigned to a Mail Agent's node, with their uncommitted messages, lowest
    /// number first. Changes nothing.
    pub async fn fetch(&self, token: &FencingToken) -> Result<Vec<AssignedLot>, SpoolError> {
        let mut lots: Vec<AssignedLot> = Vec::new();
        loop {
            let after = lots.last().map_or(LotNumber(0), |lot| lot.lot);
            let page: LotsPage =
                self.connection.run(self.fenced_by("fetch", token).arg(after)).await?;
            lots.extend(page.lots);
            lots.last().iter().for_each(|last| self.connection.memory().saw(last.lot));
            if !page.more {
                return Ok(lots);
            }
        }
    }

    /// Reads messages and compares their checksums; the answers are in the ids' order. All messages
    /// are in memory at once, so large ones must be requested a few at a time. Changes nothing.
    pub async fn get(&self, ids: &[MessageId]) -> Result<Vec<Result<Message, Damage>>, SpoolError> {
        let mut messages = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(GETS_AT_ONCE) {
            let asked: Vec<_> = chunk.iter().map(|&id| self.get_one(id)).collect();
            messages.extend(try_join_all(asked).await?);
        }
        Ok(messages)
    }

    async fn get_one(&self, id: MessageId) -> Result<Result<Message, Damage>, SpoolError> {
        let value = self.stored(id).await?;
        Ok(value.ok_or(Damage::Missing).and_then(|value| Message::decode(id, value)))
    }

    /// Commits messages to the node, or tells the reason for each refusal. A message is delivered
    /// only after this decision. A second call returns [`Committed::Already`].
    pub async fn commit(
        &self,
        token: &FencingToken,
        messages: &[Commit],
    ) -> Result<Vec<Committed>, SpoolError> {
        let answers = self.commit_numbered(token, messages).await?;
        Ok(answers.into_iter().map(|(outcome, _)| outcome).collect())
    }

    /// Commits as [`Self::commit`] does, and returns the commits' numbers; 0 for a refused one.
    pub async fn commit_numbered(
        &self,
        token: &FencingToken,
        messages: &[Commit],
    ) -> Result<Vec<(Committed, CommitNumber)>, SpoolError> {
        self.batch(&self.fenced_by("commit", token), messages, |command, it| {
            command.arg(it.id).arg(it.lot).arg(it.epoch).arg(it.queue_id.as_str());
        })
        .await
    }

    /// Puts messages into a new lot, which waits until a node has room for their destination. A
    /// second call returns [`Parked::Fenced`].
    pub async fn park(
        &self,
        token: &FencingToken,
        to: &Domain,
        messages: &[Tenured],
    ) -> Result<Vec<Parked>, SpoolError> {
        self.batch(self.fenced_by("park", token).arg(to), messages, |command, it| {
            command.arg(it.id).arg(it.lot).arg(it.epoch);
        })
        .await
    }

    /// Returns the lanes, with at most `limit` lots of each. Changes nothing.
    pub async fn lanes(&self, limit: u32) -> Result<Vec<Lane>, SpoolError> {
        self.connection.run(self.function("lanes").arg(limit)).await
    }

    /// Settles messages whose queue files are gone. A second call returns [`Settled::Already`].
    pub async fn settle(
        &self,
        token: &FencingToken,
        messages: &[Placed],
    ) -> Result<Vec<Settled>, SpoolError> {
        self.batch(&self.fenced_by("settle", token), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id);
        })
        .await
    }

    /// Takes back commits of messages whose queue files are gone, and which were not sent as far as
    /// the node can prove. The messages wait in a new lot. A second call returns
    /// [`Uncommitted::Already`].
    pub async fn uncommit(
        &self,
        token: &FencingToken,
        proof: Unsent,
        messages: &[Placed],
    ) -> Result<Vec<Uncommitted>, SpoolError> {
        self.batch(self.fenced_by("uncommit", token).arg(proof.count()), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id);
        })
        .await
    }

    /// Notes the times until which messages rest in Postfix. A second call returns
    /// [`Deferred::Already`].
    pub async fn defer(
        &self,
        token: &FencingToken,
        messages: &[Deferral],
    ) -> Result<Vec<Deferred>, SpoolError> {
        self.batch(&self.fenced_by("defer", token), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id).arg(it.rest);
        })
        .await
    }

    /// Puts an unusable message into quarantine, with the reason. A second call returns
    /// [`Refused::Already`].
    pub async fn refuse(
        &self,
        token: &FencingToken,
        id: MessageId,
        (lot, epoch): (LotNumber, Epoch),
        reason: &str,
    ) -> Result<Refused, SpoolError> {
        let mut command = self.fenced_by("refuse", token);
        command.arg(id).arg(lot).arg(epoch).arg(reason);
        self.connection.run(&command).await
    }

    /// Takes all uncommitted lots from a node and makes them ready. From then on the node is fenced
    /// from them. Returns the number of lots; a second call returns 0.
    pub async fn reassign(&self, node: &NodeId) -> Result<u64, SpoolError> {
        self.reassign_by(self.function("reassign").arg(node).arg("")).await
    }

    /// Hands a node's uncommitted lots back as [`Self::reassign`] does, for its own Mail Agent.
    pub async fn hand_back(&self, token: &FencingToken) -> Result<u64, SpoolError> {
        self.reassign_by(&self.fenced_by("reassign", token)).await
    }

    async fn reassign_by(&self, command: &Cmd) -> Result<u64, SpoolError> {
        let mut lots = 0;
        loop {
            let (some, more): (u64, bool) = self.connection.run(command).await?;
            lots += some;
            if !goes_on("reassign", some, more)? {
                return Ok(lots);
            }
        }
    }

    /// Announces a Mail Agent that is about to compare its node's disk with Redis. Earlier Mail
    /// Agents of the node are fenced from now on. A second call at the same moment returns
    /// [`Arrived::Already`].
    pub async fn arrive(&self, token: &FencingToken) -> Result<Arrived, SpoolError> {
        self.connection.run(&self.fenced_by("arrive", token)).await
    }

    /// Returns a node's committed messages. A message that is committed or settled meanwhile may be
    /// missing. Changes nothing.
    pub async fn inventory(&self, node: &NodeId) -> Result<Vec<Placed>, SpoolError> {
        Ok(self.inventory_numbered(node).await?.into_iter().map(|(placed, _)| placed).collect())
    }

    /// Returns a node's committed messages as [`Self::inventory`] does, with the commits' numbers;
    /// 0 for commits by earlier versions of OPTIMUS.
    pub async fn inventory_numbered(
        &self,
        node: &NodeId,
    ) -> Result<Vec<(Placed, CommitNumber)>, SpoolError> {
        let mut found = BTreeMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("HSCAN");
            command
                .arg(format!("{SHARD}node:{node}:mail"))
                .arg(cursor)
                .arg("COUNT")
                .arg(INVENTORY_PAGE);
            let (next, page): (u64, Vec<(String, Numbered)>) =
                self.connection.run(&command).await?;
            for (queue_id, it) in page {
                found.insert(
                    queue_id.parse().map_err(|error| SpoolError::Malformed(format!("{error}")))?,
                    it,
                );
            }
            if next == 0 {
                let placed =
                    |(queue_id, Numbered { id, number })| (Placed { queue_id, id }, number);
                return Ok(found.into_iter().map(placed).collect());
            }
            cursor = next;
        }
    }

    /// Returns the committed messages that rest in a node's Postfix, each with its rest. A message
    /// that comes to rest or is settled meanwhile may be missing. Changes nothing.
    pub async fn resting(&self, node: &NodeId) -> Result<BTreeMap<MessageId, Rest>, SpoolError> {
        let mut found = BTreeMap::new();
        for page in 0.. {
            let mut command = redis::cmd("ZRANGE");
            let first = page * INVENTORY_PAGE;
            command
                .arg(format!("{SHARD}node:{node}:deferred"))
                .arg(first)
                .arg(first + INVENTORY_PAGE - 1)
                .arg("WITHSCORES");
            let some: Vec<(MessageId, f64)> = self.connection.run(&command).await?;
            if some.is_empty() {
                break;
            }
            found.extend(some.into_iter().map(|(id, score)| (id, Rest::of_score(score))));
        }
        Ok(found)
    }

    /// Returns an overview of the spool, with at most `limit` ready lots. Changes nothing.
    pub async fn overview(&self, limit: u32) -> Result<Overview, SpoolError> {
        let overview: Overview = self.connection.run(self.function("overview").arg(limit)).await?;
        self.connection.memory().saw(LotNumber(overview.inbox.next_lot.0.saturating_sub(1)));
        Ok(overview)
    }

    /// Returns the time at which Postfix will next try a deferred message of this node, Unix
    /// milliseconds. Changes nothing.
    pub async fn next_attempt_ms(&self, node: &NodeId) -> Result<Option<u64>, SpoolError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(format!("{SHARD}node:{node}:deferred")).arg(0).arg(0).arg("WITHSCORES");
        let first: Vec<(MessageId, f64)> = self.connection.run(&command).await?;
        Ok(first.first().and_then(|(_, score)| match Rest::of_score(*score) {
            Rest::Until(when_ms) => Some(when_ms),
            // Mail on hold has no next attempt.
            Rest::OnHold => None,
        }))
    }

    /// Returns lifetime counters by event name. Changes nothing.
    pub async fn counts(&self) -> Result<BTreeMap<String, u64>, SpoolError> {
        self.connection.run(redis::cmd("HGETALL").arg(format!("{SHARD}counts"))).await
    }

    /// Returns the error that keeps this client from connecting, for a status report between calls.
    /// Each call returns the error too.
    pub fn trouble(&self) -> Option<SpoolError> {
        self.connection.trouble()
    }

    /// Keeps the client connected for as long as the future is awaited, so that [`Self::trouble`]
    /// is up to date without other calls.
    pub async fn stay_connected(&self) {
        self.connection.stay().await;
    }

    /// Listens for notices on a connection of its own, in a task of the current tokio runtime.
    pub fn publications(&self) -> Publications {
        Publications::new(Arc::clone(&self.connection))
    }

    /// Sends a notice to the listeners of [`Spool::publications`]. Without listeners the notice is
    /// lost.
    pub async fn tell(&self, to: &crate::AgentId, text: &str) -> Result<(), SpoolError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(crate::keys::NOTICES).arg(format!("told {to} {text}"));
        self.connection.run(&command).await.map(|_: u64| ())
    }
}
