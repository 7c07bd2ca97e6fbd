//! What operators decide about a message while a node is feeding it, and what many messages cost.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use spool::*;
use testbed::Redis;

/// A message in a lot that node `a` has fetched.
async fn fetched(spool: &Spool) -> (NodeId, AssignedLot) {
    let a = node("a");
    submit(spool, id(1)).await;
    cut_next(spool, 1, Some(&a)).await;
    let lot = spool.fetch(&seat(&a)).await.unwrap().pop().unwrap();
    (a, lot)
}

async fn operate_one(spool: &Spool, act: Act, place: Place) -> Operated {
    spool.operate(act, &[(id(1), place)]).await.unwrap()[0]
}

async fn commit_one(spool: &Spool, a: &NodeId, lot: &AssignedLot) -> Committed {
    spool.commit(&seat(a), &[commit_of(lot, 1)]).await.unwrap()[0]
}

#[tokio::test]
async fn a_commit_after_a_delete_is_settled_and_after_a_hold_is_fenced() {
    let redis = Redis::start().unwrap();
    for (act, done, answer) in [
        (Act::Delete, Operated::Deleted, Committed::Settled),
        (Act::Hold, Operated::Held, Committed::Fenced),
        (Act::Requeue, Operated::Requeued, Committed::Fenced),
    ] {
        redis.cli(&["FLUSHALL"]).unwrap();
        let spool = spool(&redis);
        let (a, lot) = fetched(&spool).await;
        let place = Place::Assigned(a.clone(), lot.lot);
        assert_eq!(operate_one(&spool, act, place.clone()).await, done);
        assert_eq!(commit_one(&spool, &a, &lot).await, answer, "{act}");
        let again = operate_one(&spool, act, place).await;
        assert!(matches!(again, Operated::Moved | Operated::Already), "{act}: {again}");
    }
}

#[tokio::test]
async fn a_delete_after_a_commit_is_an_order_that_keeps_it_from_being_sent_again() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, lot) = fetched(&spool).await;
    assert_eq!(commit_one(&spool, &a, &lot).await, Committed::Committed);
    let in_lot = Place::Assigned(a.clone(), lot.lot);
    assert_eq!(operate_one(&spool, Act::Delete, in_lot).await, Operated::Moved);
    let at_node = Place::Committed(a.clone(), queue_id(1));
    assert_eq!(operate_one(&spool, Act::Delete, at_node).await, Operated::Ordered);
    assert_eq!(commit_one(&spool, &a, &lot).await, Committed::Ordered);
    spool.lose(&a, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(spool.overview(1).await.unwrap().ready_lots, 0);
    assert!(!comes_in(&spool, id(1)).await);
}

#[tokio::test]
async fn a_long_inbox_is_deleted_in_batches_and_its_memory_is_freed() {
    const COUNT: u32 = 100_000;
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let all: Vec<_> = (0..COUNT).map(|n| submission(id(n))).collect();
    spool.submit_many(&all).await.unwrap();
    let names: Vec<_> = (0..COUNT).map(|n| (id(n), Place::Inbox)).collect();
    let answers = spool.operate(Act::Delete, &names).await.unwrap();
    assert!(answers.iter().all(|it| *it == Operated::Deleted));
    assert_eq!(spool.tidy().await.unwrap(), u64::from(COUNT));
    assert_eq!(spool.inbox_length().await.unwrap(), 0);
    assert_eq!(spool.standing().await.unwrap(), Standing::default());
    assert!(!comes_in(&spool, id(7)).await);
}
