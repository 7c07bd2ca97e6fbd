//! Parking: messages whose destination has its share of a node wait in lanes for any node with
//! room.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use spool::*;
use testbed::Redis;

/// Returns node `a` and its lot of `count` messages.
async fn fetched(spool: &Spool, count: u32) -> (NodeId, AssignedLot) {
    let a = node("a");
    for n in 1..=count {
        submit(spool, id(n)).await;
    }
    cut_next(spool, count, Some(&a)).await;
    let lot = spool.fetch(&token(&a)).await.unwrap().pop().unwrap();
    (a, lot)
}

async fn park(spool: &Spool, a: &NodeId, lot: &AssignedLot, to: &str, ids: &[u32]) -> Vec<Parked> {
    let tenured = |&n: &u32| Tenured { id: id(n), lot: lot.lot, epoch: lot.epoch };
    let messages: Vec<Tenured> = ids.iter().map(tenured).collect();
    spool.park(&token(a), &to.parse().unwrap(), &messages).await.unwrap()
}

async fn lanes(spool: &Spool) -> Vec<(String, u64, Vec<u64>)> {
    let lanes = spool.lanes(2).await.unwrap().into_iter();
    lanes
        .map(|it| (it.to.to_string(), it.lots_total, it.lots.iter().map(|lot| lot.lot.0).collect()))
        .collect()
}

#[tokio::test]
async fn a_parked_message_outlives_its_node_and_goes_to_one_with_room() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, lot) = fetched(&spool, 5).await;
    assert_eq!(park(&spool, &a, &lot, "slow.example", &[1, 2]).await, [Parked::Parked; 2]);
    assert_eq!(
        park(&spool, &a, &lot, "slow.example", &[1]).await,
        [Parked::Fenced],
        "the second time"
    );
    park(&spool, &a, &lot, "slow.example", &[3]).await;
    park(&spool, &a, &lot, "slower.example", &[4]).await;
    let expected =
        [("slow.example".to_owned(), 2, vec![2, 3]), ("slower.example".to_owned(), 1, vec![4])];
    assert_eq!(lanes(&spool).await, expected);
    assert_eq!(
        spool.lanes(9).await.unwrap().iter().map(Lane::messages).collect::<Vec<_>>(),
        [3, 1]
    );
    assert_eq!(spool.overview(10).await.unwrap().nodes[0].pending, 1, "the rest takes no credit");
    let commit = Commit { id: id(1), lot: lot.lot, epoch: lot.epoch, queue_id: queue_id(1) };
    assert_eq!(spool.commit(&token(&a), &[commit]).await.unwrap(), [Committed::Fenced]);

    spool.reassign(&a).await.unwrap();
    spool.lose(&a, Duration::ZERO, false).await.unwrap();
    assert_eq!(lanes(&spool).await, expected);
    let b = node("b");
    let assigned =
        spool.assign(&[(LotNumber(2), b.clone()), (LotNumber(4), b.clone())]).await.unwrap();
    assert_eq!(assigned, [Assigned::Assigned(Epoch(1)); 2]);
    assert_eq!(lanes(&spool).await, [("slow.example".to_owned(), 1, vec![3])]);
    let theirs = spool.fetch(&token(&b)).await.unwrap();
    assert_eq!(theirs[0].ids, [id(1), id(2)]);
    assert_eq!(park(&spool, &b, &theirs[0], "slow.example", &[1, 2]).await, [Parked::Parked; 2]);
    assert_eq!(lanes(&spool).await, [("slow.example".to_owned(), 2, vec![3, 5])]);
}

#[tokio::test]
async fn a_node_parks_only_what_is_in_its_hands() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, lot) = fetched(&spool, 2).await;
    let commit = Commit { id: id(1), lot: lot.lot, epoch: lot.epoch, queue_id: queue_id(1) };
    spool.commit(&token(&a), &[commit]).await.unwrap();
    let later = AssignedLot { epoch: Epoch(lot.epoch.0 + 1), ..lot.clone() };
    assert_eq!(
        park(&spool, &a, &lot, "slow.example", &[1, 9]).await,
        [Parked::Fenced, Parked::Unknown]
    );
    assert_eq!(park(&spool, &a, &later, "slow.example", &[2]).await, [Parked::Fenced]);
    assert_eq!(park(&spool, &node("b"), &lot, "slow.example", &[2]).await, [Parked::Fenced]);
    assert_eq!(lanes(&spool).await, []);
    spool.arrive(&FencingToken { start: Start(2), ..token(&a) }).await.unwrap();
    let it = Tenured { id: id(2), lot: lot.lot, epoch: lot.epoch };
    let answer = spool.park(&token(&a), &Domain::others(), &[it]).await;
    assert!(matches!(answer, Err(SpoolError::Superseded)), "{answer:?}");
}

#[tokio::test]
async fn twenty_destinations_have_lanes_and_the_others_share_one() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, lot) = fetched(&spool, 25).await;
    for n in 1..=24 {
        park(&spool, &a, &lot, &format!("d{n}.example"), &[n]).await;
    }
    park(&spool, &a, &lot, "d1.example", &[25]).await;
    let lanes = lanes(&spool).await;
    assert_eq!(lanes.len(), 21);
    assert!(lanes.contains(&("d1.example".to_owned(), 2, vec![2, 26])), "{lanes:?}");
    assert!(lanes.contains(&("*".to_owned(), 4, vec![22, 23])), "{lanes:?}");
}

#[tokio::test]
async fn operators_reach_parked_messages() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, lot) = fetched(&spool, 3).await;
    park(&spool, &a, &lot, "slow.example", &[1, 2, 3]).await;
    let (mut listing, mut listed) = (spool.listing_of_names(), Vec::new());
    while let Some(page) = listing.next_page().await.unwrap() {
        listed.extend(page.into_iter().map(|it| (it.id, it.place)));
    }
    assert_eq!(listed, [1, 2, 3].map(|n| (id(n), MessagePlace::Ready(LotNumber(2)))));
    for (it, act, done) in [
        (&listed[0], Act::Delete, Operated::Deleted),
        (&listed[1], Act::Hold, Operated::Held),
        (&listed[2], Act::Requeue, Operated::Already),
        (&listed[2], Act::Delete, Operated::Deleted),
    ] {
        assert_eq!(spool.operate(act, std::slice::from_ref(it)).await.unwrap(), [done], "{act}");
    }
    assert_eq!(lanes(&spool).await, []);
    assert_eq!(
        spool.operate(Act::Release, &[(id(2), MessagePlace::Held)]).await.unwrap(),
        [Operated::Released]
    );
    assert_eq!(spool.overview(1).await.unwrap().ready_lots, 1);
}
