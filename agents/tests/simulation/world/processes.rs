//! Agents as processes, which start, handle inputs, act, and end or are killed.

use std::time::{Duration, Instant};

use agents::info::{Info, Terms};
use agents::lease::Member;
use agents::machine::{Action, End, Input, Machine};
use agents::mail::{self, LinkEvent, LinkOrder, Mail};
use agents::scheduler::Scheduler;
use spool::{AgentKind, Generation};

use super::{Event, LOT_SIZE, ORIGIN_MS, World};
use crate::machines::{Answer, AnyMachine, Question};

const LINGER_MS: u64 = 40;
const WINDOW: u32 = 12;

pub(super) struct Process {
    machine: AnyMachine,
    /// Index of a Mail Agent's Postfix.
    pub(super) postfix: Option<usize>,
    /// Number of the Mail Agent's connection to pickup-rs.
    pub(super) connection: Option<u64>,
    wake_at: Option<Instant>,
    pub(super) generation: Generation,
}

impl World {
    /// Starts an agent; for a Mail Agent, `place` is its Postfix.
    pub(crate) fn start(&mut self, kind: AgentKind, place: usize) -> usize {
        self.started += 1;
        let number = self.started;
        let generation = Generation::from_parts(ORIGIN_MS + number as u64, 0);
        let term = Duration::from_millis(self.redis.lease_ms);
        let name = String::new();
        let agent = format!("{kind}-{place}").parse().expect("a name");
        let member = Member { agent, kind, generation, name: name.clone() };
        let machine = match kind {
            AgentKind::Info => {
                let linger = Duration::from_millis(LINGER_MS);
                AnyMachine::Info(Info::new(
                    member,
                    term,
                    Terms { lot_size: LOT_SIZE.into(), linger },
                ))
            }
            AgentKind::Scheduler => AnyMachine::Scheduler(Scheduler::new(member, term, self.grace)),
            AgentKind::Mail => {
                let config = mail::MailConfig { generation, name, term, window: WINDOW };
                AnyMachine::Mail(Mail::new(config, self.now()))
            }
        };
        self.note(&format!("start {number}: {kind} {place}"));
        let postfix = (kind == AgentKind::Mail).then_some(place);
        self.processes.insert(
            number,
            Process { machine, postfix, connection: None, wake_at: None, generation },
        );
        self.later(0, 5, Event::Input(number, Input::Listening));
        self.act(number);
        number
    }

    /// Ends an agent without a chance to act, as `kill -9` does.
    pub(crate) fn kill(&mut self, number: usize) {
        self.note(&format!("kill {number}"));
        self.troubles += 1;
        self.remove(number);
    }

    fn remove(&mut self, number: usize) {
        if let Some(Process { postfix: Some(place), connection: Some(connection), .. }) =
            self.processes.remove(&number)
        {
            let postfix = &mut self.postfixes[place];
            if postfix.connection == connection {
                postfix.disconnect();
            }
        }
    }

    pub(crate) fn drain(&mut self, number: usize) {
        self.troubles += 1;
        self.note(&format!("drain {number}"));
        self.draining.insert(number);
        self.tell(number, Input::Drain);
    }

    pub(crate) fn is_alive(&self, number: usize) -> bool {
        self.processes.contains_key(&number)
    }

    /// Whether an agent was asked to end and still runs.
    pub(crate) fn somebody_is_ending(&self) -> bool {
        self.draining.iter().any(|number| self.is_alive(*number))
    }

    pub(crate) fn ended(&self, number: usize) -> Option<End> {
        self.ended.get(&number).copied()
    }

    pub(super) fn tell(&mut self, number: usize, input: Input<Answer, LinkEvent>) {
        let now = self.now();
        if let Some(process) = self.processes.get_mut(&number) {
            process.machine.handle(now, input);
            self.act(number);
        }
    }

    pub(super) fn wake(&mut self, number: usize) {
        let now = self.now();
        if self.processes.get(&number).is_some_and(|it| it.wake_at.is_some_and(|when| when <= now))
        {
            self.act(number);
        }
    }

    /// Polls a machine and performs its actions until there is none.
    fn act(&mut self, number: usize) {
        let now = self.now();
        for round in 0.. {
            assert!(round < 10_000, "{number} never stops doing things");
            let Some(process) = self.processes.get_mut(&number) else { return };
            match process.machine.poll(now) {
                Some(action) => self.perform(number, action),
                None => break,
            }
        }
        self.set_alarm(number, now);
    }

    fn set_alarm(&mut self, number: usize, now: Instant) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.wake_at = process.machine.poll_timeout();
        if let Some(when) = process.wake_at {
            assert!(
                when > now,
                "{number} wants to be called again at once, though it has nothing to do"
            );
            let ms = (when - self.origin).as_nanos().div_ceil(1_000_000) as u64;
            self.events.insert(ms, Event::Wake(number));
        }
    }

    fn perform(&mut self, number: usize, action: Action<Question, LinkOrder>) {
        match action {
            Action::Ask(ticket, question) => {
                if self.random.chance(self.weather.lost_questions) {
                    self.later(1, 30, Event::Input(number, Input::Failed(ticket)));
                    // Half of the failed questions still arrive, late.
                    if self.random.chance(500) {
                        self.later(10, 100, Event::Arrive(number, ticket, question));
                    }
                } else {
                    self.later(1, 5, Event::Arrive(number, ticket, question));
                }
            }
            Action::Tell(notice) => self.spread(&notice),
            Action::Call(ticket, peer, request) => self.call((number, ticket), peer, request),
            Action::Reply(call, reply) => self.reply_to(call, reply),
            Action::Link(LinkOrder::Connect) => {
                self.processes.get_mut(&number).expect("it acts").connection = None;
                self.later(1, 3, Event::Connect(number));
            }
            Action::Link(LinkOrder::Send(request)) => {
                let sender = self.processes.get(&number).map(|it| (it.postfix, it.connection));
                if let Some((Some(place), Some(connection))) = sender {
                    self.later(1, 2, Event::ToPickup(place, connection, request));
                }
            }
            Action::End(end) => {
                self.note(&format!("{number} ends: {end:?}"));
                self.ended.insert(number, end);
                self.remove(number);
            }
        }
    }
}
