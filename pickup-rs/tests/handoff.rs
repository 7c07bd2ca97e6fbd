//! The hand-off, end to end, under a real Postfix master. All tests are in one file, because each
//! is one short conversation with pickup-rs.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Agent, LIMIT, LOOK_PAUSE, Message, PREPARED, Site};
use handoff::protocol::{FolderKind, Handoff, Reply, Request, Served};
use postfix_wire::QueueId;
use spool::{CommitNumber, Committed, Settled};
use testbed::{Sink, SinkAnswer};

#[tokio::test]
async fn a_message_is_held_committed_released_delivered_and_settled() {
    let site = Site::start();
    let id = site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    assert_eq!(agent.handoff(), Handoff::Hold);
    assert_eq!(agent.feed_all(&site).await, [id]);
    let held = agent.held().await;
    assert_eq!(site.queue_names(PREPARED), [held.queue_id.to_string()]);
    assert_eq!(site.sink.count(), 0, "nothing is sent that is not committed");

    assert_eq!(agent.commit(&site, &held).await, Committed::Committed);
    agent.release(&held.queue_id).await;
    let received = site.sink.wait_for(1, LIMIT).unwrap().remove(0);
    agent.settled(&held.queue_id).await;
    assert_eq!(agent.settle(&site, &held).await, Settled::Settled);

    assert_eq!(received.test_id.as_deref(), Some("one"));
    assert_eq!(received.message_id, Some(format!("<{id}@web1.example.org>")));
    assert!(site.postfix.queue_is_empty());
    let line = format!(
        "postfix/pickup[{}]: {}: uid=1234 from=<me@example.org>",
        pid(&site),
        held.queue_id
    );
    assert!(site.postfix.log().contains(&line), "{line}");
}

fn pid(site: &Site) -> i32 {
    site.postfix.daemon_pids("pickup-rs")[0]
}

#[tokio::test]
async fn a_message_that_goes_only_to_full_destinations_never_reaches_cleanup() {
    let site = Site::start();
    let message = |to: [&str; 2]| Message::new("one").to(to.map(str::to_owned));
    let waits = site.submit(&message(["a@Full.example", "b@fuller.example"])).await;
    let goes = site.submit(&message(["a@full.example", "b@free.example"])).await;
    let mut agent = site.agent().await;
    let lot = site.assign(&agent.node().clone()).await.remove(0);
    let full = ["fuller.example", "full.example"].map(|it| it.parse().unwrap()).to_vec();
    let feed = |ids, full| Request::Feed { lot: lot.lot, epoch: lot.epoch, ids, full };
    agent.send(&feed(lot.ids.clone(), full)).await;
    assert_eq!(
        agent.full().await,
        (waits, vec!["full.example".to_owned(), "fuller.example".to_owned()])
    );
    assert_eq!(agent.held().await.id, goes);
    assert_eq!(site.queue_names(PREPARED).len(), 1);
    assert_eq!(site.postfix.log().matches("uid=1234").count(), 1);
    agent.send(&feed(vec![waits], Vec::new())).await;
    assert_eq!(agent.held().await.id, waits);
}

/// After 10 s without Redis, a copy may serve the node and release the same messages.
#[tokio::test]
async fn a_pickup_rs_that_hears_nothing_from_redis_releases_nothing() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    assert_eq!(agent.commit(&site, &held).await, Committed::Committed);
    site.redis.pause();
    let mut looking = Agent::connect(&site.socket()).await.unwrap();
    let served = |reply: &Reply| match reply {
        Reply::Pong { served, .. } => Some(*served),
        _ => None,
    };
    let started = std::time::Instant::now();
    loop {
        looking.send(&Request::Ping).await;
        if looking.hear("pong", served).await == Served::Unknown {
            break;
        }
        assert!(started.elapsed() < LIMIT, "pickup-rs goes on serving");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    agent.hear_end().await;
    site.log_has("feeding and releases stopped");
    site.redis.resume();
    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await.len(), 1);
    agent.release(&held.queue_id).await;
    site.sink.wait_for(1, LIMIT).unwrap();
}

