//! pickup-rs on a disk that hangs: the node keeps its standing, and the Mail Agent its connection.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{Agent, Fed, LIMIT, LOOK_PAUSE, RARELY_S, Site};
use handoff::protocol::{Ordered, Reply, Request};
use spool::{Act, CommitNumber};
use testbed::{Sink, SinkAnswer};

/// Time after which a node that doesn't attend may be served elsewhere, and longer.
const LAPSED: Duration = Duration::from_secs(12);

async fn committed(site: &Site, agent: &mut Agent) -> Fed {
    site.submit(&common::Message::new("one")).await;
    agent.feed_all(site).await;
    let held = agent.held().await;
    agent.commit(site, &held).await;
    held
}

#[tokio::test]
async fn a_release_that_hangs_costs_neither_the_standing_nor_the_connection() {
    let site = Site::start();
    let mut agent = site.agent().await;
    let held = committed(&site, &mut agent).await;
    let stall = site.stall("before-release");
    let (queue_ids, mark) = (vec![held.queue_id.clone()], CommitNumber(1));
    agent.send(&Request::Release { queue_ids: queue_ids.clone(), mark }).await;
    let (begun, mut nonces) = (Instant::now(), BTreeSet::new());
    while begun.elapsed() < LAPSED || nonces.len() < 4 {
        nonces.extend(site.spool.last_attendance(agent.node()).await.unwrap().nonce);
        assert!(begun.elapsed() < LIMIT, "not attended: {nonces:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    drop(stall);
    assert_eq!(agent.released().await, queue_ids);
    agent.settled(&held.queue_id).await;
    assert!(!site.postfix.log().contains("could not attend"), "{}", site.postfix.log());
}

/// Events about the file of an order come after the order's own answer.
#[tokio::test]
async fn a_sync_that_hangs_keeps_only_the_orders_themselves_waiting() {
    let site =
        Site::prepare(Sink::builder().answer(|_| SinkAnswer::TempFail), RARELY_S, |postfix| {
            postfix
        });
    site.postfix.start().unwrap();
    let mut agent = site.agent().await;
    let Fed { id, queue_id, .. } = committed(&site, &mut agent).await;
    agent.release(&queue_id).await;
    agent.deferred(&queue_id).await;
    let stall = site.stall("before-sync");
    let messages = vec![Ordered { queue_id: queue_id.clone(), id }];
    agent.send(&Request::Operate { act: Act::Hold, messages: messages.clone() }).await;
    agent.send(&Request::Operate { act: Act::Delete, messages }).await;
    agent.send(&Request::Ping).await;
    let word = |reply: &Reply| match reply {
        Reply::Pong { .. } => Some("pong"),
        Reply::Operated { act: Act::Hold, .. } => Some("held"),
        Reply::Operated { .. } => Some("deleted"),
        Reply::Settled { .. } => Some("settled"),
        _ => None,
    };
    assert_eq!(agent.hear("an answer", word).await, "pong");
    assert_eq!(site.queue_names("hold"), [] as [String; 0], "carried out");
    drop(stall);
    for expected in ["held", "deleted", "settled"] {
        assert_eq!(agent.hear(expected, word).await, expected);
    }
}
