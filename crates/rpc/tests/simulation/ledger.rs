//! Ledger of calls, executions and replies, which finds violations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use rpc::{CallError, Execution, Identity, Port, Progress};
use simulation::Random;

/// A violation of the protocol's promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    ExecutedTwice,
    /// The caller had been told that the request is never executed.
    ExecutedThoughNever,
    /// A service got a request that no call made.
    WrongRequest,
    /// A call got another call's reply.
    WrongReply,
    /// The caller was told falsely that the server has the request.
    NotReceived,
    EndedTwice,
    EndedLate,
    NeverEnded,
    /// A call failed in a schedule where every call must be answered.
    NotAnswered,
    /// All troubles are over, and calls still fail.
    NotRecovered,
    /// The server refuses the reply to a request that it hasn't cancelled, or takes one to a
    /// cancelled request.
    ReplyRefused,
    /// An address that has received no packet yet was sent more bytes than came from the address.
    Amplified,
    /// A damaged packet had an effect.
    AnsweredDamage,
    Oversize,
    OverLimit,
    TooManyPackets,
    /// Events follow each other without end at one instant.
    Livelock,
    /// A service goes on though no call waits for it, and a cancellation could have reached it.
    NotCancelled,
    NeverAtRest,
    NotEmpty,
}

#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub violation: Violation,
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.violation, self.detail)
    }
}

impl Finding {
    pub(crate) fn new<T>(violation: Violation, detail: impl Into<String>) -> Result<T, Self> {
        Err(Self { violation, detail: detail.into() })
    }
}

/// End of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Reply,
    Error(CallError),
    /// The client died.
    Abandoned,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub client: Identity,
    pub port: Port,
    pub body_bytes: usize,
    reply_bytes: usize,
    pub deadline_us: u64,
    executed: bool,
    /// Service that executes the call: its host, and the request's index there.
    pub service: Option<(usize, usize)>,
    pub end: Option<End>,
}

/// Index into the ledger. Every message begins with it, unless it is empty.
pub(crate) type CallNumber = usize;

const NUMBER_BYTES: usize = 8;

/// Counts of requests without content, which can't be told apart.
#[derive(Debug, Default)]
struct Empties {
    made: usize,
    executed: usize,
    never: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    calls: Vec<Call>,
    empties: BTreeMap<(Identity, Port), Empties>,
}

impl Ledger {
    /// Enters a call. Returns its number and request.
    pub(crate) fn make(
        &mut self,
        client: Identity,
        port: Port,
        bytes: (usize, usize),
        deadline_us: u64,
    ) -> (CallNumber, Vec<u8>) {
        let number = self.calls.len();
        let body = message(number, bytes.0, REQUEST);
        let reply_bytes = if body.is_empty() { 0 } else { bytes.1 };
        let body_bytes = body.len();
        self.calls.push(Call {
            client,
            port,
            body_bytes,
            reply_bytes,
            deadline_us,
            executed: false,
            service: None,
            end: None,
        });
        if body.is_empty() {
            self.empties.entry((client, port)).or_default().made += 1;
        }
        (number, body)
    }

    pub(crate) fn call(&self, number: CallNumber) -> &Call {
        &self.calls[number]
    }

    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Notes that a service got a request. Returns the right reply.
    pub(crate) fn execute(
        &mut self,
        port: Port,
        client: Identity,
        body: &[u8],
        service: (usize, usize),
    ) -> Result<Vec<u8>, Finding> {
        if body.is_empty() {
            return self.execute_empty(port, client).map(|()| Vec::new());
        }
        let number = number_of(body).filter(|number| *number < self.calls.len());
        let Some(number) = number else {
            return Finding::new(Violation::WrongRequest, "a request that nobody made");
        };
        let call = &mut self.calls[number];
        if (call.client, call.port) != (client, port)
            || message(number, call.body_bytes, REQUEST) != body
        {
            return Finding::new(
                Violation::WrongRequest,
                format!("call {number}, given to {port} for {client:?}"),
            );
        }
        if call.executed {
            return Finding::new(Violation::ExecutedTwice, format!("call {number}"));
        }
        (call.executed, call.service) = (true, Some(service));
        if let Some(End::Error(error)) = call.end.as_ref().filter(|end| end.is_never()) {
            return Finding::new(
                Violation::ExecutedThoughNever,
                format!("call {number}, which ended with {error}"),
            );
        }
        Ok(message(number, call.reply_bytes, REPLY))
    }

