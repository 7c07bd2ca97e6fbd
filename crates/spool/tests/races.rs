//! Races of two callers for a lot, for a message, and for a submission in doubt.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use spool::sync::Submitter;
use spool::*;
use testbed::Redis;
use tokio::join;

#[tokio::test]
async fn a_lot_goes_to_one_of_two_nodes() {
    let redis = Redis::start().unwrap();
    let (one, other) = (spool(&redis), spool(&redis));
    for n in 1..=50 {
        submit(&one, id(n)).await;
        let lot = next_lot(&one).await;
        one.cut(lot, LOT_SIZE, None).await.unwrap();
        let (to_a, to_b) = (node("a"), node("b"));
        let outcomes = join!(assign(&one, lot, &to_a), assign(&other, lot, &to_b));
        let expected = [
            (Assigned::Assigned(Epoch(1)), Assigned::Taken),
            (Assigned::Taken, Assigned::Assigned(Epoch(1))),
        ];
        assert!(expected.contains(&outcomes), "{outcomes:?}");
    }
}

#[tokio::test]
async fn of_two_clients_that_cut_a_lot_at_once_one_succeeds() {
    let redis = Redis::start().unwrap();
    let (one, other) = (spool(&redis), spool(&redis));
    let (a, b) = (node("a"), node("b"));
    for n in (1..=100).step_by(2) {
        submit(&one, id(n)).await;
        submit(&one, id(n + 1)).await;
        let lot = next_lot(&one).await;
        let outcomes = join!(one.cut(lot, 1, Some(&a)), other.cut(lot, 1, Some(&b)));
        let outcomes = (outcomes.0.unwrap(), outcomes.1.unwrap());
        let cut = Cut::Cut { messages: 1, left: 1 };
        assert!([(cut, Cut::Already), (Cut::Already, cut)].contains(&outcomes), "{outcomes:?}");
        assert_eq!(cut_next(&one, 1, Some(&a)).await, Cut::Cut { messages: 1, left: 0 });
    }
    let ids = |lots: Vec<AssignedLot>| lots.into_iter().flat_map(|lot| lot.ids).collect::<Vec<_>>();
    let mut all = ids(one.fetch(&token(&a)).await.unwrap());
    all.extend(ids(one.fetch(&token(&b)).await.unwrap()));
    all.sort();
    assert_eq!(all, (1..=100).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_later_mail_agent_of_a_node_fences_an_earlier_one() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let [earlier, later] =
        [1, 2].map(|start| FencingToken { node: a.clone(), start: Start(start) });
    let lot = assigned_lot(&spool, &a, 2).await;
    assert_eq!(spool.arrive(&earlier).await.unwrap(), Arrived::Arrived);
    assert_eq!(
        spool.commit(&earlier, &[commit_of(&lot, 1)]).await.unwrap(),
        [Committed::Committed]
    );
    assert_eq!(spool.arrive(&later).await.unwrap(), Arrived::Arrived);

    assert_eq!(spool.arrive(&earlier).await.unwrap(), Arrived::Superseded);
    assert_eq!(spool.fetch(&earlier).await, Err(SpoolError::Superseded));
    assert_eq!(spool.commit(&earlier, &[commit_of(&lot, 2)]).await, Err(SpoolError::Superseded));
    assert_eq!(spool.hand_back(&earlier).await, Err(SpoolError::Superseded));
    // The later Mail Agent has the rest of the lot: it commits the earlier one's files, and feeds
    // the other messages.
    assert_eq!(
        spool.fetch(&later).await.unwrap(),
        [AssignedLot { ids: vec![id(2)], ..lot.clone() }]
    );
    assert_eq!(spool.commit(&later, &[commit_of(&lot, 2)]).await.unwrap(), [Committed::Committed]);
    assert_eq!(spool.hand_back(&later).await.unwrap(), 0);
}

#[tokio::test]
async fn a_node_that_lost_a_lot_is_fenced_and_the_next_one_commits() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, b) = (node("a"), node("b"));
    let before = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&before, 1)]).await.unwrap();
    spool.reassign(&a).await.unwrap();
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&before, 2)]).await.unwrap(),
        [Committed::Fenced]
    );

    assign(&spool, before.lot, &b).await;
    let after = spool.fetch(&token(&b)).await.unwrap().pop().unwrap();
    assert_eq!((after.epoch, &after.ids[..]), (Epoch(2), &[id(2)][..]));
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&before, 2)]).await.unwrap(),
        [Committed::Fenced]
    );
    // A node that guesses the epoch still doesn't have the lot.
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&after, 2)]).await.unwrap(),
        [Committed::Fenced]
    );
    assert_eq!(
        spool.commit(&token(&b), &[commit_of(&after, 2)]).await.unwrap(),
        [Committed::Committed]
    );
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&before, 2)]).await.unwrap(),
        [Committed::Fenced]
    );
    assert_eq!(spool.inventory(&a).await.unwrap(), [placed(1)]);
    assert_eq!(spool.inventory(&b).await.unwrap(), [placed(2)]);
    assert_eq!(spool.counts().await.unwrap()["fenced"], 4);
}

