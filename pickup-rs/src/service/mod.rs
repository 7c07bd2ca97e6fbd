//! The service: one owner of all state, which takes events one by one.
//!
//! ```text
//!  connections ─▶ reading tasks ──┐                      ┌──▶ writing tasks ─▶ connections
//!  feeding tasks (cleanup) ───────┤                      ├──▶ feeding tasks
//!  inotify ───────────────────────┼──▶ ServiceEvent ─▶ apply ───┼──▶ hold, incoming
//!  scan, sync (threads) ──────────┤                      ├──▶ scan, sync
//!  clock, master, signals ────────┘                      └──▶ queue manager (trigger)
//! ```
//!
//! The service waits for the disk when it moves or looks up files. Only scans and syncs, which may
//! take seconds, have threads of their own. Attendance has one, too ([`crate::node`]), so that a
//! slow disk doesn't cost the node its standing. The service takes the latest standing at each
//! event and before each file.
//!
//! Each connection gets the answers to its own requests. A connection that has sent a request other
//! than a ping also gets all changes of files. The service keeps nothing for a lost connection. A
//! Mail Agent that connects again asks for an inventory, and hears of the feedings that end
//! afterwards.
//!
//! Failures: pickup-rs may die at any moment. Each file that pickup-rs had reported is on disk. The
//! next inventory finds all other files, except for those that a cleanup process finishes later. A
//! periodic rescan finds the latter.
//!
//! After `postfix reload`, pickup-rs finishes and reports its feedings and ends. For the next
//! connection, master starts a new process with the new configuration. When master has ended, or
//! SIGTERM arrives, pickup-rs ends at once. `postfix stop` sends SIGTERM to all processes at once.

mod counting;
mod disk;
mod driver;
mod feeding;
mod moving;
mod operating;
mod pause;
mod probing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handoff::protocol::{Handoff, Reply, Request};
use postfix_wire::{QueueId, QueueName};
use queue::Queue;
use queue::scan::Scan;
use spool::{Domain, NodeId, SpoolError};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::configuration::Configuration;
use crate::feeder::{Fed, Feeder};
use crate::node::{Attendance, Standing};
use crate::session::{Listener, Said, Session, SessionId};
use crate::tracker::{FileEvent, FileState, Tracker};
use crate::watch::{Change, Watch};
use counting::Counting;
use disk::Disk;
use feeding::{FeedNumber, Feeding, Waiting};
use moving::Waking;
use operating::Orders;
use probing::{FailedProbe, Probing};

pub(crate) use driver::run;

/// Most requests that may wait, of all connections together. While so many wait, reading pauses.
const WAITING_REQUESTS_LIMIT: usize = 64;

/// Event that the service takes.
#[derive(Debug)]
pub(crate) enum ServiceEvent {
    /// A peer has connected.
    Connected(UnixStream),
    /// A peer has sent a message.
    Said(SessionId, Said),
    /// Cleanup has named a message that is being fed.
    Named(FeedNumber, QueueId, Vec<Domain>),
    /// A feeding has ended.
    Fed(FeedNumber, Fed),
    /// The pause after a full disk has ended.
    TryAgain,
    /// The attempt to wake the queue manager has ended. Whether the queue manager has read it.
    Woken(bool),
    /// The patience with this wake-up has ended.
    WakingLasts(u64),
    /// The time has come to look whether feedings end. So many had ended before.
    Stalled(u64),
    /// The pause before the next probe has ended.
    Probe,
    /// A probe has ended.
    Probed(Result<(), FailedProbe>),
    /// Queue files have changed.
    Changed(Vec<Change>),
    /// The standing of this queue directory has changed, or an answer to a ring has come.
    Attended,
    /// Names that orders have changed are safe on disk, or could not be made so.
    Synced(io::Result<()>),
    /// A scan has ended.
    Counted(io::Result<Scan>),
    /// A rescan is due.
    Rescan,
    /// Master has closed its end of the link, because of a new configuration or its own end.
    Retire,
}

/// State of the service.
#[derive(Debug)]
pub(crate) struct Service {
    node: NodeId,
    handoff: Handoff,
    cleanups: usize,
    config_directory: PathBuf,
    qmgr_socket: PathBuf,
    queue: Queue,
    watch: Watch,
    feeder: Arc<Feeder>,
    attendance: Arc<Attendance>,
    standing: Standing,
    /// Time since which this queue directory does not serve the node.
    unserved_since: Option<Instant>,
    events: UnboundedSender<ServiceEvent>,
    requests: Sender<(SessionId, Said)>,

    sessions: BTreeMap<SessionId, Session>,
    sessions_seen: u64,
    tracker: Tracker,
    waiting: VecDeque<Waiting>,
    feeding: HashMap<FeedNumber, Feeding>,
    feedings_seen: u64,
    counting: Counting,
    orders: Orders,
    waking: Waking,
    disk: Disk,
    probing: Probing,
    /// File that a probe of the disk writes.
    probe_file: PathBuf,
    retiring: bool,
}

