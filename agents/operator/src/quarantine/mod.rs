//! `optimus quarantine`: lists messages that can't be used, and decides about them.
//!
//! Only a person can tell whether such a message should be sent after all, or given up. `retry`
//! sends it, once the cause is mended, and `drop` gives it up. Both may be repeated. Neither
//! touches a message that isn't in quarantine.

mod list;
mod show;

use std::process::ExitCode;

use agents::daemon::Instance;
use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use spool::{Dropped, MessageId, Retried, Spool};

use crate::say;

#[derive(Args)]
pub(crate) struct Quarantine {
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Option<QuarantineAction>,
}

#[derive(Subcommand)]
enum QuarantineAction {
    /// Send messages after all
    Retry(Which),
    /// Give messages up for good; a later submission under the same id is ignored
    Drop(Which),
    /// Write a message to standard output as it is stored: its envelope, then its content
    Show {
        /// The message's id
        id: MessageId,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Messages' ids
    ids: Vec<MessageId>,
    /// All messages that are in quarantine now
    #[arg(long)]
    all: bool,
}

impl Which {
    async fn ids(&self, spool: &Spool) -> Result<Vec<MessageId>> {
        if !self.all {
            return Ok(self.ids.clone());
        }
        Ok(spool.all_quarantined().await?.into_iter().map(|it| it.id).collect())
    }
}

pub(crate) async fn run(
    instance: Instance,
    Quarantine { json, action }: Quarantine,
) -> Result<ExitCode> {
    match action {
        None => list::print(&instance.looking(), json).await,
        Some(QuarantineAction::Show { id }) => {
            ensure!(
                !json,
                "--json: not for show, which prints the message as stored; leave --json out"
            );
            show::print(&instance.looking(), id).await
        }
        Some(QuarantineAction::Retry(which)) => {
            let spool = instance.spool();
            let ids = which.ids(&spool).await?;
            report(json, &ids, &spool.retry_quarantined(&ids).await?, of_retry)
        }
        Some(QuarantineAction::Drop(which)) => {
            let spool = instance.spool();
            let ids = which.ids(&spool).await?;
            report(json, &ids, &spool.drop_quarantined(&ids).await?, of_drop)
        }
    }
}

/// Whether the outcome is what was asked for, and words for it.
type Verdict = (bool, &'static str);

fn of_retry(outcome: Retried) -> Verdict {
    match outcome {
        Retried::Retried => (true, "waits in a lot to be sent"),
        Retried::Already => (true, "not in quarantine, but on its way"),
        Retried::Missing => {
            (false, "Redis has the id without the message; run `optimus quarantine drop`")
        }
        Retried::Settled => (false, "was sent, dropped or disowned before"),
        Retried::Unknown => (false, "Redis knows no message of this id"),
    }
}

fn of_drop(outcome: Dropped) -> Verdict {
    match outcome {
        Dropped::Dropped => (true, "dropped"),
        Dropped::Already => (true, "was dropped, sent or disowned before"),
        Dropped::Kept => (false, "not dropped: not in quarantine, but on its way"),
        Dropped::Unknown => (false, "Redis knows no message of this id"),
    }
}

/// Prints a line for each message. Fails if an outcome is not the one asked for.
fn report<O: Copy + ToString>(
    json: bool,
    ids: &[MessageId],
    outcomes: &[O],
    verdict: fn(O) -> Verdict,
) -> Result<ExitCode> {
    if json {
        let each =
            |(id, outcome): (&MessageId, &O)| json!({ "id": id, "outcome": outcome.to_string() });
        say(json!({ "messages": ids.iter().zip(outcomes).map(each).collect::<Vec<_>>() }));
    } else if ids.is_empty() {
        say("the quarantine is empty");
    } else {
        ids.iter()
            .zip(outcomes)
            .for_each(|(id, outcome)| say(format_args!("{id}: {}", verdict(*outcome).1)));
    }
    match outcomes.iter().filter(|&&outcome| !verdict(outcome).0).count() {
        0 => Ok(ExitCode::SUCCESS),
        failed => {
            bail!("quarantine: {failed} of {} messages not changed; see the lines above", ids.len())
        }
    }
}
