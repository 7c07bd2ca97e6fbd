//! A node that is given up, and what became of its messages.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::directory::milliseconds;
use super::{Spool, SpoolError, goes_on};
use crate::NodeId;

/// Outcome of giving up a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The node's messages are taken from it.
    Lost(Taken),
    /// The call changed nothing: the node has come back, or its Postfix still runs.
    Alive,
}

/// Numbers of messages taken from a node, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Messages that will be sent again.
    pub resent: u64,
    /// Messages held in Redis: by an operator's order, or since they were on hold at the node.
    pub held: u64,
    /// Messages deleted by an operator's order.
    pub deleted: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.resent += other.resent;
        self.held += other.held;
        self.deleted += other.deleted;
    }
}

/// Answer to one call of `lose`: messages taken, and whether more are left.
enum LostSlice {
    Taken(Taken, bool),
    Alive,
}

impl FromRedisValue for LostSlice {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        if let Value::Array(_) = value {
            let (resent, held, deleted, more) = from_redis_value(value)?;
            return Ok(Self::Taken(Taken { resent, held, deleted }, more));
        }
        match from_redis_value::<String>(value)?.as_str() {
            "alive" => Ok(Self::Alive),
            other => Err(format!("answer to lose: not understood: {other:?}").into()),
        }
    }
}

impl Spool {
    /// Gives up a node that won't come back: its committed messages become ready, to be sent again,
    /// except those that an operator has stopped. A second call moves none. A node whose Mail Agent
    /// arrived, or whose pickup-rs attended, less than `grace` ago is kept. Each slice is complete
    /// in itself: after a failed call, the next call goes on with the rest.
    /// So is a node whose Mail Agent lives (`has_agent`) and whose pickup-rs has never attended.
    pub async fn lose(
        &self,
        node: &NodeId,
        grace: Duration,
        has_agent: bool,
    ) -> Result<Lost, SpoolError> {
        let mut taken = Taken::default();
        loop {
            match self.lose_slice(node, grace, has_agent).await? {
                (Lost::Alive, _) if taken == Taken::default() => return Ok(Lost::Alive),
                // The node came back between two slices; the earlier slices were right to move
                // messages.
                (Lost::Alive, _) => return Ok(Lost::Lost(taken)),
                (Lost::Lost(some), more) => {
                    taken += some;
                    if !more {
                        return Ok(Lost::Lost(taken));
                    }
                }
            }
        }
    }

    /// Takes one slice of messages as [`Self::lose`] does. Returns also whether more are left.
    pub async fn lose_slice(
        &self,
        node: &NodeId,
        grace: Duration,
        has_agent: bool,
    ) -> Result<(Lost, bool), SpoolError> {
        let mut command = self.function("lose");
        command.arg(node).arg(milliseconds(grace)).arg(u8::from(has_agent));
        match self.connection.run(&command).await? {
            LostSlice::Alive => Ok((Lost::Alive, false)),
            LostSlice::Taken(taken, more) => {
                let Taken { resent, held, deleted } = taken;
                goes_on("lose", resent + held + deleted, more)?;
                Ok((Lost::Lost(taken), more))
            }
        }
    }
}
