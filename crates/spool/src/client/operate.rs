//! Operators' acts on mail in Redis: delete, hold, release, requeue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answers::words;
use super::{FencingToken, MessagePlace, Placed, Spool, SpoolError};
use crate::keys::SHARD;
use crate::{MessageId, NodeId};
use redis::{Cmd, FromRedisValue, ParsingError, Value, from_redis_value};

const SCAN_PAGE: usize = 1000;
/// Entries of the inbox that one call of `tidy` takes.
const TIDY_PAGE: usize = 2000;

words! {
    /// Act of an operator on a message.
    Act {
        /// Deletes the message for good.
        Delete = "delete",
        /// Keeps the message from being sent.
        Hold = "hold",
        /// Ends a hold.
        Release = "release",
        /// Makes the message wait in a new lot, from any place in Redis.
        Requeue = "requeue",
    }
}

impl Act {
    /// Returns whether a message with this order must not be sent.
    pub fn stops(self) -> bool {
        matches!(self, Self::Delete | Self::Hold)
    }
}

words! {
    /// Outcome of an act.
    Operated {
        /// The message is deleted.
        Deleted = "delete",
        /// The message is on hold.
        Held = "hold",
        /// The message waits to be sent.
        Released = "release",
        /// The message waits in a new lot.
        Requeued = "requeue",
        /// The message is at a node, whose Mail Agent carries the act out. If the message comes
        /// back to Redis first, Redis carries the act out.
        Ordered = "ordered",
        /// The act had been carried out before, or an operator had deleted the message.
        Already = "already",
        /// The message is in quarantine and isn't sent; only `retry` or `requeue` ends the
        /// quarantine.
        Kept = "kept",
        /// Redis has the id without the message, which can only be deleted.
        Missing = "missing",
        /// The call changed nothing: the message has left the named place. The caller must look
        /// again.
        Moved = "moved",
        /// The message was sent, deleted or disowned before.
        Gone = "gone",
        /// Redis never had the message, or forgot it long ago.
        Unknown = "unknown",
    }
}

words! {
    /// Outcome of reporting an order as carried out.
    Obeyed {
        /// The order has ended; a message that it deleted is gone from Redis.
        Obeyed = "obeyed",
        /// The order had ended before, or another one has taken its place.
        Already = "already",
    }
}

/// Holds and orders of operators that stand in Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Number of messages on hold in Redis, outside the inbox.
    pub held: u64,
    /// Time at which the first of the held messages was put on hold, Unix milliseconds.
    pub held_since_ms: Option<u64>,
    /// Number of messages in the inbox with an order.
    pub ordered: u64,
    /// Time of the first order for a message in the inbox, Unix milliseconds; `None` for orders of
    /// an earlier version of OPTIMUS.
    pub ordered_since_ms: Option<u64>,
    /// Number of messages at nodes with an order that isn't carried out yet.
    pub ordered_at_nodes: u64,
    /// Orders at nodes, by node.
    pub at_nodes: Vec<OrdersAt>,
}

/// Orders that a node has not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersAt {
    /// The node.
    pub node: NodeId,
    /// Number of orders.
    pub orders: u64,
    /// Time of the first order, Unix milliseconds; `None` for orders of an earlier version of
    /// OPTIMUS.
    pub since_ms: Option<u64>,
}

impl FromRedisValue for Standing {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (held, ordered, ordered_at_nodes) = from_redis_value(value)?;
        Ok(Self { held, ordered, ordered_at_nodes, ..Self::default() })
    }
}

impl Spool {
    /// Carries out an act on messages, each only if the message is still in the given place. Redis
    /// decides at most [`BATCH_MAX`](super::BATCH_MAX) messages in one step. A second call returns
    /// [`Operated::Already`], [`Operated::Gone`] or [`Operated::Moved`].
    pub async fn operate(
        &self,
        act: Act,
        messages: &[(MessageId, MessagePlace)],
    ) -> Result<Vec<Operated>, SpoolError> {
        self.batch(self.function("operate").arg(act.as_str()), messages, |command, (id, place)| {
            command.arg(id);
            put_place(command, place);
        })
        .await
    }