/// Listener that passes a peer's messages on to the service.
#[derive(Debug)]
struct Ear {
    session: SessionId,
    requests: Sender<(SessionId, Said)>,
}

impl Listener for Ear {
    async fn hear(&self, said: Said) -> bool {
        self.requests.send((self.session, said)).await.is_ok()
    }
}

impl Service {
    fn new(
        configuration: Configuration,
        node: NodeId,
        feeder: Feeder,
        attendance: Arc<Attendance>,
        events: UnboundedSender<ServiceEvent>,
        requests: Sender<(SessionId, Said)>,
    ) -> io::Result<Self> {
        let queue = Queue::new(&configuration.places.queue_directory, configuration.layout);
        let probe_file = configuration.places.node_directory().join("probe");
        let lease = Duration::from_millis(configuration.settings.agents.lease_ms);
        Ok(Self {
            node,
            handoff: configuration.handoff,
            cleanups: configuration.settings.pickup.cleanups,
            config_directory: configuration.places.config_directory,
            qmgr_socket: configuration.qmgr_socket,
            watch: Watch::new(&queue)?,
            queue,
            feeder: Arc::new(feeder),
            attendance,
            standing: Standing::Unknown,
            unserved_since: Some(Instant::now()),
            events,
            requests,
            sessions: BTreeMap::new(),
            sessions_seen: 0,
            tracker: Tracker::default(),
            waiting: VecDeque::new(),
            feeding: HashMap::new(),
            feedings_seen: 0,
            counting: Counting::default(),
            orders: Orders::default(),
            waking: Waking::default(),
            disk: Disk::default(),
            probing: Probing::new(lease),
            probe_file,
            retiring: false,
        })
    }

    fn apply(&mut self, event: ServiceEvent) {
        if !matches!(event, ServiceEvent::Attended) {
            self.see_whether_it_has_lapsed();
        }
        match event {
            ServiceEvent::Connected(stream) => self.connected(stream),
            ServiceEvent::Said(session, said) => self.said(session, said),
            ServiceEvent::Named(number, queue_id, to) => self.named(number, &queue_id, to),
            ServiceEvent::Fed(number, fed) => self.fed(number, fed),
            ServiceEvent::TryAgain => self.try_again(),
            ServiceEvent::Woken(has_read) => self.woken(has_read),
            ServiceEvent::WakingLasts(wake_up) => self.look_at_waking(wake_up),
            ServiceEvent::Stalled(ended) => self.look_at_feedings(ended),
            ServiceEvent::Probe => self.probe(),
            ServiceEvent::Probed(outcome) => self.probed(outcome),
            ServiceEvent::Changed(changes) => self.changed(changes),
            ServiceEvent::Attended => self.look_at_standing(),
            ServiceEvent::Synced(synced) => self.synced(synced),
            ServiceEvent::Counted(scan) => self.counted(scan),
            ServiceEvent::Rescan => self.rescan(),
            ServiceEvent::Retire => self.retire(),
        }
    }

    /// Stops serving if the standing has lapsed, since another place may serve the node by now.
    /// Feedings under way go on to their end. An event may have taken so long that a later standing
    /// waits.
    fn see_whether_it_has_lapsed(&mut self) {
        if self.standing.is_lapsed() && !self.retiring {
            self.look_at_standing();
        }
        if self.standing.is_lapsed() && !self.retiring {
            warn!(
                "queue directory: feeding and releases stopped: node {} could not attend for 10 s, \
                 because of Redis or this disk, or because this process was stopped",
                self.node
            );
            self.attended(Standing::Unknown);
        }
    }

    fn connected(&mut self, stream: UnixStream) {
        self.sessions_seen += 1;
        let session = SessionId(self.sessions_seen);
        let ear = Ear { session, requests: self.requests.clone() };
        self.sessions.insert(session, Session::start(stream, ear));
    }

    fn said(&mut self, session: SessionId, said: Said) {
        match said {
            Said::Request(request) => self.requested(session, request),
            Said::Nonsense(reason) => {
                warn!("{reason}");
                self.say(session, Reply::Error { reason });
            }
            Said::Left => self.left(session),
        }
    }

