//! A listing of all messages that are not settled, page by page, for people.
//!
//! The listing follows the way of the messages: inbox, lots, nodes, on hold, quarantine. So a
//! message that moves on meanwhile may be shown twice, but isn't missed. A message that stays is
//! shown, though others around it are removed: pages go by the numbers of entries and lots, and by
//! scans of tables, which don't shift. A message that moves *back* (by `retry`, or by `lose` of a
//! node) may be missed when its new lot's turn is over. The next listing shows such a message.
//! Pages are read at different times, so the listing is no snapshot. Only the two ends of each
//! message are read (see
//! [`crate::envelope`]), which keeps the traffic small. A listing changes nothing.

use std::collections::{BTreeMap, VecDeque};

use futures_util::future::try_join_all;

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::{Act, MESSAGE_LIMIT, MessagePlace, Spool, SpoolError};
use crate::keys::SHARD;
use crate::{END_BYTES, Ends, Envelope, LotNumber, MessageId, NodeId, Told};

/// Messages per page, each with two ends of some kilobytes.
const PAGE: usize = 200;
const SCAN_PAGE: usize = 500;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Id of the message.
    pub id: MessageId,
    /// Place of the message.
    pub place: MessagePlace,
    /// Order of an operator, for a message in the inbox or at a node.
    pub order: Option<Act>,
    /// The message's envelope; `None` if it is unreadable or was not requested.
    pub envelope: Option<Envelope>,
}

/// Next place to read.
#[derive(Debug)]
enum Stage {
    Inbox { from: u64 },
    Lots { after: LotNumber },
    Nodes { left: Vec<NodeId> },
    Held,
    Quarantined { cursor: u64 },
    End,
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    spool: Spool,
    stage: Stage,
    /// Whether envelopes are read.
    reads: bool,
    /// Orders for messages in the inbox; `None` before they are read.
    inbox_orders: Option<BTreeMap<MessageId, Act>>,
    /// Messages whose envelopes are not read yet.
    found: VecDeque<(MessageId, MessagePlace, Option<Act>)>,
}

impl Spool {
    /// Begins a listing.
    pub fn listing(&self) -> Listing {
        let (stage, found) = (Stage::Inbox { from: 0 }, VecDeque::new());
        Listing { spool: self.clone(), stage, reads: true, inbox_orders: None, found }
    }

    /// Begins a listing without envelopes.
    pub fn listing_of_names(&self) -> Listing {
        Listing { reads: false, ..self.listing() }
    }
}

