//! Helpers of the tests of the daemons' client.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use postfix_wire::QueueId;
use spool::{
    Assigned, AssignedLot, Commit, Cut, FencingToken, Lost, LotNumber, MessageId, NodeId, Placed,
    Server, Spool, Start, Submission, Taken,
};
use testbed::Redis;

pub const LOT_SIZE: u32 = 3;
/// Present time of the functions, which is also the time in the ids.
pub const NOW_MS: u64 = 1_800_000_000_000;

pub fn spool(redis: &Redis) -> Spool {
    Spool::new(Server::parse(&redis.url()).unwrap()).at(NOW_MS)
}

pub fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Returns the fencing token of a node's Mail Agent.
pub fn token(node: &NodeId) -> FencingToken {
    FencingToken { node: node.clone(), start: Start(1) }
}

/// Returns the id numbered `n`.
pub fn id(n: u32) -> MessageId {
    MessageId::from_parts(NOW_MS, n.into())
}

/// Returns the queue id numbered `n`.
pub fn queue_id(n: u32) -> QueueId {
    format!("4C1B2{n:04X}").parse().unwrap()
}

pub fn submission(id: MessageId) -> Submission<'static> {
    Submission { id, uid: 1000, arrival_ms: 1, host: "mx.example.org", records: b"records" }
}

pub async fn submit(spool: &Spool, id: MessageId) {
    spool.submit(&submission(id)).await.unwrap();
}

pub async fn next_lot(spool: &Spool) -> LotNumber {
    spool.overview(0).await.unwrap().inbox.next_lot
}

/// Cuts the next lot.
pub async fn cut_next(spool: &Spool, size: u32, to: Option<&NodeId>) -> Cut {
    spool.cut(next_lot(spool).await, size, to).await.unwrap()
}

/// Submits a message. Returns whether it came into a lot.
pub async fn comes_in(spool: &Spool, id: MessageId) -> bool {
    submit(spool, id).await;
    match cut_next(spool, LOT_SIZE, None).await {
        Cut::Cut { messages: 1, left: 0 } => true,
        Cut::Nothing { left: 0 } => false,
        other => panic!("{other:?}"),
    }
}

/// Cuts the whole inbox into ready lots of this size.
pub async fn cut_all(spool: &Spool, size: u32) {
    loop {
        match cut_next(spool, size, None).await {
            Cut::Cut { left: 0, .. } | Cut::Nothing { left: 0 } => return,
            Cut::Cut { .. } | Cut::Nothing { .. } => (),
            other => panic!("{other:?}"),
        }
    }
}

/// Submits ids 1 to `count`, and assigns their lot to the node.
pub async fn assigned_lot(spool: &Spool, node: &NodeId, count: u32) -> AssignedLot {
    for n in 1..=count {
        submit(spool, id(n)).await;
    }
    let cut = cut_next(spool, count, Some(node)).await;
    assert_eq!(cut, Cut::Cut { messages: count.into(), left: 0 });
    spool.fetch(&token(node)).await.unwrap().pop().unwrap()
}

pub async fn assign(spool: &Spool, lot: LotNumber, node: &NodeId) -> Assigned {
    spool.assign(&[(lot, node.clone())]).await.unwrap()[0]
}

/// Returns the commit of the lot's n-th message under the n-th queue id.
/// Outcome of giving up a node whose messages are all sent again.
pub fn resent(count: u64) -> Lost {
    Lost::Lost(Taken { resent: count, ..Taken::default() })
}

pub fn commit_of(lot: &AssignedLot, n: u32) -> Commit {
    Commit { id: id(n), lot: lot.lot, epoch: lot.epoch, queue_id: queue_id(n) }
}

pub fn placed(n: u32) -> Placed {
    Placed { queue_id: queue_id(n), id: id(n) }
}

/// Returns all data of Redis, for comparison, without the time to live of settled ids.
pub fn snapshot(redis: &Redis) -> String {
    let script = "local out = {} \
        for _, key in ipairs(redis.call('KEYS', '*')) do \
            out[#out + 1] = key .. '=' .. redis.sha1hex(redis.call('DUMP', key)) \
        end \
        table.sort(out) return table.concat(out, '\\n')";
    redis.cli(&["EVAL", script, "0"]).unwrap()
}
