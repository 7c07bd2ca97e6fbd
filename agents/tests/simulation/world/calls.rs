//! Calls between agents over a network that loses them. A call ends by its limit in any case.

use agents::machine::{Input, Ticket};
use agents::peer::{CALL_LIMIT, CallEnd, CallNumber, Peer, Reply, Request};

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
        let is_it = |generation| generation == peer.generation;
        let to = self.processes.iter().find(|(_, it)| is_it(it.generation) && !it.is_unreachable);
        if let Some((&number, _)) = to {
            self.calls.insert(call, from);
            self.tell(number, Input::Called(call, request));
        }
    }

    pub(super) fn reply_to(&mut self, call: CallNumber, reply: Reply) {
        let (number, ticket) = self.calls.remove(&call).expect("a call is answered once");
        if !self.random.chance(self.weather.lost_notices / 3) {
            let end = CallEnd::Replied(reply);
            self.later(1, 5, Event::Input(number, Input::CallEnded(ticket, end)));
        }
    }
}