#[tokio::test]
async fn a_discarded_file_is_gone_and_never_sent() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.discard(&held.queue_id).await;
    assert!(site.postfix.queue_is_empty());
    agent.discard(&held.queue_id).await;
    agent
        .send(&Request::Release { queue_ids: vec![held.queue_id.clone()], mark: CommitNumber(0) })
        .await;
    assert!(agent.error().await.contains("file not found"));
    assert_eq!(agent.released().await, [], "and not settled: nobody has sent it");
    assert_eq!(site.sink.count(), 0);
}

#[tokio::test]
async fn no_option_of_postsuper_touches_an_undecided_file() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    for option in ["-d", "-h", "-H", "-r", "-e", "-f"] {
        postsuper(&site, option, &held.queue_id);
    }
    assert_eq!(site.queue_names(PREPARED), [held.queue_id.to_string()]);
    agent.release(&held.queue_id).await;
    agent.settled(&held.queue_id).await;
    assert_eq!(site.sink.count(), 1);
}

#[tokio::test]
async fn a_file_deleted_before_its_release_is_reported_as_vanished() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    std::fs::remove_file(site.postfix.queue_dir().join(PREPARED).join(held.queue_id.as_str()))
        .unwrap();
    agent
        .send(&Request::Release { queue_ids: vec![held.queue_id.clone()], mark: CommitNumber(0) })
        .await;
    assert_eq!(agent.vanished().await, [held.queue_id]);
    assert_eq!(agent.released().await, []);
}

async fn mark(agent: &mut Agent) -> u64 {
    agent.send(&Request::Inventory).await;
    let complete = |reply: &Reply| match reply {
        Reply::Inventory { complete: true, proof, .. } => Some(proof.mark.0),
        _ => None,
    };
    agent.hear("inventory", complete).await
}

/// A mark that covers the file's commit would prove that the message was sent.
#[tokio::test]
async fn no_mark_counts_after_a_file_vanished_until_a_request_has_none() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    let release = |queue_ids: &[QueueId], mark| {
        let (queue_ids, mark) = (queue_ids.to_vec(), CommitNumber(mark));
        Request::Release { queue_ids, mark }
    };
    std::fs::remove_file(site.postfix.queue_dir().join(PREPARED).join(held.queue_id.as_str()))
        .unwrap();
    agent.send(&release(std::slice::from_ref(&held.queue_id), 1)).await;
    agent.send(&release(&[], 2)).await;
    assert_eq!(agent.vanished().await, [held.queue_id]);
    assert_eq!(mark(&mut agent).await, 0);
    agent.send(&release(&[], 0)).await;
    agent.send(&release(&[], 3)).await;
    assert_eq!(mark(&mut agent).await, 3);
}

#[tokio::test]
async fn a_file_that_was_moved_to_the_queue_manager_by_hand_is_not_discarded() {
    let site = Site::with_sink(Sink::builder().answer(|_| SinkAnswer::TempFail), |postfix| postfix);
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    let path = |folder: &str| site.postfix.queue_dir().join(folder).join(held.queue_id.as_str());
    std::fs::rename(path(PREPARED), path("incoming")).unwrap();
    agent.send(&Request::Discard { queue_ids: vec![held.queue_id.clone()] }).await;
    assert!(agent.error().await.contains("the message may be sent twice"));
    assert_eq!(agent.discarded().await, []);
}

#[tokio::test]
async fn a_deferred_message_is_reported_with_its_next_attempt_and_again_when_deleted() {
    let sink = Sink::builder().answer(|_| SinkAnswer::TempFail);
    let site = Site::with_sink(sink, |postfix| postfix.main("minimal_backoff_time = 500s"));
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    let next_attempt_s = agent.deferred(&held.queue_id).await;
    let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(
        (450..=510).contains(&(next_attempt_s.saturating_sub(now_s))),
        "{next_attempt_s} at {now_s}"
    );

    let files = agent.inventory().await;
    assert_eq!(
        (files.len(), files[0].place, files[0].next_attempt_s),
        (1, FolderKind::Deferred, Some(next_attempt_s))
    );
    assert_eq!((files[0].id, files[0].lot, files[0].epoch), (held.id, held.lot, held.epoch));

    postsuper(&site, "-d", &held.queue_id);
    agent.settled(&held.queue_id).await;
}

