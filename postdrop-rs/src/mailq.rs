//! `mailq`: what waits in Redis and what waits in this host's Postfix, as one list in stock's format.
//!
//! Neither can be read by whoever runs this program, nor by its group. Both are asked: Postfix's showq, as stock does, and the
//! Mail Agent of this host, which speaks the same protocol. Where there is no Mail Agent, as on a host that only submits,
//! a warning says that the list is not all. Where Postfix is down, root can still read its queue, through showq run as a
//! command; nobody else can.
//!
//! Source: Postfix `postqueue(1)`, `showq(8)`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;
use postfix_wire::showq::{Report, ShowqError, TextListing};
use settings::Places;

use crate::exit::{ExitCode, Failure};
use crate::instance::{DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::log::{Log, Severity};
use crate::policy::may_view_queue;
use crate::privilege::give_up_group;
use crate::sys::asctime;

/// How long either may take for its next words.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a part of the list is missing.
enum Missing {
    /// Nobody listens, or we may not ask.
    NotThere(io::Error),
    /// It broke off.
    BrokenOff(ShowqError),
    /// Nobody reads it any more.
    NoReader,
}

/// Prints the list.
pub fn show(instance: &Instance, uid: u32, log: &Log) -> Result<(), Failure> {
    may_view_queue(instance, uid)?;
    let places = Places::of(&instance.config_directory, &instance.main_cf);
    let places = places.map_err(|error| Failure::temporary(error.to_string()))?;
    let has_long_ids = instance.main_cf.get_bool("enable_long_queue_ids");
    let has_long_ids = has_long_ids.map_err(|error| Failure::temporary(error.to_string()))?;
    let mut listing = TextListing::new(has_long_ids);
    let in_redis = ask(&places.showq_socket(), &mut listing);
    let in_postfix = match in_redis {
        Err(Missing::NoReader) => return Ok(()),
        _ => local(instance, &places, &mut listing),
    };
    let in_postfix = match in_postfix {
        Err(Missing::NoReader) => return Ok(()),
        Err(Missing::NotThere(error)) => Err(Failure::new(ExitCode::Unavailable, postfix_down(&error))),
        Err(Missing::BrokenOff(error)) => Err(Failure::new(ExitCode::Software, error.to_string())),
        Ok(()) => Ok(()),
    };
    in_redis_told(&in_redis, &places.showq_socket(), log);
    in_postfix?;
    let _ = print(&listing.summary());
    match in_redis {
        Err(Missing::BrokenOff(_)) => Err(Failure::temporary("the list of what is in Redis is not complete")),
        _ => Ok(()),
    }
}

fn postfix_down(error: &io::Error) -> String {
    format!("Queue report unavailable - mail system is down (Connect to the Postfix showq service: {error})")
}

fn in_redis_told(in_redis: &Result<(), Missing>, socket: &Path, log: &Log) {
    let why = match in_redis {
        Err(Missing::NotThere(error)) => format!("no Mail Agent of this host answers: {error}"),
        Err(Missing::BrokenOff(error)) => error.to_string(),
        Err(Missing::NoReader) | Ok(()) => return,
    };
    log.say(Severity::Warning, &format!("what is in Redis is not shown: {}: {why}", socket.display()));
}

fn local(instance: &Instance, places: &Places, listing: &mut TextListing) -> Result<(), Missing> {
    let socket = places.queue_directory.join("public").join(instance.text("showq_service_name"));
    match ask(&socket, listing) {
        Err(Missing::NotThere(_)) if geteuid().is_root() => read_queue(instance, listing),
        asked => asked,
    }
}

/// Root's way to a queue whose Postfix is down.
fn read_queue(instance: &Instance, listing: &mut TextListing) -> Result<(), Missing> {
    give_up_group().map_err(|failure| Missing::NotThere(io::Error::other(failure.message)))?;
    let mut command = Command::new(Path::new(&instance.text("daemon_directory")).join("showq"));
    if instance.config_directory != Path::new(DEFAULT_CONFIG_DIRECTORY) {
        command.env("MAIL_CONFIG", &instance.config_directory);
    }
    let mut child = command.args(["-u", "-S"]).stdout(Stdio::piped()).spawn().map_err(Missing::NotThere)?;
    let printed = child.stdout.take().map_or(Ok(()), |output| copy(BufReader::new(output), listing));
    let _ = child.wait();
    printed
}

fn ask(socket: &Path, listing: &mut TextListing) -> Result<(), Missing> {
    let stream = UnixStream::connect(socket).map_err(Missing::NotThere)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(Missing::NotThere)?;
    copy(BufReader::new(stream), listing)
}

fn copy(reader: impl BufRead, listing: &mut TextListing) -> Result<(), Missing> {
    let mut report = Report::open(reader).map_err(Missing::BrokenOff)?;
    while let Some(entry) = report.next_entry().map_err(Missing::BrokenOff)? {
        print(&listing.entry(&entry, asctime)).map_err(|_| Missing::NoReader)?;
    }
    Ok(())
}

fn print(lines: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.as_bytes())?;
    stdout.flush()
}
