//! `optimus inject`: mailboxes and folders of messages into Redis, fast, and each message once.
//!
//! ```text
//!   thread: files ──▶ messages ──▶ records ──▶ batch ──┐ a few batches ahead
//!                                                      ▼
//!   main:            batch to the other process ──▶ answered ──▶ place noted ──▶ next
//!   mail_owner's:    RPUSH of a batch, fsynced by Redis
//! ```
//!
//! The speed is that of batches: Redis makes a thousand messages durable with one fsync, and the
//! next thousand is composed meanwhile.
//!
//! Once is a matter of names. The name of the nth message is made of n and of random bits that are
//! durable before the first message is submitted. After each batch its end is noted. Who is killed
//! goes on behind the last noted batch; the batch that was perhaps submitted and not noted is
//! submitted again under the same names, and Redis drops what it has already. It remembers names
//! for a day, so an interrupted run wants to be resumed within that. Messages that could not be
//! used are noted as well, and given the same command again only these are tried again.
//!
//! What may be repeated is told by the files: they must be those of the first run, unchanged.
//! Names, sizes and times tell, and for an mbox or a stream that was left half way a checksum of
//! what was read of it.
//!
//! This is run by root, often in other people's folders, and the process that reads them stays what
//! it is: it could not read root's files otherwise. What could be turned against root is refused
//! instead: links below the folders that are injected (see [`source`]), and a file to keep the
//! place in that others could have made (see [`state`]). Redis is spoken to by another process,
//! which is `mail_owner`'s (see [`pusher`]).

mod bar;
mod from_line;
mod mbox;
pub(crate) mod pusher;
mod sender;
mod source;
mod state;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agents::daemon::{Instance, Options};
use anyhow::{Context, Result, ensure};
use postdrop_rs::bulk::Bulk;

use crate::say;
use pusher::Pusher;
use sender::Sender;
use source::{Format, Sources};
use state::State;

#[derive(Debug, clap::Args)]
pub(crate) struct Inject {
    /// mbox files, maildirs, folders of .eml files, single .eml files; `-` is standard input, an
    /// mbox
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// What files are, where it isn't plain from their names and contents
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The envelope sender, an empty one for the null sender [default: the login name, as with
    /// sendmail]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// An envelope recipient of every message; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// Take recipients from headers, as `sendmail -t` does
    #[arg(short = 't')]
    from_headers: bool,
    /// In an mbox, take lines for text that begin with `From ` and may be separators or text.
    /// Without it, messages with such lines are named and not submitted
    #[arg(long)]
    doubtful_is_text: bool,
    /// How long to wait for a Redis that is away before giving up, with the place kept. Seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Where the place is kept until all is done [default: in this folder, by what is injected]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Go on where a run was interrupted more than a day ago: what it submitted last may be sent
    /// twice
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(options: &Options, inject: Inject) -> Result<ExitCode> {
    ensure!(
        inject.from_headers || !inject.to.is_empty(),
        "say to whom: --to ADDRESS, or -t for the recipients in headers"
    );
    let instance = Instance::open(options)?;
    let uid = nix::unistd::getuid().as_raw();
    let of_submission = postdrop_rs::instance::Instance {
        config_directory: options.config_directory.clone(),
        main_cf: instance.main_cf.clone(),
    };
    let bulk =
        Bulk::new(&of_submission, uid, inject.from.as_deref(), &inject.to, inject.from_headers)?;
    let words = words(&inject, &instance);
    let path = inject.state.clone().unwrap_or_else(|| state::default_path(&words));
    let Sources { files, links } =
        Sources::find(&inject.sources, inject.format).context("nothing was injected")?;
    links.iter().for_each(|it| say(format!("{}: a link, skipped", it.display())));
    let state = State::open(&path, &words, files, inject.force)?;
    if state.done.messages > 0 {
        say(format!("going on after {} messages, by {}", state.done.messages, path.display()));
    }
    let patience = Duration::from_secs(inject.timeout);
    let doubtful_is_text = inject.doubtful_is_text;
    let pusher = Pusher::start(options, uid)?;
    let sender = Sender { pusher, doubtful_is_text, patience };
    let outcome = sender.run(bulk, state).await?;
    say(format!(
        "{} messages submitted, {} could not be used",
        outcome.submitted, outcome.unusable
    ));
    if outcome.unusable == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say(format!(
        "{} names these: the same command tries them again, and only them",
        path.display()
    ));
    Ok(ExitCode::FAILURE)
}

/// Words that tell this injection from all others. The Redis is among them, since what one Redis
/// has another hasn't.
fn words(inject: &Inject, instance: &Instance) -> String {
    let Inject { sources, format, from, to, from_headers, .. } = inject;
    let (redis, database) = (&instance.server.address, instance.server.database);
    format!("{sources:?} {format:?} {from:?} {to:?} {from_headers} {redis} {database}")
}