    fn requested(&mut self, session: SessionId, request: Request) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.is_agent |= !matches!(request, Request::Ping | Request::NewNode { .. });
        }
        match request {
            // These requests are refused while the node is served elsewhere, or not yet served.
            Request::Feed { .. }
            | Request::Release { .. }
            | Request::Discard { .. }
            | Request::Operate { .. }
                if !self.standing.is_here() =>
            {
                let reason = "request: refused: this queue directory does not serve its node";
                self.say(session, Reply::Error { reason: reason.to_owned() });
            }
            Request::Feed { lot, epoch, ids, full } => self.feed(session, (lot, epoch), ids, full),
            Request::Release { queue_ids, mark } => self.release(session, queue_ids, mark),
            Request::Discard { queue_ids } => self.discard(session, queue_ids),
            Request::Operate { act, messages } => self.operate(session, act, messages),
            Request::Inventory => self.count_once_attended(session),
            Request::Ping => self.say(session, self.pong()),
            Request::NewNode { even_with_mail } => self.take_another_name(session, even_with_mail),
        }
    }

    fn take_another_name(&mut self, session: SessionId, even_with_mail: bool) {
        let (node, reason) = match self.attendance.take_another_name(&self.standing, even_with_mail)
        {
            Ok(node) => (Some(node.to_string()), String::new()),
            Err(error) => (None, error.to_string()),
        };
        let is_another = node.is_some();
        self.say(session, Reply::NewNode { node, reason });
        if is_another {
            self.retire();
        }
    }

    fn pong(&self) -> Reply {
        let spool = &self.feeder.spool;
        Reply::Pong {
            node: self.node.to_string(),
            handoff: self.handoff,
            cleanups: self.cleanups,
            spool: spool.served(),
            trouble: spool
                .trouble()
                .filter(SpoolError::is_of_this_redis)
                .map(|it| format!("can't read its spool: {it}"))
                .or_else(|| self.standing.refusal(&self.node))
                .or_else(|| self.attendance.trouble().filter(|_| !self.standing.is_here())),
            waits: self.standing.waits(&self.node),
            pause: self.pause(),
            unfit: self.probing.unfit(),
            served: self.standing.served(),
        }
    }

    /// Removes a connection and its waiting requests. Feedings go on.
    fn left(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.remove(&session) {
            session.end();
        }
        self.waiting.retain(|waiting| waiting.session != session);
        self.counting.forget(session);
    }

    fn say(&mut self, session: SessionId, reply: Reply) {
        let listens = self.sessions.get(&session).is_some_and(|session| session.say(reply));
        if !listens && self.sessions.contains_key(&session) {
            warn!("client of the hand-off socket disconnected: too many unread replies");
            self.left(session);
        }
    }

    /// Sends a reply to every agent except those in `but`.
    fn tell_agents(&mut self, reply: &Reply, but: &[SessionId]) {
        let agents =
            self.sessions.iter().filter(|(id, session)| session.is_agent && !but.contains(id));
        for session in agents.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.say(session, reply.clone());
        }
    }

    fn tell(&mut self, event: Option<FileEvent>) {
        let event = event.and_then(|event| self.orders.hold_back(event));
        match event {
            None => {}
            Some(FileEvent::Settled(queue_id)) => {
                self.tell_agents(&Reply::Settled { queue_id }, &[]);
            }
            Some(FileEvent::Deferred(queue_id, next_attempt_s)) => {
                self.tell_agents(&Reply::Deferred { queue_id, next_attempt_s }, &[]);
            }
            Some(FileEvent::OnHold(queue_id)) => self.tell_agents(&Reply::OnHold { queue_id }, &[]),
        }
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.counting.note(&change);
            match change {
                Change::Deleted(queue, queue_id) => self.deleted(queue, &queue_id),
                Change::Moved(queue_id) => self.look_again(&queue_id),
                Change::Overflow | Change::NewDirectory => {
                    debug!("scan begun: inotify lost changes, or a queue directory appeared");
                    self.rescan();
                }
            }
        }
    }

    fn deleted(&mut self, queue: QueueName, queue_id: &QueueId) {
        let event =
            if self.tracker.state(queue_id).is_none() && self.counting.was_unreadable(queue_id) {
                Some(FileEvent::Settled(queue_id.clone()))
            } else {
                self.tracker.deleted(queue, queue_id)
            };
        self.tell(event);
    }

    /// Takes the changes that the kernel has reported up to now.
    fn catch_up(&mut self) {
        match self.watch.pending() {
            Ok(changes) => self.changed(changes),
            Err(error) => warn!(%error, "changes of queue files not read"),
        }
    }

    /// Looks for a file that the queue manager has, and reports its state if that changed.
    fn look_again(&mut self, queue_id: &QueueId) {
        let state = self.tracker.state(queue_id);
        if !matches!(
            state,
            Some(FileState::Queued | FileState::Deferred { .. } | FileState::OnHold)
        ) {
            return;
        }
        match self.queue.find(queue_id) {
            Ok(Some(whereabouts)) => {
                let event = self.tracker.seen(queue_id, &whereabouts);
                self.tell(event);
            }
            // The file is moving, or was deleted and the kernel will report that. The rescan
            // notices a file that was carried out of the queue.
            Ok(None) => {
                if let Ok(Some(_)) = self.queue.find_corrupt(queue_id) {
                    self.remark_corrupt(queue_id);
                }
            }
            Err(error) => {
                warn!("{queue_id}: not found out where the file is: {error}; see to the disk");
            }
        }
    }

    fn retire(&mut self) {
        self.attendance.end();
        self.retiring = true;
        self.waiting.clear();
    }

    /// Whether all work before the end is done.
    fn is_finished(&self) -> bool {
        let is_done = self.feeding.is_empty() && self.orders.is_empty();
        self.retiring && is_done && self.waking == Waking::No
    }
}
