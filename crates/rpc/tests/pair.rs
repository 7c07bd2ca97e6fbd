//! Tests of a client's and a server's core. The test itself carries the packets between them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use rpc::server::CancelReason;
use rpc::{
    Address, CallError, ClientGeneration, ClientId, Epoch, Execution, Identity, Key, Port,
    Progress, Time, Transmit,
};
use rpc::{client, server};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(60);
const PORT: Port = Port(7);

struct Pair {
    now: Time,
    client: client::Client,
    server: server::Server,
    /// Executed requests with their ids.
    executed: Vec<(server::RequestId, Bytes)>,
    cancelled: Vec<CancelReason>,
    ended: Vec<(client::CallId, Result<Bytes, CallError>)>,
    packets: usize,
}

fn at(port: u16) -> Address {
    Address::Udp(([192, 0, 2, 1], port).into())
}

fn server(epoch: u64) -> server::Server {
    server::Server::new(server::Config::new(PORT, Epoch(epoch), Key::from_secret(b"k"), [1; 32]))
}

fn server_with(limits: server::Limits) -> server::Server {
    let config = server::Config::new(PORT, Epoch(1), Key::from_secret(b"k"), [1; 32]);
    server::Server::new(server::Config { limits, ..config })
}

fn client(epoch: u64) -> client::Client {
    let identity = Identity { id: ClientId(1), generation: ClientGeneration(epoch) };
    client::Client::new(client::Config::new(identity, Key::from_secret(b"k"), 0))
}

/// Returns a client that lets `calls_ahead` calls run ahead of the floor.
fn client_ahead(calls_ahead: usize) -> client::Client {
    let identity = Identity { id: ClientId(1), generation: ClientGeneration(1) };
    let config = client::Config::new(identity, Key::from_secret(b"k"), 0);
    let limits = client::Limits { calls_ahead, ..client::Limits::default() };
    client::Client::new(client::Config { limits, ..config })
}

impl Pair {
    fn new() -> Self {
        let (client, server) = (client(1), server(1));
        let (executed, cancelled, ended) = (vec![], vec![], vec![]);
        Self { now: Time(1_000_000), client, server, executed, cancelled, ended, packets: 0 }
    }

    fn call(&mut self, body: &[u8]) -> client::CallId {
        self.client.call(self.now, PORT, Bytes::copy_from_slice(body), LIMIT).unwrap()
    }

    /// Carries packets until there are none, and drops those for which `lost` is true.
    fn carry(&mut self, mut lost: impl FnMut(&Transmit) -> bool) {
        loop {
            self.listen();
            let packet = self.client.poll_transmit().map(|packet| (true, packet));
            let packet =
                packet.or_else(|| self.server.poll_transmit().map(|packet| (false, packet)));
            let Some((asked, packet)) = packet else { return };
            self.packets += 1;
            self.now = self.now + Duration::from_micros(100);
            if lost(&packet) {
                continue;
            }
            if asked {
                self.server.handle_packet(self.now, &at(1), &packet.packet);
            } else {
                self.client.handle_packet(self.now, &at(2), &packet.packet);
            }
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                client::Event::Lookup { port } => {
                    self.client.handle_found(self.now, port, Some(at(2)));
                }
                client::Event::Ended { call, result } => self.ended.push((call, result)),
            }
        }
        while let Some(event) = self.server.poll_event() {
            match event {
                server::Event::Request { id, body, .. } => self.executed.push((id, body)),
                server::Event::Cancelled { why, .. } => self.cancelled.push(why),
            }
        }
    }

    /// Lets time pass, handles the timers, and carries the packets.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) =
            self.client.poll_timeout().into_iter().chain(self.server.poll_timeout()).min()
        {
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.carry(|_| false);
        }
        self.now = until;
    }

    /// Lets time pass while no packet arrives.
    fn pass_cut_off(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.client.poll_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.carry(|_| true);
        }
        self.now = until;
    }

    fn reply(&mut self, body: &[u8]) {
        let (id, _) = self.executed.last().unwrap();
        self.server.reply(self.now, *id, Bytes::copy_from_slice(body)).unwrap();
    }

    fn result(&self) -> &Result<Bytes, CallError> {
        &self.ended.last().unwrap().1
    }

    fn assert_empty_in_the_end(mut self) {
        self.pass(Duration::from_secs(3_000));
        assert_eq!(self.client.usage(), client::Usage::default());
        assert_eq!(self.server.usage(), server::Usage::default());
    }
}