    /// Takes deleted and held messages from the inbox's head. Returns the number of entries taken.
    pub async fn tidy(&self) -> Result<u64, SpoolError> {
        let mut total = 0;
        loop {
            let command = self.function("tidy").arg(TIDY_PAGE).clone();
            let (taken, _left): (u64, u64) = self.connection.run(&command).await?;
            total += taken;
            if taken == 0 {
                return Ok(total);
            }
        }
    }

    /// Ends orders that a node's Postfix has carried out. A second call returns
    /// [`Obeyed::Already`].
    pub async fn obey(
        &self,
        token: &FencingToken,
        orders: &[(Placed, Act)],
    ) -> Result<Vec<Obeyed>, SpoolError> {
        self.batch(&self.fenced_by("obey", token), orders, |command, (it, act)| {
            command.arg(it.queue_id.as_str()).arg(it.id).arg(act.as_str());
        })
        .await
    }

    /// Returns the holds and orders of operators. Changes nothing.
    pub async fn standing(&self) -> Result<Standing, SpoolError> {
        let mut standing: Standing = self.connection.run(&self.function("standing")).await?;
        if standing.held > 0 {
            standing.held_since_ms = self.held().await?.into_values().min();
        }
        if standing.ordered > 0 {
            let since: BTreeMap<MessageId, u64> = self.scan("inbox:ordered").await?;
            standing.ordered_since_ms = since.into_values().min();
        }
        if standing.ordered_at_nodes > 0 {
            for node in self.overview(1).await?.nodes {
                standing.at_nodes.extend(self.orders_at(node.node).await?);
            }
        }
        Ok(standing)
    }

    async fn orders_at(&self, node: NodeId) -> Result<Option<OrdersAt>, SpoolError> {
        let orders = self.orders_of(&node).await?.len() as u64;
        let since: BTreeMap<MessageId, u64> = self.scan(&format!("node:{node}:ordered")).await?;
        let since_ms = since.into_values().min();
        Ok((orders > 0).then_some(OrdersAt { node, orders, since_ms }))
    }

    pub(super) async fn inbox_orders(&self) -> Result<BTreeMap<MessageId, Act>, SpoolError> {
        self.scan("inbox:orders").await
    }

    pub(super) async fn held(&self) -> Result<BTreeMap<MessageId, u64>, SpoolError> {
        self.scan("held").await
    }

    /// Returns the orders for messages that are committed to a node. Changes nothing.
    pub async fn orders_of(&self, node: &NodeId) -> Result<BTreeMap<MessageId, Act>, SpoolError> {
        self.scan(&format!("node:{node}:orders")).await
    }

    /// Reads a whole hash whose fields are message ids.
    async fn scan<V: FromRedisValue>(
        &self,
        name: &str,
    ) -> Result<BTreeMap<MessageId, V>, SpoolError> {
        let (mut found, mut cursor) = (BTreeMap::new(), 0_u64);
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(format!("{SHARD}{name}")).arg(cursor).arg("COUNT").arg(SCAN_PAGE);
            let (next, page): (u64, Vec<(MessageId, V)>) = self.connection.run(&command).await?;
            found.extend(page);
            if next == 0 {
                return Ok(found);
            }
            cursor = next;
        }
    }
}

/// Appends the place as `operate` expects it: at, where, queue id.
fn put_place(command: &mut Cmd, place: &MessagePlace) {
    match place {
        MessagePlace::Inbox => command.arg("inbox").arg("").arg(""),
        MessagePlace::Ready(lot) | MessagePlace::Assigned(_, lot) => {
            command.arg("lot").arg(lot).arg("")
        }
        MessagePlace::Committed(node, queue_id) => {
            command.arg("mail").arg(node).arg(queue_id.as_str())
        }
        MessagePlace::Held => command.arg("held").arg("").arg(""),
        MessagePlace::Quarantine(_) => command.arg("quarantine").arg("").arg(""),
    };
}
