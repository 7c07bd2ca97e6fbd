//! Forged packets from a holder of the key, in any order. Tables must stay within their limits,
//! every call must end by its limit, and all tables must be empty in the end. Real packets of
//! client and server come among the forged ones, which so find state to damage.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rpc::client::{self, CallId, Client};
use rpc::packet::{
    Answer, Ask, Fragment, Got, Header, Question, Ranges, Refusal, Request, Terms, open_answer,
    open_question, seal_answer, seal_question,
};
use rpc::server::{self, RequestId, Server};
use rpc::{
    Address, ClientGeneration, ClientId, Epoch, Identity, Key, PacketNumber, Port, Sequence, Ticket,
    Time,
};
use simulation::Random;

const PORT: Port = Port(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Most timers that may expire in one quiet time; more count as a loop.
const MAX_TIMERS: usize = 100_000;
static ZEROS: [u8; 4_000] = [0; 4_000];

struct Pair {
    random: Random,
    now: Time,
    client: Client,
    server: Server,
    limits: (client::Limits, server::Limits),
    calls: Vec<(CallId, Time)>,
    requests: Vec<RequestId>,
    /// Last header that each side wrote, from which forged ones start.
    asked: Option<Header>,
    told: Option<Header>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut pair = Pair::new(bytes);
    for _ in 0..bytes.len().min(300) {
        pair.operate();
        pair.settle();
    }
    pair.rest();
});

impl Pair {
    fn new(bytes: &[u8]) -> Self {
        let identity = Identity { id: ClientId(1), generation: ClientGeneration(1) };
        let limits = limits();
        let config = client::Config {
            identity,
            key: Key::none(),
            first_number: 1,
            limits: limits.0.clone(),
        };
        let mut server = server::Config::new(PORT, Epoch(2), Key::none(), [1; 32]);
        server.limits = limits.1.clone();
        Self {
            random: Random::from_bytes(bytes),
            now: Time(0),
            client: Client::new(config),
            server: Server::new(server),
            limits,
            calls: Vec::new(),
            requests: Vec::new(),
            asked: None,
            told: None,
        }
    }

    fn small(&mut self) -> u64 {
        self.random.between(0, 4)
    }

    fn operate(&mut self) {
        match self.random.between(0, 10) {
            0 => self.pass(),
            1 => self.call(),
            2 => self.cancel(),
            3 => self.reply(),
            4..7 => self.make_up_question(),
            _ => self.make_up_answer(),
        }
    }

    fn pass(&mut self) {
        let until = self.now + Duration::from_millis(self.random.skewed(20_000));
        self.fire_until(until);
        self.now = until;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    fn call(&mut self) {
        let limit = Duration::from_millis(self.random.skewed(LONGEST.as_millis() as u64));
        let body = Bytes::from(vec![1; self.random.skewed(5_000) as usize]);
        if let Ok(call) = self.client.call(self.now, PORT, body, limit) {
            self.calls.push((call, self.now + limit));
        }
    }

    fn cancel(&mut self) {
        if !self.calls.is_empty() {
            let at = self.random.between(0, self.calls.len() as u64) as usize;
            self.client.cancel(self.now, self.calls[at].0);
        }
    }

    fn reply(&mut self) {
        if !self.requests.is_empty() {
            let at = self.random.between(0, self.requests.len() as u64) as usize;
            let id = self.requests.swap_remove(at);
            let body = Bytes::from(vec![2; self.random.skewed(5_000) as usize]);
            let _ = self.server.reply(self.now, id, body);
        }
    }

    fn make_up_question(&mut self) {
        let header = self.asked.unwrap_or(NOBODY);
        let header = self.vary(header);
        let from = address(self.random.between(0, 2) + 1);
        let question = self.question();
        let mut packet = Vec::new();
        seal_question(&Key::none(), &header, &question, &mut packet);
        self.server.handle_packet(self.now, &from, &packet);
    }

    fn question(&mut self) -> Question<'static> {
        let (sequence, floor) = (Sequence(self.number()), Sequence(self.number()));
        let patience = self.duration();
        match self.random.between(0, 6) {
            0 => Question::Hello,
            1 if sequence.0 % 2 == 0 => Question::Ended { floor, sequences: vec![sequence] },
            1 => Question::Cancel { sequence, floor },
            2 => {
                let wanted = self.ranges();
                Question::Ask(Ask { sequence, floor, patience, wanted })
            }
            _ => Question::Request(Request {
                sequence,
                floor,
                patience,
                limit: self.duration(),
                credit_bytes: self.bytes(),
                datagram_bytes: self.bytes(),
                report: self.random.chance(500),
                fragment: self.fragment(),
            }),
        }
    }

