//! The state of the connection to pickup-rs: down, connecting, greeting, up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use handoff::protocol::{Handoff, Reply, Request};
use sansio::{Backoff, Policy};
use spool::NodeId;

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
pub(super) enum Change {
    None,
    Up(NodeId),
    Down,
    Refused,
    Heard(Reply),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    Greeting,
    Up { cleanups: usize, handoff: Handoff },
}

/// Pauses between two attempts to reach pickup-rs.
const PICKUP: Policy = Policy::from_millis(20, 1_000);

/// The connection; see the module.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    away_since: Option<Instant>,
    /// Whether an absence of pickup-rs for too long was noticed.
    is_away: bool,
    /// Whether pickup-rs has answered that it serves nothing, since this was last asked.
    has_answered: bool,
    backoff: Backoff,
    requests: VecDeque<Request>,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Down,
            away_since: Some(now),
            is_away: false,
            has_answered: false,
            backoff: Backoff::new(PICKUP),
            requests: VecDeque::new(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, event: LinkEvent) -> Change {
        match (event, self.state) {
            (LinkEvent::Connected, State::Connecting) => {
                self.state = State::Greeting;
                self.requests.push_back(Request::Ping);
                Change::None
            }
            (LinkEvent::Disconnected, State::Connecting | State::Greeting | State::Up { .. }) => {
                self.down(now)
            }
            (LinkEvent::Unserving, State::Connecting | State::Greeting | State::Up { .. }) => {
                self.has_answered = true;
                self.down(now)
            }
            (LinkEvent::Refused, State::Connecting | State::Greeting | State::Up { .. }) => {
                self.down(now);
                Change::Refused
            }
            (LinkEvent::Reply(Reply::Pong { node, handoff, cleanups, .. }), State::Greeting) => {
                self.greeted(&node, handoff, cleanups)
            }
            (LinkEvent::Reply(reply), State::Up { .. }) => Change::Heard(reply),
            (_, _) => Change::None,
        }
    }

    fn greeted(&mut self, node: &str, handoff: Handoff, cleanups: usize) -> Change {
        match node.parse::<NodeId>() {
            Ok(node) => {
                tracing::info!(%node, ?handoff, cleanups, "pickup-rs connected");
                self.state = State::Up { cleanups: cleanups.max(1), handoff };
                (self.away_since, self.is_away) = (None, false);
                self.backoff.succeeded();
                Change::Up(node)
            }
            Err(error) => {
                tracing::error!(%error, "pickup-rs named no valid node");
                Change::None
            }
        }
    }

    /// Returns whether the queue manager sees no file before Redis has decided about it.
    pub(super) fn is_two_phase(&self) -> bool {
        matches!(self.state, State::Up { handoff: Handoff::Hold, .. })
    }

    /// Gives the connection up, so that a new one is made.
    pub(super) fn begin_again(&mut self, now: Instant) {
        _ = self.down(now);
    }

    fn down(&mut self, now: Instant) -> Change {
        let was_up = self.is_up();
        self.state = State::Down;
        self.away_since.get_or_insert(now);
        self.backoff.failed(now);
        self.requests.clear();
        if was_up {
            tracing::warn!("pickup-rs disconnected");
            return Change::Down;
        }
        Change::None
    }

    pub(super) fn send(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<LinkOrder> {
        if self.state == State::Down && !self.backoff.blocks(now) {
            self.state = State::Connecting;
            return Some(LinkOrder::Connect);
        }
        self.requests.pop_front().map(LinkOrder::Send)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn cleanups(&self) -> usize {
        match self.state {
            State::Up { cleanups, .. } => cleanups,
            State::Down | State::Connecting | State::Greeting => 0,
        }
    }

    /// Returns, once for each absence, that pickup-rs has been away for longer than `patience`.
    pub(super) fn notices_absence(&mut self, now: Instant, patience: Duration) -> bool {
        let has_passed = self.away_at(patience).is_some_and(|when| when <= now);
        self.is_away |= has_passed;
        has_passed
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
    pub(super) fn away_at(&self, patience: Duration) -> Option<Instant> {
        self.away_since.filter(|_| !self.is_away).map(|since| since + patience)
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.backoff.until().filter(|_| self.state == State::Down)
    }
}
