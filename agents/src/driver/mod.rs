//! The driver of a machine: carries its questions to the spool, its orders over the link, its
//! notices to other agents, and all their answers back. A driver decides nothing.
//!
//! The driver hands over all input that has come before it polls the machine. So many replies of
//! pickup-rs make one report.

mod endpoint;
mod outcomes;
mod pickup;
mod questions;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use notices::{Heard, NoticeBus};
use spool::SpoolError;
use tokio::sync::watch;

pub use self::endpoint::Endpoint;
pub use self::pickup::{PickupWire, mismatch};
pub use self::questions::SpoolExecutor;
use crate::machine::{Action, End, Input, Machine, Ticket};
use crate::peer::CallEnd;

/// An agent whose questions the spool can answer.
pub trait Agent: Machine {
    /// Carries one question to the spool.
    fn ask(
        executor: Rc<SpoolExecutor>,
        question: Self::Question,
    ) -> LocalBoxFuture<'static, Result<Self::Answer, SpoolError>>;
}

/// The other end of a machine's link.
pub trait Wire {
    /// Event of the link.
    type Event;
    /// Order to the link.
    type Order;
    /// Returns the next event. The call may be abandoned and made again: nothing is lost by it, and
    /// nothing begins anew.
    fn next(&mut self) -> impl Future<Output = Self::Event>;
    /// Carries out an order, whose outcome is an event.
    fn order(&mut self, order: Self::Order);
}

/// The link of a machine that has none.
#[derive(Debug)]
pub struct NoWire;

impl Wire for NoWire {
    type Event = Infallible;
    type Order = Infallible;

    async fn next(&mut self) -> Infallible {
        pending().await
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }
}

type Answers<A> = FuturesUnordered<LocalBoxFuture<'static, (Ticket, Result<A, SpoolError>)>>;
type Calls = FuturesUnordered<LocalBoxFuture<'static, (Ticket, CallEnd)>>;

/// A machine with its link, its bus, its endpoint and its executor. Must be run in a `LocalSet`.
pub struct Driver<M: Machine, W, N> {
    machine: M,
    wire: W,
    bus: N,
    endpoint: Endpoint,
    calls: Calls,
    executor: Rc<SpoolExecutor>,
    answers: Answers<M::Answer>,
    /// Number of Redis servers that answers have come from.
    servers: u64,
}

/// Most events handed to a machine before it is polled.
const EVENTS_AT_ONCE: usize = 256;

impl<M, W, N> Driver<M, W, N>
where
    M: Agent,
    W: Wire<Event = M::Event, Order = M::Order>,
    N: NoticeBus,
    M::Answer: 'static,
{
    /// Makes a driver, which connects nothing until the machine orders it.
    pub fn new(
        machine: M,
        wire: W,
        bus: N,
        endpoint: Endpoint,
        executor: Rc<SpoolExecutor>,
    ) -> Self {
        let servers = executor.spool.servers();
        let (answers, calls) = (FuturesUnordered::new(), FuturesUnordered::new());
        Self { servers, machine, wire, bus, endpoint, calls, executor, answers }
    }

    /// Runs until the machine ends. When `drain` becomes true, the machine is asked to end.
    pub async fn run(mut self, mut drain: watch::Receiver<bool>) -> End {
        let mut is_drained = false;
        loop {
            if let Some(end) = self.act() {
                self.bus.finish().await;
                return end;
            }
            let until = self.machine.poll_timeout();
            tokio::select! {
                Some((ticket, result)) = self.answers.next(), if !self.answers.is_empty() => {
                    self.answered(ticket, result);
                }
                event = self.wire.next() => self.happened(event),
                heard = self.bus.next() => self.heard(heard),
                (call, request) = self.endpoint.next() => {
                    tracing::trace!(?call, ?request, "call arrived");
                    self.machine.handle(Instant::now(), Input::Called(call, request));
                }
                Some((ticket, end)) = self.calls.next(), if !self.calls.is_empty() => {
                    tracing::trace!(?ticket, ?end, "call ended");
                    self.machine.handle(Instant::now(), Input::CallEnded(ticket, end));
                }
                () = reached(until) => (),
                _ = drain.wait_for(|drain| *drain), if !is_drained => {
                    is_drained = true;
                    self.machine.handle(Instant::now(), Input::Drain);
                }
            }
            self.take_all_that_is_there();
        }
    }

    fn act(&mut self) -> Option<End> {
        let now = Instant::now();
        while let Some(action) = self.machine.poll(now) {
            tracing::trace!(?action, "action taken");
            match action {
                Action::Ask(ticket, question) => {
                    let answer = M::ask(self.executor.clone(), question);
                    self.answers.push(answer.map(move |result| (ticket, result)).boxed_local());
                }
                Action::Link(order) => self.wire.order(order),
                Action::Tell(notice) => self.bus.tell(&notice),
                Action::Call(ticket, peer, request) => {
                    let call = self.endpoint.call(&peer, request);
                    self.calls.push(call.map(move |end| (ticket, end)).boxed_local());
                }
                Action::Reply(call, reply) => self.endpoint.reply(call, reply),
                Action::End(end) => return Some(end),
            }
        }
        None
    }

    /// Tells the machine of another Redis server before any answer that comes from it.
    fn look_for_other_server(&mut self) {
        let servers = self.executor.spool.servers();
        let before = std::mem::replace(&mut self.servers, servers);
        if before != 0 && before != servers {
            tracing::info!("Redis server changed");
            self.machine.handle(Instant::now(), Input::OtherServer);
        }
    }

    fn answered(&mut self, ticket: Ticket, result: Result<M::Answer, SpoolError>) {
        self.look_for_other_server();
        let input = match result {
            Ok(answer) => {
                tracing::trace!(?ticket, ?answer, "answer arrived");
                Input::Answer(ticket, answer)
            }
            Err(error) => {
                if error.is_retryable() {
                    tracing::debug!(%error, "question to Redis failed for now");
                } else {
                    tracing::error!(%error, "question to Redis failed");
                }
                Input::Failed(ticket)
            }
        };
        self.machine.handle(Instant::now(), input);
    }

    fn happened(&mut self, event: M::Event) {
        tracing::trace!(?event, "event arrived");
        self.machine.handle(Instant::now(), Input::Link(event));
    }

    fn heard(&mut self, heard: Heard) {
        tracing::trace!(?heard, "notice arrived");
        let input = match heard {
            Heard::Notice(notice) => Input::Notice(notice),
            Heard::Listening => Input::Listening,
        };
        self.machine.handle(Instant::now(), input);
    }

    fn take_all_that_is_there(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            if let Some(event) = self.wire.next().now_or_never() {
                self.happened(event);
            } else if let Some(Some((ticket, result))) = self.answers.next().now_or_never() {
                self.answered(ticket, result);
            } else {
                return;
            }
        }
    }
}

async fn reached(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
