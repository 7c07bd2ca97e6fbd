//! A simulated world with a clock of its own: machines, a Redis, Postfixes, and their connections.
//!
//! Each step takes a random time. Questions and answers get lost, come late or come twice; notices
//! get lost; any process may die. This file has the clock and the events, `processes` starts and
//! ends agents, and `answers` and `links` carry messages between the parts.

mod answers;
mod calls;
mod links;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agents::machine::{End, Input, Ticket};
use agents::mail::LinkEvent;
use agents::peer::{self, CallNumber, Peer};
use handoff::protocol::{Reply, Request};
use notices::Notice;
use simulation::{Random, Timeline};
use spool::{Act, MessageId, NodeId};

use crate::machines::{Answer, Question};
use crate::postfix::{Fate, Postfix, destination, destinations};
use crate::redis::Redis;

use processes::Process;

/// Probabilities of faults, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub lost_questions: u64,
    pub lost_notices: u64,
}

pub(crate) const STORM: Weather = Weather { lost_questions: 60, lost_notices: 300 };
pub(crate) const CALM: Weather = Weather { lost_questions: 0, lost_notices: 0 };

pub(crate) const LEASE_MS: u64 = 300;
const LOT_SIZE: u32 = 5;
const CLEANUPS: usize = 2;
const ORIGIN_MS: u64 = 1_000_000;
/// Most milliseconds until a submitter without an answer submits again or has the message disowned.
const AGAIN_MS: u64 = 3_000;

#[derive(Debug)]
enum Event {
    Submit(MessageId),
    /// pickup-rs has the message of a submitter without an answer disowned.
    Disown(MessageId),
    Arrive(usize, Ticket, Question),
    Input(usize, Input<Answer, LinkEvent>),
    Connect(usize),
    ToPickup(usize, u64, Request),
    FromPickup(usize, u64, Reply),
    Wake(usize),
    /// A call with its number, its caller and the caller's ticket.
    Call(CallNumber, (usize, Ticket), Peer, peer::Request),
    CleanupStep(usize),
    QueueManagerStep(usize),
}

