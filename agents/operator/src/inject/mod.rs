//! `optimus inject`: submits mailboxes and folders of messages to Redis, fast, each message once.
//!
//! ```text
//!   thread: files ──▶ messages ──▶ records ──▶ batch ──┐ a few batches ahead
//!                                                      ▼
//!   main:            batch to the other process ──▶ answered ──▶ place noted ──▶ next
//!   mail_owner's:    RPUSH of a batch, fsynced by Redis
//! ```
//!
//! Batches make the injection fast: Redis makes a thousand messages durable with one fsync, and the
//! next thousand is composed meanwhile.
//!
//! The name of a message prevents a second copy. The name of the nth message is made of n and of
//! random bits that are durable before the first message is submitted. The end of each batch is
//! noted after it. A run after a kill goes on behind the last noted batch. A batch that was perhaps
//! submitted and not noted is submitted again under the same names, and Redis drops what it has
//! already. Redis remembers names for a day, so an interrupted run must be resumed within that
//! time. Unusable messages are noted as well, and the same command then tries only these again.
//!
//! A resumed run must have the files of the first run, unchanged. Names, sizes and times are
//! compared, and for an mbox or a stream that was left half way also a checksum of the part that
//! was read.
//!
//! Root runs this command, often on other users' folders. The process that reads them stays root:
//! it could not read root's files otherwise. So it refuses whatever could be turned against root:
//! links below the injected folders (see [`source`]), and a state file that others could have made
//! (see [`state`]). Another process, which is `mail_owner`'s, talks to Redis (see [`pusher`]).

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
use state::InjectState;

#[derive(Debug, clap::Args)]
pub(crate) struct Inject {
    /// mbox files, maildirs, folders of .eml files, single .eml files; `-` is standard input, an
    /// mbox
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// Format of the files, where their names and contents don't tell
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
    /// Seconds to wait for a Redis that is away; after that the command ends, with the place kept
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// File that keeps the place until all is done [default: in this folder, named after the
    /// injection]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Resume a run that was interrupted more than a day ago: its last messages may be sent twice
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(options: &Options, inject: Inject) -> Result<ExitCode> {
    ensure!(
        inject.from_headers || !inject.to.is_empty(),
        "recipients: none given; use --to ADDRESS, or -t for those in headers"
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
        Sources::find(&inject.sources, inject.format).context("sources: nothing was injected")?;
    links.iter().for_each(|it| say(format!("{}: a link, skipped", it.display())));
    let state = InjectState::open(&path, &words, files, inject.force)?;
    if state.done.messages > 0 {
        say(format!(
            "resuming after {} messages, as noted in {}",
            state.done.messages,
            path.display()
        ));
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
        "{}: lists the unusable messages; give the same command to try only these again",
        path.display()
    ));
    Ok(ExitCode::FAILURE)
}

/// Returns words that tell this injection from all others. The words name the Redis server, since
/// mail in one Redis is not in another.
fn words(inject: &Inject, instance: &Instance) -> String {
    let Inject { sources, format, from, to, from_headers, .. } = inject;
    let (redis, database) = (&instance.server.address, instance.server.database);
    format!("{sources:?} {format:?} {from:?} {to:?} {from_headers} {redis} {database}")
}
