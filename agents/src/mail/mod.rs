//! The Mail Agent: bound to one Postfix through pickup-rs.
//!
//! It has its lots fed to pickup-rs, asks Redis to *commit* each file that comes of it, has what is committed released to the
//! queue manager and what isn't deleted, and tells Redis when Postfix is done with a file. It holds nothing that
//! can't be found again: after any loss of contact it compares what is on disk with what Redis says ([`recovery`]).
//!
//! ```text
//!  connect, ping ──▶ whose queue is this? ──▶ take the lease of that node
//!                                               │
//!                    recover ◀──────────────────┤
//!                      │                        │ lapsed
//!                      ▼                        │
//!                    take back own lots         │  an older process of this node is fenced by that
//!                      │                        │
//!                      ▼                        │
//!                    serve ─────────────────────┘
//!                      │ pickup-rs gone: recover, serve
//! ```
//!
//! Recovery comes first because the lots are still this node's unless a Scheduler has taken them: what was made of them can be
//! committed under the epoch it was made under, and need not be made (or, handed off directly, sent) twice. What an older
//! process commits meanwhile is this node's as well; if we missed it, its end is news of a file we don't know, and that
//! leads to another recovery.
//!
//! Serving is four queues that feed each other without waiting for each other: fetch own lots → feed them
//! ([`feeding`]) → report what came of them to Redis, which decides ([`ledger`]) → release or discard. News and
//! answers drive it; timers serve leases, failures and the end only.
//!
//! - *pickup-rs can't be reached* for longer than a lease: the agent takes its lots back for others to have and declares a
//!   capacity of 0, but keeps its lease, since what is committed here stays here.
//! - *Redis can't be reached*: nothing is decided; files wait in hold. A commit whose answer is missing is committed again.
//! - *Drain*: what is under way is finished if that doesn't take long, the rest handed back, the lease left.

pub mod feeding;
pub mod ledger;
mod link;
mod recovery;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use pickup_rs::protocol::{QueuedFile, Reply, Request};
use postfix_wire::QueueId;
use spool::{AgentKind, Incarnation, MessageId, NodeId};

use self::feeding::{Feeding, OwnLot, Piece};
use self::ledger::{Committed, Company, Held, How, Known, Ledger, Report, Verdict};
use self::link::{Change as LinkChange, Link};
pub use self::link::{LinkEvent, LinkOrder};
use crate::lease::{Change, LeaseAnswer, LeaseQuestion, Member};
use crate::machine::{Action, Ask, End, Input, Machine, Ticket, earliest};
use crate::membership::Membership;
use crate::news::News;

