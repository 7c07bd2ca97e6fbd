//! Answers to other agents' calls.

use super::Mail;
use crate::machine::Action;
use crate::peer::{CallNumber, Reply, Request};

impl Mail {
    /// Takes a call by another agent, which is answered at the next poll.
    pub(super) fn called(&mut self, call: CallNumber, request: &Request) {
        let reply = match request {
            Request::Probe => Reply::Here { has_lots: !self.feeding.is_idle() },
        };
        self.outbox.push_back(Action::Reply(call, reply));
    }
}