impl Listing {
    /// Returns some more messages, perhaps none; `None` at the end.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Listed>>, SpoolError> {
        if !self.found.is_empty() {
            return self.read_found().await.map(Some);
        }
        match &mut self.stage {
            Stage::Inbox { from } => {
                let from = *from;
                self.inbox(from).await.map(Some)
            }
            Stage::Lots { after } => {
                let after = *after;
                self.lots(after).await.map(|()| Some(Vec::new()))
            }
            Stage::Nodes { left } => {
                let node = left.pop();
                self.node(node).await.map(|()| Some(Vec::new()))
            }
            Stage::Held => self.held().await.map(|()| Some(Vec::new())),
            Stage::Quarantined { cursor } => {
                let cursor = *cursor;
                self.quarantine(cursor).await.map(|()| Some(Vec::new()))
            }
            Stage::End => Ok(None),
        }
    }

    async fn inbox(&mut self, from: u64) -> Result<Vec<Listed>, SpoolError> {
        if self.inbox_orders.is_none() {
            self.inbox_orders = Some(self.spool.inbox_orders().await?);
        }
        let Peek { first, entries } =
            self.spool.peek(from, PAGE, if self.reads { END_BYTES } else { 1 }).await?;
        self.stage = match entries.len() {
            0 => Stage::Lots { after: LotNumber(0) },
            some => Stage::Inbox { from: first + some as u64 },
        };
        let mut page = Vec::with_capacity(entries.len());
        for (number, entry) in (first..).zip(entries) {
            page.extend(self.waiting(number, entry).await?);
        }
        Ok(page)
    }

    /// Returns the message of an entry; `None` when the entry is malformed or has moved on.
    async fn waiting(&self, number: u64, entry: Peeked) -> Result<Option<Listed>, SpoolError> {
        let Ok(id) = entry.id.parse() else { return Ok(None) };
        let order = self.inbox_orders.as_ref().and_then(|orders| orders.get(&id)).copied();
        if !self.reads {
            return Ok(Some(Listed { id, place: MessagePlace::Inbox, order, envelope: None }));
        }
        let told = match entry.ends().read() {
            Told::More => match self.spool.peek(number, 1, entry.total).await?.entries.pop() {
                Some(whole) if whole.id == entry.id => whole.ends().read(),
                // The message has moved on, and comes later in the listing.
                _ => return Ok(None),
            },
            told => told,
        };
        Ok(Some(Listed { id, place: MessagePlace::Inbox, order, envelope: told.envelope() }))
    }

    async fn lots(&mut self, after: LotNumber) -> Result<(), SpoolError> {
        let mut command = self.spool.function("lots");
        let page: LotsPage = self.spool.connection.run(command.arg(after)).await?;
        let last = page.lots.last().map(|(lot, ..)| *lot);
        for (lot, node, ids) in page.lots {
            let place = if node.is_empty() {
                MessagePlace::Ready(lot)
            } else {
                MessagePlace::Assigned(parsed(&node)?, lot)
            };
            self.found.extend(ids.into_iter().map(|id| (id, place.clone(), None)));
        }
        self.stage = match last {
            Some(after) if page.more => Stage::Lots { after },
            _ => Stage::Nodes { left: self.nodes().await? },
        };
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeId>, SpoolError> {
        let overview = self.spool.overview(1).await?;
        Ok(overview.nodes.into_iter().map(|node| node.node).collect())
    }

    async fn node(&mut self, node: Option<NodeId>) -> Result<(), SpoolError> {
        let Some(node) = node else {
            self.stage = Stage::Held;
            return Ok(());
        };
        let placed = self.spool.inventory(&node).await?;
        let orders = self.spool.orders_of(&node).await?;
        let at = |queue_id| MessagePlace::Committed(node.clone(), queue_id);
        self.found.extend(
            placed.into_iter().map(|it| (it.id, at(it.queue_id), orders.get(&it.id).copied())),
        );
        Ok(())
    }

    async fn held(&mut self) -> Result<(), SpoolError> {
        let held = self.spool.held().await?;
        self.found.extend(held.into_keys().map(|id| (id, MessagePlace::Held, None)));
        self.stage = Stage::Quarantined { cursor: 0 };
        Ok(())
    }

    async fn quarantine(&mut self, cursor: u64) -> Result<(), SpoolError> {
        let (next, page) = self.spool.reasons(cursor).await?;
        self.stage = if next == 0 { Stage::End } else { Stage::Quarantined { cursor: next } };
        self.found.extend(
            page.into_iter().map(|(id, reason)| (id, MessagePlace::Quarantine(reason), None)),
        );
        Ok(())
    }

    async fn read_found(&mut self) -> Result<Vec<Listed>, SpoolError> {
        let some = self.found.drain(..PAGE.min(self.found.len()));
        if !self.reads {
            let named = |(id, place, order)| Listed { id, place, order, envelope: None };
            return Ok(some.map(named).collect());
        }
        let read = some.map(|(id, place, order)| {
            let spool = self.spool.clone();
            async move { spool.listed(id, place, order).await }
        });
        let read: Vec<_> = read.collect();
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }
}

fn parsed(node: &str) -> Result<NodeId, SpoolError> {
    node.parse().map_err(|error| SpoolError::Malformed(format!("lots: {error}")))
}

impl Spool {
    async fn peek(&self, from: u64, count: usize, ends: usize) -> Result<Peek, SpoolError> {
        let mut command = self.function("peek");
        self.connection.run_within(MESSAGE_LIMIT, command.arg(from).arg(count).arg(ends)).await
    }

