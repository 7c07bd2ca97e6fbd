//! A site for tests: a real Redis, a real Postfix with pickup-rs under its master, a sink, and a Mail Agent's part played
//! by hand.

#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses some of it")]

use std::collections::VecDeque;
use std::time::Duration;

use pickup_rs::client::{self, Replies, Requests};
use pickup_rs::protocol::{Handoff, Place, QueuedFile, Reply, Request};
use postfix_wire::record::put;
use postfix_wire::{QueueId, RecordType};
use spool::{
    Commit, Committed, Epoch, LotNumber, MessageId, NodeId, Placed, Server, Settled, Spool, Submission,
};
use testbed::{Postfix, PostfixBuilder, Redis, Sink, SinkBuilder};
use tokio::time::timeout;

/// Never, within a test: what is told comes from the kernel's events.
pub(crate) const RARELY_S: u64 = 3600;

/// How long nothing at all may happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nobody tells of.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Everything that a message passes through.
pub(crate) struct Site {
    // Dropped in this order: Postfix first, which talks to the others.
    pub(crate) postfix: Postfix,
    pub(crate) sink: Sink,
    pub(crate) redis: Redis,
    pub(crate) spool: Spool,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with(|postfix| postfix)
    }

    pub(crate) fn with(describe: impl FnOnce(PostfixBuilder) -> PostfixBuilder) -> Self {
        Self::with_sink(Sink::builder(), describe)
    }

    pub(crate) fn with_sink(
        sink: SinkBuilder,
        describe: impl FnOnce(PostfixBuilder) -> PostfixBuilder,
    ) -> Self {
        let site = Self::prepare(sink, RARELY_S, describe);
        site.postfix.start().unwrap();
        site
    }

    /// One whose pickup-rs looks through the queue every second.
    pub(crate) fn that_rescans() -> Self {
        let site = Self::prepare(Sink::builder(), 1, |postfix| postfix);
        site.postfix.start().unwrap();
        site
    }

    /// Everything but Postfix runs.
    pub(crate) fn prepare(
        sink: SinkBuilder,
        rescan_s: u64,
        describe: impl FnOnce(PostfixBuilder) -> PostfixBuilder,
    ) -> Self {
        let redis = Redis::start().unwrap();
        let sink = sink.start().unwrap();
        let settings = format!("[redis]\nurl = \"{}\"\n[pickup]\nrescan_s = {rescan_s}\n", redis.url());
        let builder = Postfix::builder()
            .relay_to(sink.port())
            .service("optimus unix - - n - 1 pickup-rs")
            .daemon("pickup-rs", env!("CARGO_BIN_EXE_pickup-rs"))
            .file("optimus.toml", &settings);
        let postfix = describe(builder).prepare().unwrap();
        let spool = Spool::new(Server::parse(&redis.url()).unwrap());
        Self { postfix, sink, redis, spool }
    }

    /// Stores a message in Redis.
    pub(crate) async fn submit(&self, message: &Message) -> MessageId {
        self.submit_records(&message.records()).await
    }

    pub(crate) async fn submit_records(&self, records: &[u8]) -> MessageId {
        let id = MessageId::new().unwrap();
        let submission =
            Submission { id, uid: 1234, arrival_ms: id.unix_ms(), host: "web1.example.org", records };
        self.spool.submit(&submission, 100_000).await.unwrap();
        id
    }

    /// Connects as a Mail Agent does, and takes what waits in Redis for its node.
    pub(crate) async fn agent(&self) -> Agent {
        let (requests, replies) = client::connect(&self.socket()).await.unwrap();
        let mut agent = Agent { requests, replies, heard: VecDeque::new(), node: None };
        agent.send(&Request::Ping).await;
        let (node, handoff) = agent
            .hear("pong", |reply| match reply {
                Reply::Pong { node, handoff, .. } => Some((node.parse().unwrap(), *handoff)),
                _ => None,
            })
            .await;
        agent.node = Some((node, handoff));
        agent
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.postfix.queue_dir().join("private/optimus")
    }

    /// Assigns all that waits to this node: its lots and epochs.
    pub(crate) async fn assign(&self, node: &NodeId) -> Vec<spool::AssignedLot> {
        let overview = self.spool.overview(1000).await.unwrap();
        if let Some(open) = overview.open {
            self.spool.close_lot(open.lot).await.unwrap();
        }
        let ready = self.spool.overview(1000).await.unwrap().ready;
        let lots: Vec<(LotNumber, NodeId)> = ready.iter().map(|lot| (lot.lot, node.clone())).collect();
        self.spool.assign(&lots).await.unwrap();
        self.spool.fetch(node).await.unwrap()
    }

    /// Has a test's failure point hit the next time.
    pub(crate) fn arm(&self, name: &str) {
        let folder = self.postfix.config_dir().join("failpoints");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::write(folder.join(name), "").unwrap();
    }

    pub(crate) fn log_has(&self, text: &str) {
        testbed::until(LIMIT, &format!("{text:?} in the log"), || self.postfix.log().contains(text)).unwrap();
    }

    pub(crate) fn queue_names(&self, queue: &str) -> Vec<String> {
        let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        self.postfix.queue_files(queue).iter().map(name).collect()
    }
}

