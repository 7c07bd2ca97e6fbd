//! Plan of a schedule: its hosts, its calls, and its troubles. Each storm has some of the troubles
//! only, since troubles that come together hide each other.

use std::time::Duration;

use rpc::{client, server};
use simulation::Random;

use crate::host::duration;
use crate::network::Conditions;

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// Length that fits any datagram, bytes.
const SHORT_BYTES: u64 = 900;
/// Least length of every fragment but the last, bytes.
const SHORTEST_PIECE_BYTES: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server loses its state, and comes back later with the next epoch.
    CrashServer,
    /// The server crashes, and comes back at another address.
    MoveServer,
    CrashClient,
    /// A client stands still for a while, and then handles all packets and timers at once.
    PauseClient,
    PauseServer,
    /// Some hosts can't send to some others for a while.
    Partition,
    /// Old packets are sent again.
    Replay,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::CrashServer,
    Trouble::MoveServer,
    Trouble::CrashClient,
    Trouble::PauseClient,
    Trouble::PauseServer,
    Trouble::Partition,
    Trouble::Replay,
];

/// Time that services take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// Up to this many microseconds.
    Within(u64),
    /// Any time up to this many microseconds, or for ever.
    Anything(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub calls: usize,
    /// Number of calls made at once.
    pub burst: u64,
    pub pace: Pace,
    pub max_body_bytes: u64,
    pub max_reply_bytes: u64,
    /// Share of empty messages, in thousandths.
    pub empty: u64,
    pub limit_us: (u64, u64),
    /// Share of cancelled calls, in thousandths.
    pub cancelled: u64,
}

/// Answers of the lookup, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lookups {
    pub delay_us: u64,
    pub former: u64,
    pub another: u64,
    pub none: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub clients: usize,
    pub servers: usize,
    /// Whether there are Unix sockets and loopback instead of a network.
    pub is_local: bool,
    pub chaos_us: u64,
    pub conditions: Conditions,
    pub troubles: Vec<Trouble>,
    pub trouble_every_us: u64,
    pub work: Work,
    pub lookups: Lookups,
    pub client: client::Limits,
    pub server: server::Limits,
    /// Whether tables are small.
    pub is_tight: bool,
    /// Whether every service must be told when no call waits for it any more.
    pub must_cancel: bool,
    /// Whether all clients have one name: then clients of earlier generations go on beside later
    /// ones.
    pub are_twins: bool,
    /// Whether every call must be answered.
    pub must_answer: bool,
}

impl Plan {
    /// Returns a plan without troubles.
    pub(crate) fn calm(random: &mut Random) -> Self {
        // The delay varies by less than the retransmission timer allows from its first measurement
        // on.
        let fastest_us = random.skewed(20 * MS) + 10;
        let delay_us = (fastest_us, fastest_us + fastest_us / 4 + 2 * MS);
        Self {
            clients: random.between(1, 4) as usize,
            servers: random.between(1, 4) as usize,
            is_local: random.chance(300),
            chaos_us: 5 * SECOND,
            conditions: Conditions { delay_us, ..Conditions::default() },
            troubles: Vec::new(),
            trouble_every_us: SECOND,
            work: Work {
                calls: random.between(5, 40) as usize,
                burst: 4,
                pace: Pace::AtOnce,
                max_body_bytes: SHORT_BYTES,
                max_reply_bytes: SHORT_BYTES,
                empty: 50,
                limit_us: (MINUTE, 2 * MINUTE),
                cancelled: 0,
            },
            lookups: Lookups { delay_us: MS, ..Lookups::default() },
            client: client_limits(),
            server: server_limits(),
            is_tight: false,
            must_cancel: false,
            are_twins: false,
            must_answer: true,
        }
    }

    /// Returns a plan with many packets for each message, none of which overtakes another.
    pub(crate) fn large(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.conditions.delay_us.1 = plan.conditions.delay_us.0 + 1;
        (plan.work.calls, plan.work.burst) = (8, 8);
        plan.work.max_body_bytes = random.between(SHORT_BYTES, 500_000);
        plan.work.max_reply_bytes = random.between(SHORT_BYTES, 500_000);
        plan
    }

    /// Returns a plan without troubles, but with slow services, and callers that don't wait for
    /// them.
    pub(crate) fn impatient(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.work.pace = Pace::Anything(MINUTE);
        plan.work.limit_us = (MS, MINUTE);
        plan.work.cancelled = 300;
        (plan.must_answer, plan.must_cancel) = (false, true);
        plan
    }

    /// Returns a plan with some requests longer than a session may keep.
    pub(crate) fn cramped(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.server.bytes_per_session = 500;
        plan.must_answer = false;
        plan
    }

    /// Returns a plan with more calls at once than a server may keep replies. The callers' limits
    /// end before time releases the kept replies.
    pub(crate) fn crowded(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        (plan.clients, plan.servers) = (1, 1);
        plan.conditions.delay_us.1 += 20 * MS;
        plan.server.bytes_per_session = 2_000;
        (plan.work.burst, plan.work.calls) = (10, 16);
        plan.work.limit_us = (11 * SECOND, 12 * SECOND);
        plan
    }

    /// Returns a plan with calls far apart, to servers that restart now and then. Some calls are
    /// cancelled before they are sent.
    pub(crate) fn leisurely(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.chaos_us = 20 * MINUTE;
        (plan.troubles, plan.trouble_every_us) = (vec![Trouble::CrashServer], 5 * MINUTE);
        (plan.work.burst, plan.work.cancelled) = (1, 300);
        plan.server.session_idle = duration(3 * MINUTE);
        plan.must_answer = false;
        plan
    }

