//! Test of the table in [the client's documentation](super) against the code.

use super::call::{CallId, CallPhase};
use super::*;
use crate::packet::{
    ClientBody, Fragment, Got, Header, Opened, Ranges, Refusal, ServerBody, Terms, open_question,
    seal_answer,
};
use crate::{ClientGeneration, ClientId, Epoch, Identity, Key, Ticket, table};

const PAGE: &str = include_str!("mod.rs");
const PORT: Port = Port(7);
const LIMIT: Duration = Duration::from_secs(60);
const SESSION: (Epoch, Ticket) = (Epoch(1), Ticket { issued_us: 1, proof: 1 });
const TERMS: Terms = Terms { idle: Duration::from_secs(300), window_bytes: 1 << 20 };
/// Length of the request, which has two fragments, and of a reply in two.
const BODY: [u8; 2_000] = [0; 2_000];
const CHUNK_BYTES: u32 = 1_000;

/// A client with a call, and its last packet.
struct Rig {
    client: Client,
    now: Time,
    call: CallId,
    /// An earlier call, which the observed one waits behind.
    earlier: Option<CallId>,
    last: Option<Header>,
    result: Option<Result<Bytes, CallError>>,
    sent: Vec<&'static str>,
}

type Step = fn(&mut Rig);

/// Phases, each with a phase before it in this list and the step from there.
const PHASES: [(&str, &str, Step); 8] = [
    ("Waiting, not found", "", |_| ()),
    ("Waiting, greeting", "Waiting, not found", found),
    ("Waiting, behind", "", |rig| *rig = Rig::behind()),
    ("Sending", "Waiting, greeting", welcome),
    ("Sending, refused", "Sending", |rig| rig.refuse(Refusal::Busy)),
    ("Asking", "Sending", working),
    ("Asking, unanswered", "Asking", |rig| rig.timer()),
    ("Receiving", "Sending", |rig| rig.fragment(0)),
];

const INPUTS: [(&str, Step); 20] = [
    ("server is found", found),
    ("port has no server", |rig| rig.client.handle_found(rig.now, PORT, None)),
    ("Welcome", welcome),
    ("earlier call ends", |rig| {
        if let Some(earlier) = rig.earlier {
            rig.client.cancel(rig.now, earlier);
            rig.act();
            rig.sent.retain(|sent| *sent != "Cancel");
        }
    }),
    ("Got", |rig| {
        let sequence = rig.sequence();
        rig.answer(&ServerBody::Got(Got {
            sequence,
            newest: 0,
            next: 1,
            beyond: Ranges::default(),
        }));
    }),
    ("Working", working),
    ("Reply", |rig| {
        let fragment = Fragment { total_bytes: 1, chunk_bytes: CHUNK_BYTES, index: 0, data: b"r" };
        let sequence = rig.sequence();
        rig.answer(&ServerBody::Reply { sequence, fragment });
    }),
    ("first fragment", |rig| rig.fragment(0)),
    ("last fragment", |rig| rig.fragment(1)),
    ("Busy", |rig| rig.refuse(Refusal::Busy)),
    ("Gone", |rig| rig.refuse(Refusal::Gone)),
    ("NoSession", |rig| rig.refuse(Refusal::NoSession)),
    ("Epoch", |rig| {
        rig.last = rig.last.map(|last| Header { epoch: Epoch(2), ..last });
        rig.refuse(Refusal::Epoch);
    }),
    ("TooLong", |rig| rig.refuse(Refusal::TooLong)),
    ("Abandoned", |rig| rig.refuse(Refusal::Abandoned)),
    ("Cancelled", |rig| rig.refuse(Refusal::Cancelled)),
    ("timer", |rig| rig.timer()),
    ("server is silent", |rig| {
        while rig.result.is_none() && rig.now < Time(0) + LIMIT / 2 {
            rig.timer();
        }
        // The repetitions belong to other rows.
        rig.sent.clear();
    }),
    ("limit passes", |rig| {
        assert!(rig.take_timer(Timer::Limit(rig.call)), "each call has a limit");
        rig.client.end_at_limit(Time(0) + LIMIT, rig.call);
    }),
    ("caller cancels", |rig| rig.client.cancel(rig.now, rig.call)),
];

fn found(rig: &mut Rig) {
    let address = Address::Udp(([192, 0, 2, 1], 7).into());
    rig.client.handle_found(rig.now, PORT, Some(address));
}

fn welcome(rig: &mut Rig) {
    rig.answer(&ServerBody::Welcome(TERMS));
}

fn working(rig: &mut Rig) {
    let sequence = rig.sequence();
    rig.answer(&ServerBody::Working { sequence });
}

impl Rig {
    fn new() -> Self {
        Self::with(1_024)
    }

    /// Returns a call that waits behind an earlier one.
    fn behind() -> Self {
        let mut rig = Self::with(1);
        found(&mut rig);
        rig.act();
        welcome(&mut rig);
        rig.act();
        rig.earlier = Some(rig.call);
        rig.call = rig.client.call(rig.now, PORT, Bytes::from_static(&BODY), LIMIT).unwrap();
        rig
    }

