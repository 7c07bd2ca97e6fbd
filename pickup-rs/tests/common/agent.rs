//! A Mail Agent for tests, whose steps the test takes one by one.

use std::collections::VecDeque;
use std::path::Path;

use handoff::client::{self, ClientError, Replies, Requests};
use handoff::protocol::{FolderKind, Handoff, QueuedFile, Reply, Request};
use postfix_wire::QueueId;
use spool::{
    Commit, CommitNumber, Committed, Epoch, LotNumber, MessageId, NodeId, Placed, Settled,
};
use tokio::time::timeout;

use super::{LIMIT, Site, seat};

/// A Mail Agent's connection.
pub(crate) struct Agent {
    pub(super) requests: Requests,
    pub(super) replies: Replies,
    heard: VecDeque<Reply>,
    pub(super) node: Option<(NodeId, Handoff)>,
}

/// Reply of pickup-rs about a fed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fed {
    pub(crate) id: MessageId,
    pub(crate) lot: LotNumber,
    pub(crate) epoch: Epoch,
    pub(crate) queue_id: QueueId,
}

impl Agent {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let (requests, replies) = client::connect(socket).await?;
        Ok(Self { requests, replies, heard: VecDeque::new(), node: None })
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.node.as_ref().unwrap().0
    }

    pub(crate) fn handoff(&self) -> Handoff {
        self.node.as_ref().unwrap().1
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        self.requests.send(request).await.unwrap();
    }

    /// Returns the next reply that `wanted` accepts, and keeps others for later.
    pub(crate) async fn hear<T>(&mut self, what: &str, wanted: impl Fn(&Reply) -> Option<T>) -> T {
        if let Some(at) = self.heard.iter().position(|reply| wanted(reply).is_some()) {
            return self.heard.remove(at).as_ref().and_then(wanted).unwrap();
        }
        loop {
            let reply = timeout(LIMIT, self.replies.next()).await;
            let reply =
                reply.unwrap_or_else(|_| panic!("{what}: waited in vain; heard {:?}", self.heard));
            let reply = reply
                .unwrap()
                .unwrap_or_else(|| panic!("{what}: pickup-rs closed the connection before"));
            match wanted(&reply) {
                Some(found) => return found,
                None => self.heard.push_back(reply),
            }
        }
    }

    /// Waits until pickup-rs closes the connection.
    pub(crate) async fn hear_end(&mut self) {
        loop {
            match timeout(LIMIT, self.replies.next())
                .await
                .expect("pickup-rs closes the connection")
            {
                Ok(Some(reply)) => self.heard.push_back(reply),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Assigns all waiting messages to this node and feeds them. Returns their ids.
    pub(crate) async fn feed_all(&mut self, site: &Site) -> Vec<MessageId> {
        let mut fed = Vec::new();
        for lot in site.assign(&self.node().clone()).await {
            fed.extend(&lot.ids);
            self.send(&Request::Feed {
                lot: lot.lot,
                epoch: lot.epoch,
                ids: lot.ids,
                full: Vec::new(),
            })
            .await;
        }
        fed
    }

    pub(crate) async fn held(&mut self) -> Fed {
        self.hear("held", |reply| match reply.clone() {
            Reply::Held { id, lot, epoch, queue_id, .. } => Some(Fed { id, lot, epoch, queue_id }),
            _ => None,
        })
        .await
    }

    pub(crate) async fn stored(&mut self) -> Fed {
        self.hear("stored", |reply| match reply.clone() {
            Reply::Stored { id, lot, epoch, queue_id, .. } => {
                Some(Fed { id, lot, epoch, queue_id })
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn consumed(&mut self) -> Fed {
        self.hear("consumed", |reply| match reply.clone() {
            Reply::Consumed { id, lot, epoch, queue_id } => Some(Fed { id, lot, epoch, queue_id }),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> (MessageId, String, bool) {
        self.hear("refused", |reply| match reply.clone() {
            Reply::Refused { id, reason, retry, .. } => Some((id, reason, retry)),
            _ => None,
        })
        .await
    }

    /// Returns a message whose destinations all have their share, and those destinations.
    pub(crate) async fn full(&mut self) -> (MessageId, Vec<String>) {
        self.hear("full", |reply| match reply {
            Reply::Full { id, to, .. } => Some((*id, to.iter().map(ToString::to_string).collect())),
            _ => None,
        })
        .await
    }

    /// Returns the reason if the message is refused, and whether cleanup has dropped it.
    pub(crate) async fn taken_dropped_or_refused(&mut self) -> (Option<String>, bool) {
        self.hear("taken, dropped or refused", |reply| match reply {
            Reply::Held { .. } | Reply::Stored { .. } => Some((None, false)),
            Reply::Consumed { .. } => Some((None, true)),
            Reply::Refused { reason, .. } => Some((Some(reason.clone()), false)),
            _ => None,
        })
        .await
    }

    /// Returns the id if the message is held.
    pub(crate) async fn held_or_refused(&mut self) -> Option<MessageId> {
        self.hear("held or refused", |reply| match reply {
            Reply::Held { id, .. } => Some(Some(*id)),
            Reply::Refused { .. } => Some(None),
            _ => None,
        })
        .await
    }

    pub(crate) async fn error(&mut self) -> String {
        self.hear("error", |reply| match reply.clone() {
            Reply::Error { reason } => Some(reason),
            _ => None,
        })
        .await
    }

    pub(crate) async fn released(&mut self) -> Vec<QueueId> {
        self.hear("released", |reply| match reply.clone() {
            Reply::Released { queue_ids } => Some(queue_ids),
            _ => None,
        })
        .await
    }

    pub(crate) async fn discarded(&mut self) -> Vec<QueueId> {
        self.hear("discarded", |reply| match reply.clone() {
            Reply::Discarded { queue_ids } => Some(queue_ids),
            _ => None,
        })
        .await
    }

    pub(crate) async fn vanished(&mut self) -> Vec<QueueId> {
        self.hear("vanished", |reply| match reply.clone() {
            Reply::Vanished { queue_ids } => Some(queue_ids),
            _ => None,
        })
        .await
    }

    pub(crate) async fn settled(&mut self, wanted: &QueueId) {
        self.hear(&format!("settled {wanted}"), |reply| match reply {
            Reply::Settled { queue_id } if queue_id == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits until pickup-rs reports the file `wanted` as on hold.
    pub(crate) async fn on_hold(&mut self, wanted: &QueueId) {
        self.hear(&format!("on hold {wanted}"), |reply| match reply {
            Reply::OnHold { queue_id } if queue_id == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn deferred(&mut self, wanted: &QueueId) -> u64 {
        self.hear(&format!("deferred {wanted}"), |reply| match reply {
            Reply::Deferred { queue_id, next_attempt_s } if queue_id == wanted => {
                Some(*next_attempt_s)
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn inventory(&mut self) -> Vec<QueuedFile> {
        self.whole_inventory().await.0
    }

    /// Returns the files of OPTIMUS, and the names of files whose owner is unclear.
    pub(crate) async fn whole_inventory(&mut self) -> (Vec<QueuedFile>, Vec<QueueId>) {
        self.send(&Request::Inventory).await;
        let (mut all, mut all_unreadable) = (Vec::new(), Vec::new());
        loop {
            let (files, unreadable, complete) = self
                .hear("inventory", |reply| match reply.clone() {
                    Reply::Inventory { files, unreadable, complete, .. } => {
                        Some((files, unreadable, complete))
                    }
                    _ => None,
                })
                .await;
            all.extend(files);
            all_unreadable.extend(unreadable);
            if complete {
                return (all, all_unreadable);
            }
        }
    }

    pub(crate) async fn commit(&self, site: &Site, fed: &Fed) -> Committed {
        let Fed { id, lot, epoch, queue_id } = fed.clone();
        let commit = Commit { id, lot, epoch, queue_id };
        site.spool.commit(&seat(self.node()), &[commit]).await.unwrap()[0]
    }

    pub(crate) async fn settle(&self, site: &Site, fed: &Fed) -> Settled {
        let placed = Placed { queue_id: fed.queue_id.clone(), id: fed.id };
        site.spool.settle(&seat(self.node()), &[placed]).await.unwrap()[0]
    }

    pub(crate) async fn release(&mut self, queue_id: &QueueId) {
        self.send(&Request::Release { queue_ids: vec![queue_id.clone()], mark: CommitNumber(0) })
            .await;
        assert_eq!(self.released().await, std::slice::from_ref(queue_id));
    }

    pub(crate) async fn discard(&mut self, queue_id: &QueueId) {
        self.send(&Request::Discard { queue_ids: vec![queue_id.clone()] }).await;
        assert_eq!(self.discarded().await, std::slice::from_ref(queue_id));
    }

    /// Recovers as a Mail Agent does after its start. Commits and releases each undecided file, or
    /// discards it. Settles committed messages that have no file, and returns their ids.
    pub(crate) async fn recover(&mut self, site: &Site) -> Vec<MessageId> {
        let (files, unreadable) = self.whole_inventory().await;
        for file in &files {
            let QueuedFile { id, lot, epoch, queue_id, place, .. } = file.clone();
            let committed =
                self.commit(site, &Fed { id, lot, epoch, queue_id: queue_id.clone() }).await;
            match (place, committed) {
                (FolderKind::Prepared, Committed::Committed | Committed::Already) => {
                    self.release(&queue_id).await;
                }
                (FolderKind::Prepared, _) => self.discard(&queue_id).await,
                (FolderKind::Queued | FolderKind::Deferred | FolderKind::OnHold, _) => {}
            }
        }
        let known = site.spool.inventory(self.node()).await.unwrap();
        let here = |name: &QueueId| {
            unreadable.contains(name) || files.iter().any(|file| file.queue_id == *name)
        };
        let missing = |placed: &&Placed| !here(&placed.queue_id);
        let missing: Vec<Placed> = known.iter().filter(missing).cloned().collect();
        site.spool.settle(&seat(self.node()), &missing).await.unwrap();
        missing.iter().map(|placed| placed.id).collect()
    }
}
