//! Failures of the parts that pickup-rs depends on, which go away and come back.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};

use common::{Agent, LIMIT, Message, Site, drive, eventually};
use handoff::protocol::{Reply, Request};
use postfix_wire::record::put;
use postfix_wire::{QueueId, RecordType};
use spool::{LotNumber, MessageId, Submission};
use testbed::{Postfix, PostfixBuilder, Sink, Tally};

#[tokio::test]
async fn cleanup_processes_die_while_they_are_fed() {
    let site = Site::that_rescans();
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    for name in &names {
        site.submit(&Message::new(name)).await;
    }
    let driving = drive(&site, names.len());
    let killing = async {
        for kill in 1..=10 {
            // The kills come in the middle of feeding, at any speed of the machine.
            let named = || site.postfix.log().matches("uid=1234").count();
            eventually("messages named by cleanup", || named() >= 20 * kill).await;
            if let Some(pid) = site.postfix.daemon_pids("cleanup").pop() {
                testbed::kill_9(pid);
            }
        }
    };
    tokio::join!(driving, killing);
    let tally = Tally::of(names.iter().map(String::as_str), &site.sink.received());
    assert!(tally.is_clean(), "{tally:?}");
    assert!(site.postfix.log().contains("cleanup pid"), "none was killed");
}

#[tokio::test]
async fn a_message_waits_for_redis_and_is_then_refused_for_a_retry() {
    let mut site = Site::start();
    let id = site.submit(&Message::new("one")).await;
    let mut agent = site.agent().await;
    let lots = site.assign(&agent.node().clone()).await;
    let feed =
        Request::Feed { lot: lots[0].lot, epoch: lots[0].epoch, ids: vec![id], full: Vec::new() };
    site.redis.kill9();
    agent.send(&feed).await;
    let (refused, reason, retry) = agent.refused().await;
    assert!(refused == id && retry && reason.starts_with("Redis: "), "{reason}");
    agent.send(&feed).await;
    site.redis.restart().unwrap();
    // On a slow machine Redis may come back after the limit. Then the message is refused, and the
    // agent feeds it again.
    while agent.held_or_refused().await != Some(id) {
        agent.send(&feed).await;
    }
}

#[tokio::test]
async fn master_dies_and_comes_back() {
    let site = Site::that_rescans();
    let names: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for name in &names {
        site.submit(&Message::new(name)).await;
    }
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    agent.held().await;
    site.postfix.kill9_master();
    agent.hear_end().await;
    site.postfix.start().unwrap();
    drive(&site, names.len()).await;
    let tally = Tally::of(names.iter().map(String::as_str), &site.sink.received());
    assert!(tally.is_clean(), "{tally:?}");
}

#[tokio::test]
async fn a_reload_brings_the_new_configuration_and_loses_nothing() {
    let site = Site::that_rescans();
    let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    for name in &names[1..] {
        site.submit(&Message::new(name)).await;
    }
    let mut agent = site.agent().await;
    let first = site.postfix.daemon_pids("pickup-rs");
    agent.feed_all(&site).await;
    agent.held().await;
    site.postfix.set_main(&["mail_name = Renamed"]).unwrap();
    site.postfix.reload().unwrap();
    agent.hear_end().await;
    site.submit(&Message::new("0")).await;
    drive(&site, names.len()).await;
    assert_ne!(site.postfix.daemon_pids("pickup-rs"), first);
    let received = site.sink.received();
    assert!(Tally::of(names.iter().map(String::as_str), &received).is_clean());
    let after = received.iter().find(|delivery| delivery.test_id.as_deref() == Some("0")).unwrap();
    let content = String::from_utf8_lossy(after.content.as_ref().unwrap()).into_owned();
    assert!(content.contains("(Renamed, from userid 1234)"), "{content}");
    assert!(
        !site.postfix.log().contains("pickup-rs pid"),
        "it ended in good order:\n{}",
        site.postfix.log()
    );
}

/// Fills the queue's disk with one file, and returns its path.
fn fill_disk(site: &Site) -> std::path::PathBuf {
    use std::io::Write;
    let path = site.postfix.queue_dir().join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    path
}

#[tokio::test]
async fn a_full_disk_is_logged_once_and_waiting_mail_is_handed_over_when_there_is_room() {
    let disk = |postfix: PostfixBuilder| postfix.queue_disk(1 << 20);
    if disk(Postfix::builder()).prepare().is_err() {
        return eprintln!("not tried: nothing may be mounted here");
    }
    let site = Site::with(disk);
    let count = 30;
    for number in 0..count {
        site.submit(&Message::new(&number.to_string())).await;
    }
    let mut agent = site.agent().await;
    let ballast = fill_disk(&site);
    let lots = site.assign(&agent.node().clone()).await;
    let feed =
        |ids| Request::Feed { lot: lots[0].lot, epoch: lots[0].epoch, ids, full: Vec::new() };
    agent.send(&feed(lots[0].ids.clone())).await;
    let (mut held, mut failures, mut ballast) = (0, 0, Some(ballast));
    while held < count {
        let refused = agent.hear("held or refused", |reply| match reply {
            Reply::Held { .. } => Some(None),
            Reply::Refused { id, retry: true, .. } => Some(Some(*id)),
            _ => None,
        });
        let Some(id) = refused.await else {
            held += 1;
            continue;
        };
        failures += 1;
        agent.send(&feed(vec![id])).await;
        // The first messages were tried together, the next ones each after a pause.
        if let Some(ballast) = ballast.take_if(|_| failures == 7) {
            std::fs::remove_file(ballast).unwrap();
        }
    }
    let log = site.postfix.log();
    assert_eq!(log.matches("queue file write error; mail waits").count(), 1, "{log}");
    assert_eq!(
        log.matches(&format!("cleanup wrote again, after {failures} failures")).count(),
        1,
        "{log}"
    );
    assert!(!log.contains("message refused"), "{log}");
}

