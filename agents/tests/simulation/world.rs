//! Machines, a Redis, Postfixes and what lies between them, under a clock of their own.
//!
//! Everything takes a random time; questions and answers get lost, come late or come twice; news gets lost; anything dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agents::info::{self, Dealt, Info, Terms};
use agents::lease::Member;
use agents::machine::{Action, End, Input, Machine, Ticket};
use agents::mail::{self, LinkEvent, LinkOrder, Mail};
use agents::news::News;
use agents::scheduler::{self, Scheduler};
use pickup_rs::protocol::{Reply, Request};
use spool::{AgentKind, Incarnation, MessageId, NodeId, Seat};

use crate::postfix::{Fate, Postfix};
use crate::random::Random;
use crate::redis::Redis;

/// How bad the world is, in percent of what could go wrong going wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub lost_questions: u64,
    pub lost_news: u64,
}

pub(crate) const STORM: Weather = Weather { lost_questions: 6, lost_news: 30 };
pub(crate) const CALM: Weather = Weather { lost_questions: 0, lost_news: 0 };

pub(crate) const LEASE_MS: u64 = 300;
const LINGER_MS: u64 = 40;
const LOT_SIZE: usize = 5;
const WINDOW: u32 = 12;
const CLEANUPS: usize = 2;
const ORIGIN_MS: u64 = 1_000_000;

#[allow(clippy::large_enum_variant)] // a handful, all of them for as long as the world
enum AnyMachine {
    Info(Info),
    Scheduler(Scheduler),
    Mail(Mail, usize),
}

#[derive(Debug, Clone)]
enum Question {
    Info(info::Question),
    Scheduler(scheduler::Question),
    Mail(mail::Question),
}

#[derive(Debug, Clone)]
enum Answer {
    Info(info::Answer),
    Scheduler(scheduler::Answer),
    Mail(mail::Answer),
}

struct Process {
    machine: AnyMachine,
    /// Of its link.
    connection: Option<u64>,
    wake_at: Option<Instant>,
}

#[derive(Debug)]
enum Event {
    Submit(MessageId),
    /// Nobody answered the submitter, and pickup-rs asks what became of it.
    Disown(MessageId),
    Arrive(usize, Ticket, Question),
    Answer(usize, Ticket, Answer),
    Failed(usize, Ticket),
    News(usize, News),
    Listening(usize),
    Connect(usize),
    ToPickup(usize, u64, Request),
    FromPickup(usize, u64, Reply),
    Wake(usize),
    CleanupStep(usize),
    QueueManagerStep(usize),
}

