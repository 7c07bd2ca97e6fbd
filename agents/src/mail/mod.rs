//! The Mail Agent: bound to one Postfix through pickup-rs.
//!
//! It has its lots fed to pickup-rs, asks Redis to *commit* each file that comes of it, has what is
//! committed released to the queue manager and what isn't deleted, and tells Redis when Postfix is
//! done with a file. It holds nothing that can't be found again: after any loss of contact it
//! compares what is on disk with what Redis says ([`recovery`]).
//!
//! ```text
//!  connect, ping ──▶ whose queue is this? ──▶ take the lease of that node
//!                                               │
//!           arrive: older processes are fenced ◀┤
//!                      │                        │ lapsed
//!                      ▼                        │
//!                    recover ──▶ serve ─────────┘
//!                      ▲           │ pickup-rs gone
//!                      └───────────┘
//! ```
//!
//! The node's lots are its own across restarts, unless a Scheduler has taken them: what an older
//! process had made of them is committed under the epoch it was made under, and need not be made
//! (or, handed off directly, sent) twice. Only when all of that is decided does the agent look
//! which messages are left to feed.
//!
//! Serving is four queues that feed each other without waiting for each other: fetch own lots →
//! feed them ([`feeding`]) → report what came of them to Redis, which decides ([`ledger`],
//! [`report`]) → release or discard. Notices and answers drive it; timers serve leases, failures
//! and the end only.
//!
//! No destination takes more than its share of the window ([`shares`]): what is beyond waits in
//! Redis, in a lane ([`lanes`]), until there is room for it.
//!
//! - *pickup-rs can't be reached* for longer than a lease: the agent hands its lots back for others
//!   to have and declares a capacity of 0, but keeps its lease, since what is committed here stays
//!   here.
//! - *Redis can't be reached*: nothing is decided; files wait in hold. A commit whose answer is
//!   missing is committed again.
//! - *Drain*: what is under way is finished if that doesn't take long, the rest handed back, the
//!   lease left.

mod asking;
mod ending;
pub mod feeding;
mod hearing;
mod lanes;
mod ledger;
mod link;
mod numbers;
mod orders;
mod recovery;
pub mod report;
mod shares;
mod vanishing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use pickup_rs::protocol::{QueuedFile, Request};
use postfix_wire::QueueId;
use spool::{
    Act, CommitNumber, FencingToken, Generation, Lane, LotNumber, MessageId, NodeId, Start,
};

use self::feeding::{FeedKey, Feeding, OwnLot};
use self::lanes::Lanes;
use self::ledger::Ledger;
use self::link::Link;
pub use self::link::{LinkEvent, LinkOrder};
use self::orders::Orders;
use self::report::{Committed, Owned, Renamed, Report};
use self::shares::Shares;
use self::vanishing::Vanishing;
use crate::lease::{LeaseAnswer, LeaseQuestion};
use crate::machine::{Action, Ask, End, Input, Machine, earliest};
use crate::membership::Membership;
use crate::notice::Notice;

