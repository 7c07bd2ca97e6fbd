//! Throughput from Redis to cleanup and on to an SMTP sink, for several numbers of cleanups fed at
//! once.
//!
//! `cargo run --release -p pickup-rs --example throughput [messages]`, as root, after
//! `cargo build --release -p pickup-rs`.
//!
//! All parts are real and private, on one machine: Redis with `appendfsync always`, Postfix, the
//! sink. Three times are taken: until all messages are held, until all are committed and released,
//! and until the last one has arrived. The numbers of cleanups alternate, three rounds each, and
//! medians are shown. Only ratios mean anything.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use handoff::client::{self, Replies, Requests};
use handoff::protocol::{Reply, Request, Served};
use postfix_wire::record::put;
use postfix_wire::{QueueId, RecordType};
use spool::{
    Commit, CommitNumber, FencingToken, MessageId, NodeId, Server, Spool, Start, Submission,
};
use testbed::{Postfix, Redis, Sink};

const CLEANUPS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 3;
const DEFAULT_MESSAGES: usize = 3_000;
const LOT_SIZE: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let messages = std::env::args().nth(1).map_or(DEFAULT_MESSAGES, |text| text.parse().unwrap());
    let mut times = vec![Vec::new(); CLEANUPS.len()];
    for _ in 0..ROUNDS {
        for (cleanups, times) in CLEANUPS.iter().zip(&mut times) {
            times.push(round(*cleanups, messages).await);
        }
    }
    println!("{messages} messages of 1 KiB, medians of {ROUNDS}, messages per second");
    println!("and pickup-rs's own processor time, microseconds per message, all stages");
    println!("{:>8} {:>8} {:>8} {:>8} {:>8}", "cleanups", "held", "released", "arrived", "cpu_us");
    for (cleanups, times) in CLEANUPS.iter().zip(&times) {
        let rate = |stage: fn(&Times) -> Duration| {
            let mut sorted: Vec<Duration> = times.iter().map(stage).collect();
            sorted.sort();
            messages as f64 / sorted[ROUNDS / 2].as_secs_f64()
        };
        let (held, released, arrived) =
            (rate(|t| t.held), rate(|t| t.released), rate(|t| t.arrived));
        let cpu_us = 1e6 / rate(|t| t.cpu);
        println!("{cleanups:>8} {held:>8.0} {released:>8.0} {arrived:>8.0} {cpu_us:>8.0}");
    }
}

/// Durations since the first message was fed, and processor time.
#[derive(Debug, Clone, Copy)]
struct Times {
    held: Duration,
    released: Duration,
    arrived: Duration,
    cpu: Duration,
}

async fn round(cleanups: usize, messages: usize) -> Times {
    let redis = Redis::start().unwrap();
    let sink = Sink::builder().without_content().start().unwrap();
    let settings = format!("[redis]\nurl = \"{}\"\n[pickup]\ncleanups = {cleanups}\n", redis.url());
    let postfix = Postfix::builder()
        .relay_to(sink.port())
        .optimus()
        .file("optimus.toml", &settings)
        .start()
        .unwrap();
    let spool = Spool::new(Server::parse(&redis.url()).unwrap());
    submit(&spool, messages).await;
    let socket = postfix.queue_dir().join("private/optimus");
    let (mut requests, mut replies) = client::connect(&socket).await.unwrap();
    let node = node(&mut requests, &mut replies).await;

    let started = Instant::now();
    let held = feed(&spool, &node, &mut requests, &mut replies, messages).await;
    let time_held = started.elapsed();
    release(&spool, &node, held, &mut requests, &mut replies).await;
    let time_released = started.elapsed();
    sink.wait_for_distinct(messages, PATIENCE).unwrap();
    let arrived = started.elapsed();
    assert_eq!(sink.count(), messages);
    Times {
        held: time_held,
        released: time_released,
        arrived,
        cpu: cpu(postfix.daemon_pids("pickup-rs")[0]),
    }
}

/// Returns the user and system time of a process so far. Linux counts it in ticks of a hundredth of
/// a second.
fn cpu(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn submit(spool: &Spool, messages: usize) {
    for number in 0..messages {
        let (id, records) = (MessageId::new().unwrap(), records(number));
        let submission = Submission {
            id,
            uid: 0,
            arrival_ms: id.unix_ms(),
            host: "x.example.org",
            records: &records[..],
        };
        spool.submit(&submission).await.unwrap();
    }
}

fn records(number: usize) -> Vec<u8> {
    use RecordType::{Attr, End, From, Mesg, Norm, Rcpt, Time, Xtra};
    let mut out = Vec::new();
    let test_id = format!("X-Test-Id: {number}");
    let line = [b'x'; 76];
    let start: [(RecordType, &[u8]); 8] = [
        (Time, b"1 2"),
        (Attr, b"rewrite_context=local"),
        (From, b"me@example.org"),
        (Rcpt, b"you@example.net"),
        (Mesg, b""),
        (Norm, test_id.as_bytes()),
        (Norm, b"Subject: throughput"),
        (Norm, b""),
    ];
    let body = std::iter::repeat_n((Norm, &line[..]), 13);
    for (kind, data) in start.into_iter().chain(body).chain([(Xtra, &b""[..]), (End, b"")]) {
        put(&mut out, kind, data);
    }
    out
}

async fn node(requests: &mut Requests, replies: &mut Replies) -> NodeId {
    loop {
        requests.send(&Request::Ping).await.unwrap();
        match replies.next().await.unwrap().unwrap() {
            Reply::Pong { node, served: Served::Here, .. } => return node.parse().unwrap(),
            Reply::Pong { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the fencing token of the node's only Mail Agent.
fn seat(node: &NodeId) -> FencingToken {
    FencingToken { node: node.clone(), start: Start(1) }
}

async fn feed(
    spool: &Spool,
    node: &NodeId,
    requests: &mut Requests,
    replies: &mut Replies,
    messages: usize,
) -> Vec<Commit> {
    loop {
        let inbox = spool.overview(0).await.unwrap().inbox;
        if inbox.entries == 0 {
            break;
        }
        spool.cut(inbox.next_lot, LOT_SIZE, Some(node)).await.unwrap();
    }
    for lot in spool.fetch(&seat(node)).await.unwrap() {
        requests
            .send(&Request::Feed { lot: lot.lot, epoch: lot.epoch, ids: lot.ids, full: Vec::new() })
            .await
            .unwrap();
    }
    let mut held = Vec::new();
    while held.len() < messages {
        match replies.next().await.unwrap().unwrap() {
            Reply::Held { id, lot, epoch, queue_id, .. } => {
                held.push(Commit { id, lot, epoch, queue_id });
            }
            other => panic!("{other:?}"),
        }
    }
    held
}

async fn release(
    spool: &Spool,
    node: &NodeId,
    held: Vec<Commit>,
    requests: &mut Requests,
    replies: &mut Replies,
) {
    let mut left = held.len();
    for batch in held.chunks(200) {
        spool.commit(&seat(node), batch).await.unwrap();
        let queue_ids: Vec<QueueId> = batch.iter().map(|commit| commit.queue_id.clone()).collect();
        requests.send(&Request::Release { queue_ids, mark: CommitNumber(0) }).await.unwrap();
    }
    while left > 0 {
        if let Reply::Released { queue_ids } = replies.next().await.unwrap().unwrap() {
            left -= queue_ids.len();
        }
    }
}