pub(crate) struct World {
    pub random: Random,
    pub redis: Redis,
    pub redis_is_up: bool,
    pub postfixes: Vec<Postfix>,
    pub weather: Weather,
    /// By number; a dead one's number isn't used again.
    processes: BTreeMap<usize, Process>,
    ended: BTreeMap<usize, End>,
    started: usize,
    draining: BTreeSet<usize>,
    origin: Instant,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub submitted: BTreeSet<MessageId>,
    grace: Duration,
    /// How often an agent or a pickup was killed, ended or displaced, or Redis cut off.
    pub troubles: usize,
    pub trace: Vec<String>,
    /// Every event goes into the trace: `OPTIMUS_TRACE=1`.
    is_loud: bool,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, grace: Duration) -> Self {
        Self::with_lease(seed, nodes, grace, LEASE_MS)
    }

    pub(crate) fn with_lease(seed: u64, nodes: usize, grace: Duration, lease_ms: u64) -> Self {
        let node = |n: usize| -> NodeId { format!("node-{n}").parse().expect("a name") };
        let mut redis = Redis::default();
        (redis.lot_size, redis.lease_ms, redis.now_ms) = (LOT_SIZE, lease_ms, ORIGIN_MS);
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
            origin: Instant::now(),
            now_ms: 0,
            events: BTreeMap::new(),
            sequence: 0,
            submitted: BTreeSet::new(),
            grace,
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
        self.sequence += 1;
        self.events.insert((self.now_ms + delay, self.sequence), event);
    }

    pub(crate) fn submit_within(&mut self, ms: u64) -> MessageId {
        let id = MessageId::from_parts(ORIGIN_MS, u128::from(self.random.next()));
        self.later(0, ms, Event::Submit(id));
        if self.random.chance(self.weather.lost_questions) {
            // The answer got lost, and so it is pushed again.
            self.later(0, ms, Event::Submit(id));
        }
        if self.random.chance(self.weather.lost_questions) {
            self.later(0, ms, Event::Disown(id));
        }
        self.submitted.insert(id);
        id
    }

    /// Starts an agent; for a Mail Agent, `place` is its Postfix.
    pub(crate) fn start(&mut self, kind: AgentKind, place: usize) -> usize {
        self.started += 1;
        let number = self.started;
        let incarnation = Incarnation::from_parts(ORIGIN_MS + number as u64, 0);
        let term = Duration::from_millis(self.redis.lease_ms);
        let name = String::new();
        let agent = format!("{kind}-{place}").parse().expect("a name");
        let member = Member { agent, kind, incarnation, name: name.clone() };
        let machine = match kind {
            AgentKind::Info => {
                let linger = Duration::from_millis(LINGER_MS);
                AnyMachine::Info(Info::new(member, term, Terms { lot_size: LOT_SIZE as u64, linger }))
            }
            AgentKind::Scheduler => AnyMachine::Scheduler(Scheduler::new(member, term, self.grace)),
            AgentKind::Mail => {
                let config = mail::Config { incarnation, name, term, window: WINDOW };
                AnyMachine::Mail(Mail::new(config, self.now()), place)
            }
        };
        self.note(&format!("start {number}: {kind} {place}"));
        self.processes.insert(number, Process { machine, connection: None, wake_at: None });
        self.later(0, 5, Event::Listening(number));
        self.act(number);
        number
    }

    /// Ends an agent as kill -9 would.
    pub(crate) fn kill(&mut self, number: usize) {
        self.note(&format!("kill {number}"));
        self.troubles += 1;
        self.remove(number);
    }

    fn remove(&mut self, number: usize) {
        if let Some(Process { machine: AnyMachine::Mail(_, place), connection: Some(connection), .. }) =
            self.processes.remove(&number)
        {
            let postfix = &mut self.postfixes[place];
            if postfix.connection == connection {
                postfix.disconnect();
            }
        }
    }

    /// Redis can't be reached from now on.
    pub(crate) fn cut_off(&mut self) {
        self.note("redis goes");
        self.redis_is_up = false;
        self.troubles += 1;
    }

    pub(crate) fn drain(&mut self, number: usize) {
        self.troubles += 1;
        self.note(&format!("drain {number}"));
        self.draining.insert(number);
        let now = self.now();
        match self.processes.get_mut(&number).map(|process| &mut process.machine) {
            Some(AnyMachine::Info(machine)) => machine.handle(now, Input::Drain),
            Some(AnyMachine::Scheduler(machine)) => machine.handle(now, Input::Drain),
            Some(AnyMachine::Mail(machine, _)) => machine.handle(now, Input::Drain),
            None => return,
        }
        self.act(number);
    }

    pub(crate) fn kill_pickup(&mut self, place: usize) {
        self.note(&format!("kill pickup {place}"));
        self.troubles += 1;
        self.postfixes[place].kill_pickup();
        self.tell_disconnected(place);
    }

    fn tell_disconnected(&mut self, place: usize) {
        let of = |process: &Process| matches!(process.machine, AnyMachine::Mail(_, at) if at == place);
        let numbers: Vec<usize> =
            self.processes.iter().filter(|(_, it)| of(it)).map(|(number, _)| *number).collect();
        for number in numbers {
            let current = self.postfixes[place].connection;
            let is_connected = self.postfixes[place].is_connected;
            let process = self.processes.get_mut(&number).expect("listed");
            if process.connection.is_some_and(|it| !is_connected || it != current) {
                process.connection = None;
                self.link(number, LinkEvent::Disconnected);
            }
        }
    }

    pub(crate) fn is_alive(&self, number: usize) -> bool {
        self.processes.contains_key(&number)
    }

    /// Whether somebody was asked to end and hasn't yet.
    pub(crate) fn somebody_is_ending(&self) -> bool {
        self.draining.iter().any(|number| self.is_alive(*number))
    }

    pub(crate) fn ended(&self, number: usize) -> Option<End> {
        self.ended.get(&number).copied()
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace.push(format!("{:>6} {text}", self.now_ms));
    }

    /// Lets time pass up to `ms`, or until `enough`.
    pub(crate) fn run_until(&mut self, ms: u64, mut enough: impl FnMut(&Self) -> bool) -> bool {
        while !enough(self) {
            let Some((&(when, sequence), _)) = self.events.first_key_value() else { return false };
            if when > ms {
                self.now_ms = ms;
                return false;
            }
            self.now_ms = when;
            self.redis.now_ms = ORIGIN_MS + when;
            let event = self.events.remove(&(when, sequence)).expect("it is the first");
            if self.is_loud {
                self.note(&format!("{event:?}"));
            }
            self.happen(event);
            self.judge();
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(id) => {
                self.redis.submit(id);
                self.publish();
            }
            Event::Disown(id) => {
                let answer = self.redis.disown(id);
                self.note(&format!("{id}: {answer}"));
            }
            Event::Arrive(number, ticket, question) => self.arrive(number, ticket, question),
            Event::Answer(number, ticket, answer) => self.answer(number, ticket, answer),
            Event::Failed(number, ticket) => self.fail(number, ticket),
            Event::News(number, news) => self.hear(number, Some(news)),
            Event::Listening(number) => self.hear(number, None),
            Event::Connect(number) => self.connect(number),
            Event::ToPickup(place, connection, request) => {
                let postfix = &mut self.postfixes[place];
                if postfix.is_connected && postfix.connection == connection {
                    postfix.request(request);
                    self.carry_replies(place);
                }
            }
            Event::FromPickup(number, connection, reply) => {
                if self.processes.get(&number).is_some_and(|it| it.connection == Some(connection)) {
                    self.link(number, LinkEvent::Reply(reply));
                }
            }
            Event::Wake(number) => {
                let now = self.now();
                if self.processes.get(&number).is_some_and(|it| it.wake_at.is_some_and(|when| when <= now)) {
                    self.act(number);
                }
            }
            Event::CleanupStep(place) => {
                let choice = self.random.next();
                let can_read = self.redis_is_up;
                self.postfixes[place].step(choice, can_read);
                self.carry_replies(place);
                self.later(1, 8, Event::CleanupStep(place));
            }
            Event::QueueManagerStep(place) => {
                let choice = self.random.next();
                self.postfixes[place].manage(choice);
                self.carry_replies(place);
                self.later(1, 20, Event::QueueManagerStep(place));
            }
        }
    }

    /// What must hold at every moment.
    fn judge(&mut self) {
        for postfix in &mut self.postfixes {
            for (queue_id, id) in std::mem::take(&mut postfix.released) {
                let is_ours = self.redis.is_committed(&postfix.node, &queue_id, id);
                assert!(is_ours, "{queue_id} released on {} without a commit of {id}", postfix.node);
            }
        }
    }

    fn arrive(&mut self, number: usize, ticket: Ticket, question: Question) {
        if !self.redis_is_up {
            return self.later(1, 20, Event::Failed(number, ticket));
        }
        let answer = match question {
            Question::Info(question) => Answer::Info(self.answer_info(question)),
            Question::Scheduler(question) => Answer::Scheduler(self.answer_scheduler(question)),
            Question::Mail(question) => Answer::Mail(self.answer_mail(question)),
        };
        self.publish();
        if self.random.chance(self.weather.lost_questions) {
            // The answer is lost, or comes when nobody waits for it.
            self.later(1, 30, Event::Failed(number, ticket));
            self.later(20, 200, Event::Answer(number, ticket, answer.clone()));
        } else {
            if self.random.chance(self.weather.lost_questions) {
                self.later(1, 50, Event::Answer(number, ticket, answer.clone()));
            }
            self.later(1, 5, Event::Answer(number, ticket, answer));
        }
    }

    fn answer_info(&mut self, question: info::Question) -> info::Answer {
        match question {
            info::Question::Lease(question) => info::Answer::Lease(self.redis.lease(question)),
            info::Question::See => info::Answer::Seen(self.redis.see()),
            info::Question::Deal(deal) => {
                let assigned = deal.assign.iter().filter(|(lot, node)| self.redis.assign(*lot, node)).count();
                let cut = deal.cut.iter().map(|(lot, node)| self.redis.cut(*lot, node)).collect();
                info::Answer::Dealt(Dealt { assigned, cut })
            }
        }
    }

    fn answer_scheduler(&mut self, question: scheduler::Question) -> scheduler::Answer {
        match question {
            scheduler::Question::Lease(question) => scheduler::Answer::Lease(self.redis.lease(question)),
            scheduler::Question::See => {
                self.redis.reap();
                scheduler::Answer::Seen(self.redis.see())
            }
            scheduler::Question::Rescue(rescue) => {
                let lots = rescue.reassign.iter().map(|node| self.redis.reassign(node)).sum();
                let resent = rescue.lose.iter().map(|node| self.redis.lose(node, self.grace)).sum();
                scheduler::Answer::Rescued(scheduler::Rescued { lots, resent })
            }
        }
    }

    fn answer_mail(&mut self, question: mail::Question) -> mail::Answer {
        match question {
            mail::Question::Lease(question) => mail::Answer::Lease(self.redis.lease(question)),
            mail::Question::HandBack(seat)
            | mail::Question::Inventory(seat)
            | mail::Question::Fetch(seat)
                if self.redis.is_superseded(&seat) =>
            {
                mail::Answer::Superseded
            }
            mail::Question::HandBack(seat) => {
                self.redis.reassign(&seat.node);
                mail::Answer::HandedBack
            }
            mail::Question::Inventory(seat) => {
                self.redis.arrive(&seat);
                mail::Answer::Inventory(self.redis.inventory(&seat.node))
            }
            mail::Question::Fetch(seat) => mail::Answer::Fetched(self.redis.fetch(&seat.node)),
            mail::Question::Report(seat, report) => self.answer_report(&seat, report),
        }
    }

    /// Only commits are refused to an earlier Mail Agent: the rest is about files, and true whoever says it.
    fn answer_report(&mut self, seat: &Seat, report: mail::ledger::Report) -> mail::Answer {
        if self.redis.is_superseded(seat) && !report.commits.is_empty() {
            self.redis.report(&seat.node, &mail::ledger::Report { commits: Vec::new(), ..report });
            return mail::Answer::Superseded;
        }
        mail::Answer::Reported(self.redis.report(&seat.node, &report))
    }

    fn publish(&mut self) {
        for text in std::mem::take(&mut self.redis.published) {
            self.tell(&text.parse().expect("news"));
        }
    }

    fn tell(&mut self, news: &News) {
        let numbers: Vec<usize> = self.processes.keys().copied().collect();
        for number in numbers {
            if !self.random.chance(self.weather.lost_news) {
                self.later(1, 10, Event::News(number, news.clone()));
            }
            if self.random.chance(self.weather.lost_news / 3) {
                self.later(1, 100, Event::News(number, news.clone()));
            }
        }
    }

    fn answer(&mut self, number: usize, ticket: Ticket, answer: Answer) {
        let now = self.now();
        match (self.processes.get_mut(&number).map(|it| &mut it.machine), answer) {
            (Some(AnyMachine::Info(it)), Answer::Info(answer)) => {
                it.handle(now, Input::Answer(ticket, answer));
            }
            (Some(AnyMachine::Scheduler(it)), Answer::Scheduler(answer)) => {
                it.handle(now, Input::Answer(ticket, answer));
            }
            (Some(AnyMachine::Mail(it, _)), Answer::Mail(answer)) => {
                it.handle(now, Input::Answer(ticket, answer));
            }
            (None, _) => return,
            _ => unreachable!("an answer goes where the question came from"),
        }
        self.act(number);
    }

    fn fail(&mut self, number: usize, ticket: Ticket) {
        let now = self.now();
        match self.processes.get_mut(&number).map(|it| &mut it.machine) {
            Some(AnyMachine::Info(it)) => it.handle(now, Input::Failed(ticket)),
            Some(AnyMachine::Scheduler(it)) => it.handle(now, Input::Failed(ticket)),
            Some(AnyMachine::Mail(it, _)) => it.handle(now, Input::Failed(ticket)),
            None => return,
        }
        self.act(number);
    }

    fn hear(&mut self, number: usize, news: Option<News>) {
        let now = self.now();
        match self.processes.get_mut(&number).map(|it| &mut it.machine) {
            Some(AnyMachine::Info(it)) => it.handle(now, news.map_or(Input::Listening, Input::News)),
            Some(AnyMachine::Scheduler(it)) => it.handle(now, news.map_or(Input::Listening, Input::News)),
            Some(AnyMachine::Mail(it, _)) => it.handle(now, news.map_or(Input::Listening, Input::News)),
            None => return,
        }
        self.act(number);
    }

    fn link(&mut self, number: usize, event: LinkEvent) {
        let now = self.now();
        let Some(AnyMachine::Mail(machine, _)) = self.processes.get_mut(&number).map(|it| &mut it.machine)
        else {
            return;
        };
        machine.handle(now, Input::Link(event));
        self.act(number);
    }

    fn connect(&mut self, number: usize) {
        let Some(AnyMachine::Mail(_, place)) = self.processes.get(&number).map(|it| &it.machine) else {
            return;
        };
        let place = *place;
        if self.postfixes[place].connect() {
            let connection = self.postfixes[place].connection;
            self.tell_disconnected(place);
            self.processes.get_mut(&number).expect("looked up").connection = Some(connection);
            self.link(number, LinkEvent::Connected);
        } else {
            self.link(number, LinkEvent::Disconnected);
        }
    }

    fn carry_replies(&mut self, place: usize) {
        let connection = self.postfixes[place].connection;
        let replies = std::mem::take(&mut self.postfixes[place].replies);
        let to = self.processes.iter().find(|(_, it)| {
            it.connection == Some(connection) && matches!(it.machine, AnyMachine::Mail(_, at) if at == place)
        });
        let Some((&number, _)) = to else { return };
        for reply in replies {
            // In order: a stream.
            self.later(1, 2, Event::FromPickup(number, connection, reply));
        }
    }

    /// Asks a machine what to do until it says nothing.
    fn act(&mut self, number: usize) {
        let now = self.now();
        for round in 0.. {
            assert!(round < 10_000, "{number} never stops doing things");
            let Some(process) = self.processes.get_mut(&number) else { return };
            let wants = match &mut process.machine {
                AnyMachine::Info(it) => it.poll(now).map(|action| wrap(action, Question::Info)),
                AnyMachine::Scheduler(it) => it.poll(now).map(|action| wrap(action, Question::Scheduler)),
                AnyMachine::Mail(it, _) => it.poll(now).map(wrap_mail),
            };
            match wants {
                Some(action) => self.perform(number, action),
                None => break,
            }
        }
        self.set_alarm(number, now);
    }

    fn set_alarm(&mut self, number: usize, now: Instant) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.wake_at = match &process.machine {
            AnyMachine::Info(it) => it.poll_timeout(),
            AnyMachine::Scheduler(it) => it.poll_timeout(),
            AnyMachine::Mail(it, _) => it.poll_timeout(),
        };
        if let Some(when) = process.wake_at {
            assert!(when > now, "{number} wants to be called again at once, though it has nothing to do");
            let ms = (when - self.origin).as_nanos().div_ceil(1_000_000) as u64;
            self.sequence += 1;
            self.events.insert((ms, self.sequence), Event::Wake(number));
        }
    }

    fn perform(&mut self, number: usize, action: Action<Question, LinkOrder>) {
        match action {
            Action::Ask(ticket, question) => {
                if self.random.chance(self.weather.lost_questions) {
                    self.later(1, 30, Event::Failed(number, ticket));
                    // Lost, or only late.
                    if self.random.chance(50) {
                        self.later(10, 100, Event::Arrive(number, ticket, question));
                    }
                } else {
                    self.later(1, 5, Event::Arrive(number, ticket, question));
                }
            }
            Action::Tell(news) => self.tell(&news),
            Action::Link(LinkOrder::Connect) => {
                self.processes.get_mut(&number).expect("it acts").connection = None;
                self.later(1, 3, Event::Connect(number));
            }
            Action::Link(LinkOrder::Send(request)) => {
                let Some(Process {
                    machine: AnyMachine::Mail(_, place), connection: Some(connection), ..
                }) = self.processes.get(&number)
                else {
                    return;
                };
                let (place, connection) = (*place, *connection);
                self.later(1, 2, Event::ToPickup(place, connection, request));
            }
            Action::End(end) => {
                self.note(&format!("{number} ends: {end:?}"));
                self.ended.insert(number, end);
                self.remove(number);
            }
        }
    }

    /// How often each message was delivered. What Redis has disowned, stock pickup delivers from the maildrop, once.
    pub(crate) fn deliveries(&self) -> BTreeMap<MessageId, usize> {
        let mut times: BTreeMap<MessageId, usize> = self.redis.disowned.iter().map(|id| (*id, 1)).collect();
        for (id, fate) in self.postfixes.iter().flat_map(|it| &it.fates) {
            if *fate == Fate::Delivered {
                *times.entry(*id).or_default() += 1;
            }
        }
        times
    }

    /// Every message is delivered, consumed or kept aside, and Redis and every queue is empty.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.redis.is_empty() && self.postfixes.iter().all(Postfix::is_empty) && self.has_everything_a_fate()
    }

    fn has_everything_a_fate(&self) -> bool {
        let fates = self.postfixes.iter().flat_map(|it| &it.fates).map(|(id, _)| *id);
        let all: BTreeSet<MessageId> = fates
            .chain(self.redis.corrupt.iter().copied())
            .chain(self.redis.disowned.iter().copied())
            .collect();
        all.len() == self.submitted.len()
    }

    pub(crate) fn describe(&self) -> String {
        let postfixes: Vec<String> = self.postfixes.iter().map(Postfix::describe).collect();
        format!("{}\n{:#?}\n{}", self.trace.join("\n"), self.redis, postfixes.join("\n"))
    }
}

fn wrap<Q>(action: Action<Q>, question: impl Fn(Q) -> Question) -> Action<Question, LinkOrder> {
    match action {
        Action::Ask(ticket, it) => Action::Ask(ticket, question(it)),
        Action::Tell(news) => Action::Tell(news),
        Action::Link(never) => match never {},
        Action::End(end) => Action::End(end),
    }
}

fn wrap_mail(action: Action<mail::Question, LinkOrder>) -> Action<Question, LinkOrder> {
    match action {
        Action::Ask(ticket, it) => Action::Ask(ticket, Question::Mail(it)),
        Action::Tell(news) => Action::Tell(news),
        Action::Link(order) => Action::Link(order),
        Action::End(end) => Action::End(end),
    }
}
