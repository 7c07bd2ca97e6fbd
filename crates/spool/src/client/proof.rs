//! What a node's disk proves: commits are numbered, and the disk has a mark up to which all are
//! released. See "Proof of delivery" in `optimus.lua`.

use std::collections::HashMap;
use std::time::Duration;

use postfix_wire::QueueId;
use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::directory::milliseconds;
use super::{Absent, Placed, Renamed, Seat, Spool, SpoolError};
use crate::library::SHARD;
use crate::{CommitNumber, Incarnation, MessageId, NodeId};

/// Characters of an id.
const ID_LENGTH: usize = 26;

/// What Redis keeps of a committed message.
pub(super) struct Numbered {
    pub(super) id: MessageId,
    pub(super) number: CommitNumber,
}

impl FromRedisValue for Numbered {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text: String = from_redis_value(value)?;
        let (id, number) = text.split_at_checked(ID_LENGTH).unwrap_or((&text, ""));
        let wrong = |error: crate::IdError| ParsingError::from(error.to_string());
        // Values of earlier versions have no number.
        let number = if number.is_empty() { Ok(CommitNumber(0)) } else { number.parse() };
        Ok(Self { id: id.parse().map_err(wrong)?, number: number.map_err(wrong)? })
    }
}

/// A committed file that is there, and its name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The message.
    pub id: MessageId,
    /// The name it was committed under.
    pub was: QueueId,
    /// The name of its file.
    pub now: QueueId,
}

/// What a pickup-rs says of itself and the queue directory that it has.
#[derive(Debug, Clone, Copy)]
pub struct Attendance<'a> {
    /// The number that it was told when it began; 0 begins.
    pub generation: u64,
    /// The nonce that it gave the last time.
    pub last: Incarnation,
    /// A new nonce. Both are on the disk.
    pub nonce: Incarnation,
    /// The mark that the disk has safely.
    pub mark: CommitNumber,
    /// Where the directory is: differs for two directories that are there at one time.
    pub place: &'a str,
    /// Doesn't change when a directory is put back in its place. For people, too.
    pub host: &'a str,
    /// How long a place counts as being there.
    pub live: Duration,
    /// Whether it ends, so that another place may serve the node at once.
    pub leaves: bool,
}

/// What attending came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attended {
    /// The node is served here.
    Here {
        /// Number of this beginning.
        generation: u64,
        /// The last commit before the disk was put back.
        floor: CommitNumber,
    },
    /// Another process has begun since: begin anew, or end.
    Superseded,
    /// The node is served at another place now, by this host. Serve nothing.
    Occupied(String),
    /// Redis was put back to an earlier state, and waits for the latest state of the disk: ask
    /// again.
    Wait,
    /// The node was served by this host after this disk's state was made. Serve nothing.
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
            other => Err(format!("{other:?} is not an answer to an attendance").into()),
        }
    }
}

/// Who served a node's queue directory last, and who was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastAttendance {
    /// The last nonce.
    pub nonce: Option<Incarnation>,
    /// The host that gave it.
    pub host: Option<String>,
    /// The host of a copy that was refused, and when that was, in Unix milliseconds by Redis's
    /// clock.
    pub refused: Option<(String, u64)>,
}

impl LastAttendance {
    fn of(mut fields: HashMap<String, String>) -> Result<Self, SpoolError> {
        let wrong = |error: &dyn std::fmt::Display| SpoolError::Corrupt(error.to_string());
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
    /// Returns who served the node last. Changes nothing.
    pub async fn last_attendance(&self, node: &NodeId) -> Result<LastAttendance, SpoolError> {
        let command = redis::cmd("HGETALL").arg(format!("{SHARD}node:{node}:agent")).clone();
        LastAttendance::of(self.connection.run(&command).await?)
    }

    /// Says who serves a node's queue directory, and what its disk proves.
    pub async fn attend(&self, node: &NodeId, it: &Attendance<'_>) -> Result<Attended, SpoolError> {
        let mut command = self.function("attend");
        command.arg(node).arg(it.generation).arg(it.last).arg(it.nonce).arg(it.mark);
        command.arg(it.place).arg(it.host).arg(milliseconds(it.live)).arg(u8::from(it.leaves));
        self.connection.run(&command).await
    }

    /// Decides about committed messages whose files are absent: settled where `mark`, as the disk
    /// had it when it was looked through, proves that; else sent again. The second time:
    /// [`Absent::Already`].
    pub async fn absent(
        &self,
        seat: &Seat,
        mark: CommitNumber,
        messages: &[Placed],
    ) -> Result<Vec<Absent>, SpoolError> {
        self.batch(self.seated("absent", seat).arg(mark), messages, |command, it| {
            command.arg(it.queue_id.as_str()).arg(it.id);
        })
        .await
    }

    /// Notes the names of committed files, and gives their commits new numbers. The second time:
    /// [`Renamed::Already`].
    pub async fn rename(
        &self,
        seat: &Seat,
        files: &[Rename],
    ) -> Result<Vec<(Renamed, CommitNumber)>, SpoolError> {
        self.batch(&self.seated("rename", seat), files, |command, it| {
            command.arg(it.was.as_str()).arg(it.id).arg(it.now.as_str());
        })
        .await
    }
}