    /// Returns the reasons for quarantine from a cursor on, with the next cursor. A message may
    /// come twice.
    async fn reasons(&self, cursor: u64) -> Result<(u64, Vec<(MessageId, String)>), SpoolError> {
        let mut command = redis::cmd("HSCAN");
        command.arg(format!("{SHARD}quarantine:why")).arg(cursor).arg("COUNT").arg(SCAN_PAGE);
        self.connection.run(&command).await
    }

    /// Returns the message with its envelope; `None` when it was settled meanwhile.
    async fn listed(
        &self,
        id: MessageId,
        place: MessagePlace,
        order: Option<Act>,
    ) -> Result<Option<Listed>, SpoolError> {
        let end = i64::try_from(END_BYTES).unwrap_or(i64::MAX);
        let (head, tail) = (self.range(id, 0, end - 1), self.range(id, -end, -1));
        let (total, head, tail) = tokio::try_join!(self.length(id), head, tail)?;
        if total == 0 {
            return Ok(matches!(place, MessagePlace::Quarantine(_)).then_some(Listed {
                id,
                place,
                order,
                envelope: None,
            }));
        }
        let told = match (Ends { head: &head, tail: &tail, total }).read() {
            Told::More => {
                self.stored(id).await?.map_or(Told::Damaged, |value| Ends::whole(&value).read())
            }
            told => told,
        };
        Ok(Some(Listed { id, place, order, envelope: told.envelope() }))
    }

    async fn length(&self, id: MessageId) -> Result<usize, SpoolError> {
        let mut command = redis::cmd("STRLEN");
        self.connection.run(command.arg(format!("{SHARD}m:{id}"))).await
    }

    async fn range(&self, id: MessageId, first: i64, last: i64) -> Result<Vec<u8>, SpoolError> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(format!("{SHARD}m:{id}")).arg(first).arg(last);
        self.connection.run_within(MESSAGE_LIMIT, &command).await
    }
}

/// Entries of the inbox, and the number of the first.
#[derive(Debug)]
struct Peek {
    first: u64,
    entries: Vec<Peeked>,
}

/// An entry of the inbox.
#[derive(Debug)]
struct Peeked {
    id: String,
    total: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Peeked {
    fn ends(&self) -> Ends<'_> {
        Ends { head: &self.head, tail: &self.tail, total: self.total }
    }
}

impl FromRedisValue for Peeked {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, total, head, tail): (Vec<u8>, usize, Vec<u8>, Vec<u8>) = from_redis_value(value)?;
        Ok(Self { id: String::from_utf8_lossy(&id).into_owned(), total, head, tail })
    }
}

impl FromRedisValue for Peek {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (first, entries) = first_and_rest(value)?;
        Ok(Self { first, entries })
    }
}

impl Spool {
    /// Returns the id of the message that was submitted first, among those of the first lots.
    /// Changes nothing.
    pub async fn oldest_in_lots(&self) -> Result<Option<MessageId>, SpoolError> {
        let mut command = self.function("lots");
        let page: LotsPage = self.connection.run(command.arg(LotNumber(0))).await?;
        Ok(page.lots.into_iter().flat_map(|(.., ids)| ids).min())
    }
}

#[derive(Debug)]
struct LotsPage {
    more: bool,
    lots: Vec<(LotNumber, String, Vec<MessageId>)>,
}

impl FromRedisValue for LotsPage {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (more, lots) = first_and_rest::<u8, _>(value)?;
        Ok(Self { more: more == 1, lots })
    }
}

fn first_and_rest<F: FromRedisValue, R: FromRedisValue>(
    value: Value,
) -> Result<(F, Vec<R>), ParsingError> {
    let mut parts: Vec<Value> = from_redis_value(value)?;
    if parts.is_empty() {
        return Err("an empty answer".into());
    }
    let rest = parts.split_off(1);
    let rest = rest.into_iter().map(from_redis_value).collect::<Result<_, _>>()?;
    Ok((from_redis_value(parts.remove(0))?, rest))
}
