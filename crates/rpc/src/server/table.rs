//! Test of the table in [the server's documentation](super) against the code.

use super::session::RequestPhase;
use super::*;
use crate::packet::{
    Ask, ClientBody, Fragment, Opened, Ranges, RequestPart, Terms, open_answer, seal_question,
};
use crate::{
    ACK_WITHIN, ClientGeneration, ClientId, Epoch, Key, PacketNumber, Port, Ticket, table,
};

const PAGE: &str = include_str!("mod.rs");
const PORT: Port = Port(7);
const SEQUENCE: Sequence = Sequence(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// Content of a request and of a reply, each of which has two fragments.
const BODY: [u8; 2_000] = [0; 2_000];
const CHUNK_BYTES: u32 = 1_000;

/// A server with a session.
struct Rig {
    server: Server,
    now: Time,
    client: Identity,
    ticket: Ticket,
    next_number: u64,
    id: Option<RequestId>,
    outputs: Vec<&'static str>,
}

type Step = fn(&mut Rig);

/// Phases, each with a phase before it in this list and the step from there.
const PHASES: [(&str, &str, Step); 7] = [
    ("Unknown", "", |_| ()),
    ("Arriving", "Unknown", |rig| rig.fragment(0)),
    ("Executing", "Unknown", |rig| rig.whole()),
    ("Executing, acknowledged", "Executing", |rig| rig.pass(ACK_WITHIN)),
    ("Done", "Executing", reply),
    ("Done, acknowledged", "Executing", |rig| rig.reply(&BODY)),
    ("Ended", "Executing", cancel),
];

const INPUTS: [(&str, Step); 14] = [
    ("request", |rig| rig.whole()),
    ("first fragment", |rig| rig.fragment(0)),
    ("last fragment", |rig| rig.fragment(1)),
    ("Ask", |rig| rig.ask(Ranges::default())),
    ("Ask for fragments", |rig| rig.ask(Ranges::from_indices(vec![1]))),
    ("Cancel", cancel),
    ("Ended", |rig| {
        let (floor, sequences) = (Sequence(0), vec![SEQUENCE]);
        rig.question(&ClientBody::Ended { floor, sequences });
    }),
    ("floor passes", |rig| {
        let (floor, sequences) = (Sequence(2), Vec::new());
        rig.question(&ClientBody::Ended { floor, sequences });
    }),
    ("service replies", reply),
    ("service abandons", |rig| {
        if let Some(id) = rig.id {
            let _ = rig.server.abandon(id);
        }
    }),
    ("ACK_WITHIN passes", |rig| rig.pass(ACK_WITHIN)),
    ("patience ends", |rig| rig.pass(PATIENCE * 2)),
    ("session is idle", |rig| rig.pass(Duration::from_secs(1_000))),
    ("client restarts", |rig| {
        rig.client.generation.0 += 1;
        rig.ticket = rig.server.cx.tickets.issue(rig.now, rig.client, &address());
        rig.open();
    }),
];

fn address() -> Address {
    Address::Udp(([192, 0, 2, 1], 7).into())
}

fn cancel(rig: &mut Rig) {
    rig.question(&ClientBody::Cancel { sequence: SEQUENCE, floor: Sequence(0) });
}

fn reply(rig: &mut Rig) {
    rig.reply(b"reply");
}

impl Rig {
    fn new() -> Self {
        let config = Config::new(PORT, Epoch(1), Key::none(), [1; 32]);
        let client = Identity { id: ClientId(1), generation: ClientGeneration(1) };
        let server = Server::new(config);
        let ticket = server.cx.tickets.issue(Time(1), client, &address());
        let (now, next_number, id, outputs) = (Time(1), 1, None, Vec::new());
        let mut rig = Self { server, now, client, ticket, next_number, id, outputs };
        rig.open();
        rig.act();
        rig.outputs.clear();
        rig
    }

    /// Opens the session by another request, which stays open.
    fn open(&mut self) {
        self.request(Sequence(0), &BODY, 0);
    }

    fn whole(&mut self) {
        self.request(SEQUENCE, b"", 0);
    }

    fn fragment(&mut self, index: u32) {
        self.request(SEQUENCE, &BODY, index);
    }

    fn request(&mut self, sequence: Sequence, body: &[u8], index: u32) {
        self.question(&ClientBody::Request(RequestPart {
            sequence,
            floor: Sequence(0),
            patience: PATIENCE,
            limit: PATIENCE,
            credit_bytes: 1,
            datagram_bytes: 1_400,
            report: true,
            fragment: Fragment::of(body, CHUNK_BYTES, index).unwrap(),
        }));
    }

    fn ask(&mut self, wanted: Ranges) {
        let (sequence, floor, patience) = (SEQUENCE, Sequence(0), PATIENCE);
        self.question(&ClientBody::Ask(Ask { sequence, floor, patience, wanted }));
    }

    fn question(&mut self, question: &ClientBody<'_>) {
        let (number, mut packet) = (PacketNumber(self.next_number), Vec::new());
        self.next_number += 1;
        let Self { client, ticket, .. } = *self;
        let header = Header { port: PORT, epoch: Epoch(1), client, ticket, number };
        seal_question(&Key::none(), &header, question, &mut packet);
        self.server.handle_packet(self.now, &address(), &packet);
    }

    fn reply(&mut self, reply: &'static [u8]) {
        if let Some(id) = self.id {
            let _ = self.server.reply(self.now, id, Bytes::from_static(reply));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.server.handle_timeout(self.now);
    }

    /// Takes the server's packets and events about the request.
    fn act(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Request { id, .. } => {
                    self.id = Some(id);
                    self.outputs.push("execute");
                }
                Event::Cancelled { .. } => self.outputs.push("cancel"),
            }
        }
        while let Some(transmit) = self.server.poll_transmit() {
            let Opened { body, .. } = open_answer(&Key::none(), &transmit.packet).unwrap();
            self.outputs.push(match body {
                ServerBody::Welcome(Terms { .. }) => "Welcome",
                ServerBody::Reply { .. } => "Reply",
                ServerBody::Working { .. } => "Working",
                ServerBody::Got(got) if got.sequence != SEQUENCE => continue,
                ServerBody::Got(_) => "Got",
                ServerBody::Refused { why, .. } => match why {
                    Refusal::Epoch => "Epoch",
                    Refusal::NoSession => "NoSession",
                    Refusal::Gone => "Gone",
                    Refusal::Busy => "Busy",
                    Refusal::TooLong => "TooLong",
                    Refusal::Cancelled => "Cancelled",
                    Refusal::Abandoned => "Abandoned",
                },
            });
        }
    }

    fn phase(&mut self) -> String {
        let key = SessionKey { client: self.client, ticket: self.ticket };
        let Some(session) = self.server.sessions.get_mut(key) else {
            return "no session".to_owned();
        };
        let Some(request) = session.requests.get_mut(SEQUENCE) else {
            return "Unknown".to_owned();
        };
        let mark = if request.acknowledged { ", acknowledged" } else { "" };
        let name = match request.phase {
            RequestPhase::Arriving { .. } => return "Arriving".to_owned(),
            RequestPhase::Executing { .. } => "Executing",
            RequestPhase::Done { .. } => "Done",
            RequestPhase::Ended { .. } => return "Ended".to_owned(),
        };
        format!("{name}{mark}")
    }
}

fn reach(phase: &str) -> Rig {
    let Some((_, before, step)) = PHASES.iter().find(|(name, ..)| *name == phase) else {
        return Rig::new();
    };
    let mut rig = reach(before);
    step(&mut rig);
    rig.act();
    assert_eq!(rig.phase(), phase, "reached by its step");
    rig.outputs.clear();
    rig
}

#[test]
fn the_table_is_what_the_server_does() {
    table::check(PAGE, &PHASES.map(|it| it.0), &INPUTS.map(|it| it.0), |phase, input| {
        let mut rig = reach(phase);
        let (_, step) = INPUTS.iter().find(|(name, _)| *name == input).unwrap();
        step(&mut rig);
        rig.act();
        (rig.phase(), rig.outputs.join(", "))
    });
}
