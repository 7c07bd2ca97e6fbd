//! Every function called twice on a real redis-server: the second call changes nothing and says so.
//! One file, because it is read beside `optimus.lua`, function by function.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use spool::*;
use testbed::Redis;

#[tokio::test]
async fn submit() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    // The message is submitted twice before a cut, again after that cut, and after the next one.
    common::submit(&spool, id(1)).await;
    common::submit(&spool, id(1)).await;
    assert_eq!(cut_next(&spool, 2, None).await, Cut::Cut { messages: 1, left: 0 });
    let before = snapshot(&redis);
    for _ in 0..2 {
        assert!(!comes_in(&spool, id(1)).await);
    }
    redis.cli(&["HINCRBY", "optimus:{0}:counts", "repeated", "-2"]).unwrap();
    redis.cli(&["DECRBY", "optimus:{0}:inbox:taken", "2"]).unwrap();
    assert_eq!(snapshot(&redis), before);
    let counts = spool.counts().await.unwrap();
    assert_eq!((counts["submitted"], counts["repeated"]), (1, 1));
}

/// One cut takes the first copy, and the next cut the second. The message moves on between the
/// cuts.
#[tokio::test]
async fn submit_across_cuts() {
    for steps in 0..4 {
        let redis = Redis::start().unwrap();
        let (spool, a) = (spool(&redis), node("a"));
        for n in [1, 1, 2] {
            common::submit(&spool, id(n)).await;
        }
        assert_eq!(cut_next(&spool, 1, Some(&a)).await, Cut::Cut { messages: 1, left: 2 });
        let lot = spool.fetch(&token(&a)).await.unwrap().pop().unwrap();
        if steps > 0 {
            spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
        }
        if steps > 1 {
            spool.settle(&token(&a), &[placed(1)]).await.unwrap();
        }
        let size = if steps > 2 { 1 } else { 2 };
        let second = cut_next(&spool, size, Some(&a)).await;
        match steps {
            3 => assert_eq!(second, Cut::Nothing { left: 1 }),
            _ => assert_eq!(second, Cut::Cut { messages: 1, left: 0 }),
        }
        let ids: Vec<_> =
            spool.fetch(&token(&a)).await.unwrap().into_iter().flat_map(|lot| lot.ids).collect();
        assert_eq!(ids.iter().filter(|&&it| it == id(1)).count(), usize::from(steps == 0));
    }
}

#[tokio::test]
async fn disown() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    assert!(comes_in(&spool, id(1)).await);
    assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Known);
    assert_eq!(spool.disown(id(2)).await.unwrap(), Disowned::Disowned);
    let before = snapshot(&redis);
    assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Known);
    assert_eq!(spool.disown(id(2)).await.unwrap(), Disowned::Disowned);
    assert_eq!(snapshot(&redis), before);
}

#[tokio::test]
async fn cut() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let cut = async |n, to| spool.cut(LotNumber(n), 1, to).await.unwrap();
    // Without a message there is no lot, and the number stays the next one.
    assert_eq!(cut(1, Some(&a)).await, Cut::Nothing { left: 0 });
    common::submit(&spool, id(1)).await;
    common::submit(&spool, id(2)).await;
    assert_eq!(cut(2, Some(&a)).await, Cut::Early);
    assert_eq!(cut(1, Some(&a)).await, Cut::Cut { messages: 1, left: 1 });
    // The answer is lost, and the call is repeated: the next message must stay in the inbox.
    let before = snapshot(&redis);
    assert_eq!(cut(1, Some(&a)).await, Cut::Already);
    assert_eq!(cut(1, None).await, Cut::Already);
    assert_eq!(cut(3, None).await, Cut::Early);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(cut(2, None).await, Cut::Cut { messages: 1, left: 0 });
    assert_eq!(cut(2, None).await, Cut::Already);
    let overview = spool.overview(9).await.unwrap();
    assert_eq!((overview.ready.len(), overview.nodes.len()), (1, 1));
    assert_eq!(spool.fetch(&token(&a)).await.unwrap()[0].ids, [id(1)]);
}

