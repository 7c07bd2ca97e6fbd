//! What the model speaks of: bounds, rules, packets.

/// How large a world is searched, and which rule is broken in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Calls, over all lives of the client.
    pub(crate) calls: u8,
    /// Lives of the client and of the server.
    pub(crate) client_lives: u8,
    pub(crate) server_lives: u8,
    /// Times that a request is sent: 2 is once and a retransmission.
    pub(crate) attempts: u8,
    /// Fragments of a request.
    pub(crate) fragments: u8,
    /// The server's clock stops here, in each of its lives.
    pub(crate) last_tick: u8,
    /// Tickets that are issued, over all lives.
    pub(crate) tickets: u8,
    /// Whether callers cancel, and are told that a port has no server.
    pub(crate) callers_cancel: bool,
    pub(crate) ports_vanish: bool,
    /// Lives of the server from this one on find every request too long.
    pub(crate) too_long_from: u8,
    pub(crate) broken: Option<Rule>,
}

impl Bounds {
    /// One call that nothing happens to but loss, delay and doubling.
    pub(crate) const LEAST: Self = Self {
        calls: 1,
        client_lives: 1,
        server_lives: 1,
        attempts: 2,
        fragments: 1,
        last_tick: 0,
        tickets: 1,
        callers_cancel: false,
        ports_vanish: false,
        too_long_from: u8::MAX,
        broken: None,
    };

    pub(crate) fn obeys(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// A ticket is accepted while it is younger than so many ticks.
pub(crate) const TICKET_LIFE: u8 = 1;
/// A session is kept for so many ticks after its last packet. Not fewer than [`TICKET_LIFE`].
pub(crate) const IDLE: u8 = 1;
/// A reply is kept for so many ticks after the last packet about it.
pub(crate) const PATIENCE: u8 = 1;

/// What a mutation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A request that is known is not executed again.
    DuplicateTable,
    /// A released reply leaves a tombstone, as long as its sequence isn't below the floor.
    Tombstones,
    /// An unknown request below the floor isn't executed.
    Floor,
    /// A packet of an earlier life of the server is refused.
    ServerEpoch,
    /// A session is opened only by a young ticket.
    TicketAge,
    /// A ticket is no longer young in the tick in which its session can be forgotten first.
    TicketAgeIsExclusive,
    /// A session outlives the age of its ticket.
    SessionOutlivesTicket,
    /// A request is repeated under the ticket under which it was sent first.
    SameTicket,
    /// Either side tells the lives of a client apart.
    ClientGeneration,
    /// Packets of a client's earlier lives are refused while a session of a later one is known.
    EarlierLifeIsRefused,
    /// The sessions of earlier lives end when a later life has a session, not already when it asks
    /// for a ticket.
    EarlierLifeGoesLate,
    /// What the server has acknowledged lives on below the floor, which passes it.
    AcknowledgedOutlivesFloor,
    /// A cancellation that overtakes its request leaves a tombstone.
    CancelLeavesTombstone,
    /// The length of a request is looked at after its epoch.
    EpochBeforeLength,
    /// "Nobody serves this port" ends only calls of which nothing was sent.
    VanishedPortSparesSent,
}

/// Names a session. Its hash over client, address, port and epoch is modelled by nobody being able
/// to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub(crate) epoch: u8,
    pub(crate) issued: u8,
}

/// A call, over all lives of the client: life and sequence.
pub(crate) type Name = (u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Question {
    Hello,
    Request {
        ticket: Ticket,
        sequence: u8,
        floor: u8,
        attempt: u8,
        fragment: u8,
    },
    Ask {
        ticket: Ticket,
        sequence: u8,
        floor: u8,
    },
    Cancel {
        ticket: Ticket,
        sequence: u8,
        floor: u8,
    },
    /// The reply to what lived on below the floor has arrived.
    Ended {
        ticket: Ticket,
        sequence: u8,
        floor: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Welcome {
        ticket: Ticket,
    },
    /// `of` is the content: what was executed. `cached` is there for the properties only.
    Reply {
        ticket: Ticket,
        sequence: u8,
        attempt: u8,
        of: Name,
        cached: bool,
    },
    Working {
        ticket: Ticket,
        sequence: u8,
    },
    /// Some fragments of a request are there.
    Got {
        ticket: Ticket,
        sequence: u8,
    },
    /// For want of a session, or because the server has another epoch; with a ticket for the next
    /// calls.
    NoSession {
        ticket: Ticket,
        sequence: u8,
        epoch: u8,
        fresh: Option<Ticket>,
    },
    Gone {
        ticket: Ticket,
        sequence: u8,
    },
    /// `begun` is there for the properties only.
    Cancelled {
        ticket: Ticket,
        sequence: u8,
        begun: bool,
    },
    TooLong {
        ticket: Ticket,
        sequence: u8,
    },
}

/// A packet, with the life of the client that sent it or is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Packet {
    Asked(u8, Question),
    Answered(u8, Answer),
}

impl Answer {
    /// What the client sees of it.
    pub(crate) fn uncached(self) -> Self {
        match self {
            Self::Reply { ticket, sequence, attempt, of, .. } => {
                Self::Reply { ticket, sequence, attempt, of, cached: false }
            }
            other => other,
        }
    }
}
