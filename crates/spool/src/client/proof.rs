//! Proof of delivery from a node's disk: commits are numbered, and all up to the disk's mark are
//! released. "Proof of delivery" in `optimus.lua` has the reasons.

use std::collections::HashMap;
use std::time::Duration;

use postfix_wire::QueueId;
use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::directory::milliseconds;
use super::{Absent, FencingToken, Placed, Renamed, Spool, SpoolError};
use crate::keys::SHARD;
use crate::{CommitNumber, Generation, MessageId, NodeId};

/// Characters of an id.
const ID_LENGTH: usize = 26;

/// A committed message as Redis keeps it.
pub(super) struct Numbered {
    pub(super) id: MessageId,
    pub(super) number: CommitNumber,
}

impl FromRedisValue for Numbered {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text: String = from_redis_value(value)?;
        let (id, number) = text.split_at_checked(ID_LENGTH).unwrap_or((&text, ""));
        let wrong = |error: crate::IdError| ParsingError::from(error.to_string());
        // Values of earlier versions of OPTIMUS have no number.
        let number = if number.is_empty() { Ok(CommitNumber(0)) } else { number.parse() };
        Ok(Self { id: id.parse().map_err(wrong)?, number: number.map_err(wrong)? })
    }
}

/// A committed file that has another queue id than when it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Id of the message.
    pub id: MessageId,
    /// Queue id under which the message was committed.
    pub was: QueueId,
    /// Queue id of its file now.
    pub now: QueueId,
}

/// Statement of a pickup-rs about itself and its queue directory.
#[derive(Debug, Clone, Copy)]
pub struct Attendance<'a> {
    /// Generation that Redis gave the pickup-rs; 0 asks for a new one.
    pub generation: u64,
    /// Nonce of the last attendance, which the disk has.
    pub last: Generation,
    /// New nonce, which the disk has already.
    pub nonce: Generation,
    /// Mark that the disk has safely.
    pub mark: CommitNumber,
    /// Place of the directory: two directories never have one place at the same time.
    pub place: &'a str,
    /// Host of the directory, also shown to people: the same after the directory was restored in
    /// its place.
    pub host: &'a str,
    /// Time for which a place counts as live after an attendance.
    pub live: Duration,
    /// Whether this pickup-rs ends, so that another place may serve the node at once.
    pub leaves: bool,
}

/// Outcome of attending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attended {
    /// The node is served here.
    Here {
        /// Generation of this pickup-rs.
        generation: u64,
        /// Number of the last commit before the disk was put back.
        floor: CommitNumber,
    },
    /// Another process has attended since. The caller must attend with a new generation, or end.
    Superseded,
    /// The node is served at another place now, by this host. The caller must serve nothing.
    Occupied(String),
    /// Redis was put back to an earlier state, and waits for the latest state of the disk. The
    /// caller must ask again.
    Wait,
    /// This host has served the node since the disk's state was made. The caller must serve
    /// nothing.
    Elsewhere(String),
}

impl FromRedisValue for Attended {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (word, generation, floor, host): (String, u64, CommitNumber, String) =
            from_redis_value(value)?;
        match word.as_str() {
            "attended" => Ok(Self::Here { generation, floor }),
            "wait" => Ok(Self::Wait),
            "superseded" => Ok(Self::Superseded),
            "occupied" => Ok(Self::Occupied(host)),
            "elsewhere" => Ok(Self::Elsewhere(host)),
            other => Err(format!("answer to attend: not understood: {other:?}").into()),
        }
    }
}

/// The last attendance of a node's queue directory, and the last refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastAttendance {
    /// The last nonce.
    pub nonce: Option<Generation>,
    /// Host that attended with the nonce.
    pub host: Option<String>,
    /// Host of a refused copy, and the time of its last refusal, Unix milliseconds by Redis's
    /// clock.
    pub refused: Option<(String, u64)>,
}

impl LastAttendance {
    fn of(mut fields: HashMap<String, String>) -> Result<Self, SpoolError> {
        let wrong = |error: &dyn std::fmt::Display| SpoolError::Malformed(error.to_string());
        let nonce =
            fields.get("nonce").map(|it| it.parse()).transpose().map_err(|error| wrong(&error))?;
        let at = fields
            .get("refused_at")
            .map(|it| it.parse())
            .transpose()
            .map_err(|error| wrong(&error))?;
        Ok(Self { nonce, host: fields.remove("host"), refused: fields.remove("refused").zip(at) })
    }
}

impl Spool {
    /// Returns the last attendance of a node. Changes nothing.
    pub async fn last_attendance(&self, node: &NodeId) -> Result<LastAttendance, SpoolError> {
        let command = redis::cmd("HGETALL").arg(format!("{SHARD}node:{node}:agent")).clone();
        LastAttendance::of(self.connection.run(&command).await?)
    }

    /// Tells Redis which queue directory serves a node, and the mark on its disk.
    pub async fn attend(&self, node: &NodeId, it: &Attendance<'_>) -> Result<Attended, SpoolError> {
        let mut command = self.function("attend");
        command.arg(node).arg(it.generation).arg(it.last).arg(it.nonce).arg(it.mark);
        command.arg(it.place).arg(it.host).arg(milliseconds(it.live)).arg(u8::from(it.leaves));
        self.connection.run(&command).await
    }

    /// Decides about committed messages whose files are absent. A message is settled if `mark`,
    /// read before the scan, proves its release; otherwise the message is sent again. A second call
    /// returns [`Absent::Already`].
    pub async fn absent(
        &self,
        token: &FencingToken,
        mark: CommitNumber,
        messages: &[Placed],
    ) -> Result<Vec<Absent>, SpoolError> {
        self.batch(self.fenced_by("absent", token).arg(mark), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id);
        })
        .await
    }

    /// Notes the new names of committed files, and gives their commits new numbers. A second call
    /// returns [`Renamed::Already`].
    pub async fn rename(
        &self,
        token: &FencingToken,
        files: &[Rename],
    ) -> Result<Vec<(Renamed, CommitNumber)>, SpoolError> {
        self.batch(&self.fenced_by("rename", token), files, |command, it| {
            command.arg(it.was.as_str()).arg(it.id).arg(it.now.as_str());
        })
        .await
    }
}
