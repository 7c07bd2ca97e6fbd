//! The daemons' client in failures of Redis: the kind of error, its delay, and the recovery.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spool::sync::Submitter;
use spool::*;
use testbed::Redis;
use tokio::time::timeout;

/// Limit far above the time that any step needs.
const LIMIT: Duration = Duration::from_secs(120);

fn spool_as(redis: &Redis, user: &str, password: &str) -> Spool {
    let server = Server::parse(&redis.url()).unwrap().with_credentials(Some(user), Some(password));
    Spool::new(server)
}

#[tokio::test]
async fn a_client_without_a_server_fails_and_goes_on_when_there_is_one() {
    let mut redis = Redis::start().unwrap();
    let spool = spool(&redis);
    redis.kill9();
    for _ in 0..3 {
        let error = timeout(LIMIT, spool.overview(1)).await.unwrap().unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    redis.restart().unwrap();
    timeout(LIMIT, spool.overview(1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_calls_at_once_share_one_attempt_to_connect() {
    let mut redis = Redis::start().unwrap();
    let spool = spool(&redis);
    redis.kill9();
    spool.ping().await.unwrap_err();
    let started = Instant::now();
    let calls = (0..200).map(|_| spool.overview(1));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_err));
    assert!(started.elapsed() < LIMIT, "each of them waited for an attempt of its own");
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_and_comes_back() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    spool.ping().await.unwrap();
    let pid = Pid::from_raw(redis.pid().unwrap() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let outcome = timeout(LIMIT, spool.submit(&submission(id(1)))).await;
    kill(pid, Signal::SIGCONT).unwrap();
    let error = outcome.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // Redis may or may not have carried the submission out; a repetition is safe either way.
    timeout(LIMIT, spool.submit(&submission(id(1)))).await.unwrap().unwrap();
    assert_eq!(cut_next(&spool, 9, None).await, Cut::Cut { messages: 1, left: 0 });
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal() {
    let redis = Redis::start().unwrap();
    let error = spool_as(&redis, "nobody", "pw").overview(1).await.unwrap_err();
    assert!(matches!(error, SpoolError::Refused(_)), "{error:?}");
    assert!(!error.is_retryable());
}

/// The file is a folder, which no user reads as a file; or it has no identity.
#[tokio::test]
async fn a_file_of_this_host_that_is_of_no_use_is_not_a_refusal_of_redis() {
    let redis = Redis::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("spool");
    std::fs::write(&damaged, "nonsense").unwrap();
    let server = || Server::parse(&redis.url()).unwrap();
    let with_password = Spool::new(server().with_password_file("agent", folder.path().to_owned()));
    let serving = |file: &std::path::Path| Spool::serving(server(), file.to_owned());
    for (spool, file) in [
        (with_password, folder.path()),
        (serving(folder.path()), folder.path()),
        (serving(&damaged), &damaged),
    ] {
        let error = spool.ping().await.unwrap_err();
        assert!(matches!(error, SpoolError::Host(_)), "{error:?}");
        let words = error.to_string();
        assert!(words.starts_with(&format!("{}: ", file.display())), "{words}");
        assert!(words.contains("; ") && !words.contains("Redis refuses"), "{words}");
    }
}

#[tokio::test]
async fn missing_rights_are_a_refusal() {
    let redis = Redis::start().unwrap();
    redis.cli(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-rpush"]).unwrap();
    let error = spool_as(&redis, "reader", "pw").submit(&submission(id(1))).await.unwrap_err();
    assert!(matches!(error, SpoolError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_waited_for() {
    let redis = Redis::start_with(&["maxclients 2"]).unwrap();
    let spool = spool(&redis);
    let others: Vec<_> = (0..2).map(|_| UnixStream::connect(redis.socket()).unwrap()).collect();
    let error = spool.ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let mut submitter = Submitter::new(Server::parse(&redis.url()).unwrap());
    submitter.submit(&submission(id(1)), Instant::now() + Duration::from_millis(200)).unwrap_err();
    drop(others);
    let outcome = submitter.submit(&submission(id(1)), Instant::now() + LIMIT);
    assert_eq!(outcome, Ok(()));
    spool.ping().await.unwrap();
}

#[tokio::test]
async fn a_key_of_a_foreign_type_is_malformed() {
    let redis = Redis::start().unwrap();
    redis.cli(&["SADD", "optimus:{0}:lots:next", "x"]).unwrap();
    let error = spool(&redis).overview(1).await.unwrap_err();
    assert!(matches!(error, SpoolError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn an_unexpected_answer_is_malformed() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    assigned_lot(&spool, &node("a"), 1).await;
    redis.cli(&["HSET", "optimus:{0}:lot:1", "epoch", "yesterday"]).unwrap();
    let error = spool.fetch(&token(&node("a"))).await.unwrap_err();
    assert!(matches!(error, SpoolError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn a_damaged_message_is_told_from_a_missing_one() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    assigned_lot(&spool, &node("a"), 4).await;
    let key = |n| format!("optimus:{{0}}:m:{}", id(n));
    redis.cli(&["SETRANGE", &key(2), "50", "X"]).unwrap();
    redis.cli(&["SET", &key(3), "what is this"]).unwrap();
    redis.cli(&["DEL", &key(4)]).unwrap();
    let found = spool.get(&[id(1), id(2), id(3), id(4)]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().records, b"records");
    assert!(matches!(found[1], Err(Damage::Checksum { .. })));
    assert_eq!((&found[2], &found[3]), (&Err(Damage::Header), &Err(Damage::Missing)));
}

#[tokio::test]
async fn many_messages_come_in_the_order_they_were_asked_for() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let ids: Vec<MessageId> = (1..=50).rev().map(id).collect();
    for &id in &ids {
        let records = id.to_string().into_bytes();
        spool.submit(&Submission { records: &records, ..submission(id) }).await.unwrap();
    }
    cut_all(&spool, 100).await;
    let found = spool.get(&ids).await.unwrap();
    let as_asked = found
        .iter()
        .zip(&ids)
        .all(|(it, id)| it.as_ref().unwrap().records == id.to_string().into_bytes());
    assert!(as_asked && found.len() == 50);
}

/// The futures of calls must be `Send`: daemons spawn them as tasks of their own.
#[tokio::test]
async fn every_call_can_be_spawned() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    assert!(comes_in(&spool, id(1)).await);
    let (again, ids, a) = (spool.clone(), vec![id(1)], node("a"));
    let found = tokio::spawn(async move { again.get(&ids).await }).await.unwrap().unwrap();
    assert!(found[0].is_ok());
    let again = spool.clone();
    let lots = tokio::spawn(async move {
        again.commit(&token(&a), &[]).await?;
        again.inventory(&a).await?;
        again.fetch(&token(&a)).await
    });
    assert_eq!(lots.await.unwrap().unwrap(), []);
    let mut feed = spool.publications();
    assert_eq!(
        tokio::spawn(async move { feed.next().await }).await.unwrap(),
        Publication::Resubscribed
    );
}

#[tokio::test]
async fn an_older_library_is_replaced_and_a_newer_one_respected() {
    let redis = Redis::start().unwrap();
    let load = |version: &str| {
        let text = library().replace(&library_version(), version);
        redis.cli(&["FUNCTION", "LOAD", "REPLACE", &text]).unwrap();
    };
    let loaded = || redis.cli(&["FCALL", "optimus_version", "0"]).unwrap();
    for older in ["0.00000000", "2.99999999", "3.0.00000000", "nonsense"] {
        load(older);
        spool(&redis).ping().await.unwrap();
        assert_eq!(loaded(), library_version(), "{older}");
    }
    load("99.1.00000000");
    let error = spool(&redis).ping().await.unwrap_err();
    assert!(matches!(error, SpoolError::Newer { .. }), "{error:?}");
    assert_eq!(loaded(), "99.1.00000000");
}

/// Checks the case of a host that is upgraded while others still run the earlier version.
#[tokio::test]
async fn a_connected_client_notices_a_newer_library() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    spool.ping().await.unwrap();
    let text = library().replace(&library_version(), "99.1.00000000");
    redis.cli(&["FUNCTION", "LOAD", "REPLACE", &text]).unwrap();
    let newer = async {
        while !matches!(spool.ping().await, Err(SpoolError::Newer { .. })) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), newer).await.unwrap();
}

/// If such a library were replaced, two builds would replace each other's at each connection.
#[tokio::test]
async fn a_library_of_the_same_schema_and_at_least_this_revision_is_used() {
    let redis = Redis::start().unwrap();
    let ours = library_version();
    let [schema, revision, _] = ours.split('.').collect::<Vec<_>>()[..] else { panic!("{ours}") };
    let later = format!("{schema}.99.00000000");
    for other in [format!("{schema}.{revision}.00000000"), later] {
        redis.cli(&["FUNCTION", "LOAD", "REPLACE", &library().replace(&ours, &other)]).unwrap();
        assert_eq!(spool(&redis).overview(1).await.unwrap().inbox.entries, 0);
        assert_eq!(redis.cli(&["FCALL", "optimus_version", "0"]).unwrap(), other);
    }
}

#[tokio::test]
async fn tcp_a_password_and_a_database_work() {
    let redis = Redis::start_with_tcp(&["requirepass secret"]).unwrap();
    let url = redis.tcp_url().unwrap().replace("//", "//:secret@").replace("/0", "/2");
    let spool = Spool::new(Server::parse(&url).unwrap());
    assert!(comes_in(&spool, id(1)).await);
    let keys =
        redis.cli(&["--no-auth-warning", "-a", "secret", "-n", "2", "KEYS", "*:m:*"]).unwrap();
    assert_eq!(keys.lines().count(), 1);
}

async fn next(feed: &mut Publications) -> Publication {
    timeout(LIMIT, feed.next()).await.expect("a notice")
}

#[tokio::test]
async fn notices_tell_of_a_lot_s_life_and_carry_words_between_agents() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let mut feed = spool.publications();
    assert_eq!(next(&mut feed).await, Publication::Resubscribed);
    let own = assigned_lot(&spool, &node("a"), 1).await;
    let lot = own.lot;
    let small = SmallLot { lot, ids: own.ids };
    let assigned = Publication::Assigned(node("a"), Some(small));
    for expected in [Publication::Inbox, assigned, Publication::Cut(lot)] {
        assert_eq!(next(&mut feed).await, expected);
    }
    spool.reassign(&node("a")).await.unwrap();
    spool.tell(&"b".parse().unwrap(), "two words").await.unwrap();
    for expected in
        [Publication::Ready(lot), Publication::Told("b".parse().unwrap(), "two words".to_owned())]
    {
        assert_eq!(next(&mut feed).await, expected);
    }
}

/// Each glance polls the future once and drops it, as a `select!` does whose other branch is ready.
#[tokio::test]
async fn a_feed_whose_reads_are_always_dropped_still_connects() {
    let redis = Redis::start().unwrap();
    let (spool, started) = (spool(&redis), Instant::now());
    let mut feed = spool.publications();
    let mut glance = async || loop {
        assert!(started.elapsed() < LIMIT, "every glance began anew");
        match feed.next().now_or_never() {
            Some(notice) => return notice,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(glance().await, Publication::Resubscribed);
    submit(&spool, id(1)).await;
    assert_eq!(glance().await, Publication::Inbox);
}

#[tokio::test]
async fn a_feed_goes_on_after_redis_died_and_says_that_it_may_have_missed_something() {
    let mut redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let mut feed = spool.publications();
    assert_eq!(next(&mut feed).await, Publication::Resubscribed);
    redis.kill9();
    assert!(
        timeout(Duration::from_millis(100), feed.next()).await.is_err(),
        "notices from a dead server"
    );
    redis.restart().unwrap();
    assert_eq!(next(&mut feed).await, Publication::Resubscribed);
    submit(&spool, id(1)).await;
    assert_eq!(next(&mut feed).await, Publication::Inbox);
}

/// Returns the log of connecting to a Redis with these options.
async fn logged(options: &[&str]) -> String {
    let redis = Redis::start_with(options).unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Log(Arc::clone(&writer)))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let spool = Spool::new(Server::parse(&redis.url()).unwrap());
    for _ in 0..3 {
        spool.ping().await.unwrap();
    }
    String::from_utf8(log.lock().unwrap().clone()).unwrap()
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Debian's default configuration loses mail in this way, while `sendmail` exits with 0 and all
/// agents run.
#[tokio::test]
async fn a_redis_that_loses_mail_is_logged_once_for_a_connection() {
    let stock = ["appendonly no", "appendfsync everysec", "maxmemory-policy allkeys-lru"];
    let log = logged(&stock).await;
    for setting in
        ["appendonly is not yes", "appendfsync is everysec", "maxmemory-policy is allkeys-lru"]
    {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(setting)).collect();
        assert!(lines.len() == 1 && lines[0].contains("ERROR"), "{setting}: {log}");
    }
    let log = logged(&[]).await;
    assert!(
        log.contains("connected to Redis") && !log.contains("ERROR") && !log.contains("WARN"),
        "{log}"
    );
    let log = logged(&["user default on nopass ~* &* +@all -config"]).await;
    assert!(log.contains("WARN") && log.contains("appendfsync can't be read"), "{log}");
}
