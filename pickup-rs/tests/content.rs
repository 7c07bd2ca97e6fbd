//! Content of messages, and the site's own rules for content: the outcome is as with stock pickup.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Agent, Fed, LIMIT, Message, Site};
use handoff::protocol::{FolderKind, Handoff};
use postfix_wire::RecordType;
use postfix_wire::record::put;
use spool::{Committed, keys};
use testbed::Delivery;

/// Feeds, commits and releases a message, and waits for its delivery.
async fn delivered(site: &Site, message: &Message) -> Delivery {
    site.submit(message).await;
    let mut agent = site.agent().await;
    agent.feed_all(site).await;
    let held = agent.held().await;
    agent.commit(site, &held).await;
    agent.release(&held.queue_id).await;
    let received = site.sink.wait_for(1, LIMIT).unwrap().remove(0);
    agent.settled(&held.queue_id).await;
    received
}

fn body(delivery: &Delivery) -> &[u8] {
    let content = delivery.content.as_deref().unwrap();
    let at = content.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    &content[at + 4..]
}

#[tokio::test]
async fn any_byte_may_be_in_a_body() {
    let all: Vec<u8> = (0..=255).filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let message = Message::new("bytes").body(vec![all.clone(), b"end".to_vec()]);
    let delivery = delivered(&Site::start(), &message).await;
    assert_eq!(body(&delivery), [&all[..], b"\r\nend\r\n"].concat());
}

#[tokio::test]
async fn an_empty_body_is_delivered() {
    let delivery = delivered(&Site::start(), &Message::new("empty").body(vec![])).await;
    assert_eq!(body(&delivery), b"");
}

#[tokio::test]
async fn five_hundred_recipients_get_a_message() {
    let recipients: Vec<String> = (0..500).map(|number| format!("r{number}@example.net")).collect();
    let site = Site::with(|postfix| postfix.main("smtp_destination_recipient_limit = 1000"));
    let mut delivery = delivered(&site, &Message::new("many").to(recipients.clone())).await;
    delivery.rcpts.sort_by_key(|recipient| recipients.iter().position(|it| it == recipient));
    assert_eq!(delivery.rcpts, recipients);
}

#[tokio::test]
async fn ten_megabytes_are_delivered() {
    let site = Site::with(|postfix| postfix.main("message_size_limit = 20000000"));
    let line = vec![b'x'; 900];
    let delivery = delivered(&site, &Message::new("large").body(vec![line; 11_600])).await;
    assert_eq!(body(&delivery).len(), 11_600 * 902);
}

/// Feeds all messages, and returns the one that cleanup consumed. Settles it as the Mail Agent
/// would.
async fn consumed(site: &Site, agent: &mut Agent) -> Fed {
    agent.feed_all(site).await;
    let fed = agent.consumed().await;
    assert_eq!(agent.commit(site, &fed).await, Committed::Committed);
    agent.settle(site, &fed).await;
    assert!(site.queue_names("hold").is_empty());
    fed
}

#[tokio::test]
async fn too_large_a_message_is_returned_to_its_sender() {
    let site = Site::with(|postfix| postfix.main("message_size_limit = 20000"));
    site.submit(&Message::new("large").body(vec![vec![b'x'; 900]; 30])).await;
    let mut agent = site.agent().await;
    assert_eq!(agent.handoff(), Handoff::Hold);
    consumed(&site, &mut agent).await;
    let bounce = site.sink.wait_for(1, LIMIT).unwrap().remove(0);
    assert_eq!(
        (bounce.sender.as_str(), bounce.rcpts.as_slice()),
        ("", &["me@example.org".to_owned()][..])
    );
    let text = String::from_utf8_lossy(body(&bounce)).into_owned();
    assert!(text.contains("message file too big"), "{text}");
}

#[tokio::test]
async fn a_message_without_recipients_is_dropped_with_a_warning() {
    let site = Site::start();
    site.submit(&Message::new("nobody").to([])).await;
    let mut agent = site.agent().await;
    let fed = consumed(&site, &mut agent).await;
    site.log_has(&format!("warning: error writing {}: no recipients specified", fed.queue_id));
}

