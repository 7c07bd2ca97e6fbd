//! Program `postdrop`: reads a record stream from standard input, and writes an attribute list to
//! standard output before and after.
//!
//! ```text
//! client                                     postdrop
//!          ◀── protocol=postdrop_protocol, queue_id=<message id>
//!  records ──▶
//!          ◀── status, reason
//! ```
//!
//! Stock `sendmail` and `smtpd -S` (which `sendmail -bs` runs) submit through postdrop. The queue
//! id in postdrop's greeting is the message id. Cleanup makes the real queue id much later, perhaps
//! on another machine.
//!
//! If a stream ends between two records, before its end record, the client has cancelled: postdrop
//! submits nothing and reports no error. A malformed stream ends the program with 1 and without a
//! status, as in stock.
//!
//! Source: Postfix `postdrop(1)`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;

use postfix_wire::CleanupStatus;
use postfix_wire::attr;
use postfix_wire::record::{RecordError, RecordReader};

use crate::collected::Collected;
use crate::death::Program;
use crate::exit::Failure;
use crate::filter::{Completeness, Filter, FilterError, MessageRefusal, SenderCheck};
use crate::getopt::{CommandLineItem, Getopt};
use crate::instance::{ConfigurationChoice, Instance};
use crate::log::{Log, Severity};
use crate::policy::may_submit;
use crate::privilege::Caller;
use crate::relay::{Way, has_rights};
use crate::report::report;
use crate::sender::Senders;
use crate::stamp::SubmissionStamp;
use crate::submission::{room, submit};
use crate::sys::StandardInput;

/// Bytes of standard input that are read at once.
const INPUT_BYTES: usize = 64 * 1024;
/// Exit code of the program when it can't answer with a status.
const EXIT_FATAL: u8 = 1;

/// Outcome of reading the record stream.
#[derive(Debug)]
pub enum Received {
    /// Complete message.
    Message(Collected),
    /// Complete record stream whose message is refused.
    Refused(MessageRefusal),
    /// Incomplete record stream: the client has cancelled.
    Cancelled,
}

/// Name and exit code of this program.
pub const PROGRAM: Program = Program { name: "postdrop", failed: EXIT_FATAL };

/// Runs `postdrop` and returns its exit code.
pub fn main() -> u8 {
    let caller = Caller::take_over(PROGRAM);
    let mut log = Log::new(PROGRAM.name);
    match run(&caller, &mut log) {
        Ok(status) => u8::try_from(status.bits()).unwrap_or(EXIT_FATAL),
        Err(failure) => {
            log.say(Severity::Fatal, &failure.message);
            EXIT_FATAL
        }
    }
}

fn run(caller: &Caller, log: &mut Log) -> Result<CleanupStatus, Failure> {
    let arguments = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let asked = options(arguments, log)?;
    let instance = Instance::open(asked, caller)?;
    instance.configure(log)?;
    let way = way(&instance, caller.uid, log)?;
    let senders = Senders::of(caller.uid, &instance, log);
    // postdropd's postdrop checks the sender of a relayed message.
    let check: SenderCheck<'_> = match way {
        Way::Own { .. } => &|sender| senders.check(sender),
        Way::Socket(_) => &|_| Ok(()),
    };
    let limits = instance.filter_limits()?;
    let stamp = SubmissionStamp::new(caller.uid)?;
    let mut output = io::stdout().lock();
    let who = format!("uid={}", caller.uid);

    let id = match &way {
        Way::Own { .. } => stamp.id.to_string(),
        Way::Socket(relay) => relay.queue_id.clone(),
    };
    answer(&mut output, &[("protocol", "postdrop_protocol"), ("queue_id", &id)])?;
    let input = BufReader::with_capacity(INPUT_BYTES, StandardInput);
    let warn = &mut |warning: String| log.say(Severity::Warning, &format!("{who}: {warning}"));
    let room = room(&instance, matches!(way, Way::Own { no_socket: None }));
    let filter = Filter::new(limits, stamp.arrival, check, room);
    let received = receive(input, limits.record, filter, warn);
    let received = received.map_err(|error| Failure::usage(format!("{who}: {}", told(&error))))?;
    let (status, reason) = match received {
        Received::Cancelled => return Ok(CleanupStatus::OK),
        Received::Refused(refusal) => (refusal.status, refusal.reason),
        Received::Message(records) => keep(way, &instance, &stamp, records, log, &who),
    };
    if status == CleanupStatus::SIZE {
        log.say(Severity::Warning, &format!("{who}: File too large"));
    }
    // A durable message stays durable, even if postdrop can't tell the client.
    if let Err(failure) =
        answer(&mut output, &[("status", &status.bits().to_string()), ("reason", &reason)])
    {
        log.say(Severity::Warning, &format!("{who}: {failure}"));
    }
    Ok(status)
}

