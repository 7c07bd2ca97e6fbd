//! Reaching a server: its address, and the session for new calls.

use super::call::CallSession;
use super::peer::{CurrentSession, Greeting, Peer};
use super::{Context, Event, Timer};
use crate::packet::{ClientBody, Header, Terms};
use crate::rtt::RoundTrip;
use crate::window::Window;
use crate::{Address, CallError, Epoch, Progress, Ticket, Time};

/// Epoch and ticket in a `Hello`.
const NO_SESSION: CallSession =
    CallSession { epoch: Epoch(0), ticket: Ticket { issued_us: 0, proof: 0 } };

impl Peer {
    /// Requests a lookup of the server, unless one is under way.
    pub(super) fn find(&mut self, cx: &mut Context) {
        if !self.finding {
            self.finding = true;
            cx.events.push_back(Event::Lookup { port: self.port });
        }
    }

    /// Notes the server's address.
    pub(super) fn move_to(&mut self, cx: &mut Context, now: Time, address: Address) {
        let limits = &cx.config.limits;
        self.address = Some(address);
        self.round_trip = RoundTrip::new(limits.rto_initial, limits.rto_max);
        if let Some(greeting) = self.greeting {
            self.greet(cx, now, greeting.unanswered);
        }
    }

    /// Looks a server up again when half of the retransmissions are unanswered: the server may have
    /// moved.
    pub(super) fn suspect(&mut self, cx: &mut Context, unanswered: u32) {
        if unanswered == cx.config.limits.retransmissions.div_ceil(2) {
            self.find(cx);
        }
    }

    /// Sends a `Hello`, for a ticket.
    pub(super) fn greet(&mut self, cx: &mut Context, now: Time, unanswered: u32) {
        let Some(number) = self.send(cx, now, NO_SESSION, &ClientBody::Hello) else {
            return debug_assert!(false, "a server is found before it is greeted");
        };
        let first = self.greeting.map_or(number, |greeting| greeting.first);
        self.greeting = Some(Greeting { first, number, unanswered });
        cx.timers.set(Timer::Greet(self.port), now + self.round_trip.timeout(unanswered));
    }

    /// Repeats the `Hello`.
    ///
    /// # Errors
    /// The server is down: the error of the calls that wait.
    pub(super) fn repeat_greeting(&mut self, cx: &mut Context, now: Time) -> Result<(), CallError> {
        let Some(unanswered) = self.greeting.map(|greeting| greeting.unanswered + 1) else {
            debug_assert!(false, "the timer of a greeting ends with it");
            return Ok(());
        };
        if self.waiting.is_empty() {
            self.greeting = None;
            return Ok(());
        }
        if unanswered > cx.config.limits.retransmissions {
            self.greeting = None;
            self.address = None;
            let progress = Progress::Unsent;
            return Err(CallError::ServerDown { transmissions: unanswered, progress });
        }
        self.suspect(cx, unanswered);
        cx.counters.repeated += 1;
        self.greet(cx, now, unanswered);
        Ok(())
    }

    /// Takes the answer to a greeting, in whose session new calls begin. Returns whether the answer
    /// was awaited.
    pub(super) fn takes_welcome(
        &mut self,
        cx: &mut Context,
        now: Time,
        header: &Header,
        terms: Terms,
    ) -> bool {
        let is_awaited = self.greeting.is_some_and(|greeting| greeting.includes(header.number));
        if is_awaited {
            self.greeting = None;
            cx.timers.cancel(Timer::Greet(self.port));
            self.open_session(cx, now, header, terms);
        }
        is_awaited
    }

    /// Takes the ticket that came with a refusal, unless a newer session is open.
    pub(super) fn replace_session(
        &mut self,
        cx: &mut Context,
        now: Time,
        lost: CallSession,
        header: &Header,
        terms: Terms,
    ) {
        if self.session.is_some_and(|current| current.session == lost) {
            self.open_session(cx, now, header, terms);
        }
    }

    fn open_session(&mut self, cx: &Context, now: Time, header: &Header, terms: Terms) {
        let most = cx.config.limits.window_bytes;
        self.session = Some(CurrentSession::new(now, CallSession::of(header), terms));
        self.up = Window::new(most.min(terms.window_bytes));
    }
}