#[tokio::test]
async fn a_message_with_two_files_is_committed_under_one() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 1).await;
    let copy = Commit { queue_id: queue_id(9), ..commit_of(&lot, 1) };
    let outcomes = spool.commit(&token(&a), &[commit_of(&lot, 1), copy.clone()]).await.unwrap();
    assert_eq!(outcomes, [Committed::Committed, Committed::Fenced]);
    assert_eq!(spool.commit(&token(&a), &[copy]).await.unwrap(), [Committed::Fenced]);
}

#[tokio::test]
async fn a_node_that_was_given_up_and_comes_back_finds_its_mail_elsewhere() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, b) = (node("a"), node("b"));
    let before = assigned_lot(&spool, &a, 1).await;
    spool.commit(&token(&a), &[commit_of(&before, 1)]).await.unwrap();
    spool.lose(&a, Duration::ZERO, false).await.unwrap();
    let lot = spool.overview(1).await.unwrap().ready[0].lot;
    assign(&spool, lot, &b).await;

    assert_eq!(spool.settle(&token(&a), &[placed(1)]).await.unwrap(), [Settled::Unknown]);
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&before, 1)]).await.unwrap(),
        [Committed::Fenced]
    );
    let after = spool.fetch(&token(&b)).await.unwrap().pop().unwrap();
    assert_eq!(
        spool.commit(&token(&b), &[commit_of(&after, 1)]).await.unwrap(),
        [Committed::Committed]
    );
}

#[tokio::test]
async fn a_queue_id_given_again_is_occupied_until_its_first_message_is_settled_or_taken_back() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 3).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    let again = |n| [Commit { queue_id: queue_id(1), ..commit_of(&lot, n) }];
    assert_eq!(spool.commit(&token(&a), &again(2)).await.unwrap(), [Committed::Occupied]);
    let first = Placed { queue_id: queue_id(1), id: id(1) };
    assert_eq!(spool.inventory(&a).await.unwrap(), [first], "it is not settled without proof");
    assert_eq!(spool.settle(&token(&a), &[placed(1)]).await.unwrap(), [Settled::Settled]);
    assert_eq!(spool.commit(&token(&a), &again(2)).await.unwrap(), [Committed::Committed]);
    // The report about the first message's file comes late, and must not touch the second message.
    assert_eq!(spool.settle(&token(&a), &[placed(1)]).await.unwrap(), [Settled::Already]);
    let second = Placed { queue_id: queue_id(1), id: id(2) };
    assert_eq!(spool.inventory(&a).await.unwrap(), std::slice::from_ref(&second));
    for expected in [Uncommitted::Uncommitted, Uncommitted::Already] {
        let answer = spool
            .uncommit(&token(&a), Unsent::NeverReleased, std::slice::from_ref(&second))
            .await
            .unwrap();
        assert_eq!(answer, [expected]);
    }
    assert_eq!(spool.commit(&token(&a), &again(3)).await.unwrap(), [Committed::Committed]);
    assert_eq!(spool.overview(9).await.unwrap().ready.len(), 1, "the second waits for any node");
    assert_eq!(spool.counts().await.unwrap()["uncommitted"], 1);
}

