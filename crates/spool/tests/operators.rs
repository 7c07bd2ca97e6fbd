//! Operators' acts on a message while a node feeds it, and the cost of acts on many messages.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use spool::*;
use testbed::Redis;

/// Submits a message, and has node `a` fetch the lot with it.
async fn fetched(spool: &Spool) -> (NodeId, AssignedLot) {
    let a = node("a");
    submit(spool, id(1)).await;
    cut_next(spool, 1, Some(&a)).await;
    let lot = spool.fetch(&token(&a)).await.unwrap().pop().unwrap();
    (a, lot)
}

async fn operate_one(spool: &Spool, act: Act, place: MessagePlace) -> Operated {
    spool.operate(act, &[(id(1), place)]).await.unwrap()[0]
}

async fn commit_one(spool: &Spool, a: &NodeId, lot: &AssignedLot) -> Committed {
    spool.commit(&token(a), &[commit_of(lot, 1)]).await.unwrap()[0]
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
        let place = MessagePlace::Assigned(a.clone(), lot.lot);
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
    let in_lot = MessagePlace::Assigned(a.clone(), lot.lot);
    assert_eq!(operate_one(&spool, Act::Delete, in_lot).await, Operated::Moved);
    let at_node = MessagePlace::Committed(a.clone(), queue_id(1));
    assert_eq!(operate_one(&spool, Act::Delete, at_node).await, Operated::Ordered);
    assert_eq!(commit_one(&spool, &a, &lot).await, Committed::Ordered);
    let lost = spool.lose(&a, std::time::Duration::ZERO, false).await.unwrap();
    assert_eq!(lost, Lost::Lost(Taken { deleted: 1, ..Taken::default() }));
    assert_eq!(spool.overview(1).await.unwrap().ready_lots, 0);
    assert!(!comes_in(&spool, id(1)).await);
}

/// The order to hold has ended when the node has carried it out.
#[tokio::test]
async fn a_message_on_hold_at_a_node_stays_on_hold_when_the_node_is_lost() {
    use Operated::{Gone, Moved, Released};
    let cases = [(None, 0, Released), (Some(Act::Release), 1, Moved), (Some(Act::Delete), 0, Gone)];
    for (order, ready_lots, of_held) in cases {
        let redis = Redis::start().unwrap();
        let spool = spool(&redis);
        let (a, lot) = fetched(&spool).await;
        assert_eq!(commit_one(&spool, &a, &lot).await, Committed::Committed);
        let hold = Deferral { queue_id: queue_id(1), id: id(1), rest: Rest::OnHold };
        assert_eq!(spool.defer(&token(&a), &[hold]).await.unwrap(), [Deferred::Deferred]);
        if let Some(order) = order {
            let at_node = MessagePlace::Committed(a.clone(), queue_id(1));
            assert_eq!(operate_one(&spool, order, at_node).await, Operated::Ordered);
        }
        spool.lose(&a, std::time::Duration::ZERO, false).await.unwrap();
        assert_eq!(spool.overview(1).await.unwrap().ready_lots, ready_lots, "{order:?}");
        assert_eq!(
            operate_one(&spool, Act::Release, MessagePlace::Held).await,
            of_held,
            "{order:?}"
        );
    }
}

/// Messages 1 to 4, committed to node `a`: ordered to be deleted, ordered to be held, on hold at
/// the node, and neither.
async fn stopped_and_not(spool: &Spool) -> (NodeId, [Placed; 4]) {
    let a = node("a");
    let lot = assigned_lot(spool, &a, 4).await;
    let commits: Vec<_> = (1..=4).map(|n| commit_of(&lot, n)).collect();
    spool.commit(&token(&a), &commits).await.unwrap();
    for (n, act) in [(1, Act::Delete), (2, Act::Hold)] {
        let place = MessagePlace::Committed(a.clone(), queue_id(n));
        let answer = spool.operate(act, &[(id(n), place)]).await.unwrap();
        assert_eq!(answer, [Operated::Ordered]);
    }
    let hold = Deferral { queue_id: queue_id(3), id: id(3), rest: Rest::OnHold };
    spool.defer(&token(&a), &[hold]).await.unwrap();
    (a, [1, 2, 3, 4].map(placed))
}