#[test]
fn an_exchange_takes_two_packets_once_greeted() {
    let mut pair = Pair::new();
    for round in 0..10 {
        pair.call(b"question");
        pair.carry(|_| false);
        pair.reply(b"answer");
        pair.carry(|_| false);
        assert_eq!(pair.result(), &Ok(Bytes::from_static(b"answer")));
        assert_eq!(pair.packets, 4 + 2 * round);
    }
    assert_eq!(pair.executed.len(), 10);
    assert_eq!(pair.server.usage().requests, 1, "the floor released the others");
    pair.assert_empty_in_the_end();
}

#[test]
fn a_lost_reply_is_sent_again_without_executing_again() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.reply(b"answer");
    pair.carry(|_| true);
    assert!(pair.ended.is_empty());
    pair.pass(1_000 * MS);
    assert_eq!((pair.result(), pair.executed.len()), (&Ok(Bytes::from_static(b"answer")), 1));
    pair.assert_empty_in_the_end();
}

#[test]
fn a_long_service_is_watched_and_its_client_waits() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.pass(30_000 * MS);
    assert!(pair.ended.is_empty() && pair.packets > 30 && pair.packets < 80, "{}", pair.packets);
    pair.reply(b"answer");
    pair.carry(|_| false);
    assert_eq!(pair.result(), &Ok(Bytes::from_static(b"answer")));
    pair.assert_empty_in_the_end();
}

#[test]
fn the_limit_ends_a_call_and_cancels_it_at_the_server() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.pass(LIMIT);
    assert_eq!(pair.result(), &Err(CallError::TimedOut(Progress::Received)));
    assert_eq!(pair.cancelled, [CancelReason::Caller]);
    pair.assert_empty_in_the_end();
}

#[test]
fn a_server_that_restarted_is_told_apart_from_one_that_is_down() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.server = server(2);
    pair.pass(5_000 * MS);
    assert_eq!(pair.result(), &Err(CallError::ServerRestarted { now: Epoch(2) }));
    pair.call(b"another");
    pair.carry(|_| false);
    assert_eq!(pair.executed.len(), 2);
    pair.pass(100 * MS);
    pair.pass_cut_off(20_000 * MS);
    let result = pair.result();
    assert!(
        matches!(result, Err(CallError::ServerDown { progress: Progress::Received, .. })),
        "{result:?}"
    );
}

#[test]
fn an_absent_server_means_never_executed() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.listen();
    pair.pass_cut_off(30_000 * MS);
    let Err(error) = pair.result() else { panic!() };
    assert!(matches!(error, CallError::ServerDown { progress: Progress::Unsent, .. }));
    assert_eq!(error.execution(), Execution::Never);
    pair.assert_empty_in_the_end();
}

#[test]
fn a_later_generation_of_the_client_cancels_the_earlier_ones_requests() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.client = client(2);
    pair.call(b"later");
    pair.carry(|_| false);
    assert_eq!(
        (pair.cancelled.clone(), pair.executed.len()),
        (vec![CancelReason::ClientRestarted], 2)
    );
    pair.reply(b"answer");
    pair.carry(|_| false);
    pair.assert_empty_in_the_end();
}