#[tokio::test]
async fn malformed_entries_are_kept_and_counted() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let good = id(1).to_string();
    // One entry is too short, one has a lower case letter, one has a letter that the alphabet
    // lacks, one has more than 128 bits, and one is empty.
    let malformed = [
        &good[..25],
        &good.to_lowercase(),
        &good.replace('0', "U"),
        &format!("8{}", &good[1..]),
        "",
    ];
    for entry in malformed {
        redis.cli(&["RPUSH", "optimus:{0}:inbox", entry]).unwrap();
    }
    common::submit(&spool, id(1)).await;
    assert_eq!(spool.overview(0).await.unwrap().inbox.oldest_ms, None);
    assert_eq!(cut_next(&spool, 2, None).await, Cut::Nothing { left: 4 });
    assert_eq!(cut_next(&spool, 9, None).await, Cut::Cut { messages: 1, left: 0 });
    assert_eq!(
        redis.cli(&["LRANGE", "optimus:{0}:malformed", "0", "-1"]).unwrap(),
        malformed.join("\n").trim_end()
    );
    assert_eq!(redis.cli(&["LLEN", "optimus:{0}:malformed"]).unwrap(), "5");
    assert_eq!(spool.overview(0).await.unwrap().inbox.malformed, 5);
    assert_eq!(spool.counts().await.unwrap()["malformed"], 5);
}

/// A key of a foreign type makes a cut fail half way. Once the key is gone, every message still
/// comes into one lot.
#[tokio::test]
async fn a_cut_that_fails_half_way_loses_no_message() {
    for key in [
        "lots:next",
        "lots:ready",
        "nodes",
        "node:a:lots",
        "malformed",
        "counts",
        "disowned",
        "inbox",
    ] {
        let redis = Redis::start().unwrap();
        let (spool, a) = (spool(&redis), node("a"));
        let key = format!("optimus:{{0}}:{key}");
        if !key.ends_with("inbox") {
            for n in 1..=3 {
                common::submit(&spool, id(n)).await;
            }
            redis.cli(&["RPUSH", "optimus:{0}:inbox", "what is this"]).unwrap();
        }
        redis.cli(&["SETBIT", &key, "7", "1"]).unwrap();
        let to = (!key.ends_with("ready")).then_some(&a);
        for _ in 0..2 {
            let outcome = spool.cut(LotNumber(1), 9, to).await;
            assert!(outcome.is_err() || outcome == Ok(Cut::Already), "{key}: {outcome:?}");
        }
        redis.cli(&["DEL", &key]).unwrap();
        if key.ends_with("lots:next") || key.ends_with("inbox") {
            common::submit(&spool, id(3)).await;
        }
        let lot = next_lot(&spool).await;
        spool.cut(lot, 9, Some(&a)).await.unwrap();
        let ready = spool.overview(9).await.unwrap().ready;
        spool
            .assign(&ready.iter().map(|it| (it.lot, a.clone())).collect::<Vec<_>>())
            .await
            .unwrap();
        let lots = spool.fetch(&token(&a)).await.unwrap();
        let ids: Vec<_> = lots.into_iter().flat_map(|lot| lot.ids).collect();
        let expected: Vec<_> =
            if key.ends_with("inbox") { vec![id(3)] } else { (1..=3).map(id).collect() };
        assert_eq!(ids, expected, "{key}");
        assert!(spool.get(&ids).await.unwrap().iter().all(Result::is_ok), "{key}");
        assert_eq!(spool.overview(0).await.unwrap().inbox.entries, 0, "{key}");
    }
}

