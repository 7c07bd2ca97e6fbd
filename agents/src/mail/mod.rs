//! The Mail Agent: bound to one Postfix through pickup-rs.
//!
//! A Mail Agent has pickup-rs feed the messages of its lots, and asks Redis to *commit* each file
//! that cleanup makes. It has committed files released to the queue manager and all others deleted,
//! and tells Redis when Postfix is done with a file. Its memory may be lost at any time: after any
//! loss of contact the agent compares the disk with Redis ([`recovery`]).
//!
//! ```text
//!  Nameless ▶ Outside ▶ Uncompared ▶ Asking ▶ Listing ▶ Deciding ▶ Serving ▶ Leaving ▶ Ended
//!                ▲        │ ▲  ▲                │                    ▲ │
//!                │        ▼ │  │                └─ nothing undecided ┘ │
//!                │      CutOff └──── pickup-rs gone, doubt, gap ───────┘
//!                └── lease lapses
//! ```
//!
//! A node keeps its lots across restarts, unless a Scheduler has taken them. Files that an earlier
//! process had made are committed under the epoch of their making. So no file is made, or under
//! direct hand-off sent, twice. Only when all files are decided does the agent look which messages
//! are left to feed.
//!
//! Serving is a line of four queues, none of which waits for the next: fetch own lots → feed them
//! ([`feeding`]) → report the files to Redis, which decides ([`ledger`], [`report`]) → release or
//! discard ([`releases`]). Notices and answers drive the queues; timers serve leases, failures and
//! the end only.
//!
//! No destination takes more than its share of the window ([`shares`]): other messages wait in
//! Redis, in a lane ([`lanes`]), until there is room.
//!
//! - *pickup-rs can't be reached* for longer than a lease: the agent hands its lots back for
//!   others, and declares a capacity of 0. It keeps its lease. Committed mail stays with the node
//!   until the grace has passed without an attendance of pickup-rs. A pickup-rs that can't attend,
//!   and answers its Mail Agent, is vouched for: the node's Postfix lives.
//! - *The node is unfit* ([`fitness`]): while Serving, the agent hands its lots back, and goes on
//!   with what is committed. It declares a capacity of 0 and the cause. Under direct hand-off it
//!   waits some seconds for the messages under way first.
//! - *Redis can't be reached*: nothing is decided; files stay prepared. A commit whose answer is
//!   missing is committed again.
//! - *Drain*: the agent finishes work under way for some seconds, hands back the rest, and gives up
//!   the lease.
//!
//! # Phases
//!
//! [`phase::Phase`] owns the data of one phase. The table has each phase and input that leads to
//! another phase or to an action; every other input changes nothing there. A test holds the table
//! against the machine. The agent passes a phase with nothing to wait for at once, and "then" names
//! the phase where the agent stops. For example, while pickup-rs is connected, a lease that begins
//! leads through Uncompared to Asking. "Any" is every phase between Nameless and Ended.
//!
//! - Phases. *Unfit*: the node takes no mail, and has handed its lots back. *Ending*: the agent was
//!   asked to end, and finishes the phase first. *Fenced*: Redis has refused this process's start.
//!   *Handed back*: Redis has confirmed the return of all lots.
//! - Inputs. *Redis fences*: it refuses a call, because a later agent has arrived. *Questions
//!   fail*: Redis gave no answer, except about the lease. *pickup-rs stays away*: for the term of a
//!   lease. *Gap*: a commit's number is higher than the next one, so another process has committed
//!   for this node. *Doubt lasts*: ten seconds have passed since the end of a file that this
//!   process doesn't know. *Time is over*: the limit of the phase or of the drain has passed.
//!   *Redis is another server*: it has failed over, or was started again. *Postfix is fit*,
//!   *unfit*: pickup-rs says so by its probes, and the probation is over. *pickup-rs is silent*: a
//!   ping has no reply for the term of a lease.
//! - Actions. *Register*: ask for the lease. *Arrive*: take the node over, and read what is
//!   committed. *List*: have pickup-rs list the queue. *Fetch*, *orders*, *look*: read the node's
//!   lots, operators' orders, and parked mail with the live nodes. *Report*: commit and settle.
//!   *Hand back*: return all lots. *Vouch*: tell Redis that pickup-rs has answered. *Leave*: give
//!   up the lease. *End*: stop.
//!
//! | phase | input | then | action |
//! |---|---|---|---|
//! | Nameless | pickup-rs comes | Outside | register |
//! | Outside, no pickup-rs; Outside, pickup-rs away | pickup-rs comes | Outside |  |
//! | Uncompared; CutOff, handed back | pickup-rs comes | Asking | arrive |
//! | CutOff | pickup-rs comes | CutOff, pickup-rs back |  |
//! | Outside | pickup-rs goes | Outside, no pickup-rs |  |
//! | Outside, ending; Deciding, ending | pickup-rs goes | Leaving |  |
//! | Asking; Listing; Deciding; Serving; Serving, unfit | pickup-rs goes | Uncompared |  |
//! | Asking, ending; Listing, ending | pickup-rs goes | Leaving | hand back |
//! | CutOff, pickup-rs back | pickup-rs goes | CutOff |  |
//! | Outside, no pickup-rs | pickup-rs stays away | Outside, pickup-rs away |  |
//! | Uncompared | pickup-rs stays away | CutOff | register, hand back, vouch |
//! | any | pickup-rs refuses | Ended | end |
//! | Nameless | pickup-rs of another node comes | Outside | register |
//! | any | pickup-rs of another node comes | Ended | end |
//! | Outside; Asking; Serving; Serving, unfit | lease begins | Asking | arrive |
//! | Outside, no pickup-rs; Listing; Deciding | lease begins | Uncompared |  |
//! | Outside, pickup-rs away | lease begins | CutOff | register, hand back |
//! | Outside, ending; Asking, ending | lease begins | Asking, ending | arrive |
//! | CutOff, handed back | lease begins | CutOff | hand back |
//! | Listing, ending | lease begins | Leaving | hand back |
//! | Deciding, ending | lease begins | Uncompared, ending |  |
//! | Outside, fenced | lease begins | Ended | end |
//! | CutOff, handed back | lease goes on | CutOff | hand back |
//! | Serving | lease goes on | same | fetch, orders, look |
//! | Serving, unfit | lease goes on | same | hand back, orders, look |
//! | Asking; CutOff, pickup-rs back; Deciding | lease lapses | Outside | register |
//! | Serving; Serving, unfit | lease lapses | Outside | register |
//! | Asking, ending; Deciding, ending | lease lapses | Outside, ending | register |
//! | Uncompared; Listing | lease lapses | Outside, no pickup-rs | register |
//! | CutOff; CutOff, handed back | lease lapses | Outside, pickup-rs away | register |
//! | Listing, ending | lease lapses | Leaving | register, hand back |
//! | Leaving | lease lapses | same | register |
//! | any but Leaving, handed back | lease is superseded | Ended | end |
//! | Leaving, handed back | lease is left | Ended | end |
//! | Asking; Asking, ending; Serving; Serving, unfit | Redis fences | Outside, fenced | register |
//! | Deciding; Deciding, ending | Redis fences | Outside, fenced | register |
//! | CutOff; CutOff, pickup-rs back | Redis fences | Outside, fenced | register |
//! | Leaving; Leaving, handed back | Redis fences | Ended | end |
//! | Asking | questions fail | Uncompared |  |
//! | Asking, ending | questions fail | Uncompared, ending |  |
//! | Asking | inventory comes | Listing | list |
//! | Asking, ending | inventory comes | Listing, ending | list |
//! | Listing | list is complete | Serving | fetch, orders, look |
//! | Listing, ending | list is complete | Leaving | hand back |
//! | Listing | list shows a prepared file | Deciding | report, orders |
//! | Listing, ending | list shows a prepared file | Deciding, ending | report, orders |
//! | Deciding | all is decided | Serving | fetch, look |
//! | Deciding, ending | all is decided | Leaving | hand back |
//! | Deciding | commit shows a gap | Asking | arrive |
//! | Deciding, ending | commit shows a gap | Asking, ending | arrive |
//! | Serving; Serving, unfit | commit shows a gap | Asking | report, arrive |
//! | Leaving | commit shows a gap | same | report |
//! | Deciding | doubt lasts | Uncompared |  |
//! | Deciding, ending | doubt lasts | Leaving |  |
//! | Serving; Serving, unfit | doubt lasts | Asking | arrive |
//! | CutOff | lots are handed back | CutOff, handed back |  |
//! | CutOff, pickup-rs back | lots are handed back | Asking | arrive |
//! | Leaving | lots are handed back | Leaving, handed back | leave |
//! | CutOff, handed back | lot is assigned | CutOff | hand back |
//! | Serving | lot is assigned | same | fetch |
//! | Serving, unfit | lot is assigned | same | hand back |
//! | CutOff, handed back | small lot is cut for this node | CutOff | hand back |
//! | Serving | small lot is cut for this node | same | feed |
//! | Serving, unfit | small lot is cut for this node | same | hand back |
//! | Outside, ending; Deciding, ending | time is over | Leaving |  |
//! | Asking | time is over | same | arrive |
//! | Asking, ending; Listing, ending | time is over | Leaving | hand back |
//! | Listing | time is over | Uncompared |  |
//! | Leaving; Leaving, handed back | time is over | Ended | end |
//! | Asking; Asking, ending | Redis is another server | same | arrive |
//! | CutOff, handed back | Redis is another server | CutOff | hand back |
//! | Listing; Deciding | Redis is another server | Uncompared |  |
//! | Listing, ending | Redis is another server | Leaving | hand back |
//! | Deciding, ending | Redis is another server | Uncompared, ending |  |
//! | Serving; Serving, unfit | Redis is another server | Asking | arrive |
//! | Leaving, handed back | Redis is another server | Leaving | hand back |
//! | Nameless | drain | Ended | end |
//! | Outside | drain | Outside, ending |  |
//! | Outside, no pickup-rs; Outside, pickup-rs away | drain | Leaving |  |
//! | Asking | drain | Asking, ending |  |
//! | Uncompared; Serving; Serving, unfit | drain | Leaving | hand back |
//! | CutOff; CutOff, pickup-rs back; CutOff, handed back | drain | Leaving | hand back |
//! | Listing | drain | Listing, ending |  |
//! | Deciding | drain | Deciding, ending |  |
//! | Asking; Asking, ending; Listing; Listing, ending | Postfix is unfit | same | register |
//! | Deciding; Deciding, ending; Leaving | Postfix is unfit | same | register |
//! | Serving | Postfix is unfit | Serving, unfit | register, hand back |
//! | Serving, unfit | Postfix is fit | Serving | register, fetch |
//! | Outside | pickup-rs is silent | Outside, pickup-rs away |  |
//! | Outside, ending; Deciding, ending | pickup-rs is silent | Leaving |  |
//! | Asking; Listing; Serving; Serving, unfit | pickup-rs is silent | CutOff | hand back, vouch |
//! | Deciding | pickup-rs is silent | CutOff | vouch |
//! | Asking, ending; Listing, ending | pickup-rs is silent | Leaving | hand back |
//! | CutOff, pickup-rs back | pickup-rs is silent | CutOff |  |

