//! Hosts and the network between them, under one clock; what they tell each other is checked as it happens.

use std::collections::BTreeMap;

use bytes::Bytes;
use rpc::client::Event as ClientEvent;
use rpc::server::Event as ServerEvent;
use rpc::{Address, CallError, ClientId, Identity, Key, Port, Transmit};

use crate::host::{Dealings, Equipment, Host, Process, Role, State, duration};
use crate::ledger::{CallNumber, End, Finding, Ledger, Violation};
use crate::network::{Flight, Network, udp};
use crate::plan::{Pace, Plan, SECOND};
use crate::random::Random;
use crate::trace::Trace;

/// What happens of itself. What hosts do at their own times is in their alarms.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Arrive(Flight),
    /// A service of this host and life has finished.
    Done {
        host: usize,
        life: u64,
        request: usize,
        reply: Bytes,
    },
    Found {
        host: usize,
        life: u64,
        port: Port,
        address: Option<Address>,
    },
    Call {
        host: usize,
    },
    Cancel {
        host: usize,
        life: u64,
        call: CallNumber,
    },
    Trouble,
    Start {
        host: usize,
    },
    Resume {
        host: usize,
    },
    /// By now a call's end is known to its server.
    Told {
        call: CallNumber,
    },
    Heal {
        pairs: Vec<(Address, Address)>,
    },
}

/// Packets and what they were sent for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub sent_by_clients: u64,
    pub sent_by_servers: u64,
    /// `Hello`s that arrived at servers, each of which is answered.
    pub greeted: u64,
    pub executed: u64,
    /// Servers that a client's life has called.
    pub greetings: u64,
    /// Packets that clients sent because a timer expired.
    pub repeated: u64,
    /// The most that clients may send in all.
    pub budget: u64,
}

/// More events at one instant than there could be.
const MAX_AT_ONCE: usize = 100_000;
const MAX_BACKLOG: usize = 200;

pub(crate) struct World {
    pub random: Random,
    pub plan: Plan,
    pub network: Network,
    pub ledger: Ledger,
    pub hosts: Vec<Host>,
    pub tally: Tally,
    pub now_us: u64,
    pub found: Option<Finding>,
    pub trace: Trace,
    pub equipment: Equipment,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    at_once: usize,
}

impl World {
    pub(crate) fn new(plan: Plan, random: Random, trace: Trace) -> Self {
        let equipment = Equipment {
            key: if plan.is_local { Key::none() } else { Key::from_secret(b"simulation") },
            secret: [7; 32],
            client: plan.client.clone(),
            server: plan.server.clone(),
            longest_reply_bytes: plan.work.max_reply_bytes as usize,
            #[cfg(feature = "mutations")]
            broken: Vec::new(),
        };
        let clients = (0..plan.clients as u64).map(|n| {
            Host::new(Role::Client(ClientId(if plan.are_twins { 1 } else { n + 1 })), n, home(&plan, 1, n))
        });
        let servers =
            (0..plan.servers as u64).map(|n| Host::new(Role::Server(Port(n + 1)), n, home(&plan, 2, n)));
        Self {
            hosts: clients.chain(servers).collect(),
            network: Network::new(plan.conditions, plan.is_local),
            random,
            plan,
            ledger: Ledger::default(),
            tally: Tally::default(),
            now_us: 0,
            found: None,
            trace,
            equipment,
            events: BTreeMap::new(),
            scheduled: 0,
            at_once: 0,
        }
    }