#[tokio::test]
async fn assign() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (a, b) = (node("a"), node("b"));
    let lot = assigned_lot(&spool, &a, 2).await;
    let before = snapshot(&redis);
    assert_eq!(common::assign(&spool, lot.lot, &a).await, Assigned::Already(lot.epoch));
    assert_eq!(common::assign(&spool, lot.lot, &b).await, Assigned::Taken);
    assert_eq!(common::assign(&spool, LotNumber(3), &b).await, Assigned::Gone);
    assert_eq!(snapshot(&redis), before);
}

#[tokio::test]
async fn commit() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    let commits = [commit_of(&lot, 1), commit_of(&lot, 2)];
    assert_eq!(spool.commit(&token(&a), &commits).await.unwrap(), [Committed::Committed; 2]);
    assert_eq!(spool.fetch(&token(&a)).await.unwrap(), []);
    let before = snapshot(&redis);
    assert_eq!(spool.commit(&token(&a), &commits).await.unwrap(), [Committed::Already; 2]);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.inventory(&a).await.unwrap(), [placed(1), placed(2)]);
}

#[tokio::test]
async fn settle() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1), commit_of(&lot, 2)]).await.unwrap();
    let both = [placed(1), placed(2)];
    assert_eq!(spool.settle(&token(&a), &both).await.unwrap(), [Settled::Settled; 2]);
    let before = snapshot(&redis);
    assert_eq!(spool.settle(&token(&a), &both).await.unwrap(), [Settled::Already; 2]);
    assert_eq!(spool.settle(&token(&a), &[placed(3)]).await.unwrap(), [Settled::Unknown]);
    assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Known);
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap(),
        [Committed::Settled]
    );
    assert_eq!(snapshot(&redis), before);
}

#[tokio::test]
async fn defer() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    let deferral = |n, ms| Deferral { queue_id: queue_id(n), id: id(n), rest: Rest::Until(ms) };
    assert_eq!(spool.defer(&token(&a), &[deferral(1, 5)]).await.unwrap(), [Deferred::Deferred]);
    let before = snapshot(&redis);
    assert_eq!(spool.defer(&token(&a), &[deferral(1, 5)]).await.unwrap(), [Deferred::Already]);
    assert_eq!(spool.defer(&token(&a), &[deferral(2, 5)]).await.unwrap(), [Deferred::Unknown]);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.defer(&token(&a), &[deferral(1, 6)]).await.unwrap(), [Deferred::Deferred]);
    assert_eq!(spool.overview(1).await.unwrap().load(&a), 1);
}

#[tokio::test]
async fn refuse() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    let tenure = (lot.lot, lot.epoch);
    let refuse =
        async |n, tenure| spool.refuse(&token(&a), id(n), tenure, "bad checksum").await.unwrap();
    assert_eq!(refuse(1, tenure).await, Refused::Refused);
    let before = snapshot(&redis);
    assert_eq!(refuse(1, tenure).await, Refused::Already);
    assert_eq!(refuse(2, (lot.lot, Epoch(2))).await, Refused::Fenced);
    assert_eq!(refuse(3, tenure).await, Refused::Unknown);
    assert_eq!(snapshot(&redis), before);
    let kept = spool.quarantined(10).await.unwrap();
    assert_eq!((kept[0].id, kept[0].reason.as_str()), (id(1), "bad checksum"));
    assert_eq!(kept[0].bytes, spool.stored(id(1)).await.unwrap().unwrap().len() as u64);
}

/// Submits ids 1 to 3, of which 1 and 2 are in quarantine.
async fn two_quarantined(spool: &Spool) {
    let a = node("a");
    let lot = assigned_lot(spool, &a, 2).await;
    for n in [1, 2] {
        assert_eq!(
            spool.refuse(&token(&a), id(n), (lot.lot, lot.epoch), "why").await.unwrap(),
            Refused::Refused
        );
    }
    common::submit(spool, id(3)).await;
    assert!(matches!(cut_next(spool, 1, None).await, Cut::Cut { .. }));
}

