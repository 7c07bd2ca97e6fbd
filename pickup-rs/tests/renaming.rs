//! Files of OPTIMUS that another process has renamed while pickup-rs is there, as an operator's
//! release does without a Mail Agent.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Agent, Fed, RARELY_S, Site};
use handoff::protocol::{NewName, Reply, Request};
use postfix_wire::QueueId;
use testbed::{Sink, SinkAnswer};

fn postsuper(site: &Site, option: &str, queue_id: &QueueId) {
    let mut command = site.postfix.command("/usr/sbin/postsuper");
    let output = command.args([option, queue_id.as_str()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn site(rescan_s: u64) -> Site {
    let site =
        Site::prepare(Sink::builder().answer(|_| SinkAnswer::TempFail), rescan_s, |postfix| {
            postfix
        });
    site.postfix.start().unwrap();
    site
}

/// Returns a committed message that the administrator has put on hold.
async fn on_hold(site: &Site, agent: &mut Agent) -> Fed {
    site.submit(&common::Message::new("one")).await;
    agent.feed_all(site).await;
    let held = agent.held().await;
    agent.commit(site, &held).await;
    agent.release(&held.queue_id).await;
    agent.deferred(&held.queue_id).await;
    postsuper(site, "-h", &held.queue_id);
    agent.on_hold(&held.queue_id).await;
    held
}

/// Releases a file from hold as OPTIMUS's postsuper does. Returns the file's new name.
fn release(site: &Site, was: &QueueId) -> QueueId {
    let file = site.postfix.queue_files("hold").remove(0);
    let inode = file.metadata().unwrap().ino();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let names = (0..2).map(|micros| QueueId::short(time + Duration::from_micros(micros), inode));
    let now = names.into_iter().find(|it| it != was).unwrap();
    std::fs::rename(file, site.postfix.queue_dir().join("incoming").join(now.as_str())).unwrap();
    now
}

/// Returns the new name that pickup-rs reports, or `None` if it reports the message as settled.
async fn told(agent: &mut Agent, was: &QueueId) -> Option<QueueId> {
    let of = |reply: &Reply| match reply {
        Reply::Operated { renamed, .. } => {
            renamed.iter().find(|it| it.was == *was).map(|NewName { now, .. }| Some(now.clone()))
        }
        Reply::Settled { queue_id } if queue_id == was => Some(None),
        _ => None,
    };
    agent.hear("the other name", of).await
}

#[tokio::test]
async fn a_rescan_follows_a_file_that_another_process_has_renamed() {
    let site = site(1);
    let mut agent = site.agent().await;
    let held = on_hold(&site, &mut agent).await;
    let now = release(&site, &held.queue_id);
    assert_eq!(told(&mut agent, &held.queue_id).await, Some(now.clone()), "settled");
    postsuper(&site, "-d", &now);
    agent.settled(&now).await;
}

#[tokio::test]
async fn an_inventory_lists_the_other_name_and_settles_nothing() {
    let site = site(RARELY_S);
    let mut agent = site.agent().await;
    let held = on_hold(&site, &mut agent).await;
    let now = release(&site, &held.queue_id);
    agent.send(&Request::Inventory).await;
    assert_eq!(told(&mut agent, &held.queue_id).await, Some(now.clone()), "settled");
    let renamed = |reply: &Reply| match reply {
        Reply::Inventory { renamed, .. } => renamed.first().cloned(),
        _ => None,
    };
    let file = agent.hear("the file", renamed).await;
    assert_eq!((file.id, file.queue_id), (held.id, now));
}