#[test]
fn large_messages_survive_the_loss_of_every_tenth_packet() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let mut pair = Pair::new();
    pair.call(&body);
    let mut count = 0;
    let mut tenth = |_: &Transmit| {
        count += 1;
        count % 10 == 0
    };
    for _ in 0..10_000 {
        pair.carry(&mut tenth);
        if let Some((id, request)) = pair.executed.pop() {
            pair.server.reply(pair.now, id, request).unwrap();
            continue;
        }
        let Some(next) = pair.client.poll_timeout().filter(|_| pair.ended.is_empty()) else {
            break;
        };
        pair.now = pair.now.max(next);
        pair.client.handle_timeout(pair.now);
        pair.server.handle_timeout(pair.now);
    }
    assert_eq!(pair.result().as_ref().unwrap(), &body);
    let fragments = 2 * body.len() / 1_332;
    // Under so much loss a window has a few fragments, and the server reports each half of a
    // window.
    assert!(pair.packets < fragments * 2, "{} packets for {fragments} fragments", pair.packets);
    pair.assert_empty_in_the_end();
}

#[test]
fn a_ticket_that_was_adopted_is_good_for_as_long_as_the_client_trusts_it() {
    let mut pair = Pair::new();
    pair.call(b"first");
    pair.carry(|_| false);
    pair.server = server(2);
    pair.pass(1_000 * MS);
    assert_eq!(pair.result(), &Err(CallError::ServerRestarted { now: Epoch(2) }));
    pair.pass(140_000 * MS);
    pair.call(b"second");
    pair.carry(|_| false);
    assert_eq!(pair.executed.len(), 2, "{:?}", pair.ended);
}

#[test]
fn a_round_trip_longer_than_the_timer_is_no_trouble() {
    let mut pair = Pair::new();
    pair.call(b"question");
    let mut under_way: Vec<(Time, Transmit)> = vec![];
    while pair.ended.is_empty() {
        pair.listen();
        if let Some((id, body)) = pair.executed.pop() {
            pair.server.reply(pair.now, id, body).unwrap();
        }
        let due = pair.now + 800 * MS;
        under_way
            .extend(std::iter::from_fn(|| pair.client.poll_transmit()).map(|packet| (due, packet)));
        under_way
            .extend(std::iter::from_fn(|| pair.server.poll_transmit()).map(|packet| (due, packet)));
        let timers = pair.client.poll_timeout().into_iter().chain(pair.server.poll_timeout());
        pair.now = under_way.iter().map(|(due, _)| *due).chain(timers).min().unwrap().max(pair.now);
        let now = pair.now;
        for (_, packet) in under_way.extract_if(.., |(due, _)| *due <= now) {
            if packet.to == at(2) {
                pair.server.handle_packet(now, &at(1), &packet.packet);
            } else {
                pair.client.handle_packet(now, &at(2), &packet.packet);
            }
        }
        pair.client.handle_timeout(now);
        pair.server.handle_timeout(now);
    }
    assert_eq!(pair.result(), &Ok(Bytes::from_static(b"question")));
}

#[test]
fn a_copy_from_another_address_changes_nothing() {
    let mut pair = Pair::new();
    let mut seen = vec![];
    pair.call(b"question");
    pair.carry(|packet| {
        seen.push(packet.packet.clone());
        false
    });
    pair.server.handle_packet(pair.now, &at(66), &seen[2]);
    assert_eq!((pair.server.poll_transmit(), pair.server.counters().replayed), (None, 1));
}

#[test]
fn replies_of_slow_services_are_not_kept_until_patience_ends() {
    let mut pair = Pair::new();
    pair.call(b"one that lasts");
    pair.carry(|_| false);
    pair.pass(20 * MS);
    for round in 0..1_000 {
        pair.call(b"slow");
        pair.carry(|_| false);
        pair.pass(20 * MS);
        pair.reply(b"done");
        pair.carry(|_| false);
        assert_eq!(pair.ended.len(), round + 1);
        assert!(pair.server.usage().requests < 40, "{:?}", pair.server.usage());
    }
}