#[tokio::test]
async fn retry_quarantined() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    two_quarantined(&spool).await;
    redis.cli(&["DEL", &format!("optimus:{{0}}:m:{}", id(2))]).unwrap();
    let retry = async || spool.retry_quarantined(&[id(1), id(2), id(3), id(9)]).await.unwrap();
    assert_eq!(
        retry().await,
        [Retried::Retried, Retried::Missing, Retried::Already, Retried::Unknown]
    );
    let overview = spool.overview(10).await.unwrap();
    assert_eq!((overview.quarantine, overview.ready.len(), overview.ready[1].messages), (1, 2, 1));
    let before = snapshot(&redis);
    assert_eq!(
        retry().await,
        [Retried::Already, Retried::Missing, Retried::Already, Retried::Unknown]
    );
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.counts().await.unwrap()["retried"], 1);

    // The message can be fetched and committed like any other.
    let a = node("a");
    let lot = overview.ready[1].lot;
    common::assign(&spool, lot, &a).await;
    let lot = spool.fetch(&token(&a)).await.unwrap().pop().unwrap();
    assert_eq!(
        spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap(),
        [Committed::Committed]
    );
    assert_eq!(spool.settle(&token(&a), &[placed(1)]).await.unwrap(), [Settled::Settled]);
    assert_eq!(spool.retry_quarantined(&[id(1)]).await.unwrap(), [Retried::Settled]);
}

#[tokio::test]
async fn drop_quarantined() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    two_quarantined(&spool).await;
    // Another program has removed the value of one message.
    redis.cli(&["DEL", &format!("optimus:{{0}}:m:{}", id(2))]).unwrap();
    let drop = async || spool.drop_quarantined(&[id(1), id(2), id(3), id(9)]).await.unwrap();
    assert_eq!(drop().await, [Dropped::Dropped, Dropped::Dropped, Dropped::Kept, Dropped::Unknown]);
    let before = snapshot(&redis);
    assert_eq!(drop().await, [Dropped::Already, Dropped::Already, Dropped::Kept, Dropped::Unknown]);
    assert_eq!(spool.disown(id(1)).await.unwrap(), Disowned::Known);
    assert_eq!(spool.retry_quarantined(&[id(1)]).await.unwrap(), [Retried::Settled]);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.all_quarantined().await.unwrap(), []);
    assert_eq!(spool.counts().await.unwrap()["dropped"], 2);
}

#[tokio::test]
async fn a_connection_for_looking_leaves_the_library_alone() {
    let redis = Redis::start().unwrap();
    let looking = || Spool::looking(Server::parse(&redis.url()).unwrap());
    let listed = || redis.cli(&["FUNCTION", "LIST"]).unwrap();
    assert_eq!(looking().library().await.unwrap(), LibraryState::Missing);
    assert_eq!(looking().overview(1).await.unwrap_err(), SpoolError::NoLibrary);
    assert!(!SpoolError::NoLibrary.is_retryable());
    looking().vitals().await.unwrap();
    assert_eq!(listed(), "");

    let loaded = "2.00000000".to_owned();
    redis.cli(&["FUNCTION", "LOAD", &library().replace(&library_version(), &loaded)]).unwrap();
    let ours = library_version();
    assert_eq!(
        looking().library().await.unwrap(),
        LibraryState::Other { loaded: loaded.clone(), ours }
    );
    looking().overview(1).await.unwrap();
    assert_eq!(redis.cli(&["FCALL", "optimus_version", "0"]).unwrap(), loaded);

    // Once an agent has loaded the library, the connection works like any other.
    spool(&redis).ping().await.unwrap();
    assert_eq!(looking().library().await.unwrap(), LibraryState::Ours);
    // An open connection notices that the library is gone.
    let open = looking();
    open.overview(1).await.unwrap();
    redis.cli(&["FUNCTION", "FLUSH"]).unwrap();
    assert_eq!(open.overview(1).await.unwrap_err(), SpoolError::NoLibrary);
    assert_eq!(listed(), "");
}