/// The Mail Agent's part.
pub(crate) struct Agent {
    requests: Requests,
    replies: Replies,
    heard: VecDeque<Reply>,
    node: Option<(NodeId, Handoff)>,
}

/// What was told of a fed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fed {
    pub(crate) id: MessageId,
    pub(crate) lot: LotNumber,
    pub(crate) epoch: Epoch,
    pub(crate) queue_id: QueueId,
}

impl Agent {
    pub(crate) fn node(&self) -> &NodeId {
        &self.node.as_ref().unwrap().0
    }

    pub(crate) fn handoff(&self) -> Handoff {
        self.node.as_ref().unwrap().1
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        self.requests.send(request).await.unwrap();
    }

    /// The next reply that `wanted` wants; others are kept for later.
    pub(crate) async fn hear<T>(&mut self, what: &str, wanted: impl Fn(&Reply) -> Option<T>) -> T {
        if let Some(at) = self.heard.iter().position(|reply| wanted(reply).is_some()) {
            return self.heard.remove(at).as_ref().and_then(wanted).unwrap();
        }
        loop {
            let reply = timeout(LIMIT, self.replies.next()).await;
            let reply = reply.unwrap_or_else(|_| panic!("waited in vain for {what}; heard {:?}", self.heard));
            let reply = reply.unwrap().unwrap_or_else(|| panic!("pickup-rs hung up before {what}"));
            match wanted(&reply) {
                Some(found) => return found,
                None => self.heard.push_back(reply),
            }
        }
    }