    fn with(calls_ahead: usize) -> Self {
        let identity = Identity { id: ClientId(1), generation: ClientGeneration(1) };
        let mut config = Config::new(identity, Key::none(), 1);
        config.limits.calls_ahead = calls_ahead;
        let (mut client, now) = (Client::new(config), Time(1));
        let call = client.call(now, PORT, Bytes::from_static(&BODY), LIMIT).unwrap();
        let (earlier, last, result, sent) = (None, None, None, Vec::new());
        Self { client, now, call, earlier, last, result, sent }
    }

    fn sequence(&self) -> Sequence {
        Sequence(u64::from(self.earlier.is_some()))
    }

    /// Takes the client's packets and events.
    fn act(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            let Opened { header, body, .. } =
                open_question(&Key::none(), &transmit.packet).unwrap();
            self.last = Some(header);
            self.note(match body {
                ClientBody::Hello => "Hello",
                ClientBody::Request(_) => "Request",
                ClientBody::Ask(_) => "Ask",
                ClientBody::Ended { .. } => "Ended",
                ClientBody::Cancel { .. } => "Cancel",
            });
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Lookup { .. } => self.note("lookup"),
                Event::Ended { call, result } if call == self.call => self.result = Some(result),
                Event::Ended { .. } => {}
            }
        }
    }

    fn note(&mut self, sent: &'static str) {
        if self.sent.last() != Some(&sent) {
            self.sent.push(sent);
        }
    }

    /// Answers the last packet.
    fn answer(&mut self, answer: &ServerBody<'_>) {
        let Some(last) = self.last else { return };
        let epoch = last.epoch.max(SESSION.0);
        let ticket = if last.ticket == Ticket::default() { SESSION.1 } else { last.ticket };
        let (mut packet, header) = (Vec::new(), Header { epoch, ticket, ..last });
        seal_answer(&Key::none(), &header, Duration::ZERO, answer, &mut packet);
        let from = Address::Udp(([192, 0, 2, 1], 7).into());
        self.client.handle_packet(self.now, &from, &packet);
    }

    fn refuse(&mut self, why: Refusal) {
        let sequence = self.sequence();
        self.answer(&ServerBody::Refused { sequence, why, terms: TERMS });
    }

    fn fragment(&mut self, index: u32) {
        let fragment = Fragment::of(&BODY, CHUNK_BYTES, index).unwrap();
        let sequence = self.sequence();
        self.answer(&ServerBody::Reply { sequence, fragment });
    }

    /// Lets the timer of the call or of the greeting expire, if one is set.
    fn timer(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        let now = self.now;
        if self.take_timer(Timer::Retry(self.call)) {
            self.client.retry(now, self.call);
        } else if self.take_timer(Timer::Greet(PORT)) {
            self.client.with_server(PORT, |it, cx| it.repeat_greeting(cx, now));
        }
        self.act();
    }

    /// Takes a timer out. Returns whether it was set.
    fn take_timer(&mut self, timer: Timer) -> bool {
        let timers = &mut self.client.cx.timers;
        let before = timers.len();
        timers.cancel(timer);
        timers.len() < before
    }

    fn phase(&self) -> String {
        match &self.result {
            Some(Ok(_)) => return "Ended: reply".to_owned(),
            Some(Err(error)) => {
                let name = format!("{error:?}");
                return format!("Ended: {}", name.split(['(', ' ']).next().unwrap_or_default());
            }
            None => (),
        }
        let Conversation { peer, calls } = &self.client.conversations[&PORT];
        let call = &calls[&self.sequence()];
        let name = match call.phase {
            CallPhase::Waiting if peer.address.is_none() => "Waiting, not found",
            CallPhase::Waiting if peer.greeting.is_some() => "Waiting, greeting",
            CallPhase::Waiting => "Waiting, behind",
            CallPhase::Sending { .. } if call.busy > 0 => "Sending, refused",
            CallPhase::Sending { .. } => "Sending",
            CallPhase::Asking if !call.paused => "Asking, unanswered",
            CallPhase::Asking => "Asking",
            CallPhase::Receiving { .. } => "Receiving",
        };
        name.to_owned()
    }
}

fn reach(phase: &str) -> Rig {
    let Some((_, before, step)) = PHASES.iter().find(|(name, ..)| *name == phase) else {
        return Rig::new();
    };
    let mut rig = reach(before);
    rig.act();
    step(&mut rig);
    rig.act();
    assert_eq!(rig.phase(), phase, "reached by its step");
    rig.sent.clear();
    rig
}

#[test]
fn the_table_is_what_the_client_does() {
    table::check(PAGE, &PHASES.map(|it| it.0), &INPUTS.map(|it| it.0), |phase, input| {
        let mut rig = reach(phase);
        let (_, step) = INPUTS.iter().find(|(name, _)| *name == input).unwrap();
        step(&mut rig);
        rig.act();
        (rig.phase(), rig.sent.join(", "))
    });
}