#[tokio::test]
async fn reassign() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    assert_eq!(spool.reassign(&a).await.unwrap(), 1);
    let before = snapshot(&redis);
    assert_eq!(spool.reassign(&a).await.unwrap(), 0);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.inventory(&a).await.unwrap(), [placed(1)]);
    let again = common::assign(&spool, lot.lot, &a).await;
    assert_eq!(again, Assigned::Assigned(Epoch(2)));
}

#[tokio::test]
async fn lose() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    let lose = async || spool.lose(&a, Duration::ZERO, false).await.unwrap();
    assert_eq!(lose().await, resent(1));
    let before = snapshot(&redis);
    assert_eq!(lose().await, resent(0));
    assert_eq!(snapshot(&redis), before);
    assert_eq!(spool.counts().await.unwrap()["resent"], 1);
    // Uncommitted messages are still the node's, until its lots are reassigned.
    assert_eq!(spool.fetch(&token(&a)).await.unwrap()[0].ids, [id(2)]);
}

#[tokio::test]
async fn arrive() {
    let redis = Redis::start().unwrap();
    let (spool, a, grace) = (spool(&redis), node("a"), Duration::from_millis(1_000));
    let lot = assigned_lot(&spool, &a, 1).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    let at = |ms| spool.at(NOW_MS + ms);
    assert_eq!(at(10).arrive(&token(&a)).await.unwrap(), Arrived::Arrived);
    let before = snapshot(&redis);
    assert_eq!(at(10).arrive(&token(&a)).await.unwrap(), Arrived::Already);
    assert_eq!(at(9).arrive(&token(&a)).await.unwrap(), Arrived::Already);
    // The caller may have believed the node lost before it came back.
    assert_eq!(at(1_009).lose(&a, grace, false).await.unwrap(), Lost::Alive);
    assert_eq!(snapshot(&redis), before);
    assert_eq!(at(1_010).lose(&a, grace, false).await.unwrap(), resent(1));
}

#[tokio::test]
async fn calls_that_only_read_change_no_data() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let a = node("a");
    let lot = assigned_lot(&spool, &a, 2).await;
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    let before = snapshot(&redis);
    for _ in 0..2 {
        assert_eq!(spool.fetch(&token(&a)).await.unwrap()[0].ids, [id(2)]);
        assert_eq!(spool.overview(10).await.unwrap().load(&a), 2);
        assert_eq!(spool.get(&[id(1), id(9)]).await.unwrap()[1], Err(Damage::Missing));
        spool.directory().await.unwrap();
        assert_eq!(spool.next_attempt_ms(&a).await.unwrap(), None);
        spool.vitals().await.unwrap();
    }
    assert_eq!(snapshot(&redis), before);
}

#[tokio::test]
async fn the_server_says_how_it_keeps_data() {
    let redis = Redis::start_with(&[
        "appendfsync everysec",
        "maxmemory 64mb",
        "maxmemory-policy allkeys-lru",
    ])
    .unwrap();
    let vitals = spool(&redis).vitals().await.unwrap();
    assert_eq!(vitals.setting("appendfsync"), Some("everysec"));
    assert_eq!(
        (vitals.fact("maxmemory_policy"), vitals.number("maxmemory")),
        ("allkeys-lru", 64 << 20)
    );
    assert!(vitals.fact("aof_enabled") == "1" && vitals.number("used_memory") > 0);
    let version = vitals.fact("redis_version");
    assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
}