#[tokio::test]
async fn a_content_filter_gets_the_message() {
    let site = Site::with(|postfix| postfix.main("content_filter = discard:[x]"));
    site.submit(&Message::new("filtered")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let held = agent.held().await;
    agent.commit(&site, &held).await;
    agent.release(&held.queue_id).await;
    agent.settled(&held.queue_id).await;
    site.log_has("postfix/discard[");
    assert_eq!(site.sink.count(), 0);
}

const RULES: &str =
    "/^X-Rule: hold/ HOLD\n/^X-Rule: reject/ REJECT no such thing\n/^X-Rule: discard/ DISCARD\n";

/// Starts a site with content rules, and connects as its Mail Agent.
async fn ruled() -> (Site, Agent) {
    let site = Site::with(|postfix| {
        postfix.file("rules", RULES).main("header_checks = regexp:$config_directory/rules")
    });
    let agent = site.agent().await;
    assert_eq!(agent.handoff(), Handoff::Direct);
    site.log_has("direct hand-off chosen content_rules=header_checks");
    (site, agent)
}

#[tokio::test]
async fn with_content_rules_mail_is_handed_over_directly() {
    let (site, mut agent) = ruled().await;
    site.submit(&Message::new("plain")).await;
    agent.feed_all(&site).await;
    let stored = agent.stored().await;
    assert_eq!(agent.commit(&site, &stored).await, Committed::Committed);
    site.sink.wait_for(1, LIMIT).unwrap();
    agent.settled(&stored.queue_id).await;
}

#[tokio::test]
async fn a_rule_that_holds_mail_still_holds_it() {
    let (site, mut agent) = ruled().await;
    site.submit(&Message::new("held").header("X-Rule: hold")).await;
    agent.feed_all(&site).await;
    let stored = agent.stored().await;
    agent.commit(&site, &stored).await;
    drop(agent);
    site.postfix.kill9_daemon("pickup-rs").unwrap();
    let mut agent = site.agent().await;
    assert_eq!(agent.inventory().await[0].place, FolderKind::OnHold);
    assert_eq!(agent.recover(&site).await, []);
    assert_eq!(site.queue_names("hold"), [stored.queue_id.to_string()]);
    site.postfix
        .command("/usr/sbin/postsuper")
        .args(["-H", stored.queue_id.as_str()])
        .output()
        .unwrap();
    site.postfix.command("/usr/sbin/postqueue").arg("-f").output().unwrap();
    site.sink.wait_for(1, LIMIT).unwrap();
    agent.settled(&stored.queue_id).await;
}

#[tokio::test]
async fn a_reject_rule_returns_mail_and_a_discard_rule_drops_it() {
    let (site, mut agent) = ruled().await;
    site.submit(&Message::new("dropped").header("X-Rule: discard")).await;
    consumed(&site, &mut agent).await;
    site.submit(&Message::new("returned").header("X-Rule: reject")).await;
    consumed(&site, &mut agent).await;
    let bounce = site.sink.wait_for(1, LIMIT).unwrap().remove(0);
    assert_eq!(
        (bounce.sender.as_str(), bounce.rcpts.as_slice()),
        ("", &["me@example.org".to_owned()][..])
    );
    assert!(String::from_utf8_lossy(body(&bounce)).contains("no such thing"));
}

#[tokio::test]
async fn every_direct_message_is_stored_and_settled() {
    let (site, mut agent) = ruled().await;
    let count = 300;
    for number in 0..count {
        site.submit(&Message::new(&number.to_string())).await;
    }
    agent.feed_all(&site).await;
    let mut stored = Vec::new();
    for _ in 0..count {
        stored.push(agent.stored().await.queue_id);
    }
    for queue_id in &stored {
        agent.settled(queue_id).await;
    }
    assert_eq!(site.sink.distinct(), count);
    assert_eq!(site.sink.count(), count);
}

#[tokio::test]
async fn a_damaged_message_is_refused_for_good() {
    let site = Site::start();
    let id = site.submit(&Message::new("damaged")).await;
    site.cut(None).await;
    site.redis.cli(&["SETRANGE", &keys::message(id), "100", "damage"]).unwrap();
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let (refused, reason, retry) = agent.refused().await;
    assert!(refused == id && !retry && reason.contains("checksum mismatch"), "{reason}");
    assert!(site.postfix.queue_is_empty());
}

#[tokio::test]
async fn a_missing_or_malformed_message_is_refused_for_good() {
    let site = Site::start();
    let mut agent = site.agent().await;
    let gone = site.submit(&Message::new("gone")).await;
    site.cut(None).await;
    site.redis.cli(&["DEL", &keys::message(gone)]).unwrap();
    agent.feed_all(&site).await;
    let (id, reason, retry) = agent.refused().await;
    assert!(id == gone && !retry && reason.contains("missing"), "{reason}");

    let mut no_sender = Vec::new();
    put(&mut no_sender, RecordType::Rcpt, b"you@example.net");
    for kind in [RecordType::Mesg, RecordType::Xtra, RecordType::End] {
        put(&mut no_sender, kind, b"");
    }
    for (records, expected) in
        [(&b"not records"[..], "malformed"), (&no_sender, "no envelope sender")]
    {
        let malformed = site.submit_records(records).await;
        for lot in site
            .assign(&agent.node().clone())
            .await
            .into_iter()
            .filter(|lot| lot.ids.contains(&malformed))
        {
            let request = handoff::protocol::Request::Feed {
                lot: lot.lot,
                epoch: lot.epoch,
                ids: vec![malformed],
                full: Vec::new(),
            };
            agent.send(&request).await;
        }
        let (id, reason, retry) = agent.refused().await;
        assert!(id == malformed && !retry && reason.contains(expected), "{reason}");
    }
    assert!(site.postfix.queue_is_empty());
}

/// Returns envelopes that postdrop accepts from a user: all orders of up to four of these records
/// with a sender and a recipient.
fn envelopes() -> Vec<Vec<(RecordType, &'static [u8])>> {
    use RecordType::{Attr, DsnEnvid, DsnNotify, From, Rcpt};
    let choices: [(RecordType, &[u8]); 7] = [
        (From, b"me@example.org"),
        (Rcpt, b"you@example.net"),
        (DsnNotify, b"1"),
        (DsnEnvid, b"\xe9"),
        (Attr, b"ret_flags=9"),
        (Attr, b"envelope_id=\xe9"),
        (Attr, b"notify_flags=x"),
    ];
    let mut all = vec![Vec::new()];
    for length in 0..4 {
        let longest: Vec<Vec<_>> =
            all.iter().filter(|it: &&Vec<_>| it.len() == length).cloned().collect();
        for (one, more) in
            longest.iter().flat_map(|one| choices.iter().map(move |more| (one, more)))
        {
            all.push([&one[..], &[*more]].concat());
        }
    }
    let has = |one: &[(RecordType, &[u8])], kind| one.iter().any(|it| it.0 == kind);
    all.retain(|one| has(one, From) && has(one, Rcpt));
    all
}

#[tokio::test]
async fn mail_that_stock_pickup_deletes_never_goes_to_quarantine() {
    let site = Site::start();
    let mut all = envelopes();
    let first = vec![(RecordType::Rcpt, &b"firstr"[..]), (RecordType::From, b"abc")];
    // Every seventh of the longest envelopes is enough for one run of the test.
    let count = all.len();
    all.truncate(60);
    all.extend(envelopes().into_iter().skip(60).step_by(7).take(count));
    all.insert(0, first);
    for envelope in &all {
        let mut records = Vec::new();
        put(&mut records, RecordType::Time, b"1700000000 0");
        envelope.iter().for_each(|(kind, data)| put(&mut records, *kind, data));
        for kind in [RecordType::Mesg, RecordType::Xtra, RecordType::End] {
            put(&mut records, kind, b"");
        }
        site.submit_records(&records).await;
    }
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let mut dropped = 0;
    for _ in &all {
        let (refused, is_dropped) = agent.taken_dropped_or_refused().await;
        assert_eq!(refused, None);
        dropped += usize::from(is_dropped);
    }
    assert!(dropped > all.len() / 4 && dropped < all.len(), "{dropped} of {}", all.len());
    site.log_has("message rejected: missing sender envelope record");
    site.log_has("internal protocol error");
}

/// A node whose configuration rejects good mail must not lose that mail.
#[tokio::test]
async fn good_mail_that_this_node_calls_bad_goes_to_quarantine() {
    let site = Site::with(|postfix| postfix.main("queue_file_attribute_count_limit = 1"));
    let id = site.submit(&Message::new("good")).await;
    let mut agent = site.agent().await;
    agent.feed_all(&site).await;
    let (refused, reason, retry) = agent.refused().await;
    assert!(refused == id && !retry, "{reason}");
}