#[test]
fn a_large_request_under_way_holds_up_no_small_ones() {
    let mut pair = Pair::new();
    pair.client = client_ahead(4);
    pair.call(&[0; 1_000_000]);
    let mut large = 0;
    let mut cut_off = |packet: &Transmit| {
        large += usize::from(packet.packet.len() > 1_000);
        large > 100 && packet.packet.len() > 1_000
    };
    pair.carry(&mut cut_off);
    for round in 0..20 {
        pair.call(b"small");
        pair.carry(&mut cut_off);
        pair.reply(b"answer");
        pair.carry(&mut cut_off);
        assert_eq!(pair.ended.len(), round + 1);
    }
}

#[test]
fn a_call_behind_others_to_a_server_that_was_down_gets_its_turn() {
    let mut pair = Pair::new();
    pair.client = client_ahead(4);
    pair.call(b"greets");
    pair.carry(|_| false);
    pair.reply(b"answer");
    pair.carry(|_| false);
    let calls: Vec<_> = (0..6).map(|_| pair.call(b"question")).collect();
    while pair.ended.len() < 5 {
        pair.now = pair.now.max(pair.client.poll_timeout().unwrap());
        pair.client.handle_timeout(pair.now);
        pair.carry(|_| true);
    }
    pair.carry(|_| false);
    pair.pass(2_000 * MS);
    let asked: Vec<_> = std::mem::take(&mut pair.executed);
    assert_eq!(asked.len(), 3, "the first one, and the two that had waited");
    for (id, body) in asked.into_iter().skip(1) {
        pair.server.reply(pair.now, id, body).unwrap();
    }
    pair.carry(|_| false);
    let answered =
        |call: &client::CallId| pair.ended.contains(&(*call, Ok(Bytes::from_static(b"question"))));
    assert_eq!(calls.iter().filter(|call| answered(call)).count(), 2);
}

#[test]
fn a_server_that_came_back_after_it_was_found_down_is_greeted_again() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    pair.pass_cut_off(20_000 * MS);
    assert!(matches!(pair.result(), Err(CallError::ServerDown { .. })));
    pair.server = server(2);
    pair.call(b"another");
    pair.carry(|_| false);
    pair.reply(b"answer");
    pair.carry(|_| false);
    assert_eq!(pair.result(), &Ok(Bytes::from_static(b"answer")));
}

#[test]
fn an_old_refusal_sent_again_stops_no_call() {
    let mut pair = Pair::new();
    pair.server = server_with(server::Limits { requests: 1, ..server::Limits::default() });
    pair.call(b"first");
    pair.carry(|_| false);
    let mut seen = vec![];
    pair.call(b"second");
    pair.carry(|packet| {
        seen.push(packet.packet.clone());
        false
    });
    let busy = seen.last().unwrap().clone();
    pair.reply(b"answer");
    pair.carry(|_| false);
    for _ in 0..1_000 {
        pair.client.handle_packet(pair.now, &at(2), &busy);
        pair.pass(4 * MS);
    }
    assert!(pair.executed.iter().any(|(_, body)| body == "second"), "{:?}", pair.client.counters());
}

#[test]
fn a_request_that_the_service_abandons_ends_at_once() {
    let mut pair = Pair::new();
    pair.call(b"question");
    pair.carry(|_| false);
    let (id, _) = pair.executed[0];
    pair.server.abandon(id).unwrap();
    pair.carry(|_| true);
    pair.pass(1_000 * MS);
    assert_eq!(
        pair.result(),
        &Err(CallError::Abandoned),
        "told again, as the first answer was lost"
    );
    assert!(pair.server.reply(pair.now, id, Bytes::new()).is_err());
    pair.assert_empty_in_the_end();
}

#[test]
fn bodies_of_executing_requests_count_against_the_limit() {
    let mut pair = Pair::new();
    pair.server = server_with(server::Limits { bytes: 1_000_000, ..server::Limits::default() });
    for _ in 0..10 {
        pair.call(&[0; 300_000]);
        pair.carry(|_| false);
    }
    pair.pass(500 * MS);
    assert_eq!(pair.executed.len(), 3, "{:?}", pair.server.usage());
    assert_eq!(pair.server.usage().bytes, 900_000);
}