#[tokio::test]
async fn a_broken_optimus_toml_is_logged_and_tried_again_once_in_a_while() {
    let site = Site::with(|postfix| postfix.file("optimus.toml", "[pickup]\ncleanup = 3\n"));
    let mut stream = tokio::net::UnixStream::connect(site.socket()).await.unwrap();
    site.log_has("fatal: ");
    // The log has the whole error once, in one line.
    site.log_has("optimus.toml:2:1: unknown field `cleanup`, expected `cleanups` or `rescan_s`\n");
    site.log_has("bad command startup -- throttling");
    let log = site.postfix.log();
    let (before, _) = log.split_once("throttling").unwrap();
    assert!(before.matches("fatal: ").count() <= 2, "pickup-rs starts too often: {log}");
    std::fs::write(
        site.postfix.config_dir().join("optimus.toml"),
        format!("[redis]\nurl = \"{}\"\n", site.redis.url()),
    )
    .unwrap();
    // The waiting connection is served as soon as possible.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"\"ping\"\n").await.unwrap();
    let mut pong = [0; 7];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut pong)).await.unwrap().unwrap();
    assert_eq!(&pong, b"{\"pong\"");
}

/// Puts a submission in doubt into the maildrop, as postdrop does.
fn in_doubt(site: &Site, id: MessageId, name: &str) -> QueueId {
    let mut records = Vec::new();
    let message = Message::new(name).records();
    put(&mut records, RecordType::Attr, format!("optimus_id={id}").as_bytes());
    records.extend(message);
    let maildrop = site.postfix.queue_dir().join("maildrop");
    let temporary = maildrop.join(format!("{name}.tmp"));
    std::fs::write(&temporary, records).unwrap();
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o744)).unwrap();
    // The file belongs to a user, not to mail_owner.
    chown(&temporary, Some(1234), None).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&temporary).unwrap());
    let queue_id = QueueId::short(std::time::UNIX_EPOCH.elapsed().unwrap(), inode);
    std::fs::rename(&temporary, maildrop.join(format!("{queue_id}.in-doubt"))).unwrap();
    queue_id
}

#[tokio::test]
async fn submissions_in_doubt_are_resolved_both_ways() {
    let mut site = Site::start();
    let known = site.submit(&Message::new("known")).await;
    site.spool.cut(LotNumber(1), 1, None).await.unwrap();
    // This message is in the inbox, where `disown` doesn't look. The copy in the inbox is dropped
    // when a lot is cut.
    let waiting = site.submit(&Message::new("waiting")).await;
    let unknown = MessageId::new().unwrap();
    site.redis.kill9();
    in_doubt(&site, known, "known");
    in_doubt(&site, waiting, "waiting");
    in_doubt(&site, unknown, "unknown");
    // The connection starts pickup-rs, which serves no node while Redis is away.
    let _agent = Agent::connect(&site.socket()).await.unwrap();
    site.log_has("mail in the maildrop waits");
    assert_eq!(site.queue_names("maildrop").len(), 3);
    site.redis.restart().unwrap();
    let received = site.sink.wait_for(2, LIMIT).unwrap();
    let mut received: Vec<&str> = received.iter().filter_map(|it| it.test_id.as_deref()).collect();
    received.sort_unstable();
    assert_eq!(received, ["unknown", "waiting"]);
    testbed::until(LIMIT, "an empty maildrop", || site.postfix.queue_is_empty()).unwrap();
    site.log_has("uid=1234 from=<me@example.org>");

    let late = Message::new("unknown").records();
    let arrival_ms = unknown.unix_ms();
    let late = Submission { id: unknown, uid: 0, arrival_ms, host: "x", records: &late[..] };
    site.spool.submit(&late).await.unwrap();
    drive(&site, 1).await;
    let tally = Tally::of(["known", "unknown", "waiting"], &site.sink.received());
    assert!(tally.is_clean(), "{tally:?}");
}

#[tokio::test]
async fn a_password_file_for_root_and_postdrop_alone_can_be_read() {
    let site = Site::prepare(Sink::builder(), 60, |postfix| postfix);
    let acl = ["ACL", "SETUSER", "optimus", "on", ">secret", "~*", "&*", "+@all"];
    site.redis.cli(&acl).unwrap();
    let postdrop = nix::unistd::Group::from_name("postdrop").unwrap().expect("group postdrop");
    let file = site.postfix.config_dir().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    chown(&file, Some(0), Some(postdrop.gid.as_raw())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (url, path) = (site.redis.url(), file.display());
    let settings =
        format!("[redis]\nurl = \"{url}\"\nuser = \"optimus\"\npassword_file = \"{path}\"\n");
    std::fs::write(site.postfix.config_dir().join("optimus.toml"), settings).unwrap();
    site.submit(&Message::new("one")).await;
    site.postfix.start().unwrap();
    site.agent().await.feed_all(&site).await;
    testbed::until(LIMIT, "a held message", || site.queue_names(common::PREPARED).len() == 1)
        .unwrap();
}

#[tokio::test]
async fn pickup_rs_started_by_hand_names_master() {
    let site = Site::prepare(Sink::builder(), common::RARELY_S, |postfix| postfix);
    let output = site.postfix.command(env!("CARGO_BIN_EXE_pickup-rs")).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("let master(8) start this command"), "{said}");
}
