//! The listing of the mail in each place.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use futures_util::future::try_join_all;
use postfix_wire::record::{RecordType, put};
use spool::*;
use testbed::Redis;

/// Returns records with recipients before and after the content, and some lines between.
fn records(before: &[&str], lines: usize, after: &[&str]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |kind, data: &[u8]| put(&mut records, kind, data);
    add(RecordType::From, b"ann@example.org");
    before.iter().for_each(|to| add(RecordType::Rcpt, to.as_bytes()));
    add(RecordType::Mesg, b"");
    (0..lines).for_each(|_| add(RecordType::Norm, b"X\0 some line or other"));
    add(RecordType::Xtra, b"");
    after.iter().for_each(|to| add(RecordType::Rcpt, to.as_bytes()));
    add(RecordType::End, b"");
    records
}

async fn submit_records(spool: &Spool, n: u32, records: &[u8]) {
    spool.submit(&Submission { records, ..submission(id(n)) }).await.unwrap();
}

/// Submits ids 0 to `count`, each with `lines` lines. Returns the size of one message, bytes.
async fn submit_many(spool: &Spool, count: u32, lines: usize) -> usize {
    let records = records(&["bob@x"], lines, &[]);
    let all: Vec<Submission<'_>> =
        (0..count).map(|n| Submission { records: &records[..], ..submission(id(n)) }).collect();
    spool.submit_many(&all).await.unwrap();
    records.len()
}

async fn list(spool: &Spool) -> Vec<Listed> {
    let (mut listing, mut all) = (spool.listing(), Vec::new());
    while let Some(page) = listing.next_page().await.unwrap() {
        all.extend(page);
    }
    all
}

fn recipients(listed: &Listed) -> Vec<String> {
    let envelope = listed.envelope.as_ref().unwrap();
    assert_eq!(
        (&envelope.sender[..], envelope.uid, envelope.arrival_ms),
        (&b"ann@example.org"[..], 1000, 1)
    );
    envelope.recipients.iter().map(|to| String::from_utf8_lossy(to).into_owned()).collect()
}