    fn execute_empty(&mut self, port: Port, client: Identity) -> Result<(), Finding> {
        let empties = self.empties.entry((client, port)).or_default();
        empties.executed += 1;
        empties
            .check()
            .or_else(|violation| Finding::new(violation, format!("empty requests of {client:?}")))
    }

    /// Notes a call's end.
    pub(crate) fn end(
        &mut self,
        number: CallNumber,
        result: Result<&[u8], CallError>,
    ) -> Result<(), Finding> {
        let call = &mut self.calls[number];
        if let Some(end) = &call.end {
            return Finding::new(
                Violation::EndedTwice,
                format!("call {number}: {end:?}, {result:?}"),
            );
        }
        call.end = Some(match result {
            Ok(reply) => {
                check_reply(number, call, reply)?;
                End::Reply
            }
            Err(error) => {
                check_error(number, call, &error)?;
                End::Error(error)
            }
        });
        if call.body_bytes == 0 && call.end.as_ref().is_some_and(End::is_never) {
            let empties = self.empties.entry((call.client, call.port)).or_default();
            empties.never += 1;
            return empties
                .check()
                .or_else(|violation| Finding::new(violation, format!("call {number}, empty")));
        }
        Ok(())
    }

    pub(crate) fn abandon(&mut self, number: CallNumber) {
        self.calls[number].end.get_or_insert(End::Abandoned);
    }
}

impl Call {
    /// Returns `Reply`, or the error's name with the call's progress.
    pub(crate) fn name_of_end(&self) -> String {
        match &self.end {
            Some(End::Error(CallError::ServerDown { progress, .. })) => {
                format!("ServerDown({progress:?})")
            }
            Some(End::Error(CallError::TimedOut(progress))) => format!("TimedOut({progress:?})"),
            Some(End::Error(CallError::Cancelled(progress))) => format!("Cancelled({progress:?})"),
            Some(End::Error(error)) => {
                format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
            }
            Some(End::Reply) => "Reply".to_owned(),
            Some(End::Abandoned) => "Abandoned".to_owned(),
            None => "open".to_owned(),
        }
    }
}

impl End {
    fn is_never(&self) -> bool {
        matches!(self, Self::Error(error) if error.execution() == Execution::Never)
    }
}

impl Empties {
    fn check(&self) -> Result<(), Violation> {
        match self {
            it if it.executed > it.made => Err(Violation::ExecutedTwice),
            it if it.executed + it.never > it.made => Err(Violation::ExecutedThoughNever),
            _ => Ok(()),
        }
    }
}

fn check_reply(number: CallNumber, call: &Call, reply: &[u8]) -> Result<(), Finding> {
    // Executions of empty requests can't be told apart.
    let executed = call.executed || call.body_bytes == 0;
    if message(number, call.reply_bytes, REPLY) == reply && executed {
        return Ok(());
    }
    let whose = number_of(reply).map_or("nobody's".to_owned(), |whose| format!("that of {whose}"));
    Finding::new(
        Violation::WrongReply,
        format!("call {number} was given {whose}, of {} bytes", reply.len()),
    )
}

fn check_error(number: CallNumber, call: &Call, error: &CallError) -> Result<(), Finding> {
    if call.executed && error.execution() == Execution::Never {
        return Finding::new(
            Violation::ExecutedThoughNever,
            format!("call {number}, executed and then ended with {error}"),
        );
    }
    let (CallError::TimedOut(progress)
    | CallError::ServerDown { progress, .. }
    | CallError::Cancelled(progress)) = error
    else {
        return Ok(());
    };
    if *progress == Progress::Received && !call.executed && call.body_bytes > 0 {
        return Finding::new(Violation::NotReceived, format!("call {number}: {error}"));
    }
    Ok(())
}

const REQUEST: usize = 0;
const REPLY: usize = 1;

/// Returns the content of a message: its call's number, then bytes that depend on the number and on
/// their position.
fn message(number: CallNumber, bytes: usize, direction: usize) -> Vec<u8> {
    if bytes == 0 {
        return Vec::new();
    }
    let start = (number * 2 + direction) * 4_099 % (NOISE.len() / 2);
    let filler = bytes.saturating_sub(NUMBER_BYTES).min(NOISE.len() / 2);
    [&(number as u64).to_be_bytes()[..], &NOISE[start..start + filler]].concat()
}

fn number_of(message: &[u8]) -> Option<CallNumber> {
    message.first_chunk().and_then(|number| usize::try_from(u64::from_be_bytes(*number)).ok())
}

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..1 << 17).flat_map(|_| random.number().to_be_bytes()).collect()
});