fn postsuper(site: &Site, option: &str, queue_id: &QueueId) {
    let output = site
        .postfix
        .command("/usr/sbin/postsuper")
        .args([option, queue_id.as_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_released_file_on_hold_stays_the_administrator_s() {
    let sink = Sink::builder().answer(|_| SinkAnswer::TempFail);
    let site = Site::with_sink(sink, |postfix| postfix);
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    postsuper(&site, "-h", &held.queue_id);
    agent.on_hold(&held.queue_id).await;
    drop(agent);
    site.postfix.kill9_daemon("pickup-rs").unwrap();

    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await[0].place, FolderKind::OnHold);
    assert_eq!(agent.recover(&site).await, [], "its file is still there");
    agent.release(&held.queue_id).await;
    agent.send(&Request::Discard { queue_ids: vec![held.queue_id.clone()] }).await;
    assert!(agent.error().await.contains("in hold, so left to Postfix"));
    assert_eq!(site.queue_names("hold"), [held.queue_id.to_string()]);

    postsuper(&site, "-d", &held.queue_id);
    agent.settled(&held.queue_id).await;
}

#[tokio::test]
async fn an_undecided_file_moved_to_the_queue_manager_by_hand_is_reported_as_queued() {
    let sink = Sink::builder().answer(|_| SinkAnswer::TempFail);
    let site = Site::prepare(sink, 1, |postfix| postfix);
    site.postfix.start().unwrap();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    let path = |folder: &str| site.postfix.queue_dir().join(folder).join(held.queue_id.as_str());
    std::fs::rename(path(PREPARED), path("incoming")).unwrap();
    site.postfix.command("/usr/sbin/postqueue").arg("-f").status().unwrap();
    agent.deferred(&held.queue_id).await;
    postsuper(&site, "-d", &held.queue_id);
    agent.settled(&held.queue_id).await;
}

#[tokio::test]
async fn a_file_that_postfix_moves_to_corrupt_is_reported_and_not_settled() {
    let sink = Sink::builder().answer(|_| SinkAnswer::TempFail);
    let site = Site::prepare(sink, 1, |postfix| postfix);
    site.postfix.start().unwrap();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    let corrupt = site.postfix.queue_dir().join("corrupt").join(held.queue_id.as_str());
    let deferred = site.postfix.queue_files("deferred").remove(0);
    // The test does with the file as a delivery agent and the queue manager do.
    std::fs::set_permissions(&deferred, std::os::unix::fs::PermissionsExt::from_mode(0o400))
        .unwrap();
    std::fs::rename(deferred, &corrupt).unwrap();

    site.log_has(&format!("{}: in corrupt", held.queue_id));
    assert_eq!(agent.inventory().await[0].place, FolderKind::Queued);
    assert_eq!(agent.recover(&site).await, [], "its file is still there");
    std::fs::remove_file(corrupt).unwrap();
    agent.settled(&held.queue_id).await;
}

/// Returns a committed message that Postfix will try again later, and its file.
async fn deferred(site: &Site) -> (common::Fed, std::path::PathBuf) {
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(site).await;
    let held = agent.held().await;
    agent.commit(site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    (held, site.postfix.queue_files("deferred").remove(0))
}

#[tokio::test]
async fn a_file_that_can_t_be_read_is_not_settled_until_it_is_gone() {
    let site = Site::with_sink(Sink::builder().answer(|_| SinkAnswer::TempFail), |postfix| postfix);
    let (held, file) = deferred(&site).await;
    let size = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let content = std::fs::read(&file).unwrap();
    let mode =
        |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode));
    for damaged in [vec![], vec![0; size], content[..100].to_vec(), content.clone()] {
        site.postfix.kill9_daemon("pickup-rs").unwrap();
        std::fs::write(&file, &damaged).unwrap();
        mode(if damaged == content { 0o000 } else { 0o700 }).unwrap();
        let mut agent = site.agent().await;
        assert_eq!(agent.whole_inventory().await, (vec![], vec![held.queue_id.clone()]));
        assert_eq!(agent.recover(&site).await, [], "its file is there");
    }
    site.log_has(&format!("{}: can't be read", held.queue_id));

    mode(0o700).unwrap();
    let mut agent = site.agent().await;
    let (files, unreadable) = agent.whole_inventory().await;
    assert_eq!((files.len(), unreadable), (1, vec![]));
    mode(0o000).unwrap();
    site.postfix.kill9_daemon("pickup-rs").unwrap();
    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await, []);
    std::fs::remove_file(&file).unwrap();
    agent.settled(&held.queue_id).await;
    assert_eq!(agent.recover(&site).await, [held.id]);
}

