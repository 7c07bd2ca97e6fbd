//! Transitions when pickup-rs comes or goes, and consequences of its replies.

use std::time::Instant;

use handoff::protocol::Reply;
use postfix_wire::QueueId;
use spool::{AgentKind, Domain, NodeId, Rest};

use super::feeding::FeedKey;
use super::lanes::lot_size;
use super::ledger::Known;
use super::link::{LinkChange, LinkEvent};
use super::phase::{Phase, Then};
use super::report::{HandoffOutcome, Held};
use super::vanishing::Remark;
use super::{Mail, MailConfig};
use crate::lease::Member;
use crate::machine::End;
use crate::membership::Membership;

impl Mail {
    pub(super) fn link_event(&mut self, now: Instant, event: LinkEvent) {
        match self.link.handle(now, event) {
            LinkChange::None => (),
            LinkChange::Up(node, unfit) => {
                self.fitness_changes(|fitness| fitness.report(now, unfit));
                self.pickup_came(node);
            }
            LinkChange::Down => self.pickup_went(now),
            // Another server is the node now, so this agent must say nothing more in the node's
            // name.
            LinkChange::Refused if self.membership.is_some() => {
                self.enter(Phase::Ended(End::OtherNode));
            }
            LinkChange::Refused => (),
            LinkChange::Heard(reply) => self.heard(now, reply),
        }
    }

    fn pickup_came(&mut self, node: NodeId) {
        // The hand-off may be another one.
        self.declare();
        match &self.membership {
            None => self.become_node(node),
            Some((known, _)) if *known != node => self.enter(Phase::Ended(End::OtherNode)),
            Some(_) => self.look_for_return(),
        }
    }

