//! Answers to other agents' calls, and to their suspicion.

use notices::Notice;

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

    /// Asks for the lease at once if a Scheduler says that this agent is gone.
    pub(super) fn is_suspect(&mut self, notice: &Notice) {
        if let (Notice::Left(_, agent), Some((_, membership))) = (notice, &mut self.membership) {
            membership.left(agent);
        }
    }
}