#[tokio::test]
async fn a_damaged_file_in_corrupt_is_not_settled() {
    let site = Site::with_sink(Sink::builder().answer(|_| SinkAnswer::TempFail), |postfix| postfix);
    let (held, file) = deferred(&site).await;
    site.postfix.kill9_daemon("pickup-rs").unwrap();
    let corrupt = site.postfix.queue_dir().join("corrupt").join(held.queue_id.as_str());
    std::fs::write(&file, "").unwrap();
    std::fs::rename(&file, &corrupt).unwrap();
    let mut agent = site.agent().await;
    assert_eq!(agent.recover(&site).await, [], "its file is there");
    std::fs::remove_file(corrupt).unwrap();
    agent.settled(&held.queue_id).await;
}

#[tokio::test]
async fn mail_of_others_is_not_touched() {
    let site = Site::with(|postfix| postfix.main("defer_transports = smtp"));
    let arguments = ["-i", "-f", "me@example.org", "you@example.net"];
    site.postfix.sendmail("/usr/sbin/sendmail", &arguments, b"Subject: x\n\nx\n").unwrap();
    testbed::until(LIMIT, "stock mail in deferred", || site.queue_names("deferred").len() == 1)
        .unwrap();
    let name: QueueId = site.queue_names("deferred")[0].parse().unwrap();
    postsuper(&site, "-h", &name);
    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await, []);
    agent.send(&Request::Release { queue_ids: vec![name.clone()], mark: CommitNumber(0) }).await;
    assert!(agent.error().await.contains("not a file of OPTIMUS"));
    agent.discard(&name).await;
    assert_eq!(site.queue_names("hold"), [name.to_string()]);
}

#[tokio::test]
async fn garbage_is_answered_and_the_daemon_goes_on() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let site = Site::start();
    let mut stream = tokio::net::UnixStream::connect(site.socket()).await.unwrap();
    stream
        .write_all(b"\xff garbage\n{\"release\":{\"queue_ids\":[\"../../etc\"]}}\n\"ping\"\n")
        .await
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    for expected in ["request: not understood", "not a queue id", "pong"] {
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.contains(expected), "{line}");
    }
    site.agent().await;
}

#[tokio::test]
async fn several_connections_at_once_and_events_only_for_agents() {
    let site = Site::start();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    let mut operator = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.settled(&held.queue_id).await;
    operator.send(&Request::Ping).await;
    let next = operator.hear("anything", |reply| Some(reply.clone())).await;
    assert!(matches!(next, Reply::Pong { .. }), "{next:?}");
}

#[tokio::test]
async fn a_feeding_agent_that_is_lost_finds_its_files_in_the_inventory() {
    let site = Site::that_rescans();
    for number in 0..20 {
        site.submit(&Message::new(&number.to_string())).await;
    }
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    agent.held().await;
    drop(agent);
    let mut agent = site.agent().await;
    agent.recover(&site).await;
    // Messages that cleanup had at that moment are announced when their files are finished. The
    // others are fed again.
    agent.feed_all(&site).await;
    deliver_all(&site, &mut agent, 20).await;
}

#[tokio::test]
async fn a_file_that_cleanup_finishes_after_the_inventory_is_announced() {
    let site = Site::that_rescans();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let late = agent.held().await;
    drop(agent);
    site.postfix.kill9_daemon("pickup-rs").unwrap();
    // The test moves the file away, as if cleanup had not finished it yet.
    let prepared = site.postfix.queue_dir().join(PREPARED).join(late.queue_id.as_str());
    let hold = site.postfix.queue_dir().join("hold").join(late.queue_id.as_str());
    let aside = site.postfix.queue_dir().join("saved/aside");
    std::fs::rename(&prepared, &aside).unwrap();

    let mut agent = site.agent().await;
    assert_eq!(agent.recover(&site).await, []);
    agent.feed_all(&site).await;
    let held = agent.held().await;
    assert_ne!(held.queue_id, late.queue_id);
    assert_eq!(agent.commit(&site, &held).await, Committed::Committed);
    agent.release(&held.queue_id).await;
    std::fs::rename(&aside, &hold).unwrap();

    assert_eq!(agent.held().await, late);
    assert_eq!(agent.commit(&site, &late).await, Committed::Fenced);
    agent.discard(&late.queue_id).await;
    agent.settled(&held.queue_id).await;
    assert_eq!(site.sink.count(), 1);
    assert!(site.postfix.queue_is_empty());
}