    /// Returns a plan in which packets get lost, doubled, damaged and reordered. There is time
    /// enough to answer every call.
    pub(crate) fn lossy(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.conditions.loss = random.between(0, 250);
        plan.conditions.duplicate = random.skewed(300);
        plan.conditions.damage = random.skewed(50);
        plan.client.retransmissions = 60;
        plan.work.limit_us = (20 * MINUTE, 30 * MINUTE);
        plan.work.pace =
            *random.pick(&[Pace::AtOnce, Pace::Within(50 * MS), Pace::Within(20 * SECOND)]);
        plan.longer_messages(random);
        plan
    }

    /// Returns a plan with any troubles.
    pub(crate) fn storm(random: &mut Random) -> Self {
        let mut plan = Self::calm(random);
        plan.must_answer = false;
        plan.chaos_us = random.between(SECOND, 60 * SECOND);
        plan.conditions = storm_conditions(random);
        plan.troubles = TROUBLES.into_iter().filter(|_| random.chance(400)).collect();
        plan.trouble_every_us = random.between(50 * MS, 10 * SECOND);
        plan.work = storm_work(random);
        plan.lookups = storm_lookups(random);
        // The times are short, so that sequences begin anew while packets of earlier ones are under
        // way.
        plan.client.idle = duration(*random.pick(&[SECOND, 10 * SECOND, 5 * MINUTE]));
        plan.server.session_idle = duration(*random.pick(&[SECOND, 10 * SECOND, 2 * MINUTE]));
        plan.are_twins = random.chance(50);
        plan.longer_messages(random);
        if random.chance(300) {
            plan.tight(random);
        }
        plan
    }

    /// Returns the most packets that a client may send for a call.
    pub(crate) fn budget(&self, bytes: (usize, usize), limit_us: u64) -> u64 {
        let pieces = ((bytes.0 + bytes.1) / SHORTEST_PIECE_BYTES) as u64 + 2;
        let waits = limit_us / (self.client.heartbeat.min(self.client.rto_max).as_micros() as u64);
        (u64::from(self.client.retransmissions) + 5) * 2 * pieces + 2 * waits
    }

    /// Returns whether some messages are longer than a datagram.
    pub(crate) fn has_long_messages(&self) -> bool {
        self.work.max_body_bytes.max(self.work.max_reply_bytes) > SHORT_BYTES
    }

    /// Allows longer messages, but few large ones, since each takes many packets.
    fn longer_messages(&mut self, random: &mut Random) {
        let longest = match random.between(0, 100) {
            0..60 => SHORT_BYTES,
            60..95 => 20_000,
            _ => 300_000,
        };
        self.work.max_body_bytes = longest;
        self.work.max_reply_bytes = random.skewed(longest).max(1);
        if longest > 20_000 {
            self.work.calls = self.work.calls.min(6);
        }
    }

    /// Makes every table small.
    fn tight(&mut self, random: &mut Random) {
        self.is_tight = true;
        self.client.calls = random.between(1, 8) as usize;
        self.client.calls_ahead = random.between(1, 8) as usize;
        self.server.sessions = random.between(1, 4) as usize;
        self.server.sessions_per_client = random.between(1, 3) as usize;
        self.server.requests_per_session = random.between(1, 6) as usize;
        self.server.requests = random.between(1, 8) as usize;
        self.server.bytes_per_session = random.between(500, 100_000) as usize;
        self.server.message_bytes = random.between(100, 30_000) as usize;
        self.server.bytes = self.server.message_bytes * random.between(1, 4) as usize;
    }
}

fn storm_conditions(random: &mut Random) -> Conditions {
    let mut some = |high| if random.chance(500) { random.skewed(high) } else { 0 };
    let (loss, duplicate, damage, late) = (some(500), some(400), some(100), some(200));
    Conditions {
        loss,
        duplicate,
        damage,
        late,
        late_us: *random.pick(&[SECOND, 30 * SECOND, 5 * MINUTE]),
        delay_us: (10, *random.pick(&[100, 5 * MS, 200 * MS, 3 * SECOND])),
    }
}

fn storm_work(random: &mut Random) -> Work {
    Work {
        calls: random.between(3, 30) as usize,
        burst: *random.pick(&[1, 4, 20]),
        pace: *random.pick(&[
            Pace::AtOnce,
            Pace::Within(30 * MS),
            Pace::Within(5 * SECOND),
            Pace::Anything(2 * MINUTE),
        ]),
        max_body_bytes: SHORT_BYTES,
        max_reply_bytes: SHORT_BYTES,
        empty: 50,
        limit_us: *random.pick(&[(MS, 100 * MS), (MS, 30 * SECOND), (10 * SECOND, 3 * MINUTE)]),
        cancelled: *random.pick(&[0, 50, 400]),
    }
}

fn storm_lookups(random: &mut Random) -> Lookups {
    let mut some = |high| if random.chance(300) { random.skewed(high) } else { 0 };
    Lookups {
        delay_us: some(20 * SECOND) + 1,
        former: some(500),
        another: some(300),
        none: some(200),
    }
}

fn client_limits() -> client::Limits {
    client::Limits {
        retransmissions: 7,
        heartbeat: Duration::from_secs(1),
        rto_max: Duration::from_secs(2),
        datagram_bytes: 1_232,
        local_datagram_bytes: 4_000,
        ..client::Limits::default()
    }
}

/// Returns limits so short that everything is forgotten within a schedule.
fn server_limits() -> server::Limits {
    server::Limits {
        session_idle: Duration::from_secs(10),
        datagram_bytes: 1_232,
        local_datagram_bytes: 4_000,
        ..server::Limits::default()
    }
}