mod calls;
mod comparison;
mod contact;
mod credit;
mod draining;
mod errand;
pub mod feeding;
mod fitness;
mod invariants;
mod lanes;
mod leasing;
mod ledger;
mod link;
mod numbers;
mod orders;
mod phase;
mod questions;
mod recovery;
mod releases;
pub mod report;
mod reporting;
#[cfg(test)]
mod samples;
mod shares;
#[cfg(test)]
mod table;
mod vanishing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use handoff::protocol::Request;
use notices::Notice;
use postfix_wire::QueueId;
use spool::{
    Act, CommitNumber, FencingToken, Generation, Lane, LotNumber, MessageId, NodeId, Rest, SmallLot,
};

use self::credit::Credit;
use self::feeding::{FeedKey, Feeding, OwnLot};
use self::fitness::Fitness;
use self::lanes::Lanes;
use self::ledger::Ledger;
use self::link::Link;
pub use self::link::{LinkEvent, LinkOrder};
use self::orders::Orders;
use self::phase::{Phase, Serving};
use self::releases::Releases;
use self::report::{Committed, Held, MailReport, Owned, Renamed};
use self::shares::Shares;
use self::vanishing::Vanishing;
use crate::lease::{LeaseAnswer, LeaseQuestion};
use crate::machine::{Action, Ask, Input, Machine, earliest};
use crate::membership::Membership;

