//! The program `sendmail`: it reads a message, finds its recipients and submits it. Other commands
//! do its other tasks: see [`crate::delegate`].
//!
//! Unlike stock `sendmail`, this one runs no postdrop but submits by itself. So it is installed
//! set-group-id, as postdrop is, and all of [`crate::privilege`] applies to it.

use std::io::{BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::address::addresses;
use crate::collected::Collected;
use crate::compose::{EnvelopeHead, Rules, compose};
use crate::content::{ContentRules, LineEndings};
use crate::death::Program;
use crate::delegate::{Environment, Task, delegate};
use crate::exit::{ExitCode, Failure};
use crate::filter::{Filter, MessageRefusal};
use crate::identity::Login;
use crate::instance::{ConfigurationChoice, Instance};
use crate::log::{Log, Severity};
use crate::mailq;
use crate::options::{self, Invocation, Mode, ParseInputs, Remark, Trace};
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

/// Name and exit code of this program.
pub const PROGRAM: Program = Program { name: "sendmail", failed: ExitCode::Temporary as u8 };

/// Runs `sendmail` and returns its exit code.
pub fn main() -> u8 {
    let environment = std::env::vars_os().collect();
    let caller = Caller::take_over(PROGRAM);
    let mut log = Log::new(PROGRAM.name);
    if caller.was_set_user_id_root {
        log.say(
            Severity::Warning,
            "program: set-user-id root by mistake: right given up; remove this bit (chmod u-s)",
        );
    }
    match run(&caller, environment, &mut log) {
        Ok(()) => 0,
        Err(failure) => {
            log.say(Severity::Fatal, &failure.message);
            failure.code.as_stock()
        }
    }
}

fn run(caller: &Caller, environment: Environment, log: &mut Log) -> Result<(), Failure> {
    let mut arguments = std::env::args_os().map(OsStringExt::into_vec);
    let name = name(&arguments.next().unwrap_or_default());
    let arguments: Vec<_> = arguments.collect();
    log.call(&String::from_utf8_lossy(&name));
    let named = options::config_directories(arguments.clone(), &mut |remark| say(log, &remark));
    let asked = if named.is_empty() {
        ConfigurationChoice::No
    } else {
        ConfigurationChoice::BySendmailOption(named)
    };
    let instance = Instance::open(asked, caller)?;
    instance.configure(log)?;
    let parameter = |name: &str| instance.text(name);
    let context =
        ParseInputs { name: &name, parameter: &parameter, say: &mut |remark| say(log, &remark) };
    let invocation = Invocation::parse(arguments, context)?;
    match &invocation.mode {
        Mode::Submit => deliver(&invocation, &instance, caller, log),
        Mode::Nothing => Ok(()),
        Mode::Delegate(task) => {
            match task {
                Task::Smtp => may_submit(&instance, caller.uid, log)?,
                Task::ShowQueue => {
                    if let Some(service) = mailq::service(&instance) {
                        return mailq::show(&instance, caller.uid, service, log);
                    }
                }
                _ => {}
            }
            delegate(task, invocation.verbosity, &instance, environment)
        }
    }
}

fn deliver(
    invocation: &Invocation,
    instance: &Instance,
    caller: &Caller,
    log: &Log,
) -> Result<(), Failure> {
    let has_rights = has_rights(instance);
    // For a process without the rights, postdropd checks the user. If there is no postdropd, this
    // process does.
    if has_rights {
        may_submit(instance, caller.uid, log)?;
    }
    let rules = rules(invocation, instance)?;
    let envelope = envelope(invocation, caller, log)?;
    let who = format!("{}({})", String::from_utf8_lossy(&envelope.sender), caller.uid);
    let of_sender = |failure: Failure| failure.of(&who);
    let senders = Senders::of(caller.uid, instance, log);
    let check = |sender: &[u8]| if has_rights { senders.check(sender) } else { Ok(()) };
    let arrival = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let room = room(instance, has_rights);
    let filter = Filter::new(instance.filter_limits()?, arrival, &check, room);
    let records = records(invocation, &envelope, rules, filter).map_err(of_sender)?;
    let way = match has_rights {
        true => Way::Own { no_socket: None },
        false => Way::without_rights(instance, caller.uid, log)?,
    };
    if !has_rights && matches!(way, Way::Own { .. }) {
        senders.check(&envelope.sender).map_err(|refusal| of_sender(refused(&refusal)))?;
    }
    let stamp = SubmissionStamp::of(caller.uid, arrival).map_err(of_sender)?;
    enqueue(way, instance, &stamp, records, log).map_err(of_sender)?;
    if invocation.trace.is_some() {
        promise_report(&envelope.sender);
    }
    Ok(())
}

/// Returns the base name of a path, or the whole path if it ends in '/'.
fn name(program: &[u8]) -> Vec<u8> {
    let last = program.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    if last < program.len() { program[last..].to_vec() } else { program.to_vec() }
}

fn say(log: &Log, remark: &Remark) {
    match remark {
        Remark::Mistake(mistake) => log.complain(&mistake.words()),
        Remark::Warning(words) => log.say(Severity::Warning, words),
        Remark::Info(words) => log.say(Severity::Info, words),
    }
}

fn enqueue(
    way: Way,
    instance: &Instance,
    stamp: &SubmissionStamp,
    records: Collected,
    log: &Log,
) -> Result<(), Failure> {
    match way {
        Way::Own { no_socket } => {
            let kept =
                submit(instance, stamp, records).map_err(|failure| failure.and(no_socket))?;
            report(&kept, stamp.id, log);
            Ok(())
        }
        Way::Socket(relay) => match relay.submit(&records)? {
            (status, _) if status.is_ok() => Ok(()),
            (status, reason) => Err(refused(&MessageRefusal { status, reason })),
        },
    }
}

/// Composes the records of standard input and the arguments for submission.
fn records(
    invocation: &Invocation,
    envelope: &EnvelopeHead,
    rules: Rules,
    mut filter: Filter<'_>,
) -> Result<Collected, Failure> {
    let input = BufReader::with_capacity(INPUT_BYTES, StandardInput);
    compose(invocation, envelope, rules, input, &mut filter)?;
    filter.finish().map_err(|refusal| refused(&refusal))
}

fn refused(refusal: &MessageRefusal) -> Failure {
    Failure::new(ExitCode::of(refusal.status), refusal.words())
}

/// Tells the user that a report will come. A failure to write is ignored, since the message is
/// submitted.
fn promise_report(sender: &[u8]) {
    let line = [b"Mail Delivery Status Report will be mailed to <", sender, b">.\n"].concat();
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(&line).and_then(|()| output.flush());
}

pub(crate) fn rules(invocation: &Invocation, instance: &Instance) -> Result<Rules, Failure> {
    let line_endings = instance.text("sendmail_fix_line_endings");
    let line_endings = match line_endings.parse() {
        Ok(line_endings) => line_endings,
        // A probe reads no content.
        Err(()) if invocation.trace == Some(Trace::Probe) => LineEndings::Never,
        Err(()) => {
            return Err(Failure::usage(format!(
                "invalid sendmail_fix_line_endings value: {line_endings}"
            )));
        }
    };
    let line_limit = instance.size("line_length_limit")?;
    let content = ContentRules { line_endings, dot_ends: invocation.dot_ends, line_limit };
    Ok(Rules { content, header_limit: instance.size("header_size_limit")? })
}

fn envelope(invocation: &Invocation, caller: &Caller, log: &Log) -> Result<EnvelopeHead, Failure> {
    let said =
        invocation.full_name.clone().or_else(|| caller.name.clone().map(OsStringExt::into_vec));
    let needs_login = said.is_none() || invocation.sender.is_none();
    let login = if needs_login { Login::of(caller.uid) } else { None };
    let sender = match &invocation.sender {
        Some(address) => sender_address(address, log),
        None => {
            login.as_ref().map(|login| login.name.clone()).ok_or_else(|| no_login(caller.uid))?
        }
    };
    let full_name = said.or_else(|| login.as_ref().map(Login::full_name)).map(on_one_line);
    Ok(EnvelopeHead { sender, full_name })
}

/// Replaces line breaks in a full name by blanks. Stock `sendmail` puts them into the record, and
/// cleanup replaces them later. The filter of this crate refuses them. The resulting header is the
/// same.
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
