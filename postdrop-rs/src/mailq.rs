//! `mailq`: messages in Redis and in this host's Postfix, as one list in stock's format.
//!
//! Neither the caller nor the program's group can read these messages. So `mailq` asks two servers:
//! Postfix's showq, as stock does, and this host's Mail Agent, which speaks the same protocol.
//! Where Postfix is down, only root can read its queue, through showq run as a command. On a host
//! without a Mail Agent, `mailq` runs stock's postqueue, which shows Postfix's mail. Where a Mail
//! Agent existed but doesn't answer, `mailq` shows Postfix's mail and fails, because the list is
//! incomplete.
//!
//! Source: Postfix `postqueue(1)`, `showq(8)`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use host::local_time::local_time;
use nix::unistd::geteuid;
use postfix_wire::showq::{ListingReader, ShowqError, TextListing};
use settings::Places;

use crate::exit::{ExitCode, Failure};
use crate::instance::{DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::log::Log;
use crate::policy::may_view_queue;
use crate::privilege::give_up_group;
use crate::relay::connected;

/// Longest wait for the next bytes of either server, in seconds.
const PATIENCE_S: i64 = 60;

/// Reason for which a part of the list is missing.
enum Missing {
    /// No connection to the server could be made.
    NotThere(io::Error),
    /// The listing broke off.
    BrokenOff(ShowqError),
    /// Standard output is closed.
    NoReader,
}

/// Connects to the Mail Agent. Returns `None` if there is no Mail Agent, or this process may not
/// ask it. The caller then runs postqueue, which has its own rights.
pub fn service(instance: &Instance) -> Option<io::Result<UnixStream>> {
    let socket = Places::of(&instance.config_directory, &instance.main_cf).ok()?.showq_socket();
    let connected = connect(&socket);
    let nobody = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    };
    if connected.as_ref().is_err_and(nobody) { None } else { Some(connected) }
}

/// Prints the list. Fails if this user may not see the queue, or a part of the list is missing.
pub fn show(
    instance: &Instance,
    uid: u32,
    service: io::Result<UnixStream>,
    log: &Log,
) -> Result<(), Failure> {
    may_view_queue(instance, uid, log)?;
    let has_long_ids = instance.main_cf.get_bool("enable_long_queue_ids");
    let has_long_ids = has_long_ids.map_err(|error| Failure::temporary(error.to_string()))?;
    let mut listing = TextListing::new(has_long_ids);
    let in_redis = service.map_err(Missing::NotThere);
    let in_redis = in_redis.and_then(|stream| copy(BufReader::new(stream), &mut listing));
    let in_postfix = match in_redis {
        Err(Missing::NoReader) => return Ok(()),
        _ => local(instance, &mut listing),
    };
    match (in_postfix, in_redis) {
        (Err(Missing::NoReader), _) => Ok(()),
        (Err(Missing::NotThere(error)), _) => {
            Err(Failure::new(ExitCode::Unavailable, postfix_down(&error)))
        }
        (Err(Missing::BrokenOff(error)), _) => {
            Err(Failure::new(ExitCode::Software, error.to_string()))
        }
        (Ok(()), Err(Missing::BrokenOff(error))) => Err(Failure::temporary(format!(
            "mail in Redis: list cut short: {error}; run mailq again"
        ))),
        (Ok(()), Err(Missing::NotThere(error))) => Err(Failure::temporary(format!(
            "mail in Redis: not shown: no answer from the Mail Agent: {error}; see mail-agent(8)"
        ))),
        (Ok(()), _) => {
            // Standard output may be closed already.
            let _ = print(&listing.summary());
            Ok(())
        }
    }
}

fn postfix_down(error: &io::Error) -> String {
    format!(
        "Queue report unavailable - mail system is down (Connect to the Postfix showq service: \
            {error})"
    )
}

fn local(instance: &Instance, listing: &mut TextListing) -> Result<(), Missing> {
    let public = Path::new(&instance.text("queue_directory")).join("public");
    match connect(&public.join(instance.text("showq_service_name"))) {
        Ok(stream) => copy(BufReader::new(stream), listing),
        Err(_) if geteuid().is_root() => read_queue(instance, listing),
        Err(error) => Err(Missing::NotThere(error)),
    }
}

/// Reads the queue of a Postfix that is down, as only root can.
fn read_queue(instance: &Instance, listing: &mut TextListing) -> Result<(), Missing> {
    give_up_group().map_err(|failure| Missing::NotThere(io::Error::other(failure.message)))?;
    let mut command = Command::new(Path::new(&instance.text("daemon_directory")).join("showq"));
    if instance.config_directory != Path::new(DEFAULT_CONFIG_DIRECTORY) {
        command.env("MAIL_CONFIG", &instance.config_directory);
    }
    let child = command.args(["-u", "-S"]).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(host::limit::starting).map_err(Missing::NotThere)?;
    let printed =
        child.stdout.take().map_or(Ok(()), |output| copy(BufReader::new(output), listing));
    let _ = child.wait();
    printed
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    connected(socket, PATIENCE_S)
}

fn copy(reader: impl BufRead, listing: &mut TextListing) -> Result<(), Missing> {
    let mut report = ListingReader::open(reader).map_err(Missing::BrokenOff)?;
    while let Some(entry) = report.next_entry().map_err(Missing::BrokenOff)? {
        print(&listing.entry(&entry, |unix_s| local_time(unix_s).asctime()))
            .map_err(|_| Missing::NoReader)?;
    }
    Ok(())
}

fn print(lines: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.as_bytes())?;
    stdout.flush()
}