    fn become_node(&mut self, node: NodeId) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        let MailConfig { generation, ref name, term, window } = self.config;
        let member = Member {
            agent: node.clone().into(),
            kind: AgentKind::Mail,
            generation,
            name: name.clone(),
        };
        self.membership = Some((node, Membership::new(member, term, window)));
        self.enter(Phase::Outside { fenced: None, leave_by: None });
        // The first pong may have told a cause.
        self.declare();
    }

    /// Notes that pickup-rs has gone. All requests under way are uncertain until a new comparison.
    pub(super) fn pickup_went(&mut self, now: Instant) {
        self.releases.lost_sight();
        self.orders.lost_sight();
        self.feeding.lost_sight();
        self.ledger.lost_sight();
        let then = match &mut self.phase {
            Phase::Leaving { held, .. } => return *held = Held::Later,
            phase if phase.leave_by().is_some() => return self.leave(now, Held::Later),
            Phase::Nameless | Phase::Outside { .. } | Phase::CutOff { .. } => return,
            Phase::Ended(_) => return,
            Phase::Uncompared { then } | Phase::Asking { then, .. } => *then,
            Phase::Listing { then, .. } => *then,
            Phase::Deciding { .. } => Then::Decide { leave_by: None },
            Phase::Serving(_) => Then::Serve,
        };
        self.enter(Phase::Uncompared { then });
    }

    /// Makes a new connection, so that no reply to an earlier request arrives.
    pub(super) fn reconnect(&mut self, now: Instant) {
        self.link.begin_again(now);
        self.pickup_went(now);
    }

    pub(super) fn heard(&mut self, now: Instant, reply: Reply) {
        match reply {
            Reply::Held { id, lot, epoch, queue_id, to } => {
                self.shares.begin(&queue_id, to);
                self.handed(queue_id, FeedKey { lot, epoch, id }, HandoffOutcome::Held);
            }
            Reply::Stored { id, lot, epoch, queue_id, to } => {
                self.shares.begin(&queue_id, to);
                self.handed(queue_id, FeedKey { lot, epoch, id }, HandoffOutcome::Stored);
            }
            Reply::Consumed { id, lot, epoch, queue_id } => {
                self.handed(queue_id, FeedKey { lot, epoch, id }, HandoffOutcome::Consumed);
            }
            Reply::Refused { id, lot, epoch, reason, retry } => {
                self.refused(now, FeedKey { lot, epoch, id }, reason, retry);
            }
            Reply::Full { id, lot, epoch, to } => self.park(now, FeedKey { lot, epoch, id }, to),
            Reply::Settled { queue_id } => {
                self.shares.end(&queue_id);
                if self.ledger.settled(&queue_id) == Known::No {
                    self.compare_soon(now);
                }
            }
            Reply::Deferred { queue_id, next_attempt_s } => {
                self.shares.end(&queue_id);
                self.ledger.rests(&queue_id, Rest::Until(next_attempt_s * 1_000));
            }
            Reply::Vanished { queue_ids } => {
                for queue_id in &queue_ids {
                    self.releases.vanished(queue_id);
                    self.shares.end(queue_id);
                    self.ledger.vanished(queue_id);
                }
                self.remark_vanished(now);
            }
            Reply::OnHold { queue_id } => {
                self.shares.end(&queue_id);
                self.ledger.rests(&queue_id, Rest::OnHold);
            }
            Reply::Released { queue_ids } => {
                queue_ids.iter().for_each(|it| self.releases.answered(it));
            }
            Reply::Operated { act, done, absent, renamed } => {
                let (by_order, by_others): (Vec<_>, Vec<_>) =
                    renamed.into_iter().partition(|it| done.contains(&it.now));
                self.renamed_by_order(act, &by_order);
                self.renamed_by_others(now, &by_others);
                self.operated(act, done, absent);
            }
            Reply::Inventory { files, renamed, unreadable, proof, complete } => {
                self.unreadable(&unreadable);
                self.listed(now, files, renamed, complete.then_some(proof));
            }
            Reply::Error { reason } => {
                tracing::error!(reason, "request to pickup-rs failed");
                self.pickup_failed(now);
            }
            Reply::Discarded { queue_ids } => {
                queue_ids.iter().for_each(|it| self.ledger.discarded(it));
            }
            Reply::Pong { unfit, .. } => {
                self.fitness_changes(|fitness| fitness.report(now, unfit));
            }
            Reply::NewNode { .. } => (),
        }
    }

    /// Whether messages may be fed. Under direct hand-off a fed message is sent. So a lot that is
    /// known only from a notice, taken while pickup-rs held files back, waits for the answer of
    /// Redis.
    pub(super) fn may_feed(&self) -> bool {
        let is_certain = self.link.is_two_phase() || !self.feeding.has_noticed();
        self.phase.is_serving() && self.fitness.is_fit() && is_certain
    }

    /// Parks a message whose destinations all have their share, in the lane of the first one.
    fn park(&mut self, now: Instant, key: FeedKey, to: Vec<Domain>) {
        let _message = key.span(None).entered();
        self.feeding.answered(&key);
        self.lanes.parked(now, key.lot);
        let to = to.into_iter().next().unwrap_or_else(Domain::others);
        self.ledger.park(key, to, lot_size(self.shares.window()));
    }

    /// Notes that prepared files have vanished, whose messages are fed again.
    pub(super) fn remark_vanished(&mut self, now: Instant) {
        if let Remark::Rounds(rounds, pause) = self.vanishing.vanished(now) {
            tracing::error!(
                rounds,
                ?pause,
                "files in optimus/prepared vanished before their release, and feeding paused; \
                    find the program that deletes them, with auditctl -w"
            );
        }
    }

    pub(super) fn handed(&mut self, queue_id: QueueId, key: FeedKey, how: HandoffOutcome) {
        let _message = key.span(Some(&queue_id)).entered();
        self.feeding.answered(&key);
        self.ledger.handed(queue_id, key, how);
    }

    pub(super) fn refused(&mut self, now: Instant, key: FeedKey, reason: String, retry: bool) {
        let _message = key.span(None).entered();
        if retry {
            tracing::warn!(reason, "message refused for now");
            self.feeding.refused(now, key);
        } else {
            tracing::error!(reason, "message refused for good");
            self.feeding.answered(&key);
            self.ledger.refused(key, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handoff::protocol::{Handoff, Served};
    use spool::{Generation, Start};

    use super::super::{LinkOrder, MailAnswer, MailQuestion};
    use super::*;
    use crate::lease::{LeaseAnswer, LeaseQuestion};
    use crate::machine::{Action, Input, Machine, Ticket};

    fn pong() -> Reply {
        let (node, handoff) = ("n".to_owned(), Handoff::Hold);
        let (spool, trouble, waits, pause, unfit) = (None, None, None, None, None);
        let (cleanups, served) = (1, Served::Here);
        Reply::Pong { node, handoff, cleanups, spool, trouble, waits, pause, unfit, served }
    }

    /// Checks that a lot moves from a direct hand-off only when the lease has ended.
    #[test]
    fn an_agent_is_called_while_its_hand_off_has_two_phases() {
        let now = Instant::now();
        let mut mail = greeting(now);
        for (given, callable) in
            [(Handoff::Direct, false), (Handoff::Hold, true), (Handoff::Direct, false)]
        {
            let mut pong = pong();
            let Reply::Pong { handoff, .. } = &mut pong else { unreachable!() };
            *handoff = given;
            mail.handle(now, Input::Link(LinkEvent::Reply(pong)));
            let (ticket, is_callable) = loop {
                let (ticket, question) = asked(&mut mail, now);
                if let MailQuestion::Lease(LeaseQuestion::Take { is_callable, .. }) = question {
                    break (ticket, is_callable);
                }
            };
            assert_eq!(is_callable, callable);
            mail.handle(
                now,
                Input::Answer(ticket, MailAnswer::Lease(LeaseAnswer::Taken(Start(1)))),
            );
            mail.handle(now, Input::Link(LinkEvent::Disconnected));
            let later = now + Duration::from_millis(100);
            let is_connect = |it: &_| matches!(it, Action::Link(LinkOrder::Connect));
            assert!(std::iter::from_fn(|| mail.poll(later)).any(|it| is_connect(&it)));
            mail.handle(now, Input::Link(LinkEvent::Connected));
        }
    }

    fn greeting(now: Instant) -> Mail {
        let (generation, term) = (Generation::from_parts(1, 1), Duration::from_secs(1));
        let mut mail =
            Mail::new(MailConfig { generation, name: String::new(), term, window: 7 }, now);
        assert!(matches!(mail.poll(now), Some(Action::Link(LinkOrder::Connect))));
        mail.handle(now, Input::Link(LinkEvent::Connected));
        mail
    }

    /// Checks that an agent hands nothing back after another server has become the node.
    #[test]
    fn an_agent_that_is_refused_says_nothing_more_in_its_node_s_name() {
        let now = Instant::now();
        let mut mail = greeting(now);
        mail.handle(now, Input::Link(LinkEvent::Reply(pong())));
        mail.handle(now, Input::Link(LinkEvent::Refused));
        assert!(matches!(mail.poll(now), Some(Action::End(End::OtherNode))));
    }

    /// Returns the next question to Redis.
    fn asked(mail: &mut Mail, now: Instant) -> (Ticket, MailQuestion) {
        loop {
            match mail.poll(now) {
                Some(Action::Ask(ticket, question)) => return (ticket, question),
                Some(Action::Tell(_) | Action::Link(_) | Action::Call(..) | Action::Reply(..)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Checks the case of a node that has moved: Redis fences the start that the directory still
    /// gives.
    #[test]
    fn an_agent_that_is_fenced_begins_as_another_one() {
        let now = Instant::now();
        let mut mail = greeting(now);
        mail.handle(now, Input::Link(LinkEvent::Reply(pong())));
        let taken = || MailAnswer::Lease(LeaseAnswer::Taken(Start(1)));
        let (ticket, _) = asked(&mut mail, now);
        mail.handle(now, Input::Answer(ticket, taken()));
        let (ticket, question) = asked(&mut mail, now);
        assert!(matches!(question, MailQuestion::Inventory(_)));
        mail.handle(now, Input::Answer(ticket, MailAnswer::Superseded));
        let (ticket, question) = asked(&mut mail, now);
        assert!(matches!(question, MailQuestion::Lease(LeaseQuestion::Take { .. })));
        mail.handle(now, Input::Answer(ticket, taken()));
        assert!(matches!(mail.poll(now), Some(Action::End(End::OtherNode))));
    }

    #[test]
    fn an_agent_without_a_node_waits_until_it_is_no_longer_refused() {
        let now = Instant::now();
        let mut mail = greeting(now);
        mail.handle(now, Input::Link(LinkEvent::Refused));
        let later = now + Duration::from_secs(1);
        assert!(matches!(mail.poll(later), Some(Action::Link(LinkOrder::Connect))));
        mail.handle(later, Input::Link(LinkEvent::Connected));
        mail.handle(later, Input::Link(LinkEvent::Reply(pong())));
        assert!(mail.membership.is_some());
    }
}
