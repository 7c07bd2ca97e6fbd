//! A Mail Agent for tests, which delivers all mail though other processes die.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use handoff::protocol::{FolderKind, QueuedFile, Reply, Request};
use postfix_wire::QueueId;
use spool::{CommitNumber, Committed, MessageId, Placed};
use tokio::time::timeout;

use super::agent::{Agent, Fed};
use super::{LIMIT, LOOK_PAUSE, Site, seat};

/// Plays the Mail Agent until `count` messages have been settled and no file is left, through any
/// number of lost connections.
pub(crate) async fn drive(site: &Site, count: usize) {
    let mut progress = Progress::default();
    while !drive_one_connection(site, count, &mut progress).await {
        tokio::time::sleep(LOOK_PAUSE).await;
        progress.check(site, site.settled().await);
    }
}

/// Limit on the time without progress. The whole time of a test depends on the machine and has no
/// limit.
pub(crate) struct Progress {
    best: usize,
    since: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { best: 0, since: Instant::now() }
    }
}

impl Progress {
    pub(crate) fn check(&mut self, site: &Site, done: usize) {
        if done > self.best {
            *self = Self { best: done, since: Instant::now() };
        }
        assert!(
            self.since.elapsed() < LIMIT,
            "no progress: {done} messages settled; log:\n{}",
            site.postfix.log()
        );
    }
}

/// Plays one connection. Returns true once all is settled, and false if the connection is lost.
async fn drive_one_connection(site: &Site, count: usize, progress: &mut Progress) -> bool {
    let Ok(mut agent) = Agent::connect(&site.socket()).await else { return false };
    let Some(mut known) = agent.start_over(site).await else { return false };
    loop {
        // The queue must be empty as well: the agent hears of files that a cleanup process finishes
        // late, and discards them.
        let settled = site.settled().await;
        if settled >= count && site.has_no_messages() {
            return true;
        }
        progress.check(site, settled);
        let reply = match timeout(Duration::from_millis(300), agent.replies.next()).await {
            Err(_) => continue,
            Ok(Ok(Some(reply))) => reply,
            Ok(_) => return false,
        };
        if agent.react(site, &mut known, reply).await.is_none() {
            return false;
        }
    }
}

impl Agent {
    async fn try_send(&mut self, request: Request) -> Option<()> {
        self.requests.send(&request).await.ok()
    }

    async fn try_next(&mut self) -> Option<Reply> {
        timeout(LIMIT, self.replies.next()).await.expect("an answer").ok()?
    }

    /// Takes an inventory, recovers, and feeds all messages that are not committed. Returns `None`
    /// if the connection is lost.
    async fn start_over(&mut self, site: &Site) -> Option<HashMap<QueueId, MessageId>> {
        self.try_send(Request::Ping).await?;
        self.try_send(Request::Inventory).await?;
        let (mut files, mut node, mut early) = (Vec::new(), None, Vec::new());
        loop {
            match self.try_next().await? {
                Reply::Pong { node: name, handoff, .. } => {
                    node = Some((name.parse().unwrap(), handoff));
                }
                Reply::Inventory { files: some, complete, .. } => {
                    files.extend(some);
                    if complete {
                        break;
                    }
                }
                // The reply is about an earlier feeding, which goes on while the queue is scanned.
                other => early.push(other),
            }
        }
        self.node = node;
        let mut known = HashMap::new();
        for file in &files {
            let QueuedFile { id, lot, epoch, queue_id, place, .. } = file.clone();
            self.decide(
                site,
                &mut known,
                Fed { id, lot, epoch, queue_id },
                place == FolderKind::Prepared,
            )
            .await?;
        }
        let placed = site.spool.inventory(self.node()).await.unwrap();
        let missing =
            placed.into_iter().filter(|it| !files.iter().any(|file| file.queue_id == it.queue_id));
        site.spool.settle(&seat(self.node()), &missing.collect::<Vec<_>>()).await.unwrap();
        let is_listed = |it: &Reply| match it {
            Reply::Held { queue_id, .. } => files.iter().any(|file| file.queue_id == *queue_id),
            _ => false,
        };
        for reply in early.into_iter().filter(|it| !is_listed(it)) {
            self.react(site, &mut known, reply).await?;
        }
        for lot in site.assign(&self.node().clone()).await {
            self.try_send(Request::Feed {
                lot: lot.lot,
                epoch: lot.epoch,
                ids: lot.ids,
                full: Vec::new(),
            })
            .await?;
        }
        Some(known)
    }

    async fn decide(
        &mut self,
        site: &Site,
        known: &mut HashMap<QueueId, MessageId>,
        fed: Fed,
        prepared: bool,
    ) -> Option<()> {
        let committed = self.commit(site, &fed).await;
        let queue_ids = vec![fed.queue_id.clone()];
        match committed {
            Committed::Committed | Committed::Already => {
                known.insert(fed.queue_id, fed.id);
                if prepared {
                    self.try_send(Request::Release { queue_ids, mark: CommitNumber(0) }).await
                } else {
                    Some(())
                }
            }
            _ if prepared => self.try_send(Request::Discard { queue_ids }).await,
            _ => Some(()),
        }
    }

    async fn react(
        &mut self,
        site: &Site,
        known: &mut HashMap<QueueId, MessageId>,
        reply: Reply,
    ) -> Option<()> {
        match reply {
            Reply::Held { id, lot, epoch, queue_id, .. } => {
                self.decide(site, known, Fed { id, lot, epoch, queue_id }, true).await
            }
            Reply::Stored { id, lot, epoch, queue_id, .. } => {
                self.decide(site, known, Fed { id, lot, epoch, queue_id }, false).await
            }
            Reply::Settled { queue_id } => {
                if let Some(id) = known.remove(&queue_id) {
                    site.spool
                        .settle(&seat(self.node()), &[Placed { queue_id, id }])
                        .await
                        .unwrap();
                }
                Some(())
            }
            Reply::Refused { id, lot, epoch, retry: true, .. } => {
                self.try_send(Request::Feed { lot, epoch, ids: vec![id], full: Vec::new() }).await
            }
            Reply::Refused { .. } | Reply::Consumed { .. } | Reply::Error { .. } => {
                panic!("{reply:?}")
            }
            _ => Some(()),
        }
    }
}