#[tokio::test]
async fn a_message_disowned_before_it_came_is_never_stored() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Disowned);
    for _ in 0..2 {
        assert!(!comes_in(&spool, id(1)).await);
        assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Disowned);
    }
    assert_eq!(spool.get(&[id(1)]).await.unwrap(), [Err(Damage::Missing)]);
    assert_eq!(spool.overview(1).await.unwrap().backlog(), 0);
}

#[tokio::test]
async fn a_message_disowned_in_the_inbox_is_dropped_however_late_a_lot_is_cut() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    for n in 1..=3 {
        submit(&spool, id(n)).await;
    }
    assert_eq!(spool.disown(id(3)).await.unwrap(), Disowned::Disowned);
    // No lot is cut for a month. The first cut takes other entries and leaves this one. Neither the
    // month nor the cut may make Redis forget that the id is disowned.
    let month = spool.at(NOW_MS + 30 * 24 * 3600 * 1000);
    assert_eq!(cut_next(&month, 2, None).await, Cut::Cut { messages: 2, left: 1 });
    assert_eq!(cut_next(&month, 2, None).await, Cut::Nothing { left: 0 });
    assert_eq!(spool.get(&[id(3)]).await.unwrap(), [Err(Damage::Missing)]);
    let counts = spool.counts().await.unwrap();
    assert_eq!((counts["submitted"], counts["repeated"], counts["disowned"]), (2, 1, 1));
}

#[tokio::test]
async fn a_disowned_id_is_forgotten_when_it_is_old_and_the_inbox_empty() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let marks = || redis.cli(&["ZCARD", "optimus:{0}:disowned"]).unwrap();
    let at = |hours: u64| spool.at(NOW_MS + hours * 3600 * 1000);
    spool.disown(id(1)).await.unwrap();
    assert_eq!(cut_next(&at(24), 1, None).await, Cut::Nothing { left: 0 });
    assert_eq!(marks(), "1", "it may still be disowned again");
    submit(&spool, id(2)).await;
    submit(&spool, id(3)).await;
    assert_eq!(cut_next(&at(26), 1, None).await, Cut::Cut { messages: 1, left: 1 });
    assert_eq!(marks(), "1", "its copy may lie in the inbox");
    assert_eq!(cut_next(&at(26), 1, None).await, Cut::Cut { messages: 1, left: 0 });
    assert_eq!(marks(), "0");
    assert_eq!(at(26).disown(id(1)).await.unwrap(), Disowned::TooLate);
}

#[tokio::test]
async fn a_message_in_a_lot_stays_known_in_every_later_state() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let known = async || assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Known);
    let lot = assigned_lot(&spool, &a, 1).await;
    known().await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    known().await;
    spool.settle(&token(&a), &[placed(1)]).await.unwrap();
    known().await;
    assert!(!comes_in(&spool, id(1)).await);
    known().await;
}

#[tokio::test]
async fn an_id_that_is_older_than_a_day_can_not_be_decided() {
    let redis = Redis::start().unwrap();
    let day_ms = 24 * 3600 * 1000;
    assert_eq!(
        spool(&redis).at(NOW_MS + day_ms + 1).disown(id(1)).await.unwrap(),
        Disowned::TooLate
    );
    assert_eq!(spool(&redis).at(NOW_MS + day_ms).disown(id(1)).await.unwrap(), Disowned::Disowned);
    assert_eq!(
        spool(&redis).at(NOW_MS + 2 * day_ms).disown(id(1)).await.unwrap(),
        Disowned::Disowned
    );
}

