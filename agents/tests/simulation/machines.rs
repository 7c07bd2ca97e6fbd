//! The three machines behind one type, so that the world handles all of them alike.

use std::convert::{Infallible, identity};
use std::time::Instant;

use agents::info::{self, Info};
use agents::machine::{Action, Input, Machine};
use agents::mail::{self, LinkEvent, LinkOrder, Mail};
use agents::scheduler::{self, Scheduler};

#[allow(clippy::large_enum_variant)] // a handful, all of them for as long as the world
pub(crate) enum AnyMachine {
    Info(Info),
    Scheduler(Scheduler),
    Mail(Mail),
}

#[derive(Debug, Clone)]
pub(crate) enum Question {
    Info(info::InfoQuestion),
    Scheduler(scheduler::SchedulerQuestion),
    Mail(mail::MailQuestion),
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Info(info::InfoAnswer),
    Scheduler(scheduler::SchedulerAnswer),
    Mail(mail::MailAnswer),
}

impl Machine for AnyMachine {
    type Question = Question;
    type Answer = Answer;
    type Event = LinkEvent;
    type Order = LinkOrder;

    fn handle(&mut self, now: Instant, input: Input<Answer, LinkEvent>) {
        match self {
            Self::Info(it) => it.handle(now, input_of(input, Answer::for_info, no_event)),
            Self::Scheduler(it) => it.handle(now, input_of(input, Answer::for_scheduler, no_event)),
            Self::Mail(it) => it.handle(now, input_of(input, Answer::for_mail, identity)),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Action<Question, LinkOrder>> {
        match self {
            Self::Info(it) => it.poll(now).map(|it| action_of(it, Question::Info, no_order)),
            Self::Scheduler(it) => {
                it.poll(now).map(|it| action_of(it, Question::Scheduler, no_order))
            }
            Self::Mail(it) => it.poll(now).map(|it| action_of(it, Question::Mail, identity)),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Info(it) => it.poll_timeout(),
            Self::Scheduler(it) => it.poll_timeout(),
            Self::Mail(it) => it.poll_timeout(),
        }
    }
}

impl Answer {
    fn for_info(self) -> info::InfoAnswer {
        match self {
            Self::Info(it) => it,
            other => other.misplaced(),
        }
    }

    fn for_scheduler(self) -> scheduler::SchedulerAnswer {
        match self {
            Self::Scheduler(it) => it,
            other => other.misplaced(),
        }
    }

    fn for_mail(self) -> mail::MailAnswer {
        match self {
            Self::Mail(it) => it,
            other => other.misplaced(),
        }
    }

    fn misplaced(self) -> ! {
        unreachable!("an answer goes where the question came from: {self:?}")
    }
}

fn input_of<A, E>(
    input: Input<Answer, LinkEvent>,
    answer: impl FnOnce(Answer) -> A,
    event: impl FnOnce(LinkEvent) -> E,
) -> Input<A, E> {
    match input {
        Input::Answer(ticket, it) => Input::Answer(ticket, answer(it)),
        Input::Failed(ticket) => Input::Failed(ticket),
        Input::Notice(notice) => Input::Notice(notice),
        Input::Listening => Input::Listening,
        Input::OtherServer => Input::OtherServer,
        Input::Called(call, request) => Input::Called(call, request),
        Input::CallEnded(ticket, end) => Input::CallEnded(ticket, end),
        Input::Link(it) => Input::Link(event(it)),
        Input::Drain => Input::Drain,
    }
}

fn action_of<Q, L>(
    action: Action<Q, L>,
    question: impl FnOnce(Q) -> Question,
    order: impl FnOnce(L) -> LinkOrder,
) -> Action<Question, LinkOrder> {
    match action {
        Action::Ask(ticket, it) => Action::Ask(ticket, question(it)),
        Action::Tell(notice) => Action::Tell(notice),
        Action::Call(ticket, peer, request) => Action::Call(ticket, peer, request),
        Action::Reply(call, reply) => Action::Reply(call, reply),
        Action::Link(it) => Action::Link(order(it)),
        Action::End(end) => Action::End(end),
    }
}

fn no_event(_: LinkEvent) -> Infallible {
    unreachable!("only a Mail Agent has a link")
}

fn no_order(never: Infallible) -> LinkOrder {
    match never {}
}