#[tokio::test]
async fn a_node_is_not_away_while_nobody_watches() {
    let redis = Redis::start().unwrap();
    let at = |seconds: u64| spool(&redis).at(1_000 * seconds);
    let gone_since = async |seconds| {
        let mut gone = at(seconds).directory().await.unwrap().gone;
        gone.sort_by(|a, b| a.agent.cmp(&b.agent));
        gone.iter().map(|it| it.lease_ends_ms / 1_000).collect::<Vec<_>>()
    };
    let watching_since =
        async |seconds| at(seconds).directory().await.unwrap().watching_since_ms / 1_000;
    let register = async |name: &str| {
        let registration = Registration {
            agent: name.parse().unwrap(),
            kind: AgentKind::Mail,
            generation: Generation::from_parts(1, 1),
            lease: Duration::from_secs(10),
            name: name.to_owned(),
            capacity: 1,
            address: None,
            unfit: None,
        };
        at(100).register(&registration).await.unwrap();
    };
    register("a").await;
    at(105).reap().await.unwrap();
    at(120).reap().await.unwrap();
    assert_eq!(gone_since(130).await, [110]);
    assert_eq!(watching_since(130).await, 105);
    register("b").await;
    // All servers are switched off for a day.
    at(86_520).reap().await.unwrap();
    assert_eq!(gone_since(86_520).await, [110, 110]);
    assert_eq!(watching_since(86_520).await, 86_520, "nobody watched meanwhile");
    at(86_520).reap().await.unwrap();
    at(86_550).reap().await.unwrap();
    assert_eq!(watching_since(86_550).await, 86_520);
}

#[tokio::test]
async fn a_node_is_drained_and_unfit_since_the_first_of_equal_calls() {
    let redis = Redis::start().unwrap();
    let (at, n) = (|now_ms| spool(&redis).at(now_ms), node("n"));
    let register = async |ms, unfit| {
        let registration = Registration {
            agent: n.clone().into(),
            kind: AgentKind::Mail,
            generation: Generation::from_parts(1, 1),
            lease: Duration::from_secs(10),
            name: String::new(),
            capacity: 1,
            unfit,
            address: None,
        };
        at(ms).register(&registration).await.unwrap();
        at(ms).directory().await.unwrap().leases[0].unfit
    };
    assert_eq!(register(1_000, None).await, None);
    assert_eq!(register(1_001, Some(Unfit::Room)).await, Some((Unfit::Room, 1_001)));
    assert_eq!(register(1_002, Some(Unfit::Room)).await, Some((Unfit::Room, 1_001)));
    assert_eq!(register(1_003, Some(Unfit::Cleanup)).await, Some((Unfit::Cleanup, 1_003)));
    assert_eq!(register(1_004, None).await, None);
    let drained = async || at(0).directory().await.unwrap().drained.get(&n).copied();
    assert_eq!(at(2_000).drain(&n).await.unwrap(), Drained::Done);
    assert_eq!(at(2_001).drain(&n).await.unwrap(), Drained::Already);
    assert_eq!(drained().await, Some(2_000));
    assert_eq!(at(2_002).undrain(&n).await.unwrap(), Drained::Done);
    assert_eq!(at(2_003).undrain(&n).await.unwrap(), Drained::Already);
    assert_eq!(drained().await, None);
}