#[tokio::test]
async fn whatever_takes_mail_from_a_node_says_what_became_of_each_message() {
    let redis = Redis::start().unwrap();
    for call in ["lose", "absent", "uncommit"] {
        redis.cli(&["FLUSHALL"]).unwrap();
        let spool = spool(&redis);
        let (a, all) = stopped_and_not(&spool).await;
        let counter = match call {
            "lose" => {
                let lost = spool.lose(&a, std::time::Duration::ZERO, false).await.unwrap();
                assert_eq!(lost, Lost::Lost(Taken { resent: 1, held: 2, deleted: 1 }));
                "resent"
            }
            "absent" => {
                use Absent::{Deleted, Held, Resent};
                let told = spool.absent(&token(&a), CommitNumber(0), &all).await.unwrap();
                assert_eq!(told, [Deleted, Held, Held, Resent]);
                "resent"
            }
            _ => {
                use Uncommitted::{Deleted, Held, Uncommitted as Waits};
                let why = Unsent::NeverReleased;
                let told = spool.uncommit(&token(&a), why, &all).await.unwrap();
                assert_eq!(told, [Deleted, Held, Held, Waits]);
                "uncommitted"
            }
        };
        let counts = spool.counts().await.unwrap();
        assert_eq!([counter, "held", "deleted"].map(|it| counts[it]), [1, 2, 1], "{call}");
        assert_eq!(spool.standing().await.unwrap().held, 2, "{call}");
        assert_eq!(spool.overview(9).await.unwrap().backlog(), 1, "{call}");
    }
}

/// Answers to a second act, in the order of [`ACTS`], by the first act. The same table is in
/// `docs/architecture.md`.
type Answers = [(Act, [Operated; 4]); 4];

const ACTS: [Act; 4] = [Act::Delete, Act::Hold, Act::Release, Act::Requeue];

const WAITS: [Operated; 4] =
    [Operated::Deleted, Operated::Held, Operated::Already, Operated::Already];
const DELETED: [Operated; 4] = [Operated::Already, Operated::Gone, Operated::Gone, Operated::Gone];
const IN_REDIS: Answers = [
    (Act::Delete, DELETED),
    (Act::Hold, [Operated::Deleted, Operated::Already, Operated::Released, Operated::Requeued]),
    (Act::Release, WAITS),
    (Act::Requeue, WAITS),
];
const AT_A_NODE: Answers = [
    (Act::Delete, DELETED),
    (Act::Hold, [Operated::Ordered; 4]),
    (Act::Release, [Operated::Ordered; 4]),
    (Act::Requeue, [Operated::Ordered; 4]),
];

/// Returns the place of message 1; for a missing message, falsely that it is held.
async fn place(spool: &Spool) -> MessagePlace {
    let mut listing = spool.listing_of_names();
    while let Some(page) = listing.next_page().await.unwrap() {
        if let Some(found) = page.into_iter().find(|it| it.id == id(1)) {
            return found.place;
        }
    }
    MessagePlace::Held
}

/// Returns the fate of message 1: deleted, on hold, or waiting to be sent.
async fn fate(spool: &Spool) -> Act {
    cut_all(spool, LOT_SIZE).await;
    match place(spool).await {
        MessagePlace::Held if spool.standing().await.unwrap().held == 0 => Act::Delete,
        MessagePlace::Held => Act::Hold,
        _ => Act::Release,
    }
}

