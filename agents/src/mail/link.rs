//! The state of the connection to pickup-rs: down, connecting, greeting, up.
//!
//! The link pings pickup-rs, which answers with a pong. Any reply shows that pickup-rs lives. A
//! ping without any reply for the term of a lease shows that pickup-rs is stopped or hangs. The
//! connection is given up then, and the absence counts from the ping. pickup-rs reads its requests
//! all the time, so a long task is no reason for silence. A Mail Agent that was stopped itself
//! takes all replies that wait before it looks at the clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use handoff::protocol::{Handoff, Reply, Request};
use sansio::{Backoff, Policy};
use spool::{NodeId, Unfit};

/// Events of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The connection is made.
    Connected,
    /// The connection could not be made, or has broken.
    Disconnected,
    /// pickup-rs has answered that it serves nothing now. The connection ends.
    Unserving,
    /// pickup-rs says that another queue directory is the node's.
    Refused,
    /// pickup-rs has sent a reply.
    Reply(Reply),
}

/// Orders to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOrder {
    /// An order to make the connection.
    Connect,
    /// A request to send.
    Send(Request),
}

/// Consequence of an event.
#[derive(Debug)]
pub(super) enum LinkChange {
    None,
    /// pickup-rs is up, as this node, and its probes found this cause against the node.
    Up(NodeId, Option<Unfit>),
    Down,
    Refused,
    Heard(Reply),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Down,
    Connecting,
    Greeting,
    Up { cleanups: usize, handoff: Handoff },
}

/// Longest pause between a reply and the next ping.
const PING_PAUSE: Duration = Duration::from_secs(2);
/// Least time without a reply that counts as silence.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// State of the ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    /// No connection.
    No,
    /// The next ping is due at this time.
    Due(Instant),
    /// A ping was sent at this time, and nothing came since.
    Sent(Instant),
}

/// Pauses between two attempts to reach pickup-rs.
const PICKUP: Policy = Policy::from_millis(20, 1_000);

/// The connection; see the module.
#[derive(Debug)]
pub(super) struct Link {
    /// Term of the node's lease.
    term: Duration,
    state: LinkState,
    ping: Ping,
    /// Whether pickup-rs, when it was last there, handed over directly.
    was_direct: bool,
    /// Whether pickup-rs was there at the last look, and did not answer.
    is_silent: bool,
    away_since: Option<Instant>,
    /// Whether an absence of pickup-rs for too long was noticed.
    is_away: bool,
    /// Whether pickup-rs has answered that it serves nothing, since this was last asked.
    has_answered: bool,
    backoff: Backoff,
    requests: VecDeque<Request>,
}