/// What it asks the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// For the directory.
    Lease(LeaseQuestion),
    /// Make all uncommitted lots of this node ready for anybody.
    HandBack(FencingToken),
    /// We have arrived. Which files are committed to this node?
    Inventory(FencingToken),
    /// Which lots does this node have?
    Fetch(FencingToken),
    /// What have operators ordered for this node's mail?
    Orders(FencingToken),
    /// Decide, and take note.
    Report(FencingToken, Report),
    /// What is parked, and who else is alive?
    Look,
    /// Give these parked lots to this node, as far as nobody else has them.
    Pull(FencingToken, Vec<LotNumber>),
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Lease`.
    Lease(LeaseAnswer),
    /// To `HandBack`.
    HandedBack,
    /// To `Inventory`.
    Inventory(Inventory),
    /// To `Fetch`: all of them.
    Fetched(Vec<OwnLot>),
    /// To `Orders`.
    Orders(BTreeMap<MessageId, Act>),
    /// To `Report`: one for each commit and one for each name, in order; and what was not put
    /// aside, because Redis has the message that pickup-rs did not find.
    Reported {
        /// What came of each commit.
        commits: Vec<Committed>,
        /// What came of each name.
        renames: Vec<Renamed>,
        /// What Redis has.
        present: BTreeSet<FeedKey>,
    },
    /// To `Look`.
    Looked {
        /// The most that this node may hold at once, if not its own window.
        window: u32,
        /// Where messages are parked.
        lanes: Vec<Lane>,
    },
    /// To `Pull`.
    Pulled,
    /// To any: a later process of this node has arrived.
    Superseded,
}

/// What Redis says of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files that are committed to it.
    pub committed: BTreeMap<QueueId, Owned>,
    /// Messages of these that operators have ordered to be deleted or held, read after `committed`.
    pub stopped: BTreeSet<MessageId>,
    /// Messages of these that rest in Postfix.
    pub resting: BTreeSet<MessageId>,
}

/// How a Mail Agent is to work.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of this process.
    pub generation: Generation,
    /// For people: the host, usually.
    pub name: String,
    /// How long its lease runs.
    pub term: Duration,
    /// The most messages it takes at once.
    pub window: u32,
}

/// Messages under way to each cleanup process: enough to keep it busy while Redis answers.
const AHEAD_PER_CLEANUP: usize = 16;
/// Credit is announced when this part of the window has come free.
const ANNOUNCE_PART: usize = 8;
/// How long a drain waits for what is under way, and then for Redis.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// When pickup-rs reported trouble, or something we don't know, everything is compared again after
/// this.
const RECHECK_AFTER: Duration = Duration::from_secs(10);
/// A step of recovery that shows no progress for this long has failed. A scan of a million files
/// on a slow disk takes less.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(300);
/// Most queue ids in one request: what keeps a line far below pickup-rs's limit.
const QUEUE_IDS_PER_REQUEST: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Mail {
    config: Config,
    link: Link,
    /// Known once pickup-rs has said whose queue it is.
    membership: Option<(NodeId, Membership)>,
    feeding: Feeding,
    ledger: Ledger,
    orders: Orders,
    shares: Shares,
    lanes: Lanes,
    vanishing: Vanishing,
    recovery: Recovery,
    /// When the step under way has failed.
    recovery_until: Option<Instant>,
    recheck_at: Option<Instant>,
    asks: Asks,
    /// The lease is ours, and what was made before that isn't decided yet.
    is_adopting: bool,
    /// Under which the lease was held last.
    start: Option<Start>,
    /// Under which Redis has told that another one serves the node.
    superseded: Option<Start>,
    must_hand_back: bool,
    must_fetch: bool,
    must_look: bool,
    withdrawn: bool,
    releases: Vec<QueueId>,
    /// Committed files whose release was not asked for while pickup-rs could be reached.
    unasked: BTreeSet<QueueId>,
    discards: Vec<QueueId>,
    releasing: BTreeSet<QueueId>,
    /// What pickup-rs was last told of the mark.
    mark: CommitNumber,
    /// pickup-rs was gone since the last inventory.
    lost_sight: bool,
    freed: usize,
    was_idle: bool,
    tell: VecDeque<Notice>,
    drain: Drain,
    ended: Option<End>,
}

#[derive(Debug, Default)]
struct Asks {
    hand_back: Ask,
    inventory: Ask,
    fetch: Ask,
    orders: Ask,
    report: Ask,
    look: Ask,
    pull: Ask,
}

#[derive(Debug)]
enum Recovery {
    Needed,
    /// Redis has been asked.
    Asking,
    /// pickup-rs has been asked.
    Listing {
        committed: BTreeMap<QueueId, Owned>,
        stopped: BTreeSet<MessageId>,
        known: BTreeMap<QueueId, MessageId>,
        /// Committed files that rest in Postfix.
        resting: BTreeSet<MessageId>,
        files: Vec<QueuedFile>,
        renamed: Vec<QueuedFile>,
        again: bool,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// Waiting for what is under way.
    Finishing {
        until: Instant,
    },
    /// Handing back the rest, leaving.
    Leaving {
        until: Instant,
    },
}

impl Mail {
    /// A new Mail Agent. Which node it speaks for it learns from pickup-rs.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            link: Link::new(now),
            shares: Shares::new(config.window),
            lanes: Lanes::default(),
            config,
            membership: None,
            feeding: Feeding::default(),
            ledger: Ledger::default(),
            orders: Orders::default(),
            vanishing: Vanishing::default(),
            recovery: Recovery::Needed,
            recovery_until: None,
            recheck_at: None,
            asks: Asks::default(),
            is_adopting: false,
            start: None,
            superseded: None,
            must_hand_back: false,
            must_fetch: false,
            must_look: false,
            withdrawn: false,
            releases: Vec::new(),
            unasked: BTreeSet::new(),
            discards: Vec::new(),
            releasing: BTreeSet::new(),
            mark: CommitNumber(0),
            lost_sight: false,
            freed: 0,
            was_idle: true,
            tell: VecDeque::new(),
            drain: Drain::No,
            ended: None,
        }
    }

    fn order(&mut self, now: Instant) -> Option<LinkOrder> {
        if let Some(order) = self.link.poll(now) {
            return Some(order);
        }
        if !self.link.is_up() {
            return None;
        }
        if let Some(release) = self.release() {
            return Some(LinkOrder::Send(release));
        }
        if !self.discards.is_empty() {
            return Some(LinkOrder::Send(Request::Discard {
                queue_ids: some_of(&mut self.discards),
            }));
        }
        if !self.may_fetch() || self.vanishing.is_pausing(now) {
            return None;
        }
        let coming = self.feeding.under_way();
        let ahead = self.shares.ahead().min(self.link.cleanups() * AHEAD_PER_CLEANUP);
        let (lot, epoch, ids) = self.feeding.next(now, ahead)?;
        let mut full = self.shares.full(coming);
        if !self.lanes.is_pulled(lot) {
            full.extend(self.lanes.waiting().cloned());
        }
        Some(LinkOrder::Send(Request::Feed { lot, epoch, ids, full }))
    }
}

impl Mail {
    /// The next release, or a mark that has risen without one. The mark may not rise over a commit
    /// whose file is absent and that Redis has not decided about, nor over one of which this
    /// process has not heard.
    fn release(&mut self) -> Option<Request> {
        if !self.is_recovered() || self.ledger.has_absents() {
            return None;
        }
        let queue_ids = some_of(&mut self.releases);
        self.releasing.extend(queue_ids.iter().cloned());
        let mark = self.ledger.numbers.last();
        let has_risen = std::mem::replace(&mut self.mark, mark) < mark;
        let is_due = has_risen || !queue_ids.is_empty();
        is_due.then_some(Request::Release { queue_ids, mark })
    }
}

/// As many as one request may name.
fn some_of(queue_ids: &mut Vec<QueueId>) -> Vec<QueueId> {
    let rest = queue_ids.split_off(queue_ids.len().min(QUEUE_IDS_PER_REQUEST));
    std::mem::replace(queue_ids, rest)
}

impl Machine for Mail {
    type Question = Question;
    type Answer = Answer;
    type Event = LinkEvent;
    type Order = LinkOrder;

    fn handle(&mut self, now: Instant, input: Input<Answer, LinkEvent>) {
        match input {
            Input::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Input::Failed(ticket) => self.failed(now, ticket),
            Input::Link(event) => self.link_event(now, event),
            Input::Notice(Notice::Born(..) | Notice::Left(..)) => self.must_look = true,
            Input::Notice(Notice::Fetch(node) | Notice::Assigned(node)) => {
                self.must_fetch |= self.membership.as_ref().is_some_and(|(ours, _)| *ours == node);
            }
            Input::Notice(Notice::Ordered(node)) => {
                if self.membership.as_ref().is_some_and(|(ours, _)| *ours == node) {
                    self.orders.look();
                }
            }
            Input::Notice(_) => (),
            Input::Listening => {
                (self.must_fetch, self.must_look) = (true, true);
                self.orders.look();
            }
            Input::Drain => self.begin_draining(now),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Action<Question, LinkOrder>> {
        self.look_at_the_clock(now);
        if let Some(end) = self.ended {
            return Some(Action::End(end));
        }
        if let Some(notice) = self.tell.pop_front() {
            return Some(Action::Tell(notice));
        }
        if let Some((_, membership)) = &mut self.membership {
            if let Some(action) = membership.poll(now, Question::Lease) {
                return Some(action);
            }
        }
        if let Some(order) = self.order(now) {
            return Some(Action::Link(order));
        }
        if self.membership.as_mut().is_none_or(|(_, membership)| membership.is_waiting(now)) {
            return None;
        }
        let (question, ticket) = self.question(now)?;
        Some(Action::Ask(ticket, question))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let may_feed = self.may_fetch() && self.link.is_up() && self.vanishing.due().is_none();
        let refused = self.feeding.due().filter(|_| may_feed);
        let drain = match self.drain {
            Drain::No => None,
            Drain::Finishing { until } | Drain::Leaving { until } => Some(until),
        };
        let away = self.link.away_at(self.config.term).filter(|_| !self.withdrawn);
        let redis = self.membership.as_ref().and_then(|(_, membership)| {
            let may_report =
                !self.ledger.is_reporting() && membership.may_ask() && membership.lease.is_held();
            let report = self.ledger.due().filter(|_| may_report);
            let lane = self.lanes.due().filter(|_| membership.may_ask() && self.may_fetch());
            earliest([membership.timeout(None), report, lane])
        });
        earliest([
            refused,
            drain,
            away,
            redis,
            self.recheck_at,
            self.orders.due(),
            self.vanishing.due(),
            self.recovery_deadline(),
            self.link.retry_at(),
        ])
    }
}