#[tokio::test]
async fn an_agent_registers_renews_leaves_and_is_reaped() {
    let redis = Redis::start().unwrap();
    let at = |now_ms| spool(&redis).at(now_ms);
    let generation = |n| Generation::from_parts(1_800_000_000_000, n);
    let agent: AgentId = "a".parse().unwrap();
    let lease = Duration::from_millis(100);
    let registration = |n| Registration {
        agent: agent.clone(),
        kind: AgentKind::Mail,
        generation: generation(n),
        lease,
        name: "mx one".to_owned(),
        capacity: 2000,
        address: Some("127.0.0.1:7".to_owned()),
        unfit: None,
    };
    assert_eq!(at(1000).register(&registration(2)).await.unwrap(), Registered::New(Start(1000)));
    assert_eq!(at(1099).reap().await.unwrap(), []);
    let before = snapshot(&redis);
    assert_eq!(
        at(1000).register(&registration(2)).await.unwrap(),
        Registered::Already(Start(1000))
    );
    assert_eq!(at(1000).register(&registration(1)).await.unwrap(), Registered::Superseded);
    assert_eq!(at(1000).renew(&agent, generation(1), lease).await.unwrap(), Renewed::Superseded);
    assert_eq!(at(1000).renew(&agent, generation(2), lease).await.unwrap(), Renewed::Renewed);
    assert_eq!(at(1000).leave(&agent, generation(1)).await.unwrap(), Left::Superseded);
    assert_eq!(at(1099).reap().await.unwrap(), []);
    assert_eq!(snapshot(&redis), before);

    assert_eq!(at(1099).directory().await.unwrap().alive(AgentKind::Mail).len(), 1);
    assert_eq!(at(1100).directory().await.unwrap().alive(AgentKind::Mail).len(), 0);
    assert_eq!(at(1100).renew(&agent, generation(2), lease).await.unwrap(), Renewed::Lapsed);
    assert_eq!(at(1150).reap().await.unwrap(), std::slice::from_ref(&agent));
    assert_eq!(at(1150).reap().await.unwrap(), []);
    assert_eq!(at(1150).directory().await.unwrap().gone[0].lease_ends_ms, 1100);

    // The lease has ended, so even an earlier generation may take the name: a clock may have been
    // set back.
    assert_eq!(at(1200).register(&registration(1)).await.unwrap(), Registered::New(Start(1200)));
    assert_eq!(
        at(1200).register(&registration(3)).await.unwrap(),
        Registered::Replaced(Start(1201))
    );
    assert_eq!(at(1200).leave(&agent, generation(3)).await.unwrap(), Left::Left);
    assert_eq!(at(1200).leave(&agent, generation(3)).await.unwrap(), Left::Already);
    assert_eq!(at(1200).directory().await.unwrap().leases, []);
}

/// A suspicion may reach Redis late or twice, when the agent has long taken its lease again.
#[tokio::test]
async fn a_suspicion_ends_the_lease_that_was_seen_and_no_later_one() {
    let redis = Redis::start().unwrap();
    let at = |now_ms| spool(&redis).at(now_ms);
    let agent: AgentId = "a".parse().unwrap();
    let registration = Registration {
        agent: agent.clone(),
        kind: AgentKind::Mail,
        generation: Generation::from_parts(1, 1),
        lease: Duration::from_secs(60),
        name: String::new(),
        capacity: 1,
        address: Some("127.0.0.1:7".to_owned()),
        unfit: None,
    };
    let register = async |now_ms| at(now_ms).register(&registration).await.unwrap();
    let start = Start(1000);
    assert_eq!(register(1000).await, Registered::New(start));
    let seen = at(1001).directory().await.unwrap().leases.remove(0);
    assert_eq!((seen.address.as_str(), seen.start, seen.taken), ("127.0.0.1:7", start, 1));
    let suspect = async |now_ms, taken| at(now_ms).suspect(&agent, start, taken).await.unwrap();
    assert_eq!(suspect(1002, 2).await, Suspected::Already);
    assert_eq!(suspect(1002, 1).await, Suspected::Ended);
    let gone = at(1003).directory().await.unwrap().gone.remove(0);
    assert_eq!((gone.lease_ends_ms, gone.taken), (1002, 1));
    let before = snapshot(&redis);
    assert_eq!(suspect(1003, 1).await, Suspected::Already);
    assert_eq!(snapshot(&redis), before);

    let lease = registration.lease;
    let renewed = at(1004).renew(&agent, registration.generation, lease).await.unwrap();
    assert_eq!(renewed, Renewed::Lapsed);
    assert_eq!(register(1005).await, Registered::Already(start));
    assert_eq!(suspect(1006, 1).await, Suspected::Already, "the lease was taken again");
    assert_eq!(at(1007).directory().await.unwrap().alive(AgentKind::Mail)[0].taken, 2);
}