pub(crate) struct World {
    pub random: Random,
    pub redis: Redis,
    pub redis_is_up: bool,
    pub postfixes: Vec<Postfix>,
    pub weather: Weather,
    /// Running processes by number; a number is used once.
    processes: BTreeMap<usize, Process>,
    ended: BTreeMap<usize, End>,
    started: usize,
    draining: BTreeSet<usize>,
    /// Calls that have reached a process, by number, each with its caller and the caller's ticket.
    calls: BTreeMap<CallNumber, (usize, Ticket)>,
    calls_made: u64,
    /// Ends of the times in which processes do nothing, and are not dead.
    frozen: BTreeMap<usize, u64>,
    /// Processes that no call reaches.
    unreachable: BTreeSet<usize>,
    origin: Instant,
    now_ms: u64,
    events: Timeline<Event>,
    pub submitted: BTreeSet<MessageId>,
    grace: Duration,
    /// Whether operators delete, hold, release and requeue mail.
    pub has_operators: bool,
    /// Number of times that a Mail Agent got another Scheduler.
    pub moved: usize,
    /// Number of leases that Schedulers ended because the agent didn't answer.
    pub suspected: usize,
    /// Whether nodes fall sick, and operators drain them.
    pub has_sickness: bool,
    /// Number of questions that reached Redis.
    pub questions: usize,
    /// Number of times an agent or a pickup was killed, ended or displaced, or Redis cut off.
    pub troubles: usize,
    pub trace: Vec<String>,
    /// Whether every event goes into the trace (`OPTIMUS_TRACE=1`).
    is_loud: bool,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, grace: Duration) -> Self {
        Self::with_lease(seed, nodes, grace, LEASE_MS)
    }

    pub(crate) fn with_lease(seed: u64, nodes: usize, grace: Duration, lease_ms: u64) -> Self {
        let node = |n: usize| -> NodeId { format!("node-{n}").parse().expect("a name") };
        let redis = Redis::new(ORIGIN_MS, LOT_SIZE, lease_ms);
        let mut world = Self {
            random: Random::new(seed),
            redis,
            redis_is_up: true,
            postfixes: (0..nodes).map(|n| Postfix::new(node(n), CLEANUPS)).collect(),
            weather: CALM,
            processes: BTreeMap::new(),
            ended: BTreeMap::new(),
            started: 0,
            draining: BTreeSet::new(),
            calls: BTreeMap::new(),
            calls_made: 0,
            frozen: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            origin: Instant::now(),
            now_ms: 0,
            events: Timeline::default(),
            submitted: BTreeSet::new(),
            grace,
            has_operators: false,
            moved: 0,
            suspected: 0,
            has_sickness: false,
            questions: 0,
            troubles: 0,
            trace: Vec::new(),
            is_loud: std::env::var_os("OPTIMUS_TRACE").is_some(),
        };
        for n in 0..nodes {
            world.later(0, 10, Event::CleanupStep(n));
            world.later(0, 10, Event::QueueManagerStep(n));
        }
        world
    }

    fn now(&self) -> Instant {
        self.origin + Duration::from_millis(self.now_ms)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn later(&mut self, low: u64, high: u64, event: Event) {
        let delay = self.random.between(low, high);
        self.at(self.now_ms + delay, event);
    }

    fn at(&mut self, when_ms: u64, event: Event) {
        self.events.insert(when_ms, event);
    }

    pub(crate) fn submit_within(&mut self, ms: u64) -> MessageId {
        let when_ms = self.now_ms + self.random.between(0, ms);
        let id = MessageId::from_parts(ORIGIN_MS + when_ms, u128::from(self.random.number()));
        self.submit_this(id, when_ms);
        id
    }

    /// Submits a message to this destination alone, within `ms` milliseconds.
    pub(crate) fn submit_to(&mut self, to: u64, ms: u64) -> MessageId {
        let when_ms = self.now_ms + self.random.between(0, ms);
        let id = loop {
            let id = MessageId::from_parts(ORIGIN_MS + when_ms, u128::from(self.random.number()));
            if destinations(id) == [destination(to)] {
                break id;
            }
        };
        self.submit_this(id, when_ms);
        id
    }

    /// Submits the message at the time in its id.
    fn submit_this(&mut self, id: MessageId, when_ms: u64) {
        self.at(when_ms, Event::Submit(id));
        let later_ms = when_ms + self.random.between(0, AGAIN_MS);
        if self.random.chance(self.weather.lost_questions) {
            // The answer got lost, so the submitter pushes the message again.
            self.at(later_ms, Event::Submit(id));
        }
        if self.random.chance(self.weather.lost_questions) {
            self.at(later_ms, Event::Disown(id));
        }
        self.submitted.insert(id);
    }

    /// Has an operator act on a random message, unless Redis is away.
    pub(crate) fn operate(&mut self) {
        let submitted: Vec<MessageId> = self.submitted.iter().copied().collect();
        let id = *self.random.pick(&submitted);
        let act =
            *self.random.pick(&[Act::Delete, Act::Hold, Act::Hold, Act::Release, Act::Requeue]);
        if self.redis_is_up {
            self.note(&format!("{act} {id}"));
            self.redis.operate(act, id);
            self.publish();
        }
    }

    /// Has a node fall sick or recover, or an operator drain it or take that back.
    pub(crate) fn sicken(&mut self, place: usize) {
        let what = self.random.between(0, 6);
        self.note(&format!("sickness {what} at {place}"));
        let postfix = &mut self.postfixes[place];
        match what {
            0 => postfix.freeze(),
            1 => postfix.is_full = true,
            2 => postfix.is_manager_frozen = true,
            3 => _ = self.redis.spool.drain(&postfix.node),
            4 => _ = self.redis.spool.undrain(&postfix.node),
            _ => self.heal(place),
        }
    }

    /// Ends all sickness of a node.
    pub(crate) fn heal(&mut self, place: usize) {
        let postfix = &mut self.postfixes[place];
        (postfix.is_full, postfix.is_manager_frozen) = (false, false);
        postfix.thaw();
        self.redis.spool.undrain(&postfix.node);
        self.carry_replies(place);
    }

    /// Has an operator release all mail that is on hold.
    pub(crate) fn release_all(&mut self) {
        self.note("release all");
        self.submitted.iter().for_each(|id| self.redis.operate(Act::Release, *id));
        self.publish();
    }

    /// Returns how often each message was deleted, in Redis or at a node.
    pub(crate) fn deletions(&self) -> BTreeMap<MessageId, usize> {
        let mut times: BTreeMap<MessageId, usize> =
            self.redis.deleted().into_iter().map(|id| (id, 1)).collect();
        for (id, fate) in self.postfixes.iter().flat_map(|it| &it.fates) {
            if *fate == Fate::Deleted {
                *times.entry(*id).or_default() += 1;
            }
        }
        times
    }

    /// Makes Redis unreachable.
    pub(crate) fn cut_off(&mut self) {
        self.note("redis goes");
        self.redis_is_up = false;
        self.troubles += 1;
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace.push(format!("{:>6} {text}", self.now_ms));
    }

    /// Lets time pass up to `ms`, or until `enough` holds. Returns whether it holds.
    pub(crate) fn run_until(&mut self, ms: u64, mut enough: impl FnMut(&Self) -> bool) -> bool {
        while !enough(self) {
            let Some(when) = self.events.next_time() else { return false };
            if when > ms {
                self.now_ms = ms;
                return false;
            }
            self.now_ms = when;
            self.redis.spool.now_ms = ORIGIN_MS + when;
            let event = self.events.pop().expect("it is the next");
            if self.is_loud {
                self.note(&format!("{event:?}"));
            }
            self.happen(event);
            self.judge();
        }
        true
    }

    /// Returns the end of the time in which the event's process is frozen.
    fn frozen_until_ms(&self, event: &Event) -> Option<u64> {
        let number = match event {
            Event::Input(number, _)
            | Event::Connect(number)
            | Event::FromPickup(number, ..)
            | Event::Wake(number) => *number,
            Event::Call(_, _, peer, _) => self.number_of(peer.generation)?,
            _ => return None,
        };
        self.frozen.get(&number).copied().filter(|until_ms| *until_ms > self.now_ms)
    }

    fn happen(&mut self, event: Event) {
        if let Some(until_ms) = self.frozen_until_ms(&event) {
            return self.at(until_ms, event);
        }
        match event {
            Event::Submit(id) => {
                self.redis.spool.submit(id);
                self.spread(&Notice::Inbox);
            }
            Event::Disown(id) => {
                let answer = self.redis.spool.disown(id);
                self.note(&format!("{id}: {answer}"));
            }
            Event::Arrive(number, ticket, question) => self.arrive(number, ticket, question),
            Event::Input(number, input) => self.tell(number, input),
            Event::Connect(number) => self.connect(number),
            Event::ToPickup(place, connection, request) => self.request(place, connection, request),
            Event::FromPickup(number, connection, reply) => self.reply(number, connection, reply),
            Event::Wake(number) => self.wake(number),
            Event::Call(call, from, peer, request) => self.called(call, from, &peer, request),
            Event::CleanupStep(place) => {
                let choice = self.random.number();
                let can_read = self.redis_is_up;
                self.postfixes[place].step(choice, can_read);
                self.carry_replies(place);
                self.later(1, 8, Event::CleanupStep(place));
            }
            Event::QueueManagerStep(place) => {
                let choice = self.random.number();
                self.postfixes[place].manage(choice);
                self.carry_replies(place);
                self.later(1, 20, Event::QueueManagerStep(place));
            }
        }
    }

    /// Checks that each released file is committed to its node as this file.
    fn judge(&mut self) {
        for postfix in &mut self.postfixes {
            for (queue_id, id) in std::mem::take(&mut postfix.released) {
                let is_ours = self.redis.spool.is_committed(&postfix.node, &queue_id, id);
                // A settlement may have been under way when the disk was put back.
                let is_again = postfix.was_put_back && self.redis.spool.is_settled(id);
                assert!(
                    is_ours || is_again,
                    "{queue_id} released on {} without a commit of {id}",
                    postfix.node
                );
            }
        }
    }

    /// Returns how often each message was delivered. Stock pickup delivers each disowned message
    /// from the maildrop once.
    pub(crate) fn deliveries(&self) -> BTreeMap<MessageId, usize> {
        let mut times: BTreeMap<MessageId, usize> =
            self.redis.spool.disowned().into_iter().map(|id| (id, 1)).collect();
        for (id, fate) in self.postfixes.iter().flat_map(|it| &it.fates) {
            if *fate == Fate::Delivered {
                *times.entry(*id).or_default() += 1;
            }
        }
        times
    }

    /// Whether Redis and every queue is empty, and each message has its end.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.redis.spool.is_empty()
            && self.postfixes.iter().all(Postfix::is_empty)
            && self.has_everything_a_fate()
    }

    fn has_everything_a_fate(&self) -> bool {
        let fates = self.postfixes.iter().flat_map(|it| &it.fates).map(|(id, _)| *id);
        let all: BTreeSet<MessageId> = fates
            .chain(self.redis.spool.quarantined())
            .chain(self.redis.spool.disowned())
            .chain(self.redis.deleted())
            .collect();
        all.len() == self.submitted.len()
    }

    pub(crate) fn describe(&self) -> String {
        let postfixes: Vec<String> = self.postfixes.iter().map(Postfix::describe).collect();
        format!("{}\n{:#?}\n{}", self.trace.join("\n"), self.redis, postfixes.join("\n"))
    }
}