/// If Redis forgot such an id sooner, a late submitter could disown a message that was sent: the id
/// wouldn't look old.
#[tokio::test]
async fn an_id_from_a_fast_clock_is_remembered_until_it_looks_old() {
    let redis = Redis::start().unwrap();
    let hours = |count: u64| count * 3600;
    let two_hours_ago = spool(&redis).at(NOW_MS - hours(2) * 1000);
    let (a, spool) = (node("a"), &two_hours_ago);
    let lot = assigned_lot(spool, &a, 1).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    spool.settle(&token(&a), &[placed(1)]).await.unwrap();
    let key = format!("optimus:{{0}}:done:{}", &id(1).to_string()[..6]);
    let seconds: u64 = redis.cli(&["TTL", &key]).unwrap().parse().unwrap();
    assert!((hours(2 + 24) + 1..=hours(2 + 25) + 1).contains(&seconds), "{seconds}");
    spool.disown(id(2)).await.unwrap();
    let score: u64 = redis
        .cli(&["ZSCORE", "optimus:{0}:disowned", &id(2).to_string()])
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(score, NOW_MS);
}

#[tokio::test]
async fn cut_and_disown_at_once_agree_on_their_order() {
    let redis = Redis::start().unwrap();
    let (one, other) = (spool(&redis), spool(&redis));
    let (mut known, mut disowned) = (0, 0);
    for n in 1..=400 {
        submit(&one, id(n)).await;
        let lot = next_lot(&one).await;
        // Without turns, one side's connection might always be served first.
        let (cut, answer) = match n % 2 {
            0 => join!(one.cut(lot, 1, None), other.disown(id(n))),
            _ => {
                let (answer, cut) = join!(one.disown(id(n)), other.cut(lot, 1, None));
                (cut, answer)
            }
        };
        match (cut.unwrap(), answer.unwrap()) {
            (Cut::Cut { messages: 1, left: 0 }, Disowned::Known) => known += 1,
            (Cut::Nothing { left: 0 }, Disowned::Disowned) => disowned += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(known > 0 && disowned > 0, "{known} known, {disowned} disowned: no race");
}

#[tokio::test]
async fn many_submitters_and_two_cutters_bring_every_message_into_one_lot() {
    const THREADS: u32 = 8;
    const EACH: u32 = 100;
    let redis = Redis::start().unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut submitter = Submitter::new(Server::parse(&redis.url()).unwrap());
            scope.spawn(move || {
                for n in 0..EACH {
                    let deadline = Instant::now() + Duration::from_secs(60);
                    let outcome = submitter.submit(&submission(id(thread * EACH + n)), deadline);
                    assert_eq!(outcome, Ok(()));
                }
            });
        }
    });
    let (one, other) = (spool(&redis), spool(&redis));
    assert_eq!(one.overview(0).await.unwrap().inbox.entries, 800);
    join!(cut_on(&one), cut_on(&other));
    let overview = one.overview(1000).await.unwrap();
    assert_eq!((overview.inbox.entries, overview.backlog(), overview.ready_lots), (0, 800, 115));
    assert_eq!(overview.ready.iter().filter(|lot| lot.messages == 7).count(), 114);

    let a = node("a");
    let all: Vec<_> = overview.ready.iter().map(|lot| (lot.lot, a.clone())).collect();
    one.assign(&all).await.unwrap();
    let lots = one.fetch(&token(&a)).await.unwrap();
    assert_eq!(lots.into_iter().flat_map(|lot| lot.ids).collect::<BTreeSet<_>>().len(), 800);
}

/// Cuts until the inbox is empty, while others cut too.
async fn cut_on(spool: &Spool) {
    while spool.overview(0).await.unwrap().inbox.entries > 0 {
        let lot = next_lot(spool).await;
        let cut = spool.cut(lot, 7, None).await.unwrap();
        assert!(
            matches!(cut, Cut::Cut { .. } | Cut::Already | Cut::Nothing { left: 0 }),
            "{cut:?}"
        );
    }
}