/// Questions of a Mail Agent to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailQuestion {
    /// A question about the lease, to the directory.
    Lease(LeaseQuestion),
    /// A request to make all uncommitted lots of this node ready for other nodes.
    HandBack(FencingToken),
    /// The word that this node's Postfix lives, so that Redis doesn't take the node for lost.
    Vouch(FencingToken),
    /// The arrival of this process, and the question for all files that are committed to this node.
    Inventory(FencingToken),
    /// The question for this node's lots.
    Fetch(FencingToken),
    /// The question for operators' orders for this node's mail.
    Orders(FencingToken),
    /// Commits to decide about, and news of files to note.
    Report(FencingToken, MailReport),
    /// The question for parked mail, live nodes, and whether this node is drained.
    Look(NodeId),
    /// A request to assign these parked lots to this node, as far as no other node has them.
    Pull(FencingToken, Vec<LotNumber>),
}

/// Answers of the spool to a Mail Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailAnswer {
    /// Answer to `Lease`.
    Lease(LeaseAnswer),
    /// Answer to `HandBack`.
    HandedBack,
    /// Answer to `Vouch`.
    Vouched,
    /// Answer to `Inventory`.
    Inventory(Inventory),
    /// Answer to `Fetch`: all lots of this node.
    Fetched(Vec<OwnLot>),
    /// Answer to `Orders`.
    Orders(BTreeMap<MessageId, Act>),
    /// Answer to `Report`, with one outcome for each commit and each rename, in order.
    Reported {
        /// Outcome of each commit.
        commits: Vec<Committed>,
        /// Outcome of each rename.
        renames: Vec<Renamed>,
        /// Refused messages that stay out of quarantine: pickup-rs did not find them, but Redis has
        /// them.
        present: BTreeSet<FeedKey>,
        /// Whether Redis did not know a settled file as this node's.
        has_unknown: bool,
    },
    /// Answer to `Look`.
    Looked {
        /// Most messages that this node may have in flight, if that is less than its own window.
        window: u32,
        /// Lanes in which messages are parked.
        lanes: Vec<Lane>,
        /// Whether an operator lets this node take no mail.
        is_drained: bool,
    },
    /// Answer to `Pull`.
    Pulled,
    /// Answer to any question: a later process of this node has arrived.
    Superseded,
}