#[tokio::test]
async fn in_redis_the_later_of_two_acts_decides_but_a_deletion_is_final() {
    let redis = Redis::start().unwrap();
    for is_in_a_lot in [false, true] {
        for (first, answers) in IN_REDIS {
            for (second, expected) in ACTS.into_iter().zip(answers) {
                redis.cli(&["FLUSHALL"]).unwrap();
                let spool = spool(&redis);
                submit(&spool, id(1)).await;
                if is_in_a_lot {
                    cut_all(&spool, LOT_SIZE).await;
                }
                operate_one(&spool, first, place(&spool).await).await;
                let about = format!("{first}, then {second}, in a lot: {is_in_a_lot}");
                let answer = operate_one(&spool, second, place(&spool).await).await;
                assert_eq!(answer, expected, "{about}");
                let decided =
                    [first, second].into_iter().find(|it| *it == Act::Delete).unwrap_or(second);
                let fate_of = if decided == Act::Requeue { Act::Release } else { decided };
                assert_eq!(fate(&spool).await, fate_of, "{about}");
            }
        }
    }
}

#[tokio::test]
async fn at_a_node_the_later_of_two_orders_counts_but_a_deletion_is_final() {
    let redis = Redis::start().unwrap();
    for (first, answers) in AT_A_NODE {
        for (second, expected) in ACTS.into_iter().zip(answers) {
            redis.cli(&["FLUSHALL"]).unwrap();
            let spool = spool(&redis);
            let (a, lot) = fetched(&spool).await;
            commit_one(&spool, &a, &lot).await;
            let about = format!("{first}, then {second}");
            assert_eq!(
                operate_one(&spool, first, place(&spool).await).await,
                Operated::Ordered,
                "{about}"
            );
            assert_eq!(operate_one(&spool, second, place(&spool).await).await, expected, "{about}");
            let counts = if first == Act::Delete { first } else { second };
            assert_eq!(spool.orders_of(&a).await.unwrap().get(&id(1)), Some(&counts), "{about}");
            // A node that has just carried out the first order must look again.
            let obeyed = spool.obey(&token(&a), &[(placed(1), first)]).await.unwrap()[0];
            assert_eq!(
                obeyed,
                if first == counts { Obeyed::Obeyed } else { Obeyed::Already },
                "{about}"
            );
        }
    }
}

#[tokio::test]
async fn a_long_inbox_is_deleted_in_batches_and_its_memory_is_freed() {
    const COUNT: u32 = 100_000;
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let all: Vec<_> = (0..COUNT).map(|n| submission(id(n))).collect();
    spool.submit_many(&all).await.unwrap();
    let names: Vec<_> = (0..COUNT).map(|n| (id(n), MessagePlace::Inbox)).collect();
    let answers = spool.operate(Act::Delete, &names).await.unwrap();
    assert!(answers.iter().all(|it| *it == Operated::Deleted));
    assert_eq!(spool.tidy().await.unwrap(), u64::from(COUNT));
    assert_eq!(spool.inbox_length().await.unwrap(), 0);
    assert_eq!(spool.standing().await.unwrap(), Standing::default());
    assert!(!comes_in(&spool, id(7)).await);
}

#[tokio::test]
async fn an_order_in_the_inbox_has_the_age_of_the_act_that_it_stands_for() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit(&spool, id(1)).await;
    submit(&spool, id(2)).await;
    let since = async || {
        let it = spool.standing().await.unwrap();
        (it.ordered, it.ordered_since_ms)
    };
    let order = async |act, after_ms| {
        spool.at(NOW_MS + after_ms).operate(act, &[(id(2), MessagePlace::Inbox)]).await.unwrap()
    };
    assert_eq!(since().await, (0, None));
    assert_eq!(order(Act::Hold, 0).await, [Operated::Held]);
    assert_eq!(order(Act::Hold, 5).await, [Operated::Already]);
    assert_eq!(since().await, (1, Some(NOW_MS)), "the same order again is no later one");
    assert_eq!(order(Act::Release, 6).await, [Operated::Released]);
    assert_eq!(since().await, (0, None));
    assert_eq!(order(Act::Hold, 7).await, [Operated::Held]);
    assert_eq!(order(Act::Delete, 9).await, [Operated::Deleted]);
    assert_eq!(since().await, (1, Some(NOW_MS + 9)));
    cut_all(&spool, LOT_SIZE).await;
    assert_eq!(since().await, (0, None));
    assert_eq!(redis.cli(&["EXISTS", "optimus:{0}:inbox:ordered"]).unwrap(), "0");
}
