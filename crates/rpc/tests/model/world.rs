//! The states of client, server and network, and every step that can be taken from one.

use std::collections::BTreeSet;

use crate::client::{Call, Client, Ending, Progress};
use crate::server::{Entry, Key, Server};
use crate::words::{Answer, Bounds, Packet, Question};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) server: Server,
    /// Every packet that was ever sent. Each can arrive at any time, any number of times, or never.
    pub(crate) sent: BTreeSet<Packet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Call,
    Hello,
    Transmit(usize),
    Ask(usize),
    ReportEnded(usize),
    TimeOut(usize),
    Cancel(usize),
    PortVanishes(usize),
    ClientCrash,
    Arrive(Packet),
    Finish(Key, u8),
    Release(Key, u8),
    Forget(Key),
    Tick,
    ServerCrash,
}

impl World {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self { client: Client::new(), server: Server::new(bounds.tickets), sent: BTreeSet::new() }
    }

    pub(crate) fn ask(&mut self, question: Question) {
        self.sent.insert(Packet::Asked(self.client.generation, question));
    }

    pub(crate) fn take(&mut self, bounds: &Bounds, step: Step) {
        match step {
            Step::Call => self.client.begin(),
            Step::Hello => self.ask(Question::Hello),
            Step::Transmit(index) => {
                self.client
                    .transmit(bounds, index)
                    .into_iter()
                    .for_each(|question| self.ask(question));
            }
            Step::Ask(index) => {
                self.client.ask(index).into_iter().for_each(|question| self.ask(question));
            }
            Step::ReportEnded(index) => {
                self.client.report_ended(index).into_iter().for_each(|question| self.ask(question));
            }
            Step::TimeOut(index) => self.give_up(index, Ending::TimedOut),
            Step::Cancel(index) => self.give_up(index, Ending::Cancelled),
            Step::PortVanishes(index) => self.client.port_vanished(bounds, index),
            Step::ClientCrash => self.client.crash(),
            Step::Arrive(packet) => self.arrive(bounds, packet),
            Step::Finish(key, sequence) => {
                let answer = self.server.finish(key, sequence);
                self.sent.extend(
                    answer
                        .map(|answer| Packet::Answered(self.generation_of(key, sequence), answer)),
                );
            }
            Step::Release(key, sequence) => self.server.release(bounds, key, sequence),
            Step::Forget(key) => self.server.forget(bounds, key),
            Step::Tick => self.server.now += 1,
            Step::ServerCrash => self.server.crash(),
        }
    }

    /// Drops packets that would change no state, so that the search has fewer states.
    pub(crate) fn sweep(&mut self, bounds: &Bounds) {
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|packet| !self.is_spent(bounds, packet));
        self.sent = sent;
    }

    fn is_spent(&self, bounds: &Bounds, packet: &Packet) -> bool {
        match packet {
            Packet::Asked(_, Question::Hello) => self.server.tickets_left == 0,
            Packet::Asked(
                generation,
                Question::Request { ticket, sequence, .. }
                | Question::Ask { ticket, sequence, .. }
                | Question::Cancel { ticket, sequence, .. }
                | Question::Ended { ticket, sequence, .. },
            ) => ticket.epoch < self.server.epoch && !self.waits(*generation, *sequence),
            Packet::Answered(generation, answer) => match answer {
                Answer::Welcome { .. } => {
                    *generation < self.client.generation || !self.wants_a_ticket(bounds)
                }
                Answer::Working { sequence, .. } => {
                    let known =
                        |call: &Call| call.name == (*generation, *sequence) && call.received;
                    !self.waits(*generation, *sequence) || self.client.calls.iter().any(known)
                }
                Answer::Got { sequence, .. } => {
                    let known =
                        |call: &Call| call.name == (*generation, *sequence) && call.acknowledged;
                    !self.waits(*generation, *sequence) || self.client.calls.iter().any(known)
                }
                Answer::Reply { sequence, .. }
                | Answer::NoSession { sequence, .. }
                | Answer::Gone { sequence, .. }
                | Answer::TooLong { sequence, .. } => !self.waits(*generation, *sequence),
                // Only a property reads `begun`.
                Answer::Cancelled { begun, .. } => *begun,
            },
        }
    }

    fn waits(&self, generation: u8, sequence: u8) -> bool {
        self.client.calls.iter().any(|call| call.name == (generation, sequence) && call.is_open())
    }

    /// Returns whether a ticket is needed, for an unsent call or for one that may still be made.
    fn wants_a_ticket(&self, bounds: &Bounds) -> bool {
        let unsent = |call: &Call| call.is_open() && call.ticket.is_none();
        self.client.calls.len() < usize::from(bounds.calls) || self.client.calls.iter().any(unsent)
    }

    pub(crate) fn arrive(&mut self, bounds: &Bounds, packet: Packet) {
        match packet {
            Packet::Asked(generation, question) => {
                let answer = self.server.handle(bounds, generation, question);
                let answer = answer.filter(|answer| {
                    !self.sent.contains(&Packet::Answered(generation, answer.uncached()))
                });
                self.sent.extend(answer.map(|answer| Packet::Answered(generation, answer)));
            }
            Packet::Answered(generation, answer) => self.client.handle(bounds, generation, answer),
        }
    }

    fn give_up(&mut self, index: usize, ending: fn(Progress) -> Ending) {
        let cancel = self.client.give_up(index, ending);
        cancel.into_iter().for_each(|question| self.ask(question));
    }

    /// Returns the generation that asked, even if a broken rule mixes the generations of a session.
    fn generation_of(&self, key: Key, sequence: u8) -> u8 {
        match self.server.sessions.get(&key).and_then(|session| session.requests.get(&sequence)) {
            Some(Entry::Executing { of, .. } | Entry::Done { of, .. }) => of.0,
            _ => key.0,
        }
    }

    pub(crate) fn client_steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        if self.client.calls.len() < usize::from(bounds.calls) {
            steps.push(Step::Call);
        }
        if self.client.generation < bounds.client_generations {
            steps.push(Step::ClientCrash);
        }
        for index in 0..self.client.calls.len() {
            if self.client.report_ended(index).is_some() {
                steps.push(Step::ReportEnded(index));
            }
        }
        for (index, call) in self.client.calls.iter().enumerate().filter(|(_, call)| call.is_open())
        {
            if call.ticket.is_none() {
                steps.push(Step::Hello);
            }
            if call.attempts < bounds.attempts {
                steps.push(Step::Transmit(index));
            }
            if call.received {
                steps.push(Step::Ask(index));
            }
            steps.push(Step::TimeOut(index));
            if bounds.callers_cancel {
                steps.push(Step::Cancel(index));
            }
            if bounds.ports_vanish {
                steps.push(Step::PortVanishes(index));
            }
        }
    }

    pub(crate) fn server_steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        for (key, session) in &self.server.sessions {
            steps.push(Step::Forget(*key));
            for sequence in session.requests.keys() {
                steps.push(Step::Finish(*key, *sequence));
                steps.push(Step::Release(*key, *sequence));
            }
        }
        if self.server.now < bounds.last_tick {
            steps.push(Step::Tick);
        }
        if self.server.epoch < bounds.server_generations {
            steps.push(Step::ServerCrash);
        }
    }
}