/// Redis's view of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files that are committed to this node.
    pub committed: BTreeMap<QueueId, Owned>,
    /// Committed messages that operators have ordered to be deleted or held, read after
    /// `committed`.
    pub stopped: BTreeSet<MessageId>,
    /// Committed messages that rest in Postfix by Redis's account.
    pub resting: BTreeMap<MessageId, Rest>,
}

/// Settings of a Mail Agent.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// Generation of this process.
    pub generation: Generation,
    /// Name for display, usually the host's.
    pub name: String,
    /// Term of the agent's lease.
    pub term: Duration,
    /// Most messages that the node may have in flight.
    pub window: u32,
}

/// Messages under way to each cleanup process: enough to keep it busy while Redis answers.
const AHEAD_PER_CLEANUP: usize = 16;

/// The machine of a Mail Agent; see the module.
#[derive(Debug)]
pub struct Mail {
    config: MailConfig,
    link: Link,
    /// Node and membership, once pickup-rs has named the node.
    membership: Option<(NodeId, Membership)>,
    phase: Phase,
    feeding: Feeding,
    ledger: Ledger,
    releases: Releases,
    orders: Orders,
    shares: Shares,
    lanes: Lanes,
    vanishing: Vanishing,
    fitness: Fitness,
    credit: Credit,
    report: Ask,
    /// Time of the next comparison of disk and Redis, after a reply that doesn't fit.
    compare_at: Option<Instant>,
    outbox: VecDeque<Action<MailQuestion, LinkOrder>>,
}

