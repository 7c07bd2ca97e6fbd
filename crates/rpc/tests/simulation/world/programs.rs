//! The programs on the hosts: callers, which look servers up, call and cancel; and services, which
//! execute requests.

use bytes::Bytes;
use rpc::client::Event as ClientEvent;
use rpc::server::Event as ServerEvent;
use rpc::{Address, Identity, Port};

use super::{Event, World};
use crate::host::{Process, Role, State, duration};
use crate::ledger::{CallNumber, Violation};
use crate::plan::{Pace, SECOND};

impl World {
    pub(super) fn apply_client(&mut self, host: usize, event: ClientEvent) {
        match event {
            ClientEvent::Lookup { port } => self.look_up(host, port),
            ClientEvent::Ended { call, result } => {
                let Some(number) = self.hosts[host].take_open(call) else {
                    return self.report(Violation::EndedTwice, format!("{call:?} is not open"));
                };
                self.trace.line(self.now_us, &|| {
                    format!("call {number} ends: {:?}", result.as_ref().map(Bytes::len))
                });
                let deadline_us =
                    self.ledger.call(number).deadline_us.max(self.hosts[host].resumed_us);
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

    pub(super) fn expect_cancelled(&mut self, call: CallNumber) {
        let Some((host, request)) = self.ledger.call(call).service else { return };
        if self.hosts[host].requests[request].1 == State::Executing {
            self.report(Violation::NotCancelled, format!("call {call}"));
        }
    }

    pub(super) fn look_up(&mut self, host: usize, port: Port) {
        let server = self
            .servers()
            .find(|it| self.hosts[*it].role == Role::Server(port))
            .unwrap_or_default();
        let lookups = self.plan.lookups;
        let mut address = Some(self.hosts[server].address.clone());
        if self.random.chance(lookups.former) && !self.hosts[server].former.is_empty() {
            address = Some(self.random.pick(&self.hosts[server].former).clone());
        } else if self.random.chance(lookups.another) {
            address = Some(
                self.hosts[self.random.between(0, self.hosts.len() as u64) as usize]
                    .address
                    .clone(),
            );
        } else if self.random.chance(lookups.none) {
            address = None;
        }
        let (generation, after_us) =
            (self.hosts[host].generation, self.random.between(0, lookups.delay_us));
        self.trace.line(self.now_us, &|| {
            format!("host {host} looks up {port}: {address:?} in {after_us} us")
        });
        self.later(after_us, Event::Found { host, generation, port, address });
    }

    pub(super) fn found_at(
        &mut self,
        host: usize,
        generation: u64,
        port: Port,
        address: Option<Address>,
    ) {
        let now = self.hosts[host].clock(self.now_us);
        if self.hosts[host].generation != generation {
            return;
        }
        if self.hosts[host].is_paused {
            return self.later(10_000, Event::Found { host, generation, port, address });
        }
        if let Process::Client(client) = &mut self.hosts[host].process {
            client.handle_found(now, port, address);
            self.settle(host);
        }
    }

    pub(super) fn apply_server(&mut self, host: usize, event: ServerEvent) {
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

    pub(super) fn execute(&mut self, host: usize, request: usize, client: Identity, body: &[u8]) {
        let Role::Server(port) = self.hosts[host].role else { return };
        let generation = self.hosts[host].generation;
        match self.ledger.execute(port, client, body, (host, request)) {
            Err(finding) => self.check(Err(finding)),
            Ok(reply) => {
                let after_us = self.service_us();
                self.trace.line(self.now_us, &|| {
                    format!(
                        "host {host} executes {} bytes of {client:?}, {after_us:?} us",
                        body.len()
                    )
                });
                if let Some(after_us) = after_us {
                    self.later(
                        after_us,
                        Event::Done { host, generation, request, reply: reply.into() },
                    );
                }
            }
        }
    }

    /// Returns the time that a service takes; `None` if it never finishes.
    pub(super) fn service_us(&mut self) -> Option<u64> {
        match self.plan.work.pace {
            Pace::AtOnce => Some(0),
            Pace::Within(high) => Some(self.random.skewed(high)),
            Pace::Anything(_) if self.random.chance(50) => None,
            Pace::Anything(high) => Some(self.random.skewed(high)),
        }
    }

    pub(super) fn finish(&mut self, host: usize, generation: u64, request: usize, reply: Bytes) {
        let now = self.hosts[host].clock(self.now_us);
        if self.hosts[host].generation != generation || !self.hosts[host].is_alive() {
            return;
        }
        if self.hosts[host].is_paused {
            return self.later(10_000, Event::Done { host, generation, request, reply });
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

    pub(super) fn call_any(&mut self, host: usize) {
        let work = self.plan.work;
        for _ in 0..self.random.between(0, work.burst) + 1 {
            let server =
                self.servers().start + self.random.between(0, self.plan.servers as u64) as usize;
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
        let bytes = (
            self.length(self.plan.work.max_body_bytes),
            self.length(self.plan.work.max_reply_bytes),
        );
        let (identity, deadline_us) = (self.hosts[host].identity(), self.now_us + limit_us);
        let (number, body) = self.ledger.make(identity, port, bytes, deadline_us);
        self.tally.budget += self.plan.budget(bytes, limit_us);
        self.tally.greetings += u64::from(self.hosts[host].met.insert(port.0));
        self.trace.line(self.now_us, &|| {
            format!(
                "host {host} calls {port}: call {number}, {} bytes, limit {limit_us} us",
                body.len()
            )
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

    pub(super) fn length(&mut self, high: u64) -> usize {
        if self.random.chance(self.plan.work.empty) {
            0
        } else {
            self.random.between(8, high.max(9)) as usize
        }
    }

    pub(super) fn maybe_cancel(&mut self, host: usize, call: CallNumber, limit_us: u64) {
        if self.random.chance(self.plan.work.cancelled) {
            let (generation, after_us) =
                (self.hosts[host].generation, self.random.skewed(limit_us));
            self.later(after_us, Event::Cancel { host, generation, call });
        }
    }

    pub(super) fn cancel(&mut self, host: usize, generation: u64, call: CallNumber) {
        let now = self.hosts[host].clock(self.now_us);
        let it = &mut self.hosts[host];
        let open = it.open.iter().find(|(_, number)| *number == call).map(|(id, _)| *id);
        let Some(id) = open.filter(|_| it.generation == generation && !it.is_paused) else {
            return;
        };
        let Process::Client(client) = &mut it.process else { return };
        client.cancel(now, id);
        self.settle(host);
        if self.ledger.call(call).end.is_none() {
            self.report(
                Violation::NeverEnded,
                format!("call {call} was cancelled and hasn't ended"),
            );
        }
    }
}
