//! The client's half of the protocol.

use crate::words::{Answer, Bounds, Name, Question, Rule, Ticket};

/// A client over its generations. [`Client::crash`] clears the state that a generation doesn't
/// survive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) generation: u8,
    /// Ticket for requests that were not sent yet.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) calls: Vec<Call>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) name: Name,
    /// Ticket under which the call was first sent.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) attempts: u8,
    /// Whether the server acknowledged the whole request, and whether it acknowledged a part of it.
    pub(crate) received: bool,
    pub(crate) acknowledged: bool,
    pub(crate) ended: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Answered {
        of: Name,
        attempt: u8,
        cached: bool,
    },
    ServerRestarted,
    Forgotten,
    TooLongForServer,
    NoSuchPort,
    TimedOut(Progress),
    Cancelled(Progress),
    /// The client and its caller died.
    Died,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Progress {
    Unsent,
    Sent,
    Received,
}

impl Ending {
    /// Returns whether the ending means "certainly not executed, and never will be".
    pub(crate) fn says_never(self) -> bool {
        matches!(
            self,
            Self::TooLongForServer
                | Self::NoSuchPort
                | Self::TimedOut(Progress::Unsent)
                | Self::Cancelled(Progress::Unsent)
        )
    }
}

impl Call {
    pub(crate) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    pub(crate) fn progress(&self) -> Progress {
        match (self.attempts, self.received) {
            (0, _) => Progress::Unsent,
            (_, false) => Progress::Sent,
            (_, true) => Progress::Received,
        }
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { generation: 1, ticket: None, calls: Vec::new() }
    }

    pub(crate) fn begin(&mut self) {
        let name = (self.generation, self.next_sequence());
        self.calls.push(Call {
            name,
            ticket: None,
            attempts: 0,
            received: false,
            acknowledged: false,
            ended: None,
        });
    }

    pub(crate) fn crash(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.is_open()) {
            call.ended = Some(Ending::Died);
        }
        self.generation += 1;
        self.ticket = None;
    }

    /// Returns the next transmission of a request, with all its fragments.
    pub(crate) fn transmit(&mut self, bounds: &Bounds, index: usize) -> Vec<Question> {
        let newest = self.ticket;
        let call = &mut self.calls[index];
        if !bounds.obeys(Rule::SameTicket) {
            call.ticket = newest.or(call.ticket);
        }
        let Some(ticket) = call.ticket.or(newest) else { return Vec::new() };
        call.ticket = Some(ticket);
        let attempt = call.attempts;
        call.attempts += 1;
        let (sequence, floor) = (call.name.1, self.floor());
        let request = |fragment| Question::Request { ticket, sequence, floor, attempt, fragment };
        (0..bounds.fragments).map(request).collect()
    }

    pub(crate) fn ask(&self, index: usize) -> Option<Question> {
        let call = &self.calls[index];
        let (ticket, sequence) = (call.ticket?, call.name.1);
        Some(Question::Ask { ticket, sequence, floor: self.floor() })
    }

    /// Reports the arrival of a reply to a call that lives on below the floor.
    pub(crate) fn report_ended(&self, index: usize) -> Option<Question> {
        let call = &self.calls[index];
        let answered =
            matches!(call.ended, Some(Ending::Answered { .. })) && call.name.0 == self.generation;
        let (ticket, sequence) = (call.ticket?, call.name.1);
        let ended = Question::Ended { ticket, sequence, floor: self.floor() };
        (answered && call.acknowledged).then_some(ended)
    }

    /// Ends a call by the caller's will or limit. If the request was sent, the client tells the
    /// server.
    pub(crate) fn give_up(
        &mut self,
        index: usize,
        ending: fn(Progress) -> Ending,
    ) -> Option<Question> {
        let call = &mut self.calls[index];
        call.ended = Some(ending(call.progress()));
        let (ticket, sequence) = (call.ticket?, call.name.1);
        Some(Question::Cancel { ticket, sequence, floor: self.floor() })
    }

    /// Ends a call whose port the directory no longer knows, unless it was sent.
    pub(crate) fn port_vanished(&mut self, bounds: &Bounds, index: usize) {
        let call = &mut self.calls[index];
        if call.attempts == 0 || !bounds.obeys(Rule::VanishedPortSparesSent) {
            call.ended = Some(Ending::NoSuchPort);
        }
    }

    /// Returns the sequence of the lowest open call that the server hasn't acknowledged, not even
    /// in part.
    fn floor(&self) -> u8 {
        let unreceived = self.mine().filter(|call| call.is_open() && !call.acknowledged);
        unreceived.map(|call| call.name.1).min().unwrap_or_else(|| self.next_sequence())
    }

    fn next_sequence(&self) -> u8 {
        self.mine().fold(0, |count, _| count + 1)
    }

    fn mine(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.name.0 == self.generation)
    }

    pub(crate) fn handle(&mut self, bounds: &Bounds, generation: u8, answer: Answer) {
        if generation != self.generation && bounds.obeys(Rule::ClientGeneration) {
            return;
        }
        match answer {
            // The model also takes copies and unexpected welcomes, which the code's client ignores.
            Answer::Welcome { ticket } => self.ticket = Some(ticket),
            Answer::Reply { ticket, sequence, attempt, of, cached } => {
                if self.find(ticket, sequence).is_some_and(|call| attempt < call.attempts) {
                    self.end(ticket, sequence, Ending::Answered { of, attempt, cached });
                }
            }
            Answer::Working { ticket, sequence } => {
                if let Some(call) = self.find(ticket, sequence) {
                    (call.received, call.acknowledged) = (true, true);
                }
            }
            Answer::Got { ticket, sequence } => {
                if let Some(call) = self.find(ticket, sequence) {
                    call.acknowledged = true;
                }
            }
            Answer::NoSession { ticket, sequence, epoch, fresh } => {
                if self.find(ticket, sequence).is_some() {
                    self.lose_session(ticket, epoch, fresh);
                }
            }
            Answer::Gone { ticket, sequence } => self.end(ticket, sequence, Ending::Forgotten),
            Answer::Cancelled { .. } => {}
            Answer::TooLong { ticket, sequence } => {
                self.end(ticket, sequence, Ending::TooLongForServer);
            }
        }
    }

    /// Ends every call in a lost session.
    fn lose_session(&mut self, lost: Ticket, epoch: u8, fresh: Option<Ticket>) {
        if self.ticket == Some(lost) {
            self.ticket = fresh;
        }
        let ending = if epoch == lost.epoch { Ending::Forgotten } else { Ending::ServerRestarted };
        let inside = |call: &&mut Call| call.is_open() && call.ticket == Some(lost);
        self.calls.iter_mut().filter(inside).for_each(|call| call.ended = Some(ending));
    }

    fn end(&mut self, ticket: Ticket, sequence: u8, ending: Ending) {
        if let Some(call) = self.find(ticket, sequence) {
            call.ended = Some(ending);
        }
    }

    /// Returns the open call to which an answer refers. The generation was compared before, unless
    /// that rule is broken.
    fn find(&mut self, ticket: Ticket, sequence: u8) -> Option<&mut Call> {
        let asks = |call: &&mut Call| call.ticket == Some(ticket) && call.name.1 == sequence;
        self.calls.iter_mut().filter(|call| call.is_open()).find(asks)
    }
}
