//! `optimus trace`: where a message is or was, from Redis and from this host's logs.
//!
//! The first line tells what Redis knows. The lines about the message follow: those with its id,
//! and those with a queue id that one of these has named. Other hosts have logs of their own.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use agents::daemon::{self, Instance, Options};
use anyhow::{Context, Result};
use host::local_time::local_time;
use maildrop::Maildrop;
use maildrop::in_doubt;
use postfix_wire::QueueId;
use serde_json::json;
use spool::{Listed, MessageId, MessagePlace, Remembered, Spool, SpoolError};

mod about;
mod sources;

use about::About;
use sources::Source;

#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    /// A message's id, or its queue id on this host; the mark that `mailq` puts behind an id may
    /// stay
    #[arg(value_parser = name)]
    id: String,
    /// Read this log instead of this host's own; `-` is standard input; may be repeated
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Takes the name of a message without the mark of `mailq`.
fn name(text: &str) -> Result<String, &'static str> {
    let name = crate::operate::without_mark(text);
    About::of(name, None).ok_or("not the id of a message or queue file")?;
    Ok(name.to_owned())
}

/// State of a message, as Redis and the maildrop know it.
#[derive(Debug)]
enum MessageStanding {
    /// Redis has the message.
    Here(Listed),
    /// Redis has had the message, and remembers its end.
    Gone(Remembered),
    /// This host's maildrop has the message, and nobody knows yet whether Redis has it.
    InDoubt,
    /// Neither Redis nor the maildrop knows the message.
    Unknown,
}