impl Mail {
    /// Returns a new Mail Agent, which learns from pickup-rs which node it speaks for.
    pub fn new(config: MailConfig, now: Instant) -> Self {
        let term = config.term;
        Self {
            link: Link::new(now, term),
            shares: Shares::new(config.window),
            config,
            membership: None,
            phase: Phase::Nameless,
            feeding: Feeding::default(),
            ledger: Ledger::default(),
            releases: Releases::default(),
            orders: Orders::default(),
            lanes: Lanes::default(),
            vanishing: Vanishing::default(),
            fitness: Fitness::new(term),
            credit: Credit::new(),
            report: Ask::default(),
            compare_at: None,
            outbox: VecDeque::new(),
        }
    }

    /// Begins a phase. An agent that has ended stays in its first end.
    fn enter(&mut self, next: Phase) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        tracing::debug!(from = self.phase.name(), to = next.name(), "phase entered");
        self.phase = next;
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        self.lanes.look_at_the_clock(now);
        if self.link.notices_silence(now) {
            self.pickup_went(now);
        }
        if self.link.notices_absence(now) {
            self.pickup_stays_away();
        }
        self.look_for_stuck_recovery(now);
        self.orders.look_at_the_clock(now);
        self.vanishing.look_at_the_clock(now);
        self.fitness_changes(|fitness| fitness.look_at_the_clock(now));
        self.look_for_decisions(now);
        self.look_for_end(now);
    }

    fn noticed(&mut self, notice: &Notice) {
        let is_ours =
            |node: &NodeId| self.membership.as_ref().is_some_and(|(ours, _)| ours == node);
        match notice {
            Notice::Born(..) | Notice::Left(..) => {
                self.is_suspect(notice);
                if let Phase::Serving(Serving { look, .. }) = &mut self.phase {
                    look.want();
                }
            }
            Notice::Assigned(node, Some(lot)) if is_ours(node) => self.assigned(lot),
            Notice::Fetch(node) | Notice::Assigned(node, None) if is_ours(node) => self.want_lots(),
            Notice::Ordered(node) if is_ours(node) => self.orders.look(),
            _ => (),
        }
    }

    /// Takes a lot from its notice, which saves a question. But while an earlier question for lots
    /// is open, the question is put again: the answer may lack this lot, and would take it away. A
    /// late or false notice costs a file that Redis refuses to commit. Under direct hand-off such a
    /// file would be sent, so Redis is asked first.
    fn assigned(&mut self, lot: &SmallLot) {
        let is_up_to_date = match &self.phase {
            Phase::Serving(Serving { fetch, hand_back, .. }) => {
                self.fitness.is_fit() && fetch.is_done() && hand_back.is_done()
            }
            _ => false,
        };
        if is_up_to_date && self.link.is_two_phase() && self.feeding.assigned(lot) {
            self.credit.fetched(self.feeding.is_idle());
        } else {
            self.want_lots();
        }
    }

    fn want_lots(&mut self) {
        match &mut self.phase {
            Phase::Serving(Serving { fetch, .. }) => fetch.want(),
            // An Info Agent with an older view has assigned the lot.
            Phase::CutOff { hand_back, .. } => hand_back.want(),
            _ => (),
        }
    }

    fn order(&mut self, now: Instant) -> Option<LinkOrder> {
        if let Some(order) = self.link.poll(now) {
            return Some(order);
        }
        if !self.link.is_up() {
            return None;
        }
        let release = self.release_request();
        let request = release.or_else(|| self.releases.next_discard());
        request.or_else(|| self.feed_request(now)).map(LinkOrder::Send)
    }

    /// Returns the next release, or a mark that has risen without one. The mark may not rise over a
    /// commit whose absent file Redis has not decided about, nor over one that this process has not
    /// heard of. While Redis has yet to take a commit back, no mark is sent: if this process died,
    /// the mark would prove that the file was sent.
    fn release_request(&mut self) -> Option<Request> {
        if self.phase.held() == Held::Later || self.ledger.has_absents() {
            return None;
        }
        let mark = match self.ledger.has_uncommits() {
            true => CommitNumber(0),
            false => self.ledger.numbers.last(),
        };
        let request = self.releases.next_release(mark);
        self.assert_not_withdrawn(request.as_ref());
        request
    }

    fn feed_request(&mut self, now: Instant) -> Option<Request> {
        if !self.may_feed() || self.vanishing.is_pausing(now) {
            return None;
        }
        let coming = self.feeding.under_way();
        let ahead = self.shares.ahead().min(self.link.cleanups() * AHEAD_PER_CLEANUP);
        let (lot, epoch, ids) = self.feeding.next(now, ahead)?;
        self.shares.assert_room_for(self.feeding.under_way());
        let mut full = self.shares.full(coming);
        if !self.lanes.is_pulled(lot) {
            full.extend(self.lanes.waiting().cloned());
        }
        Some(Request::Feed { lot, epoch, ids, full })
    }
}

