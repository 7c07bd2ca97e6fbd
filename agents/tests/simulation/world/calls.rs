//! Calls between agents over a network that loses them. A call ends by its limit in any case.

use agents::machine::{Input, Ticket};
use agents::peer::{CALL_LIMIT, CallEnd, CallNumber, Peer, Reply, Request};
use spool::Generation;

use super::{Event, World};

impl World {
    pub(super) fn call(&mut self, from: (usize, Ticket), peer: Peer, request: Request) {
        self.calls_made += 1;
        let (call, (number, ticket)) = (CallNumber(self.calls_made), from);
        let limit_ms = CALL_LIMIT.as_millis() as u64;
        self.at(
            self.now_ms + limit_ms,
            Event::Input(number, Input::CallEnded(ticket, CallEnd::Silent)),
        );
        // rpc sends a call again, so fewer calls are lost than notices.
        if !self.random.chance(self.weather.lost_notices / 3) {
            self.later(1, 5, Event::Call(call, from, peer, request));
        }
    }

    pub(super) fn called(
        &mut self,
        call: CallNumber,
        from: (usize, Ticket),
        peer: &Peer,
        request: Request,
    ) {
        let to = self.number_of(peer.generation);
        if let Some(number) = to.filter(|number| !self.unreachable.contains(number)) {
            self.calls.insert(call, from);
            self.tell(number, Input::Called(call, request));
        }
    }

    /// Returns the process of a generation, if it runs.
    pub(super) fn number_of(&self, generation: Generation) -> Option<usize> {
        let it = self.processes.iter().find(|(_, it)| it.generation == generation);
        it.map(|(number, _)| *number)
    }

    /// Has no call reach a process from now on, although it reaches Redis.
    pub(crate) fn shut_off(&mut self, number: usize) {
        self.note(&format!("shut off {number}"));
        self.unreachable.insert(number);
    }

    /// Stops a process for some time, as SIGSTOP does.
    pub(crate) fn freeze(&mut self, number: usize, ms: u64) {
        self.note(&format!("freeze {number} for {ms} ms"));
        self.troubles += 1;
        self.frozen.insert(number, self.now_ms + ms);
    }

    pub(super) fn reply_to(&mut self, call: CallNumber, reply: Reply) {
        let (number, ticket) = self.calls.remove(&call).expect("a call is answered once");
        if !self.random.chance(self.weather.lost_notices / 3) {
            let end = CallEnd::Replied(reply);
            self.later(1, 5, Event::Input(number, Input::CallEnded(ticket, end)));
        }
    }
}