/// Traces a message. Exits with 1 where neither Redis nor a log knows it, or Redis can't be asked.
pub(crate) fn run(options: &Options, Trace { id, log, json }: &Trace) -> Result<ExitCode> {
    let instance = Instance::open(options)?;
    let own_node = instance.places.identity().ok().flatten().and_then(|it| it.parse().ok());
    let mut about = About::of(id, own_node).context("message: not named by an id")?;
    // The process is still root here: only root may read logs.
    let sources = sources::open(&instance.main_cf, log, about.since_s());
    let maildrop = Maildrop::of(&instance.main_cf)?;
    instance.drop_privileges()?;
    let standing = match daemon::block_on(look(&instance.looking(), &mut about))? {
        Ok(MessageStanding::Unknown) => Ok(in_doubt(&maildrop, &about)?),
        other => other,
    };
    let found: Vec<LogLines> =
        sources.into_iter().map(|source| source.lines_about(&mut about)).collect();
    let is_known = !matches!(standing, Ok(MessageStanding::Unknown))
        || found.iter().any(|it| !it.lines.is_empty());
    let printed = match json {
        true => print_json(&about, &standing, &found),
        false => print(&about, &standing, &found),
    };
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    standing.with_context(|| format!("redis at {}", instance.server.address))?;
    Ok(if is_known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks through everything that Redis has. Mail moves forward nearly always, and a listing reads
/// in that order. So a second look finds what the first has missed.
async fn look(spool: &Spool, about: &mut About) -> Result<MessageStanding, SpoolError> {
    for _ in 0..2 {
        let mut listing = spool.listing_of_names();
        while let Some(page) = listing.next_page().await? {
            if let Some(listed) = page.into_iter().find(|it| about.is(it.id, &it.place)) {
                about.learn(&listed);
                return Ok(MessageStanding::Here(listed));
            }
        }
        let Some(id) = about.id() else { break };
        if let Some(remembered) = spool.remembered(id).await? {
            return Ok(MessageStanding::Gone(remembered));
        }
    }
    Ok(MessageStanding::Unknown)
}

/// Looks in the maildrop for a message that Redis doesn't know.
fn in_doubt(maildrop: &Maildrop, about: &About) -> Result<MessageStanding> {
    let Some(id) = about.id() else { return Ok(MessageStanding::Unknown) };
    let messages =
        in_doubt::messages(maildrop).context("maildrop: submissions in doubt not listed")?;
    Ok(if messages.contains(&id) { MessageStanding::InDoubt } else { MessageStanding::Unknown })
}

fn words(standing: &Result<MessageStanding, SpoolError>) -> String {
    match standing {
        Ok(MessageStanding::Here(listed)) => {
            let order = listed.order.map_or_else(String::new, |order| format!("; {order} ordered"));
            format!("{}{order}", place(&listed.place))
        }
        Ok(MessageStanding::Gone(Remembered::Settled)) => {
            "settled: sent, bounced, or dropped".to_owned()
        }
        Ok(MessageStanding::Gone(Remembered::Deleted)) => "deleted by an operator".to_owned(),
        Ok(MessageStanding::Gone(Remembered::Disowned)) => {
            "disowned: the submitter could not tell whether Redis had it, and sent it another way"
                .to_owned()
        }
        Ok(MessageStanding::InDoubt) => "in doubt in this host's maildrop".to_owned(),
        Ok(MessageStanding::Unknown) => {
            "unknown to Redis: older than 25 hours, or sent by way of the maildrop".to_owned()
        }
        Err(error) => format!("Redis can't be asked: {error}"),
    }
}

fn place(place: &MessagePlace) -> String {
    match place {
        MessagePlace::Inbox => "in the inbox, in no lot yet".to_owned(),
        MessagePlace::Ready(lot) => {
            format!("in lot {lot}, which waits for a node or for room at its destination")
        }
        MessagePlace::Assigned(node, lot) => {
            format!("in lot {lot} of node {node}, not committed yet")
        }
        MessagePlace::Committed(node, queue_id) => {
            format!("with the Postfix of node {node} as {queue_id}")
        }
        MessagePlace::Held => "on hold".to_owned(),
        MessagePlace::Quarantine(reason) => format!("in quarantine: {reason}"),
    }
}

fn print(
    about: &About,
    standing: &Result<MessageStanding, SpoolError>,
    found: &[LogLines],
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let id = about.id().map_or_else(|| about.name().to_owned(), |id| id.to_string());
    match about.id() {
        Some(id) => writeln!(out, "{id}, submitted {}: {}", submitted(id), words(standing))?,
        None => writeln!(out, "{id}: {}", words(standing))?,
    }
    for LogLines { source, lines, trouble } in found {
        match trouble {
            Some(trouble) => {
                writeln!(out, "{source}: can't be read: {trouble}; name a log with --log")?;
            }
            None if lines.is_empty() => writeln!(out, "{source}: no line about the message")?,
            None => writeln!(out, "{source}:")?,
        }
        lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    Ok(())
}

fn submitted(id: MessageId) -> String {
    local_time(i64::try_from(id.unix_ms() / 1000).unwrap_or(i64::MAX)).asctime()
}

fn print_json(
    about: &About,
    standing: &Result<MessageStanding, SpoolError>,
    found: &[LogLines],
) -> std::io::Result<()> {
    let order = if let Ok(MessageStanding::Here(listed)) = standing { listed.order } else { None };
    let (state, node, queue_id) = match standing {
        Ok(MessageStanding::Here(Listed { place, .. })) => match place {
            MessagePlace::Inbox => ("inbox", None, None),
            MessagePlace::Ready(_) => ("ready", None, None),
            MessagePlace::Assigned(node, _) => ("assigned", Some(node), None),
            MessagePlace::Committed(node, queue_id) => ("committed", Some(node), Some(queue_id)),
            MessagePlace::Held => ("held", None, None),
            MessagePlace::Quarantine(_) => ("quarantine", None, None),
        },
        Ok(MessageStanding::Gone(Remembered::Settled)) => ("settled", None, None),
        Ok(MessageStanding::Gone(Remembered::Deleted)) => ("deleted", None, None),
        Ok(MessageStanding::Gone(Remembered::Disowned)) => ("disowned", None, None),
        Ok(MessageStanding::InDoubt) => ("in doubt", None, None),
        Ok(MessageStanding::Unknown) => ("unknown", None, None),
        Err(_) => ("unreachable", None, None),
    };
    let log = |it: &LogLines| json!({ "log": it.source, "lines": it.lines, "trouble": it.trouble });
    let logs = found.iter().map(log).collect::<Vec<_>>();
    let object = json!({
        "name": about.name(),
        "id": about.id().map(|id| id.to_string()),
        "submitted_ms": about.id().map(MessageId::unix_ms),
        "state": state,
        "order": order.map(|order| order.to_string()),
        "words": words(standing),
        "node": node.map(ToString::to_string),
        "queue_id": queue_id.map(QueueId::to_string),
        "logs": logs,
    });
    writeln!(std::io::stdout().lock(), "{object}")
}

/// Lines of one log about a message.
#[derive(Debug)]
struct LogLines {
    source: String,
    lines: Vec<String>,
    /// Reason why the log may have more of them.
    trouble: Option<String>,
}

impl Source {
    fn lines_about(self, about: &mut About) -> LogLines {
        let (source, mut lines) = (self.name.clone(), Vec::new());
        let read = self.each_line(|line| {
            if about.tells(line) {
                lines.push(line.to_owned());
            }
        });
        LogLines { source, lines, trouble: read.err().map(|error| format!("{error:#}")) }
    }
}
