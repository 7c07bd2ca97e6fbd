//! A site for tests: Redis, Postfix with pickup-rs under its master, a sink, and a Mail Agent whose
//! steps the test takes.

#![allow(clippy::unwrap_used, dead_code, unused_imports, reason = "each test file uses some of it")]

mod agent;
mod driving;
mod message;

use std::path::PathBuf;
use std::time::Duration;

use handoff::protocol::{Reply, Request, Served};
use spool::{FencingToken, LotNumber, MessageId, NodeId, Server, Spool, Start, Submission};
use testbed::{Postfix, PostfixBuilder, Redis, Sink, SinkBuilder};

pub(crate) use agent::{Agent, Fed};
pub(crate) use driving::{Progress, drive};
pub(crate) use message::Message;

/// Returns the fencing token of the node's only Mail Agent.
pub(crate) fn seat(node: &NodeId) -> FencingToken {
    FencingToken { node: node.clone(), start: Start(1) }
}

/// Seconds between rescans, more than any test takes, so that all events are the kernel's.
pub(crate) const RARELY_S: u64 = 3600;

/// Folder of undecided files, below the queue directory.
pub(crate) const PREPARED: &str = "optimus/prepared";

/// Longest time without any progress.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition that no event reports.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// All parts that a message passes through.
pub(crate) struct Site {
    // Fields are dropped in this order: Postfix first, which talks to the others.
    pub(crate) postfix: Postfix,
    pub(crate) sink: Sink,
    pub(crate) redis: Redis,
    pub(crate) spool: Spool,
}

/// A stall of pickup-rs; see [`Site::stall`].
pub(crate) struct Stall(PathBuf);

impl Drop for Stall {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
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

    /// Starts a site whose pickup-rs scans the queue every second.
    pub(crate) fn that_rescans() -> Self {
        let site = Self::prepare(Sink::builder(), 1, |postfix| postfix);
        site.postfix.start().unwrap();
        site
    }

    /// Starts all parts except Postfix.
    pub(crate) fn prepare(
        sink: SinkBuilder,
        rescan_s: u64,
        describe: impl FnOnce(PostfixBuilder) -> PostfixBuilder,
    ) -> Self {
        let redis = Redis::start().unwrap();
        let sink = sink.start().unwrap();
        let settings =
            format!("[redis]\nurl = \"{}\"\n[pickup]\nrescan_s = {rescan_s}\n", redis.url());
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
        let submission = Submission {
            id,
            uid: 1234,
            arrival_ms: id.unix_ms(),
            host: "web1.example.org",
            records,
        };
        self.spool.submit(&submission).await.unwrap();
        id
    }

    /// Connects as a Mail Agent does, and waits until the node is served.
    pub(crate) async fn agent(&self) -> Agent {
        let mut agent = Agent::connect(&self.socket()).await.unwrap();
        let (node, handoff) = loop {
            agent.send(&Request::Ping).await;
            let of_pong = |reply: &Reply| match reply {
                Reply::Pong { node, handoff, served, .. } => {
                    Some((node.parse().unwrap(), *handoff, *served == Served::Here))
                }
                _ => None,
            };
            match agent.hear("pong", of_pong).await {
                (node, handoff, true) => break (node, handoff),
                // pickup-rs has just started, and serves no node yet.
                (.., false) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        };
        agent.node = Some((node, handoff));
        agent
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.postfix.queue_dir().join("private/optimus")
    }

    /// Moves all submitted messages from the inbox to a lot, for this node if one is given.
    pub(crate) async fn cut(&self, node: Option<&NodeId>) {
        let inbox = self.spool.overview(0).await.unwrap().inbox;
        self.spool.cut(inbox.next_lot, 10_000, node).await.unwrap();
    }

    /// Assigns all waiting messages to this node, and returns its lots.
    pub(crate) async fn assign(&self, node: &NodeId) -> Vec<spool::AssignedLot> {
        self.cut(Some(node)).await;
        let ready = self.spool.overview(1000).await.unwrap().ready;
        let lots: Vec<(LotNumber, NodeId)> =
            ready.iter().map(|lot| (lot.lot, node.clone())).collect();
        self.spool.assign(&lots).await.unwrap();
        self.spool.fetch(&seat(node)).await.unwrap()
    }

    /// Arms a failure point, which is then hit once.
    pub(crate) fn arm(&self, name: &str) {
        self.set_failpoint(name, "");
    }

    /// Stalls pickup-rs at this failure point, as a disk that hangs would, until the result is
    /// dropped.
    pub(crate) fn stall(&self, name: &str) -> Stall {
        Stall(self.set_failpoint(name, "stall"))
    }

    fn set_failpoint(&self, name: &str, text: &str) -> PathBuf {
        let folder = self.postfix.config_dir().join("failpoints");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        // A text that is half written would kill.
        let (draft, file) = (folder.join(format!("{name}.draft")), folder.join(name));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &file).unwrap();
        file
    }

    pub(crate) fn log_has(&self, text: &str) {
        testbed::until(LIMIT, &format!("{text:?} in the log"), || {
            self.postfix.log().contains(text)
        })
        .unwrap();
    }

    pub(crate) fn queue_names(&self, queue: &str) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        self.postfix.queue_files(queue).iter().map(name).collect()
    }

    pub(crate) async fn settled(&self) -> usize {
        let counts = self.spool.counts().await.unwrap();
        usize::try_from(counts.get("settled").copied().unwrap_or_default()).unwrap()
    }

    /// Whether no finished file is left. A killed cleanup may leave an unfinished file, which
    /// Postfix removes later.
    fn has_no_messages(&self) -> bool {
        let queues = ["maildrop", "incoming", "active", "deferred", "hold", PREPARED];
        let is_finished = |path: PathBuf| {
            path.metadata().is_ok_and(|it| {
                std::os::unix::fs::PermissionsExt::mode(&it.permissions()) & 0o100 != 0
            })
        };
        !queues.into_iter().flat_map(|queue| self.postfix.queue_files(queue)).any(is_finished)
    }
}

/// Waits for a condition while other futures run.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "{what}: waited in vain");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