impl Link {
    pub(super) fn new(now: Instant, term: Duration) -> Self {
        Self {
            term,
            state: LinkState::Down,
            ping: Ping::No,
            was_direct: false,
            is_silent: false,
            away_since: Some(now),
            is_away: false,
            has_answered: false,
            backoff: Backoff::new(PICKUP),
            requests: VecDeque::new(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, event: LinkEvent) -> LinkChange {
        match event {
            LinkEvent::Reply(_) if self.ping != Ping::No => {
                self.ping = Ping::Due(now + PING_PAUSE.min(self.term / 3));
            }
            LinkEvent::Reply(_) | LinkEvent::Connected => (),
            LinkEvent::Disconnected | LinkEvent::Unserving | LinkEvent::Refused => {
                self.is_silent = false;
            }
        }
        match (event, self.state) {
            (LinkEvent::Connected, LinkState::Connecting) => {
                self.state = LinkState::Greeting;
                self.requests.push_back(Request::Ping);
                self.ping = Ping::Sent(now);
                LinkChange::None
            }
            (
                LinkEvent::Disconnected,
                LinkState::Connecting | LinkState::Greeting | LinkState::Up { .. },
            ) => self.down(now),
            (
                LinkEvent::Unserving,
                LinkState::Connecting | LinkState::Greeting | LinkState::Up { .. },
            ) => {
                self.has_answered = true;
                self.down(now)
            }
            (
                LinkEvent::Refused,
                LinkState::Connecting | LinkState::Greeting | LinkState::Up { .. },
            ) => {
                self.down(now);
                LinkChange::Refused
            }
            (LinkEvent::Reply(pong @ Reply::Pong { .. }), LinkState::Greeting) => {
                self.greeted(pong)
            }
            (LinkEvent::Reply(reply), LinkState::Up { .. }) => LinkChange::Heard(reply),
            (_, _) => LinkChange::None,
        }
    }

    fn greeted(&mut self, pong: Reply) -> LinkChange {
        let Reply::Pong { node, handoff, cleanups, unfit, .. } = pong else {
            debug_assert!(false, "a pong greets");
            return LinkChange::None;
        };
        match node.parse::<NodeId>() {
            Ok(node) => {
                tracing::info!(%node, ?handoff, cleanups, "pickup-rs connected");
                self.state = LinkState::Up { cleanups: cleanups.max(1), handoff };
                self.was_direct = handoff == Handoff::Direct;
                (self.away_since, self.is_away, self.is_silent) = (None, false, false);
                self.backoff.succeeded();
                LinkChange::Up(node, unfit)
            }
            Err(error) => {
                tracing::error!(%error, "pickup-rs named no valid node");
                LinkChange::None
            }
        }
    }

    /// Returns whether the queue manager sees no file before Redis has decided about it.
    pub(super) fn is_two_phase(&self) -> bool {
        matches!(self.state, LinkState::Up { handoff: Handoff::Hold, .. })
    }

    /// Whether lots may not move away from a live agent without need: a message that is fed now
    /// would be sent twice.
    pub(super) fn is_direct(&self) -> bool {
        self.was_direct
    }

    /// Gives the connection up, so that a new one is made.
    pub(super) fn begin_again(&mut self, now: Instant) {
        _ = self.down(now);
    }

    fn down(&mut self, now: Instant) -> LinkChange {
        let was_up = self.is_up();
        (self.state, self.ping) = (LinkState::Down, Ping::No);
        self.away_since.get_or_insert(now);
        self.backoff.failed(now);
        self.requests.clear();
        if was_up {
            tracing::warn!("pickup-rs disconnected");
            return LinkChange::Down;
        }
        LinkChange::None
    }

    pub(super) fn send(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<LinkOrder> {
        if self.state == LinkState::Down && !self.backoff.blocks(now) {
            self.state = LinkState::Connecting;
            return Some(LinkOrder::Connect);
        }
        if self.ping_due().is_some_and(|due| due <= now) {
            self.ping = Ping::Sent(now);
            self.requests.push_back(Request::Ping);
        }
        self.requests.pop_front().map(LinkOrder::Send)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up { .. })
    }

    pub(super) fn cleanups(&self) -> usize {
        match self.state {
            LinkState::Up { cleanups, .. } => cleanups,
            LinkState::Down | LinkState::Connecting | LinkState::Greeting => 0,
        }
    }

    /// Gives up a connection on which pickup-rs doesn't answer. Returns whether it did.
    pub(super) fn notices_silence(&mut self, now: Instant) -> bool {
        let Some(due) = self.silent_at().filter(|due| *due <= now) else { return false };
        tracing::warn!("pickup-rs did not answer, and the connection was given up");
        _ = self.down(now);
        self.away_since = Some(due - self.patience());
        self.is_silent = true;
        true
    }

    /// Returns, once for each absence, that pickup-rs has been away for longer than a lease.
    pub(super) fn notices_absence(&mut self, now: Instant) -> bool {
        let has_passed = self.away_at().is_some_and(|when| when <= now);
        self.is_away |= has_passed;
        self.is_silent |= has_passed && self.state == LinkState::Greeting;
        has_passed
    }

    /// Returns the cause of a long absence.
    pub(super) fn cause(&self) -> Unfit {
        if self.is_silent { Unfit::Silent } else { Unfit::Away }
    }

    fn patience(&self) -> Duration {
        self.term.max(SILENCE_MIN)
    }

    /// Returns the time at which the ping has been without a reply for too long.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        match self.ping {
            Ping::Sent(at) if self.is_up() => Some(at + self.patience()),
            Ping::Sent(_) | Ping::Due(_) | Ping::No => None,
        }
    }

    /// Returns the time of the next ping.
    pub(super) fn ping_due(&self) -> Option<Instant> {
        match self.ping {
            Ping::Due(at) => Some(at),
            Ping::Sent(_) | Ping::No => None,
        }
    }

    /// Returns, once for such answers, that pickup-rs has answered that it serves nothing.
    pub(super) fn take_answer(&mut self) -> bool {
        std::mem::take(&mut self.has_answered)
    }

    /// Whether a long absence of pickup-rs was noticed and lasts.
    pub(super) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Returns the time at which the absence is too long, if that was not noticed yet.
    pub(super) fn away_at(&self) -> Option<Instant> {
        self.away_since.filter(|_| !self.is_away).map(|since| since + self.term)
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.backoff.until().filter(|_| self.state == LinkState::Down)
    }
}