    fn make_up_answer(&mut self) {
        let header = self.told.or(self.asked).unwrap_or(NOBODY);
        let header = self.vary(header);
        let answer = self.answer();
        let held = self.duration();
        let mut packet = Vec::new();
        seal_answer(&Key::none(), &header, held, &answer, &mut packet);
        let from = address(self.random.between(0, 2) + 2);
        self.client.handle_packet(self.now, &from, &packet);
    }

    fn answer(&mut self) -> Answer<'static> {
        let sequence = Sequence(self.number());
        let terms = Terms { idle: self.duration(), window_bytes: self.bytes() };
        match self.random.between(0, 6) {
            0 => Answer::Welcome(terms),
            1 => Answer::Working { sequence },
            2 => Answer::Got(Got {
                sequence,
                newest: self.random.skewed(10) as u32,
                next: self.random.skewed(10) as u32,
                beyond: self.ranges(),
            }),
            3 => Answer::Refused { sequence, why: *self.random.pick(&REFUSALS), terms },
            _ => Answer::Reply { sequence, fragment: self.fragment() },
        }
    }

    /// Changes at most one part of a header.
    fn vary(&mut self, mut header: Header) -> Header {
        match self.random.between(0, 12) {
            0 => header.epoch = Epoch(self.small()),
            1 => header.client.generation = ClientGeneration(self.small()),
            2 => header.client.id = ClientId(self.small()),
            3 => header.ticket.issued_us = self.random.number(),
            4 => header.number = PacketNumber(self.random.number()),
            5 => {
                header.number =
                    PacketNumber(header.number.0.wrapping_add(self.small()).wrapping_sub(2))
            }
            6 => header.port = Port(self.small()),
            _ => (),
        }
        header
    }

    fn number(&mut self) -> u64 {
        let near = self.random.skewed(12);
        if self.random.chance(50) { near.wrapping_sub(6) } else { near }
    }

    fn duration(&mut self) -> Duration {
        // The server honours a patience of weeks, during which too many timers would expire.
        Duration::from_millis(self.random.skewed(3_600_000))
    }

    fn bytes(&mut self) -> u32 {
        self.random.skewed(u64::from(u32::MAX)) as u32
    }

    fn ranges(&mut self) -> Ranges {
        let count = self.small();
        Ranges::from_indices((0..count).map(|_| self.random.skewed(200) as u32).collect())
    }

    /// Makes a sound fragment, of a message that is rarely the same twice: an unsound fragment
    /// would be refused at once.
    fn fragment(&mut self) -> Fragment<'static> {
        let total_bytes = match self.random.between(0, 8) {
            0 => self.random.skewed(64 << 20) as u32,
            1 => 2_000,
            2 => 2_000 + self.small() as u32,
            _ => self.random.skewed(512) as u32,
        };
        let chunk_bytes = *self.random.pick(&[512, 700, 1_112, 4_000]);
        let count = total_bytes.div_ceil(chunk_bytes).max(1);
        let index = self.random.between(0, u64::from(count)) as u32;
        let bytes = (total_bytes - index * chunk_bytes).min(chunk_bytes);
        Fragment { total_bytes, chunk_bytes, index, data: &ZEROS[..bytes as usize] }
    }

    /// Exchanges all packets of both sides; most of them arrive.
    fn settle(&mut self) {
        loop {
            if let Some(transmit) = self.client.poll_transmit() {
                self.asked =
                    open_question(&Key::none(), &transmit.packet).ok().map(|opened| opened.header);
                if !self.random.chance(250) {
                    self.server.handle_packet(self.now, &address(1), &transmit.packet);
                }
            } else if let Some(transmit) = self.server.poll_transmit() {
                self.told =
                    open_answer(&Key::none(), &transmit.packet).ok().map(|opened| opened.header);
                if transmit.to == address(1) && !self.random.chance(250) {
                    self.client.handle_packet(self.now, &address(2), &transmit.packet);
                }
            } else if !self.settle_events() {
                break;
            }
        }
        self.check();
    }

    fn settle_events(&mut self) -> bool {
        if let Some(event) = self.client.poll_event() {
            match event {
                client::Event::Lookup { port } => {
                    let found = (!self.random.chance(50)).then(|| address(2));
                    self.client.handle_found(self.now, port, found);
                }
                client::Event::Ended { call, .. } => {
                    let at = self
                        .calls
                        .iter()
                        .position(|(open, _)| *open == call)
                        .expect("an open call");
                    self.calls.swap_remove(at);
                }
            }
            return true;
        }
        let event = self.server.poll_event();
        if let Some(server::Event::Request { id, .. }) = &event {
            assert!(!self.requests.contains(id));
            self.requests.push(*id);
        }
        event.is_some()
    }

    fn check(&self) {
        let (usage, limits) = (self.server.usage(), &self.limits.1);
        assert!(
            usage.sessions <= limits.sessions && usage.bytes <= limits.bytes + 5 * 5_000,
            "{usage:?}"
        );
        assert!(usage.requests <= limits.requests, "{usage:?}");
        assert!(self.client.usage().calls <= self.limits.0.calls);
        assert!(self.calls.iter().all(|(_, deadline)| *deadline >= self.now), "a call is late");
    }

    fn next_alarm(&self) -> Option<Time> {
        self.client.poll_timeout().into_iter().chain(self.server.poll_timeout()).min()
    }

    fn fire_until(&mut self, until: Time) {
        for _ in 0..MAX_TIMERS {
            let Some(at) = self.next_alarm().filter(|at| *at <= until) else { return };
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
        }
        panic!("timers without end");
    }

    /// Replies to all requests, and lets time pass.
    fn rest(&mut self) {
        while !self.requests.is_empty() {
            self.reply();
            self.settle();
        }
        self.fire_until(Time(u64::MAX));
        assert!(self.calls.is_empty(), "{:?}", self.calls);
        assert_eq!(self.client.usage(), client::Usage::default());
        assert_eq!(self.server.usage(), server::Usage::default());
    }
}

const NOBODY: Header = Header {
    port: PORT,
    epoch: Epoch(2),
    client: Identity { id: ClientId(1), generation: ClientGeneration(1) },
    ticket: Ticket { issued_us: 0, proof: 0 },
    number: PacketNumber(1),
};

const REFUSALS: [Refusal; 6] = [
    Refusal::Epoch,
    Refusal::NoSession,
    Refusal::Gone,
    Refusal::Busy,
    Refusal::TooLong,
    Refusal::Cancelled,
];

fn address(host: u64) -> Address {
    Address::from(std::net::SocketAddr::from(([10, 0, 0, host as u8], 4_000)))
}

fn limits() -> (client::Limits, server::Limits) {
    let client = client::Limits { calls: 8, retransmissions: 5, ..client::Limits::default() };
    let server = server::Limits {
        sessions: 3,
        requests: 5,
        bytes: 20_000,
        bytes_per_session: 15_000,
        message_bytes: 9_000,
        session_idle: Duration::from_secs(10),
        ..server::Limits::default()
    };
    (client, server)
}
