//! Vocabulary of the model: bounds, rules, packets.

/// Size of the world, and the rule that is broken in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Number of calls, over all generations of the client.
    pub(crate) calls: u8,
    /// Number of generations of the client and of the server.
    pub(crate) client_generations: u8,
    pub(crate) server_generations: u8,
    /// Most transmissions of a request; 2 allows one retransmission.
    pub(crate) attempts: u8,
    /// Number of a request's fragments.
    pub(crate) fragments: u8,
    /// Tick at which the server's clock stops, in each of its generations.
    pub(crate) last_tick: u8,
    /// Number of tickets that are issued, over all generations.
    pub(crate) tickets: u8,
    /// Whether callers cancel, and whether a port loses its server.
    pub(crate) callers_cancel: bool,
    pub(crate) ports_vanish: bool,
    /// First generation of the server that finds every request too long.
    pub(crate) too_long_from: u8,
    pub(crate) broken: Option<Rule>,
}

impl Bounds {
    /// One call that meets only loss, delay and doubling.
    pub(crate) const LEAST: Self = Self {
        calls: 1,
        client_generations: 1,
        server_generations: 1,
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

/// Ticks for which a ticket is accepted.
pub(crate) const TICKET_YOUTH: u8 = 1;
/// Ticks for which a session is kept after its last packet. At least [`TICKET_YOUTH`].
pub(crate) const IDLE: u8 = 1;
/// Ticks for which a reply is kept after the last packet about it.
pub(crate) const PATIENCE: u8 = 1;

/// Rule that a mutation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A request that is known is not executed again.
    DuplicateTable,
    /// A released reply leaves a tombstone, as long as its sequence isn't below the floor.
    Tombstones,
    /// An unknown request below the floor isn't executed.
    Floor,
    /// A packet of an earlier generation of the server is refused.
    ServerEpoch,
    /// A session is opened only by a young ticket.
    TicketAge,
    /// A ticket is no longer young in the tick in which its session can be forgotten first.
    TicketAgeIsExclusive,
    /// A session is kept for longer than its ticket is young.
    SessionOutlivesTicket,
    /// A request is repeated under the ticket under which it was sent first.
    SameTicket,
    /// Client and server tell the generations of a client apart.
    ClientGeneration,
    /// Packets of a client's earlier generations are refused while a session of a later one is
    /// known.
    EarlierGenerationIsRefused,
    /// The sessions of earlier generations end when a later generation opens a session, not already
    /// when that generation asks for a ticket.
    EarlierGenerationGoesLate,
    /// An acknowledged request lives on when the floor passes it.
    AcknowledgedOutlivesFloor,
    /// A cancellation that overtakes its request leaves a tombstone.
    CancelLeavesTombstone,
    /// The server compares a request's epoch before its length.
    EpochBeforeLength,
    /// An answer that the port has no server ends only calls that were not sent.
    VanishedPortSparesSent,
}

/// Name of a session. In the model nobody can forge a ticket, so the ticket needs no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub(crate) epoch: u8,
    pub(crate) issued: u8,
}

/// A call, over all generations of the client: generation and sequence.
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
    /// The reply to a request that lives on below the floor has arrived.
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
    /// The reply, whose content `of` is the executed request. Only the properties read `cached`.
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
    /// Some fragments of a request have arrived.
    Got {
        ticket: Ticket,
        sequence: u8,
    },
    /// The refusal of a request without a session or of another epoch, with a ticket for the next
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
    /// The answer to a cancellation. Only the properties read `begun`.
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

/// A packet, with the generation of the client that sent or is to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Packet {
    Asked(u8, Question),
    Answered(u8, Answer),
}

impl Answer {
    /// Returns the answer as the client sees it.
    pub(crate) fn uncached(self) -> Self {
        match self {
            Self::Reply { ticket, sequence, attempt, of, .. } => {
                Self::Reply { ticket, sequence, attempt, of, cached: false }
            }
            other => other,
        }
    }
}