#[tokio::test]
async fn long_queue_ids_and_hashed_queues_work() {
    let site = Site::with(|postfix| {
        postfix
            .main("enable_long_queue_ids = yes")
            .main("hash_queue_names = incoming, active, hold, deferred, defer")
            .main("hash_queue_depth = 2")
    });
    let count = 20;
    for number in 0..count {
        site.submit(&Message::new(&number.to_string())).await;
    }
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let mut queue_ids = Vec::new();
    for _ in 0..count {
        let held = agent.held().await;
        assert!(held.queue_id.is_long(), "{held:?}");
        assert_eq!(agent.commit(&site, &held).await, Committed::Committed);
        queue_ids.push(held.queue_id);
    }
    assert_eq!(agent.inventory().await.len(), count);
    agent.send(&Request::Release { queue_ids: queue_ids.clone(), mark: CommitNumber(0) }).await;
    for queue_id in &queue_ids {
        agent.settled(queue_id).await;
    }
    assert_eq!((site.sink.distinct(), site.sink.count()), (count, count));
}

#[tokio::test]
async fn a_requeued_file_stays_the_administrator_s() {
    let site = Site::prepare(Sink::builder().answer(|_| SinkAnswer::TempFail), 1, |postfix| {
        postfix.service("pickup unix n - n 1 1 pickup")
    });
    site.postfix.start().unwrap();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    // Stock pickup feeds the file once more, from the maildrop, with the attributes of OPTIMUS.
    postsuper(&site, "-r", &held.queue_id);
    agent.settled(&held.queue_id).await;
    let copy =
        || site.queue_names("deferred").into_iter().find(|name| name != held.queue_id.as_str());
    let copy: QueueId =
        testbed::until_some(LIMIT, "the copy in deferred", copy).unwrap().parse().unwrap();
    postsuper(&site, "-h", &copy);
    assert_eq!(agent.inventory().await, []);
    agent.discard(&copy).await;
    assert_eq!(site.queue_names("hold"), [copy.to_string()]);
}

#[tokio::test]
async fn a_requeued_copy_is_taken_for_postfix_s_own_and_not_for_damaged() {
    let site = Site::prepare(Sink::builder().answer(|_| SinkAnswer::TempFail), 1, |postfix| {
        postfix.service("pickup unix n - n 1 1 pickup")
    });
    site.postfix.start().unwrap();
    site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    postsuper(&site, "-r", &held.queue_id);
    let copy =
        || site.queue_names("deferred").into_iter().find(|name| name != held.queue_id.as_str());
    let copy = testbed::until_some(LIMIT, "the copy in deferred", copy).unwrap();
    site.postfix.reload().unwrap();
    agent.hear_end().await;
    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await, []);
    site.log_has(&format!("{copy}: a copy of {}", held.queue_id));
    assert!(!site.postfix.log().contains("can't be read"), "{}", site.postfix.log());
}

/// Commits and releases announced files until the sink has `count` messages, each once.
async fn deliver_all(site: &Site, agent: &mut Agent, count: usize) {
    let mut progress = common::Progress::default();
    while site.sink.distinct() < count {
        progress.check(site, site.sink.distinct());
        let held = tokio::time::timeout(std::time::Duration::from_millis(200), agent.held()).await;
        let Ok(held) = held else { continue };
        match agent.commit(site, &held).await {
            Committed::Committed => agent.release(&held.queue_id).await,
            // A file that was announced and listed in the inventory has been released by the
            // recovery.
            Committed::Already => {}
            _ => agent.discard(&held.queue_id).await,
        }
    }
    assert_eq!(site.sink.count(), count, "each once");
}
