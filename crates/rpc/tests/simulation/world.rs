//! Hosts and the network between them, under one clock, with checks of each packet and call.

// The path is explicit, since the fuzz target includes this file by a path of its own.
#[path = "world/programs.rs"]
mod programs;

use bytes::Bytes;
use rpc::{Address, CallError, ClientId, Key, Port, Transmit};
use simulation::{Random, Timeline};

use crate::host::{Dealings, Equipment, Host, Process, Role};
use crate::ledger::{CallNumber, End, Finding, Ledger, Violation};
use crate::network::{Flight, Network, udp};
use crate::plan::Plan;
use crate::trace::Trace;

/// An event of the world. The timers of hosts are in their alarms instead.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Arrive(Flight),
    /// A service of this host and generation has finished.
    Done {
        host: usize,
        generation: u64,
        request: usize,
        reply: Bytes,
    },
    Found {
        host: usize,
        generation: u64,
        port: Port,
        address: Option<Address>,
    },
    Call {
        host: usize,
    },
    Cancel {
        host: usize,
        generation: u64,
        call: CallNumber,
    },
    Trouble,
    Start {
        host: usize,
    },
    Resume {
        host: usize,
    },
    /// The time by which the server must know of a call's end.
    Told {
        call: CallNumber,
    },
    Heal {
        pairs: Vec<(Address, Address)>,
    },
}

/// Numbers of packets, by their purposes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub sent_by_clients: u64,
    pub sent_by_servers: u64,
    /// `Hello`s that arrived at servers, each of which is answered.
    pub greeted: u64,
    pub executed: u64,
    /// Servers that a client's generation has called.
    pub greetings: u64,
    /// Packets that clients sent because a timer expired.
    pub repeated: u64,
    /// Most packets that clients may send in all.
    pub budget: u64,
}

/// Limit of events at one instant; more are a livelock.
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
    events: Timeline<Event>,
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
            Host::new(
                Role::Client(ClientId(if plan.are_twins { 1 } else { n + 1 })),
                n,
                home(&plan, 1, n),
            )
        });
        let servers = (0..plan.servers as u64)
            .map(|n| Host::new(Role::Server(Port(n + 1)), n, home(&plan, 2, n)));
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
            events: Timeline::default(),
            at_once: 0,
        }
    }

    pub(crate) fn later(&mut self, after_us: u64, event: Event) {
        self.events.insert(self.now_us + after_us, event);
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

    /// Runs until `done` is true, a violation is found, or the limit has passed. Returns whether
    /// `done` is true.
    pub(crate) fn run_until(
        &mut self,
        limit_us: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Finding> {
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

    /// Returns whether no event will ever come.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.next_us().is_none()
    }

    fn next_us(&self) -> Option<u64> {
        let alarms =
            self.hosts.iter().filter(|host| !host.is_paused).filter_map(|host| host.wake_us);
        alarms.chain(self.events.next_time()).min()
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
        let is_due =
            |host: &Host| !host.is_paused && host.wake_us.is_some_and(|at_us| at_us <= now_us);
        let due = (0..self.hosts.len()).find(|host| is_due(&self.hosts[*host]));
        let has_event = self.events.next_time().is_some_and(|at_us| at_us <= now_us);
        match due {
            // At the same instant either may come first.
            Some(host) if !has_event || self.random.chance(500) => self.wake(host),
            _ => {
                if let Some(event) = self.events.pop() {
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
            Event::Done { host, generation, request, reply } => {
                self.finish(host, generation, request, reply);
            }
            Event::Found { host, generation, port, address } => {
                self.found_at(host, generation, port, address);
            }
            Event::Call { host } => self.call_any(host),
            Event::Cancel { host, generation, call } => self.cancel(host, generation, call),
            Event::Trouble => self.trouble(),
            Event::Start { host } => self.start(host),
            Event::Resume { host } => self.resume(host),
            Event::Told { call } => self.expect_cancelled(call),
            Event::Heal { pairs } => {
                pairs.iter().for_each(|pair| _ = self.network.divided.remove(pair));
            }
        }
    }

    // Packets.

    fn arrive(&mut self, flight: Flight) {
        let Some(host) =
            self.hosts.iter().position(|host| host.is_alive() && host.address == flight.to)
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
        let before =
            flight.is_damaged.then(|| (self.hosts[host].usage(), self.hosts[host].unreadable()));
        self.hosts[host].handle_packet(self.now_us, &flight.from, &flight.packet);
        if let Some(before) = before {
            self.expect_no_effect(host, &before.0, before.1 + 1);
        }
        self.settle(host);
    }

    /// Checks that a damaged packet was counted and had no other effect.
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
        let Some((sender, generation)) =
            flight.sender.filter(|(sender, _)| self.hosts[*sender].is_server())
        else {
            return;
        };
        if self.hosts[sender].generation == generation {
            self.hosts[sender].dealings.entry(flight.meant_for.clone()).or_default().has_arrived =
                true;
        }
    }

    /// Takes a host's outputs, after each of its inputs.
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
        let (from, sender) = (it.address.clone(), Some((host, it.generation)));
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