    pub(crate) fn later(&mut self, after_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now_us + after_us, self.scheduled), event);
    }

    pub(crate) fn clients(&self) -> std::ops::Range<usize> {
        0..self.plan.clients
    }

    pub(crate) fn servers(&self) -> std::ops::Range<usize> {
        self.plan.clients..self.hosts.len()
    }

    fn report(&mut self, violation: Violation, detail: impl Into<String>) {
        let detail = detail.into();
        self.found.get_or_insert(Finding { violation, detail });
    }

    fn check(&mut self, result: Result<(), Finding>) {
        if let Err(finding) = result {
            self.found.get_or_insert(finding);
        }
    }

    /// Until `done`, or the time is over, or something is wrong. Says whether it is done.
    pub(crate) fn run_until(&mut self, limit_us: u64, done: impl Fn(&Self) -> bool) -> Result<bool, Finding> {
        loop {
            if let Some(finding) = self.found.take() {
                return Err(finding);
            }
            if done(self) {
                return Ok(true);
            }
            let Some(next_us) = self.next_us().filter(|next_us| *next_us <= limit_us) else {
                self.now_us = self.now_us.max(limit_us);
                return Ok(false);
            };
            self.pass_time(next_us);
            self.step();
        }
    }

    /// Whether nothing will ever happen again.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.next_us().is_none()
    }

    fn next_us(&self) -> Option<u64> {
        let alarms = self.hosts.iter().filter(|host| !host.is_paused).filter_map(|host| host.wake_us);
        let event = self.events.first_key_value().map(|((at_us, _), _)| *at_us);
        alarms.chain(event).min()
    }

    fn pass_time(&mut self, next_us: u64) {
        if next_us > self.now_us {
            (self.now_us, self.at_once) = (next_us, 0);
        }
        self.at_once += 1;
        if self.at_once > MAX_AT_ONCE {
            self.report(Violation::Livelock, format!("{} events at one instant", self.at_once));
        }
    }

    fn step(&mut self) {
        let now_us = self.now_us;
        let is_due = |host: &Host| !host.is_paused && host.wake_us.is_some_and(|at_us| at_us <= now_us);
        let due = (0..self.hosts.len()).find(|host| is_due(&self.hosts[*host]));
        let has_event = self.events.first_key_value().is_some_and(|((at_us, _), _)| *at_us <= now_us);
        match due {
            // At the same instant either may come first.
            Some(host) if !has_event || self.random.chance(500) => self.wake(host),
            _ => {
                if let Some((_, event)) = self.events.pop_first() {
                    self.apply(event);
                }
            }
        }
    }

    pub(crate) fn wake(&mut self, host: usize) {
        self.hosts[host].handle_timeout(self.now_us);
        self.settle(host);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive(flight) => self.arrive(flight),
            Event::Done { host, life, request, reply } => self.finish(host, life, request, reply),
            Event::Found { host, life, port, address } => self.found_at(host, life, port, address),
            Event::Call { host } => self.call_any(host),
            Event::Cancel { host, life, call } => self.cancel(host, life, call),
            Event::Trouble => self.trouble(),
            Event::Start { host } => self.start(host),
            Event::Resume { host } => self.resume(host),
            Event::Told { call } => self.expect_cancelled(call),
            Event::Heal { pairs } => pairs.iter().for_each(|pair| _ = self.network.divided.remove(pair)),
        }
    }

    // Packets.

    fn arrive(&mut self, flight: Flight) {
        let Some(host) = self.hosts.iter().position(|host| host.is_alive() && host.address == flight.to)
        else {
            return self.trace.packet(self.now_us, "to nobody", &flight, &self.equipment.key);
        };
        if !self.hosts[host].is_paused {
            return self.hand_over(host, &flight);
        }
        if self.hosts[host].backlog.len() < MAX_BACKLOG {
            self.hosts[host].backlog.push_back(flight);
        }
    }

    pub(crate) fn hand_over(&mut self, host: usize, flight: &Flight) {
        self.trace.packet(self.now_us, "arrives", flight, &self.equipment.key);
        self.note_dealings(host, flight);
        let before = flight.is_damaged.then(|| (self.hosts[host].usage(), self.hosts[host].unreadable()));
        self.hosts[host].handle_packet(self.now_us, &flight.from, &flight.packet);
        if let Some(before) = before {
            self.expect_no_effect(host, &before.0, before.1 + 1);
        }
        self.settle(host);
    }

    /// A damaged packet is counted, and that is all.
    fn expect_no_effect(&mut self, host: usize, usage: &str, unreadable: u64) {
        let it = &mut self.hosts[host];
        if it.poll_transmit().is_some() || it.usage() != usage || it.unreadable() != unreadable {
            self.report(Violation::AnsweredDamage, format!("host {host}"));
        }
    }

    fn note_dealings(&mut self, host: usize, flight: &Flight) {
        if self.hosts[host].is_server() {
            self.tally.greeted += u64::from(flight.packet.get(3) == Some(&1));
            let dealings = self.hosts[host].dealings.entry(flight.from.clone()).or_default();
            dealings.got += flight.packet.len() as u64;
        }
        let Some((sender, life)) = flight.sender.filter(|(sender, _)| self.hosts[*sender].is_server()) else {
            return;
        };
        if self.hosts[sender].life == life {
            self.hosts[sender].dealings.entry(flight.meant_for.clone()).or_default().has_arrived = true;
        }
    }

    /// Takes out of a host what it has to say, after each thing that was done to it.
    pub(crate) fn settle(&mut self, host: usize) {
        while self.found.is_none() {
            if let Some(transmit) = self.hosts[host].poll_transmit() {
                self.send(host, transmit);
            } else if !self.settle_event(host) {
                break;
            }
        }
        self.hosts[host].set_alarm();
        if let Some(excess) = self.hosts[host].excess(&self.equipment) {
            self.report(Violation::OverLimit, format!("host {host}: {excess}"));
        }
    }

    fn send(&mut self, host: usize, transmit: Transmit) {
        let Transmit { to, packet } = transmit;
        self.check_size(host, &to, packet.len());
        let it = &self.hosts[host];
        let (from, sender) = (it.address.clone(), Some((host, it.life)));
        let flight = Flight {
            from,
            meant_for: to.clone(),
            to,
            packet: packet.into(),
            sender,
            is_replayed: false,
            is_damaged: false,
        };
        self.trace.packet(self.now_us, "sent", &flight, &self.equipment.key);
        let copies = self.network.carry(&mut self.random, &flight);
        if copies.is_empty() {
            self.trace.line(self.now_us, &|| "… lost".to_owned());
        }
        for (after_us, copy) in copies {
            self.later(after_us, Event::Arrive(copy));
        }
    }

    fn check_size(&mut self, host: usize, to: &Address, bytes: usize) {
        if bytes > self.equipment.datagram_bytes(&self.hosts[host], to) {
            self.report(Violation::Oversize, format!("{bytes} bytes to {to}"));
        }
        if !self.hosts[host].is_server() {
            self.tally.sent_by_clients += 1;
            if self.tally.sent_by_clients > self.tally.budget {
                self.report(Violation::TooManyPackets, format!("{:?}", self.tally));
            }
            return;
        }
        self.tally.sent_by_servers += 1;
        let dealings = self.hosts[host].dealings.entry(to.clone()).or_default();
        dealings.gave += bytes as u64;
        let Dealings { got, gave, has_arrived } = *dealings;
        if gave > got && !has_arrived {
            self.report(Violation::Amplified, format!("{to} sent {got} bytes and was sent {gave}"));
        }
    }

    // Events of clients and servers.

    fn settle_event(&mut self, host: usize) -> bool {
        match &mut self.hosts[host].process {
            Process::Dead => false,
            Process::Client(client) => {
                let event = client.poll_event();
                event.map(|event| self.apply_client(host, event)).is_some()
            }
            Process::Server(server) => {
                let event = server.poll_event();
                event.map(|event| self.apply_server(host, event)).is_some()
            }
        }
    }

    fn apply_client(&mut self, host: usize, event: ClientEvent) {
        match event {
            ClientEvent::Lookup { port } => self.look_up(host, port),
            ClientEvent::Ended { call, result } => {
                let Some(number) = self.hosts[host].take_open(call) else {
                    return self.report(Violation::EndedTwice, format!("{call:?} is not open"));
                };
                self.trace.line(self.now_us, &|| {
                    format!("call {number} ends: {:?}", result.as_ref().map(Bytes::len))
                });
                let deadline_us = self.ledger.call(number).deadline_us.max(self.hosts[host].resumed_us);
                if self.now_us > deadline_us {
                    self.report(
                        Violation::EndedLate,
                        format!("call {number}, {} us late", self.now_us - deadline_us),
                    );
                }
                if self.plan.must_cancel {
                    self.later(SECOND, Event::Told { call: number });
                }
                let result = self.ledger.end(number, result.as_deref().map_err(Clone::clone));
                self.check(result);
            }
        }
    }

    fn expect_cancelled(&mut self, call: CallNumber) {
        let Some((host, request)) = self.ledger.call(call).service else { return };
        if self.hosts[host].requests[request].1 == State::Executing {
            self.report(Violation::NotCancelled, format!("call {call}"));
        }
    }

    fn look_up(&mut self, host: usize, port: Port) {
        let server = self.servers().find(|it| self.hosts[*it].role == Role::Server(port)).unwrap_or_default();
        let lookups = self.plan.lookups;
        let mut address = Some(self.hosts[server].address.clone());
        if self.random.chance(lookups.former) && !self.hosts[server].former.is_empty() {
            address = Some(self.random.pick(&self.hosts[server].former).clone());
        } else if self.random.chance(lookups.another) {
            address =
                Some(self.hosts[self.random.between(0, self.hosts.len() as u64) as usize].address.clone());
        } else if self.random.chance(lookups.none) {
            address = None;
        }
        let (life, after_us) = (self.hosts[host].life, self.random.between(0, lookups.delay_us));
        self.trace
            .line(self.now_us, &|| format!("host {host} looks up {port}: {address:?} in {after_us} us"));
        self.later(after_us, Event::Found { host, life, port, address });
    }

    fn found_at(&mut self, host: usize, life: u64, port: Port, address: Option<Address>) {
        let now = self.hosts[host].clock(self.now_us);
        if self.hosts[host].life != life {
            return;
        }
        if self.hosts[host].is_paused {
            return self.later(10_000, Event::Found { host, life, port, address });
        }
        if let Process::Client(client) = &mut self.hosts[host].process {
            client.handle_found(now, port, address);
            self.settle(host);
        }
    }

    fn apply_server(&mut self, host: usize, event: ServerEvent) {
        match event {
            ServerEvent::Request { id, client, body, .. } => {
                self.tally.executed += 1;
                let Some(request) = self.hosts[host].enter_request(id) else {
                    return self.report(Violation::ExecutedTwice, format!("{id} is given twice"));
                };
                self.execute(host, request, client, &body);
            }
            ServerEvent::Cancelled { id, why } => {
                self.trace.line(self.now_us, &|| format!("{id} is cancelled: {why:?}"));
                match self.hosts[host].request(id) {
                    Some(state @ State::Executing) => *state = State::Cancelled,
                    other => {
                        let detail = format!("{id} is cancelled, and was {other:?}");
                        self.report(Violation::ReplyRefused, detail);
                    }
                }
            }
        }
    }

    fn execute(&mut self, host: usize, request: usize, client: Identity, body: &[u8]) {
        let Role::Server(port) = self.hosts[host].role else { return };
        let life = self.hosts[host].life;
        match self.ledger.execute(port, client, body, (host, request)) {
            Err(finding) => self.check(Err(finding)),
            Ok(reply) => {
                let after_us = self.service_us();
                self.trace.line(self.now_us, &|| {
                    format!("host {host} executes {} bytes of {client:?}, {after_us:?} us", body.len())
                });
                if let Some(after_us) = after_us {
                    self.later(after_us, Event::Done { host, life, request, reply: reply.into() });
                }
            }
        }
    }

    /// None: it never finishes.
    fn service_us(&mut self) -> Option<u64> {
        match self.plan.work.pace {
            Pace::AtOnce => Some(0),
            Pace::Within(high) => Some(self.random.skewed(high)),
            Pace::Anything(_) if self.random.chance(50) => None,
            Pace::Anything(high) => Some(self.random.skewed(high)),
        }
    }

    fn finish(&mut self, host: usize, life: u64, request: usize, reply: Bytes) {
        let now = self.hosts[host].clock(self.now_us);
        if self.hosts[host].life != life || !self.hosts[host].is_alive() {
            return;
        }
        if self.hosts[host].is_paused {
            return self.later(10_000, Event::Done { host, life, request, reply });
        }
        let (id, state) = self.hosts[host].requests[request];
        let Process::Server(server) = &mut self.hosts[host].process else { return };
        let result = server.reply(now, id, reply);
        self.trace.line(self.now_us, &|| format!("{id} is replied: {result:?}"));
        if result.is_ok() != (state == State::Executing) {
            return self.report(Violation::ReplyRefused, format!("{id} was {state:?}: {result:?}"));
        }
        if result.is_ok() {
            self.hosts[host].requests[request].1 = State::Replied;
        }
        self.settle(host);
    }

    // Calls.

    fn call_any(&mut self, host: usize) {
        let work = self.plan.work;
        for _ in 0..self.random.between(0, work.burst) + 1 {
            let server = self.servers().start + self.random.between(0, self.plan.servers as u64) as usize;
            let limit_us = self.random.between(work.limit_us.0, work.limit_us.1);
            self.call(host, server, limit_us);
        }
    }

    pub(crate) fn call(&mut self, host: usize, server: usize, limit_us: u64) -> Option<CallNumber> {
        let now = self.hosts[host].clock(self.now_us);
        let Role::Server(port) = self.hosts[server].role else { return None };
        if !self.hosts[host].is_alive() || self.hosts[host].is_paused {
            return None;
        }
        let bytes = (self.length(self.plan.work.max_body_bytes), self.length(self.plan.work.max_reply_bytes));
        let (identity, deadline_us) = (self.hosts[host].identity(), self.now_us + limit_us);
        let (number, body) = self.ledger.make(identity, port, bytes, deadline_us);
        self.tally.budget += self.plan.budget(bytes, limit_us);
        self.tally.greetings += u64::from(self.hosts[host].met.insert(port.0));
        self.trace.line(self.now_us, &|| {
            format!("host {host} calls {port}: call {number}, {} bytes, limit {limit_us} us", body.len())
        });
        let Process::Client(client) = &mut self.hosts[host].process else { return None };
        match client.call(now, port, body.into(), duration(limit_us)) {
            Ok(id) => self.hosts[host].open.push((id, number)),
            Err(error) => {
                let result = self.ledger.end(number, Err(error));
                self.check(result);
            }
        }
        self.settle(host);
        self.maybe_cancel(host, number, limit_us);
        Some(number)
    }

    fn length(&mut self, high: u64) -> usize {
        if self.random.chance(self.plan.work.empty) {
            0
        } else {
            self.random.between(8, high.max(9)) as usize
        }
    }

    fn maybe_cancel(&mut self, host: usize, call: CallNumber, limit_us: u64) {
        if self.random.chance(self.plan.work.cancelled) {
            let (life, after_us) = (self.hosts[host].life, self.random.skewed(limit_us));
            self.later(after_us, Event::Cancel { host, life, call });
        }
    }

    fn cancel(&mut self, host: usize, life: u64, call: CallNumber) {
        let now = self.hosts[host].clock(self.now_us);
        let it = &mut self.hosts[host];
        let open = it.open.iter().find(|(_, number)| *number == call).map(|(id, _)| *id);
        let Some(id) = open.filter(|_| it.life == life && !it.is_paused) else { return };
        let Process::Client(client) = &mut it.process else { return };
        client.cancel(now, id);
        self.settle(host);
        if self.ledger.call(call).end.is_none() {
            self.report(Violation::NeverEnded, format!("call {call} was cancelled and hasn't ended"));
        }
    }

    pub(crate) fn has_open_calls(&self) -> bool {
        self.hosts.iter().any(|host| !host.open.is_empty())
    }

    pub(crate) fn was_too_long(&self, call: CallNumber) -> bool {
        matches!(self.ledger.call(call).end, Some(End::Error(CallError::TooLongForServer { .. })))
    }

    pub(crate) fn was_answered(&self, call: CallNumber) -> bool {
        self.ledger.call(call).end == Some(End::Reply)
    }
}

fn home(plan: &Plan, network: u8, n: u64) -> Address {
    match (plan.is_local, n % 2) {
        (false, _) => udp(network, n),
        (true, 0) => Address::Unix(format!("/run/{network}-{n}").into()),
        (true, _) => udp(127, u64::from(network) * 10 + n),
    }
}