/// Chooses the way of submission. Fails if this user may not submit.
fn way(instance: &Instance, uid: u32, log: &Log) -> Result<Way, Failure> {
    if !has_rights(instance) {
        return Way::without_rights(instance, uid, log);
    }
    may_submit(instance, uid, log)?;
    Ok(Way::Own { no_socket: None })
}

fn keep(
    way: Way,
    instance: &Instance,
    stamp: &SubmissionStamp,
    records: Collected,
    log: &Log,
    who: &str,
) -> (CleanupStatus, String) {
    let answer = match way {
        Way::Socket(relay) => relay.submit(&records),
        Way::Own { no_socket } => submit(instance, stamp, records)
            .map(|kept| report(&kept, stamp.id, log))
            .map(|()| (CleanupStatus::OK, String::new()))
            .map_err(|failure| failure.and(no_socket)),
    };
    match answer {
        Ok(answer) => answer,
        Err(failure) => {
            log.say(Severity::Warning, &format!("{who}: {failure}"));
            (CleanupStatus::WRITE, failure.message)
        }
    }
}

/// Reads a record stream through the filter. Fails if the stream is malformed or a record has more
/// than `record_limit` bytes of data.
pub fn receive(
    input: impl BufRead,
    record_limit: usize,
    mut filter: Filter<'_>,
    warn: &mut dyn FnMut(String),
) -> Result<Received, FilterError> {
    let mut reader = RecordReader::new(input, record_limit);
    let mut data = Vec::new();
    loop {
        let Some(kind) = reader.next(&mut data)? else {
            return Ok(filter.abandon().map_or(Received::Cancelled, Received::Refused));
        };
        if filter.record(kind, &data, warn)? == Completeness::Complete {
            return Ok(filter.finish().map_or_else(Received::Refused, Received::Message));
        }
    }
}

/// Returns the text of an error. Under postdropd, standard input has a time limit, and `WouldBlock`
/// means that the limit passed.
fn told(error: &FilterError) -> String {
    match error {
        FilterError::Malformed(RecordError::Io(error))
            if error.kind() == io::ErrorKind::WouldBlock =>
        {
            "client: silent for too long; send faster, or raise --idle-s of postdropd".to_owned()
        }
        error => error.to_string(),
    }
}

/// Parses `-c directory`, `-r` and `-v`; the last two have no effect. Operands are ignored, as in
/// stock.
fn options(arguments: Vec<Vec<u8>>, log: &Log) -> Result<ConfigurationChoice, Failure> {
    let mut asked = ConfigurationChoice::No;
    for found in Getopt::new(b"c:rv", arguments) {
        match found {
            CommandLineItem::Option(b'c', directory) => {
                asked = ConfigurationChoice::ByPostdropOption(
                    std::ffi::OsString::from_vec(directory).into(),
                );
            }
            CommandLineItem::Option(..) => {}
            CommandLineItem::Wrong(mistake) => {
                log.complain(&mistake.words());
                return Err(Failure::usage("usage: postdrop [-c config_dir] [-v]"));
            }
        }
    }
    Ok(asked)
}

/// Writes an attribute list. A client that has gone is no failure, because postdrop must still
/// judge its message.
fn answer(output: &mut impl Write, attributes: &[(&str, &str)]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    attr::encode(&mut bytes, attributes);
    let written = output.write_all(&bytes).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::temporary(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
