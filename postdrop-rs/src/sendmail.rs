//! The program `sendmail`: reads a message, finds its recipients, submits it. What else it may be asked for, other
//! commands do: see [`crate::delegate`].
//!
//! Unlike stock `sendmail` it runs no postdrop but submits by itself, and is therefore installed set-group-id as
//! postdrop is. So everything said in [`crate::privilege`] holds for it.

use std::io::BufReader;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::address::addresses;
use crate::compose::{Envelope, Rules, compose};
use crate::content::{ContentRules, LineEndings};
use crate::death::Program;
use crate::delegate::{Task, delegate};
use crate::exit::{ExitCode, Failure};
use crate::filter::Filter;
use crate::identity::Login;
use crate::instance::{Asked, Instance};
use crate::log::{Log, Severity};
use crate::options::{Invocation, Mode};
use crate::policy::may_submit;
use crate::privilege::Caller;
use crate::relay::{Way, has_rights};
use crate::report::report;
use crate::submission::{Ticket, submit};
use crate::sys::StandardInput;

/// How much of standard input is read at once.
const INPUT_BYTES: usize = 64 * 1024;

/// Itself.
pub const PROGRAM: Program = Program { name: "sendmail", failed: ExitCode::Temporary as u8 };

/// `main` of `sendmail`: what it ends with.
pub fn main() -> u8 {
    let caller = Caller::take_over(PROGRAM);
    let mut log = Log::new(PROGRAM.name);
    if caller.was_set_user_id_root {
        log.say(Severity::Warning, "sendmail must not be installed set-user-id root; going on without");
    }
    match run(&caller, &mut log) {
        Ok(()) => 0,
        Err(failure) => {
            log.say(Severity::Fatal, &failure.message);
            failure.code.as_stock()
        }
    }
}

fn run(caller: &Caller, log: &mut Log) -> Result<(), Failure> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().as_bytes();
    let invocation = Invocation::parse(name, arguments.map(OsStringExt::into_vec))?;
    let asked = invocation.config_directory.clone().map_or(Asked::No, Asked::BySendmailOption);
    let instance = Instance::open(asked, caller)?;
    instance.configure(log);
    let has_rights = has_rights(&instance);
    match &invocation.mode {
        Mode::Submit if has_rights => may_submit(&instance, caller.uid)?,
        // postdropd judges, or we do if there is none.
        Mode::Submit => {}
        Mode::Nothing => return Ok(()),
        Mode::Delegate(task) => {
            if *task == Task::Smtp {
                may_submit(&instance, caller.uid)?;
            }
            return delegate(task, &instance);
        }
    }
    let envelope = envelope(&invocation, caller, log)?;
    let who = format!("{}({})", String::from_utf8_lossy(&envelope.sender), caller.uid);
    let of_sender = |failure: Failure| failure.of(&who);
    let ticket = Ticket::new(caller.uid).map_err(of_sender)?;
    let records = records(&invocation, &instance, &envelope, &ticket).map_err(of_sender)?;
    let way = match has_rights {
        true => Way::Own { no_socket: None },
        false => Way::without_rights(&instance, caller.uid)?,
    };
    enqueue(way, &instance, &ticket, &records, log).map_err(of_sender)
}

fn enqueue(way: Way, instance: &Instance, ticket: &Ticket, records: &[u8], log: &Log) -> Result<(), Failure> {
    match way {
        Way::Own { no_socket } => {
            let kept = submit(instance, ticket, records).map_err(|failure| failure.and(no_socket))?;
            report(&kept, ticket.id, log);
            Ok(())
        }
        Way::Socket(relay) => match relay.submit(records)? {
            (status, _) if status.is_ok() => Ok(()),
            (status, reason) if reason.is_empty() => {
                Err(Failure::new(ExitCode::of(status), status.to_string()))
            }
            (status, reason) => Err(Failure::new(ExitCode::of(status), reason)),
        },
    }
}

/// What standard input and the arguments say, as it is submitted.
fn records(
    invocation: &Invocation,
    instance: &Instance,
    envelope: &Envelope,
    ticket: &Ticket,
) -> Result<Vec<u8>, Failure> {
    let rules = rules(invocation, instance)?;
    let mut filter = Filter::new(instance.filter_limits()?, ticket.arrival);
    let input = BufReader::with_capacity(INPUT_BYTES, StandardInput);
    compose(invocation, envelope, rules, input, &mut filter)?;
    filter.finish().map_err(|status| Failure::new(ExitCode::of(status), status.to_string()))
}

fn rules(invocation: &Invocation, instance: &Instance) -> Result<Rules, Failure> {
    let line_endings = instance.text("sendmail_fix_line_endings");
    let line_endings: LineEndings = line_endings
        .parse()
        .map_err(|()| Failure::usage(format!("invalid sendmail_fix_line_endings value: {line_endings}")))?;
    let line_limit = instance.size("line_length_limit")?;
    let content = ContentRules { line_endings, dot_ends: invocation.dot_ends, line_limit };
    Ok(Rules { content, header_limit: instance.size("header_size_limit")? })
}

fn envelope(invocation: &Invocation, caller: &Caller, log: &Log) -> Result<Envelope, Failure> {
    let said = invocation.full_name.clone().or_else(|| caller.name.clone().map(OsStringExt::into_vec));
    let needs_login = said.is_none() || invocation.sender.is_none();
    let login = if needs_login { Login::of(caller.uid) } else { None };
    let sender = match &invocation.sender {
        Some(address) => sender_address(address, log),
        None => login.as_ref().map(|login| login.name.clone()).ok_or_else(|| no_login(caller.uid))?,
    };
    let full_name = said.or_else(|| login.as_ref().map(Login::full_name)).map(on_one_line);
    Ok(Envelope { sender, full_name })
}

/// Stock `sendmail` puts line breaks in a full name into the record, which the filter forbids, and cleanup makes blanks of
/// them. Made here, the header that comes of it is the same.
fn on_one_line(mut text: Vec<u8>) -> Vec<u8> {
    text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    text
}

fn sender_address(given: &[u8], log: &Log) -> Vec<u8> {
    let found = addresses(given);
    if found.len() > 1 {
        let given = String::from_utf8_lossy(given);
        log.say(Severity::Warning, &format!("-f option specified malformed sender: {given}"));
    }
    found.into_iter().next().unwrap_or_default()
}

fn no_login(uid: u32) -> Failure {
    Failure::new(ExitCode::System, format!("no login name found for user ID {uid}"))
}