    /// Waits until pickup-rs hangs up.
    pub(crate) async fn hear_end(&mut self) {
        loop {
            match timeout(LIMIT, self.replies.next()).await.expect("pickup-rs should have hung up") {
                Ok(Some(reply)) => self.heard.push_back(reply),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Assigns what waits to this node and feeds it; the ids.
    pub(crate) async fn feed_all(&mut self, site: &Site) -> Vec<MessageId> {
        let mut fed = Vec::new();
        for lot in site.assign(&self.node().clone()).await {
            fed.extend(&lot.ids);
            self.send(&Request::Feed { lot: lot.lot, epoch: lot.epoch, ids: lot.ids }).await;
        }
        fed
    }

    pub(crate) async fn held(&mut self) -> Fed {
        self.hear("held", |reply| match reply.clone() {
            Reply::Held { id, lot, epoch, queue_id } => Some(Fed { id, lot, epoch, queue_id }),
            _ => None,
        })
        .await
    }

    pub(crate) async fn stored(&mut self) -> Fed {
        self.hear("stored", |reply| match reply.clone() {
            Reply::Stored { id, lot, epoch, queue_id } => Some(Fed { id, lot, epoch, queue_id }),
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

    /// The id if it is held.
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

    pub(crate) async fn settled(&mut self, wanted: &QueueId) {
        self.hear(&format!("settled {wanted}"), |reply| match reply {
            Reply::Settled { queue_id } if queue_id == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn deferred(&mut self, wanted: &QueueId) -> u64 {
        self.hear(&format!("deferred {wanted}"), |reply| match reply {
            Reply::Deferred { queue_id, next_attempt_s } if queue_id == wanted => Some(*next_attempt_s),
            _ => None,
        })
        .await
    }

    pub(crate) async fn inventory(&mut self) -> Vec<QueuedFile> {
        self.send(&Request::Inventory).await;
        let mut all = Vec::new();
        loop {
            let (files, complete) = self
                .hear("inventory", |reply| match reply.clone() {
                    Reply::Inventory { files, complete, .. } => Some((files, complete)),
                    _ => None,
                })
                .await;
            all.extend(files);
            if complete {
                return all;
            }
        }
    }

    pub(crate) async fn commit(&self, site: &Site, fed: &Fed) -> Committed {
        let Fed { id, lot, epoch, queue_id } = fed.clone();
        let commit = Commit { id, lot, epoch, queue_id };
        site.spool.commit(self.node(), &[commit]).await.unwrap()[0]
    }

    pub(crate) async fn settle(&self, site: &Site, fed: &Fed) -> Settled {
        let placed = Placed { queue_id: fed.queue_id.clone(), id: fed.id };
        site.spool.settle(self.node(), &[placed]).await.unwrap()[0]
    }

    pub(crate) async fn release(&mut self, queue_id: &QueueId) {
        self.send(&Request::Release { queue_ids: vec![queue_id.clone()] }).await;
        assert_eq!(self.released().await, std::slice::from_ref(queue_id));
    }

    pub(crate) async fn discard(&mut self, queue_id: &QueueId) {
        self.send(&Request::Discard { queue_ids: vec![queue_id.clone()] }).await;
        assert_eq!(self.discarded().await, std::slice::from_ref(queue_id));
    }

    /// What a Mail Agent does when it is back: each undecided file is committed and released, or discarded; of all that
    /// is committed and has no file, the ids are given.
    pub(crate) async fn recover(&mut self, site: &Site) -> Vec<MessageId> {
        let files = self.inventory().await;
        for file in &files {
            let QueuedFile { id, lot, epoch, queue_id, place, .. } = file.clone();
            let committed = self.commit(site, &Fed { id, lot, epoch, queue_id: queue_id.clone() }).await;
            match (place, committed) {
                (Place::Prepared, Committed::Committed | Committed::Already) => self.release(&queue_id).await,
                (Place::Prepared, _) => self.discard(&queue_id).await,
                (Place::Queued | Place::Deferred, _) => {}
            }
        }
        let known = site.spool.inventory(self.node()).await.unwrap();
        let missing = |placed: &&Placed| !files.iter().any(|file| file.queue_id == placed.queue_id);
        let missing: Vec<Placed> = known.iter().filter(missing).cloned().collect();
        site.spool.settle(self.node(), &missing).await.unwrap();
        missing.iter().map(|placed| placed.id).collect()
    }
}

/// Plays the Mail Agent until `count` messages have been settled and no file is left, through any number of lost
/// connections.
pub(crate) async fn drive(site: &Site, count: usize) {
    let mut progress = Progress::default();
    while !drive_one_connection(site, count, &mut progress).await {
        tokio::time::sleep(LOOK_PAUSE).await;
        progress.check(site, site.settled().await);
    }
}

/// Waits for a condition while other futures run.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Limits not how long a test takes, which the machine decides, but how long it stands still.
pub(crate) struct Progress {
    best: usize,
    since: std::time::Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { best: 0, since: std::time::Instant::now() }
    }
}

impl Progress {
    pub(crate) fn check(&mut self, site: &Site, done: usize) {
        if done > self.best {
            *self = Self { best: done, since: std::time::Instant::now() };
        }
        assert!(self.since.elapsed() < LIMIT, "it stands still, {done} done\n{}", site.postfix.log());
    }
}

/// Until all is settled, or the connection is lost: `false`.
async fn drive_one_connection(site: &Site, count: usize, progress: &mut Progress) -> bool {
    let Ok((requests, replies)) = client::connect(&site.socket()).await else { return false };
    let mut agent = Agent { requests, replies, heard: VecDeque::new(), node: None };
    let Some(mut known) = agent.start_over(site).await else { return false };
    loop {
        // The queue has to be empty as well: of what a cleanup process finished late, the agent is told, and discards it.
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

impl Site {
    pub(crate) async fn settled(&self) -> usize {
        let counts = self.spool.counts().await.unwrap();
        usize::try_from(counts.get("settled").copied().unwrap_or_default()).unwrap()
    }

    /// A killed cleanup may leave an unfinished file that nobody was told of; Postfix removes it in its own time.
    fn has_no_messages(&self) -> bool {
        let queues = ["maildrop", "incoming", "active", "deferred", "hold"];
        let is_finished = |path: std::path::PathBuf| {
            path.metadata()
                .is_ok_and(|it| std::os::unix::fs::PermissionsExt::mode(&it.permissions()) & 0o100 != 0)
        };
        !queues.into_iter().flat_map(|queue| self.postfix.queue_files(queue)).any(is_finished)
    }
}

impl Agent {
    async fn try_send(&mut self, request: Request) -> Option<()> {
        self.requests.send(&request).await.ok()
    }

    async fn try_next(&mut self) -> Option<Reply> {
        timeout(LIMIT, self.replies.next()).await.expect("an answer").ok()?
    }

    /// Inventory, recovery, and feeding of all that is not committed. `None`: the connection is lost.
    async fn start_over(&mut self, site: &Site) -> Option<std::collections::HashMap<QueueId, MessageId>> {
        self.try_send(Request::Ping).await?;
        self.try_send(Request::Inventory).await?;
        let (mut files, mut node) = (Vec::new(), None);
        loop {
            match self.try_next().await? {
                Reply::Pong { node: name, handoff, .. } => node = Some((name.parse().unwrap(), handoff)),
                Reply::Inventory { files: some, complete, .. } => {
                    files.extend(some);
                    if complete {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        self.node = node;
        let mut known = std::collections::HashMap::new();
        for file in &files {
            let QueuedFile { id, lot, epoch, queue_id, place, .. } = file.clone();
            self.decide(site, &mut known, Fed { id, lot, epoch, queue_id }, place == Place::Prepared).await?;
        }
        let placed = site.spool.inventory(self.node()).await.unwrap();
        let missing = placed.into_iter().filter(|it| !files.iter().any(|file| file.queue_id == it.queue_id));
        site.spool.settle(self.node(), &missing.collect::<Vec<_>>()).await.unwrap();
        for lot in site.assign(&self.node().clone()).await {
            self.try_send(Request::Feed { lot: lot.lot, epoch: lot.epoch, ids: lot.ids }).await?;
        }
        Some(known)
    }

    async fn decide(
        &mut self,
        site: &Site,
        known: &mut std::collections::HashMap<QueueId, MessageId>,
        fed: Fed,
        prepared: bool,
    ) -> Option<()> {
        let committed = self.commit(site, &fed).await;
        let queue_ids = vec![fed.queue_id.clone()];
        match committed {
            Committed::Committed | Committed::Already => {
                known.insert(fed.queue_id, fed.id);
                if prepared { self.try_send(Request::Release { queue_ids }).await } else { Some(()) }
            }
            _ if prepared => self.try_send(Request::Discard { queue_ids }).await,
            _ => Some(()),
        }
    }

    async fn react(
        &mut self,
        site: &Site,
        known: &mut std::collections::HashMap<QueueId, MessageId>,
        reply: Reply,
    ) -> Option<()> {
        match reply {
            Reply::Held { id, lot, epoch, queue_id } => {
                self.decide(site, known, Fed { id, lot, epoch, queue_id }, true).await
            }
            Reply::Stored { id, lot, epoch, queue_id } => {
                self.decide(site, known, Fed { id, lot, epoch, queue_id }, false).await
            }
            Reply::Settled { queue_id } => {
                if let Some(id) = known.remove(&queue_id) {
                    site.spool.settle(self.node(), &[Placed { queue_id, id }]).await.unwrap();
                }
                Some(())
            }
            Reply::Refused { id, lot, epoch, retry: true, .. } => {
                self.try_send(Request::Feed { lot, epoch, ids: vec![id] }).await
            }
            Reply::Refused { .. } | Reply::Consumed { .. } | Reply::Error { .. } => panic!("{reply:?}"),
            _ => Some(()),
        }
    }
}

/// A message as `sendmail` would submit it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<Vec<u8>>,
}

impl Message {
    pub(crate) fn new(test_id: &str) -> Self {
        Self {
            sender: "me@example.org".to_owned(),
            recipients: vec!["you@example.net".to_owned()],
            headers: vec![format!("X-Test-Id: {test_id}"), "Subject: test".to_owned()],
            body: vec![b"Hello".to_vec()],
        }
    }

    pub(crate) fn header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    pub(crate) fn body(mut self, lines: Vec<Vec<u8>>) -> Self {
        self.body = lines;
        self
    }

    pub(crate) fn to(mut self, recipients: impl IntoIterator<Item = String>) -> Self {
        self.recipients = recipients.into_iter().collect();
        self
    }

    pub(crate) fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        put(&mut out, RecordType::Time, format!("{} {}", now.as_secs(), now.subsec_micros()).as_bytes());
        put(&mut out, RecordType::Attr, b"rewrite_context=local");
        put(&mut out, RecordType::From, self.sender.as_bytes());
        self.recipients.iter().for_each(|rcpt| put(&mut out, RecordType::Rcpt, rcpt.as_bytes()));
        put(&mut out, RecordType::Mesg, b"");
        self.headers.iter().for_each(|header| put(&mut out, RecordType::Norm, header.as_bytes()));
        put(&mut out, RecordType::Norm, b"");
        self.body.iter().for_each(|line| put(&mut out, RecordType::Norm, line));
        put(&mut out, RecordType::Xtra, b"");
        put(&mut out, RecordType::End, b"");
        out
    }
}