#[tokio::test]
async fn a_listing_shows_each_message_once_in_its_place() {
    let redis = Redis::start().unwrap();
    let (spool, a, b) = (spool(&redis), node("a"), node("b"));
    for n in 1..=5 {
        submit_records(&spool, n, &records(&["bob@example.org"], 1, &[])).await;
    }
    cut_next(&spool, 1, Some(&a)).await;
    let lot = spool.fetch(&token(&a)).await.unwrap().pop().unwrap();
    spool.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    cut_next(&spool, 1, Some(&b)).await;
    let lot = spool.fetch(&token(&b)).await.unwrap().pop().unwrap();
    spool.refuse(&token(&b), id(2), (lot.lot, lot.epoch), "it is broken").await.unwrap();
    cut_next(&spool, 1, Some(&b)).await;
    cut_next(&spool, 1, None).await;
    let listed = list(&spool).await;
    assert!(listed.iter().all(|it| recipients(it) == ["bob@example.org"]));
    let places: BTreeMap<MessageId, MessagePlace> =
        listed.into_iter().map(|it| (it.id, it.place)).collect();
    let expected = [
        MessagePlace::Committed(a, queue_id(1)),
        MessagePlace::Quarantine("it is broken".to_owned()),
        MessagePlace::Assigned(b, LotNumber(3)),
        MessagePlace::Ready(LotNumber(4)),
        MessagePlace::Inbox,
    ];
    assert_eq!(
        places.into_iter().collect::<Vec<_>>(),
        (1..).map(id).zip(expected).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_listing_reads_envelopes_of_any_length() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let many = vec!["somebody@example.org"; 2_000];
    let cases: [(&[&str], usize, &[&str]); 4] = [
        (&["bob@x"], 100_000, &[]),
        (&[], 100_000, &["carol@x"]),
        (&many, 1, &[]),
        (&[], 1, &many),
    ];
    let expected: Vec<Vec<&str>> =
        cases.iter().map(|(before, _, after)| [*before, *after].concat()).collect();
    for (n, (before, lines, after)) in (1..).zip(cases) {
        submit_records(&spool, n, &records(before, lines, after)).await;
    }
    let in_inbox = list(&spool).await;
    cut_all(&spool, 10).await;
    let in_lots = list(&spool).await;
    assert!(in_inbox.iter().all(|it| it.place == MessagePlace::Inbox));
    for listed in [in_inbox, in_lots] {
        assert_eq!(listed.iter().map(recipients).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_listing_shows_unreadable_messages_too() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit(&spool, id(1)).await;
    redis.cli(&["RPUSH", "optimus:{0}:inbox", "no message at all"]).unwrap();
    let listed = list(&spool).await;
    assert_eq!(
        listed,
        [Listed { id: id(1), place: MessagePlace::Inbox, order: None, envelope: None }]
    );
}

#[tokio::test]
async fn a_long_queue_comes_in_pages() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit_many(&spool, 3_000, 1).await;
    for _ in 0..150 {
        cut_next(&spool, 10, None).await;
    }
    let mut ids: Vec<MessageId> = list(&spool).await.into_iter().map(|it| it.id).collect();
    ids.sort();
    assert_eq!(ids, (0..3_000).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_stays_is_listed_however_many_are_cut_meanwhile() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    submit_many(&spool, 1_000, 1).await;
    cut_next(&spool, 10, None).await;
    let (mut listing, mut shown) = (spool.listing(), Vec::new());
    while let Some(page) = listing.next_page().await.unwrap() {
        shown.extend(page.into_iter().map(|it| (it.id, it.place)));
        cut_next(&spool, 50, None).await;
    }
    let ids: BTreeSet<MessageId> = shown.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (0..1_000).map(id).collect());
    // All pages together show each entry at most once as one of the inbox.
    let mut waiting: Vec<_> = shown
        .iter()
        .filter(|(_, place)| *place == MessagePlace::Inbox)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(waiting[..200], (10..210).map(id).collect::<Vec<_>>());
    let length = waiting.len();
    waiting.dedup();
    assert_eq!(waiting.len(), length);
}

#[tokio::test]
async fn a_message_in_quarantine_is_listed_however_many_are_dropped_meanwhile() {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let lot = assigned_lot(&spool, &a, 1_500).await;
    let (token, tenure) = (token(&a), (lot.lot, lot.epoch));
    let refused = (1..=1_500).map(|n| spool.refuse(&token, id(n), tenure, "broken"));
    try_join_all(refused).await.unwrap();
    let (mut listing, mut shown) = (spool.listing(), BTreeSet::new());
    while let Some(page) = listing.next_page().await.unwrap() {
        if shown.is_empty() && !page.is_empty() {
            let first: Vec<MessageId> = (1..=700).map(id).collect();
            spool.drop_quarantined(&first).await.unwrap();
        }
        shown.extend(page.into_iter().map(|it| it.id));
    }
    assert!((701..=1_500).map(id).all(|id| shown.contains(&id)));
}

/// Short entries come before large ones. A page sized by the average of the first entries would
/// have all the large ones.
#[tokio::test]
async fn a_page_of_large_messages_has_few_of_them() {
    const MESSAGE_BYTES: usize = 1024 * 1024;
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (short, large) =
        (records(&["bob@x"], 1, &[]), records(&["bob@x"], MESSAGE_BYTES / 20, &[]));
    for n in 0..350 {
        let records = if n < 300 { &short } else { &large };
        spool.submit(&Submission { records, ..submission(id(n)) }).await.unwrap();
    }
    let page =
        redis.cli(&["FCALL", "optimus_peek", "1", "optimus:{0}:", "", "280", "200", "1"]).unwrap();
    let bytes: Vec<usize> = page.lines().filter_map(|line| line.parse().ok()).collect();
    let is_large = |bytes: &&usize| (MESSAGE_BYTES..2 * MESSAGE_BYTES).contains(*bytes);
    assert!((1..10).contains(&bytes.iter().filter(is_large).count()), "{bytes:?}");
    let listed = list(&spool).await;
    assert_eq!(
        listed.iter().map(|it| it.id).collect::<Vec<_>>(),
        (0..350).map(id).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_listing_does_not_move_the_mail() {
    const MESSAGES: u32 = 250;
    /// Bytes sent for each message besides its ends: its id three times, lengths, and a share of
    /// the bytes of its page or lot.
    const REST_BYTES: usize = 256;
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let message_bytes = submit_many(&spool, MESSAGES, 4_000).await;
    for place in ["inbox", "lots"] {
        let before = bytes_sent(&redis);
        assert_eq!(list(&spool).await.len(), MESSAGES as usize);
        let bytes = (bytes_sent(&redis) - before) / MESSAGES as usize;
        assert!(bytes < 2 * END_BYTES + REST_BYTES, "{place}: {bytes} of {message_bytes}");
        cut_all(&spool, 100).await;
    }
}

/// Returns the bytes that Redis has sent to all clients so far.
fn bytes_sent(redis: &Redis) -> usize {
    let info = redis.cli(&["INFO", "stats"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap();
    line.trim().parse().unwrap()
}