impl Machine for Mail {
    type Question = MailQuestion;
    type Answer = MailAnswer;
    type Event = LinkEvent;
    type Order = LinkOrder;

    fn handle(&mut self, now: Instant, input: Input<MailAnswer, LinkEvent>) {
        match input {
            Input::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Input::Failed(ticket) => self.failed(now, ticket),
            Input::Link(event) => self.link_event(now, event),
            Input::Notice(notice) => self.noticed(&notice),
            Input::Called(call, request) => self.called(call, &request),
            Input::CallEnded(..) => debug_assert!(false, "a Mail Agent calls nobody"),
            Input::Listening => self.look_at_all(),
            Input::OtherServer => self.redis_changed(now),
            Input::Drain => self.drain(now),
        }
        self.assert_invariants();
    }

    fn poll(&mut self, now: Instant) -> Option<Action<MailQuestion, LinkOrder>> {
        self.look_at_the_clock(now);
        self.assert_invariants();
        if let Phase::Ended(end) = self.phase {
            return Some(Action::End(end));
        }
        if let Some(action) = self.outbox.pop_front() {
            return Some(action);
        }
        if let Some((_, membership)) = &mut self.membership {
            if let Some(action) = membership.poll(now, MailQuestion::Lease) {
                if let Action::End(end) = action {
                    self.enter(Phase::Ended(end));
                }
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
        let is_serving = self.phase.is_serving();
        let may_feed = self.may_feed() && self.vanishing.due().is_none();
        let refused = self.feeding.due().filter(|_| may_feed);
        let redis = self.membership.as_ref().and_then(|(_, membership)| {
            let may_report =
                !self.ledger.is_reporting() && membership.may_ask() && membership.lease.is_held();
            let report = self.ledger.due().filter(|_| may_report);
            let lane = self.lanes.due().filter(|_| membership.may_ask() && is_serving);
            earliest([membership.timeout(None), report, lane])
        });
        earliest([
            refused,
            redis,
            self.phase.deadline(),
            self.phase.hand_back_due(),
            self.link.away_at(),
            self.link.silent_at(),
            self.link.ping_due(),
            self.link.retry_at(),
            self.compare_due(),
            self.orders.due(),
            self.vanishing.due(),
            self.fitness.due(),
        ])
    }
}