/// What it asks the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// For the directory.
    Lease(LeaseQuestion),
    /// Make all uncommitted lots of this node ready for anybody.
    TakeBack(NodeId),
    /// Which files are committed to this node?
    Inventory(NodeId),
    /// Which lots does this node have?
    Fetch(NodeId),
    /// Decide, and take note.
    Report(NodeId, Report),
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Lease`.
    Lease(LeaseAnswer),
    /// To `TakeBack`.
    TakenBack,
    /// To `Inventory`.
    Inventory(HashMap<QueueId, MessageId>),
    /// To `Fetch`: all of them.
    Fetched(Vec<OwnLot>),
    /// To `Report`: one for each commit, in order.
    Reported(Vec<Committed>),
}

/// How a Mail Agent is to work.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of this process.
    pub incarnation: Incarnation,
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
const ANNOUNCE_PART: u32 = 8;
/// How long a drain waits for what is under way, and then for Redis.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// When pickup-rs reported trouble, or something we don't know, everything is compared again after this.
const RECHECK_AFTER: Duration = Duration::from_secs(10);
/// A step of recovery that shows no progress for this long has failed. A census of a million files on a slow disk takes less.
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
    recovery: Recovery,
    /// When the step under way has failed.
    recovery_until: Option<Instant>,
    recheck_at: Option<Instant>,
    asks: Asks,
    must_take_back: bool,
    must_fetch: bool,
    withdrawn: bool,
    releases: Vec<QueueId>,
    discards: Vec<QueueId>,
    releasing: HashSet<QueueId>,
    freed: u32,
    was_idle: bool,
    tell: VecDeque<News>,
    drain: Drain,
    ended: Option<End>,
}

#[derive(Debug, Default)]
struct Asks {
    take_back: Ask,
    inventory: Ask,
    fetch: Ask,
    report: Ask,
}

#[derive(Debug)]
enum Recovery {
    Needed,
    /// Redis has been asked.
    Asking,
    /// pickup-rs has been asked.
    Listing {
        committed: HashMap<QueueId, MessageId>,
        undecided: HashMap<QueueId, MessageId>,
        files: Vec<QueuedFile>,
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
            config,
            membership: None,
            feeding: Feeding::default(),
            ledger: Ledger::default(),
            recovery: Recovery::Needed,
            recovery_until: None,
            recheck_at: None,
            asks: Asks::default(),
            must_take_back: false,
            must_fetch: false,
            withdrawn: false,
            releases: Vec::new(),
            discards: Vec::new(),
            releasing: HashSet::new(),
            freed: 0,
            was_idle: true,
            tell: VecDeque::new(),
            drain: Drain::No,
            ended: None,
        }
    }

    // The link --------------------------------------------------------------------------------------------------------

    fn link_event(&mut self, now: Instant, event: LinkEvent) {
        match self.link.handle(now, event) {
            LinkChange::None => (),
            LinkChange::Up(node) => self.link_up(node),
            LinkChange::Down => self.link_down(),
            LinkChange::Heard(reply) => self.heard(now, reply),
        }
    }

    fn link_up(&mut self, node: NodeId) {
        self.withdrawn = false;
        match &mut self.membership {
            Some((known, _)) if *known != node => self.ended = Some(End::OtherNode),
            Some((_, membership)) => membership.lease.declare(self.config.window),
            None => {
                let Config { incarnation, ref name, term, window } = self.config;
                let member = Member {
                    agent: node.clone().into(),
                    kind: AgentKind::Mail,
                    incarnation,
                    name: name.clone(),
                };
                self.membership = Some((node, Membership::new(member, term, window)));
            }
        }
    }

    /// Everything under way to and from pickup-rs is uncertain; a new inventory will tell.
    fn link_down(&mut self) {
        self.asks.inventory.forget();
        self.recovery = Recovery::Needed;
        self.releases.clear();
        self.discards.clear();
        self.releasing.clear();
        self.feeding.lost_sight();
    }

    fn heard(&mut self, now: Instant, reply: Reply) {
        match reply {
            Reply::Held { id, lot, epoch, queue_id } => {
                self.handed(queue_id, Piece { lot, epoch, id }, How::Held);
            }
            Reply::Stored { id, lot, epoch, queue_id } => {
                self.handed(queue_id, Piece { lot, epoch, id }, How::Stored);
            }
            Reply::Consumed { id, lot, epoch, queue_id } => {
                self.handed(queue_id, Piece { lot, epoch, id }, How::Consumed);
            }
            Reply::Refused { id, lot, epoch, reason, retry } => {
                self.refused(now, Piece { lot, epoch, id }, reason, retry);
            }
            Reply::Settled { queue_id } => {
                if self.ledger.settled(&queue_id) == Known::No {
                    self.recheck_at.get_or_insert(now + RECHECK_AFTER);
                }
            }
            Reply::Deferred { queue_id, next_attempt_s } => {
                self.ledger.deferred(&queue_id, next_attempt_s * 1_000);
            }
            Reply::Released { queue_ids } => queue_ids.iter().for_each(|it| _ = self.releasing.remove(it)),
            Reply::Inventory { files, complete } => self.listed(now, files, complete),
            Reply::Error { reason } => {
                tracing::error!(reason, "pickup-rs could not do what it was asked");
                self.recheck_at.get_or_insert(now + RECHECK_AFTER);
            }
            Reply::Discarded { .. } | Reply::Pong { .. } => (),
        }
    }

    fn handed(&mut self, queue_id: QueueId, piece: Piece, how: How) {
        self.feeding.answered(&piece);
        self.ledger.handed(queue_id, piece, how);
    }

    fn refused(&mut self, now: Instant, piece: Piece, reason: String, retry: bool) {
        if retry {
            tracing::warn!(id = %piece.id, lot = %piece.lot, reason, "refused for now");
            self.feeding.refused(now, piece);
        } else {
            tracing::error!(id = %piece.id, lot = %piece.lot, reason, "message kept aside");
            self.feeding.answered(&piece);
            self.ledger.refused(piece, reason);
        }
    }

    // Recovery --------------------------------------------------------------------------------------------------------

    fn is_recovered(&self) -> bool {
        matches!(self.recovery, Recovery::Done)
    }

    fn must_recover(&mut self) {
        match &mut self.recovery {
            Recovery::Listing { again, .. } => *again = true,
            Recovery::Needed | Recovery::Asking | Recovery::Done => {
                self.asks.inventory.forget();
                self.recovery = Recovery::Needed;
            }
        }
    }

    /// The step under way leads nowhere. A list that was asked for may still come, and is older than what Redis would be
    /// asked for next; so it must not be heard: only a new connection is sure of that.
    fn recovery_failed(&mut self, now: Instant) {
        match self.recovery {
            Recovery::Listing { .. } => {
                tracing::error!("no inventory from pickup-rs, connecting again");
                self.link.begin_again(now);
                self.link_down();
            }
            Recovery::Needed | Recovery::Asking | Recovery::Done => self.must_recover(),
        }
    }

    fn inventory_answered(&mut self, now: Instant, committed: HashMap<QueueId, MessageId>) {
        self.recovery_until = Some(now + RECOVERY_PATIENCE);
        let undecided = self.ledger.undecided();
        self.recovery = Recovery::Listing { committed, undecided, files: Vec::new(), again: false };
        self.link.send(Request::Inventory);
    }

    fn listed(&mut self, now: Instant, mut more: Vec<QueuedFile>, complete: bool) {
        let Recovery::Listing { files, .. } = &mut self.recovery else { return };
        files.append(&mut more);
        self.recovery_until = Some(now + RECOVERY_PATIENCE);
        if complete {
            if let Recovery::Listing { committed, undecided, files, again } =
                std::mem::replace(&mut self.recovery, Recovery::Done)
            {
                self.recovered(&committed, &undecided, &files);
                if again {
                    self.must_recover();
                }
            }
        }
    }

    fn recovered(
        &mut self,
        committed: &HashMap<QueueId, MessageId>,
        undecided: &HashMap<QueueId, MessageId>,
        files: &[QueuedFile],
    ) {
        let found = recovery::compare(files, committed);
        tracing::info!(
            files = files.len(),
            undecided = found.undecided.len(),
            release = found.release.len(),
            settled = found.settle.len(),
            "recovered"
        );
        self.feeding.found(&files.iter().map(recovery::piece_of).collect());
        for (queue_id, id) in undecided.iter().filter(|(queue_id, _)| !found.names.contains(*queue_id)) {
            if let Some(piece) = self.ledger.missing(queue_id, *id) {
                self.feeding.feed_again(piece);
            }
        }
        let ours = found.track.iter().filter_map(|(queue_id, id)| self.ledger.ours(queue_id, *id));
        ours.for_each(|piece| self.feeding.resolved(&piece));
        let were = found.settle.into_iter().filter_map(|(queue_id, id)| self.ledger.was_ours(queue_id, id));
        were.for_each(|piece| self.feeding.resolved(&piece));
        for (queue_id, piece, how) in found.undecided {
            self.ledger.handed(queue_id, piece, how);
        }
        for (queue_id, next_ms) in found.defer {
            self.ledger.deferred(&queue_id, next_ms);
        }
        self.releases.extend(found.release);
        self.must_fetch = true;
    }

    // Redis -----------------------------------------------------------------------------------------------------------

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let Some((_, membership)) = &mut self.membership else { return };
        membership.redis_works();
        match answer {
            Answer::Lease(answer) => {
                let change = membership.answered(now, ticket, answer);
                self.lease_changed(change);
            }
            Answer::TakenBack if self.asks.take_back.close(ticket) => self.taken_back(),
            Answer::Inventory(committed) if self.asks.inventory.close(ticket) => {
                self.inventory_answered(now, committed);
            }
            Answer::Fetched(own) if self.asks.fetch.close(ticket) => self.fetched(&own),
            Answer::Reported(outcomes) if self.asks.report.close(ticket) => self.reported(now, &outcomes),
            Answer::TakenBack | Answer::Inventory(_) | Answer::Fetched(_) | Answer::Reported(_) => (),
        }
    }

    fn lease_changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Began) => {
                self.must_take_back = true;
                self.must_recover();
            }
            Some(Change::Continues) => self.must_fetch = true,
            Some(Change::Lapsed | Change::Superseded) => self.feeding.stop(),
            Some(Change::Left) | None => (),
        }
    }

    fn taken_back(&mut self) {
        self.must_take_back = false;
        self.must_fetch = true;
        if let (Drain::Leaving { .. }, Some((_, membership))) = (self.drain, &mut self.membership) {
            membership.lease.leave();
        }
    }

    fn fetched(&mut self, own: &[OwnLot]) {
        if self.may_fetch() {
            self.feeding.learn(own);
            self.was_idle &= self.feeding.is_idle();
        }
    }

    fn reported(&mut self, now: Instant, outcomes: &[Committed]) {
        if self.ledger.commits_under_way() != outcomes.len() {
            tracing::error!(answers = outcomes.len(), "not one answer for each commit");
            self.membership.iter_mut().for_each(|(_, membership)| membership.redis_failed(now));
            return self.ledger.report_failed();
        }
        let Report { commits, settles, deferrals, refusals } = self.ledger.reported();
        for (commit, outcome) in commits.into_iter().zip(outcomes) {
            self.feeding.resolved(&commit.piece);
            self.must_fetch |= *outcome == Committed::Fenced;
            match self.ledger.decided(commit, *outcome) {
                Verdict::Release(queue_id) => self.releases.push(queue_id),
                Verdict::Discard(queue_id) => self.discards.push(queue_id),
                Verdict::Nothing => (),
            }
        }
        refusals.iter().for_each(|(piece, _)| self.feeding.resolved(piece));
        self.announce(settles.len() + deferrals.len());
    }

    /// Tells when there is room for more, once in a while, and when there is nothing left to do, once.
    fn announce(&mut self, freed: usize) {
        self.freed = self.freed.saturating_add(freed as u32);
        let has_become_idle =
            self.feeding.is_idle() && !std::mem::replace(&mut self.was_idle, self.feeding.is_idle());
        if has_become_idle || self.freed >= (self.config.window / ANNOUNCE_PART).max(1) {
            self.freed = 0;
            self.tell.extend(self.membership.as_ref().map(|(node, _)| News::Credit(node.clone())));
        }
    }

    fn failed(&mut self, now: Instant, ticket: Ticket) {
        let Some((_, membership)) = &mut self.membership else { return };
        if self.asks.report.close(ticket) {
            self.ledger.report_failed();
        } else if self.asks.inventory.close(ticket) {
            self.recovery = Recovery::Needed;
        } else if self.asks.fetch.close(ticket) {
            self.must_fetch = true;
        } else if !self.asks.take_back.close(ticket) && !membership.failed(now, ticket) {
            return;
        }
        membership.redis_failed(now);
    }

    /// What a report could wait for.
    fn company(&self) -> Company {
        match () {
            () if self.drain != Drain::No || self.must_take_back => Company::Nothing,
            () if self.feeding.is_quiet() => Company::NoCommits,
            () => Company::Expected,
        }
    }

    fn may_fetch(&self) -> bool {
        let is_held = self.membership.as_ref().is_some_and(|(_, it)| it.lease.is_held());
        is_held && self.is_recovered() && !self.must_take_back && !self.withdrawn && self.drain == Drain::No
    }

    /// What to ask the spool next.
    fn question(&mut self, now: Instant) -> Option<(Question, Ticket)> {
        let company = self.company();
        let (node, membership) = self.membership.as_mut()?;
        let is_held = membership.lease.is_held();
        let no_report = !self.asks.report.is_open();
        if matches!(self.recovery, Recovery::Needed) && is_held && no_report && self.link.is_up() {
            self.recovery = Recovery::Asking;
            self.recovery_until = Some(now + RECOVERY_PATIENCE);
            return Some((Question::Inventory(node.clone()), membership.ask(&mut self.asks.inventory)));
        }
        let held = if matches!(self.recovery, Recovery::Done) { Held::Too } else { Held::Later };
        if let Some(report) = self.ledger.next_report(now, held, company) {
            return Some((Question::Report(node.clone(), report), membership.ask(&mut self.asks.report)));
        }
        self.take_back_question().or_else(|| self.fetch_question())
    }

    /// Lots are taken back when nothing is left to be committed under their epochs.
    fn take_back_question(&mut self) -> Option<(Question, Ticket)> {
        let is_due = self.must_take_back && !self.asks.take_back.is_open() && !self.asks.report.is_open();
        if !is_due || !self.may_take_back() {
            return None;
        }
        self.feeding.stop();
        self.asks.fetch.forget();
        let (node, membership) = self.membership.as_mut()?;
        Some((Question::TakeBack(node.clone()), membership.ask(&mut self.asks.take_back)))
    }

    fn may_take_back(&self) -> bool {
        let is_held = self.membership.as_ref().is_some_and(|(_, it)| it.lease.is_held());
        let nothing_is_open = || self.is_recovered() && self.feeding.is_quiet() && self.ledger.is_decided();
        match self.drain {
            Drain::Leaving { .. } => true,
            Drain::No | Drain::Finishing { .. } => is_held && (self.withdrawn || nothing_is_open()),
        }
    }

    fn fetch_question(&mut self) -> Option<(Question, Ticket)> {
        if !self.must_fetch || self.asks.fetch.is_open() || !self.may_fetch() {
            return None;
        }
        self.must_fetch = false;
        self.feeding.asked();
        let (node, membership) = self.membership.as_mut()?;
        Some((Question::Fetch(node.clone()), membership.ask(&mut self.asks.fetch)))
    }

    // Time, and the end -----------------------------------------------------------------------------------------------

    fn look_at_the_clock(&mut self, now: Instant) {
        if self.link.is_away(now, self.config.term) && !self.withdrawn {
            self.withdraw();
        }
        if self.recheck_at.is_some_and(|when| when <= now) {
            self.recheck_at = None;
            self.recovery_failed(now);
        } else if self.recovery_deadline().is_some_and(|when| when <= now) {
            self.recovery_failed(now);
        }
        self.go_on_draining(now);
    }

    fn recovery_deadline(&self) -> Option<Instant> {
        let is_under_way = matches!(self.recovery, Recovery::Asking | Recovery::Listing { .. });
        self.recovery_until.filter(|_| is_under_way)
    }

    fn withdraw(&mut self) {
        tracing::error!("pickup-rs can't be reached, handing back lots");
        self.withdrawn = true;
        if let Some((_, membership)) = &mut self.membership {
            membership.lease.declare(0);
            self.must_take_back = true;
        }
    }

    fn begin_draining(&mut self, now: Instant) {
        if self.drain == Drain::No {
            self.feeding.stop();
            self.drain = Drain::Finishing { until: now + DRAIN_PATIENCE };
        }
        if self.membership.is_none() {
            self.ended = Some(End::Drained);
        }
    }

    fn go_on_draining(&mut self, now: Instant) {
        match self.drain {
            Drain::Finishing { until } if until <= now || self.is_finished() => {
                self.drain = Drain::Leaving { until: now + DRAIN_PATIENCE };
                self.must_take_back = true;
            }
            // Redis is away: the lease will run out and the lots be taken by the Scheduler.
            Drain::Leaving { until } if until <= now => self.ended = Some(End::Drained),
            Drain::No | Drain::Finishing { .. } | Drain::Leaving { .. } => (),
        }
    }

    fn is_finished(&self) -> bool {
        if !self.link.is_up() {
            return true;
        }
        let nothing_to_release =
            self.releases.is_empty() && self.releasing.is_empty() && self.discards.is_empty();
        self.is_recovered() && self.feeding.is_quiet() && self.ledger.is_told() && nothing_to_release
    }

    fn order(&mut self, now: Instant) -> Option<LinkOrder> {
        if let Some(order) = self.link.poll(now) {
            return Some(order);
        }
        if !self.link.is_up() {
            return None;
        }
        if !self.releases.is_empty() {
            let queue_ids = some_of(&mut self.releases);
            self.releasing.extend(queue_ids.iter().cloned());
            return Some(LinkOrder::Send(Request::Release { queue_ids }));
        }
        if !self.discards.is_empty() {
            return Some(LinkOrder::Send(Request::Discard { queue_ids: some_of(&mut self.discards) }));
        }
        if !self.may_fetch() {
            return None;
        }
        let (lot, epoch, ids) = self.feeding.next(now, self.link.cleanups() * AHEAD_PER_CLEANUP)?;
        Some(LinkOrder::Send(Request::Feed { lot, epoch, ids }))
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
            Input::News(News::Fetch(node) | News::Assigned(node)) => {
                self.must_fetch |= self.membership.as_ref().is_some_and(|(ours, _)| *ours == node);
            }
            Input::News(_) => (),
            Input::Listening => self.must_fetch = true,
            Input::Drain => self.begin_draining(now),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Action<Question, LinkOrder>> {
        self.look_at_the_clock(now);
        if let Some(end) = self.ended {
            return Some(Action::End(end));
        }
        if let Some(news) = self.tell.pop_front() {
            return Some(Action::Tell(news));
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
        let refused = self.feeding.due().filter(|_| self.may_fetch() && self.link.is_up());
        let drain = match self.drain {
            Drain::No => None,
            Drain::Finishing { until } | Drain::Leaving { until } => Some(until),
        };
        let away = self.link.away_at(self.config.term).filter(|_| !self.withdrawn);
        let redis = self.membership.as_ref().and_then(|(_, membership)| {
            let report = self.ledger.due().filter(|_| !self.ledger.is_reporting() && membership.may_ask());
            earliest([membership.timeout(None), report])
        });
        earliest([
            refused,
            drain,
            away,
            redis,
            self.recheck_at,
            self.recovery_deadline(),
            self.link.retry_at(),
        ])
    }
}
