//! The running parts: pickup-rs behind its socket, and the folders that keep others out.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use agents::daemon::Instance;
use agents::driver::{Endpoint, mismatch};
use handoff::client::{self, ClientError};
use handoff::protocol::{Handoff, Pause, PauseCause, Reply, Request};
use maildrop::Maildrop;
use maildrop::in_doubt;
use maildrop::stranded;
use spool::Generation;

use super::Problem;

/// Time in which pickup-rs must answer; master may have to start it first.
const PATIENCE: Duration = Duration::from_secs(5);
const FOR_OTHERS: u32 = 0o007;

pub(super) async fn check(instance: &Instance) -> Vec<Problem> {
    let mut problems = rooms(instance);
    problems.extend(maildrop(instance));
    problems.extend(rpc(instance).await);
    let socket = instance.places.pickup_socket();
    let place = format!("pickup-rs at {}", socket.display());
    match tokio::time::timeout(PATIENCE, ask(instance)).await {
        Ok(Ok(Some(told))) => problems.extend(told),
        Ok(Ok(None)) => {
            problems
                .push(Problem::error(format!("{place}: closed the connection; see Postfix's log")));
        }
        Ok(Err(ClientError::Connect { source, .. })) => {
            problems.push(Problem::error(format!("{place}: {source}; check that Postfix runs")));
        }
        Ok(Err(error)) => problems.push(Problem::error(error.to_string())),
        Err(_) => {
            problems.push(Problem::error(format!("{place}: does not answer; see Postfix's log")));
        }
    }
    problems
}

/// Tries the address at which agents answer each other. Without it a dead agent is noticed when its
/// lease ends.
async fn rpc(instance: &Instance) -> Option<Problem> {
    let tried = match Generation::new() {
        Ok(generation) => Endpoint::try_open(instance, generation).await,
        Err(error) => Err(error.into()),
    };
    match tried {
        Err(error) => Some(Problem::error(settings::told(error.as_ref()))),
        Ok(endpoint) if instance.rpc_key.is_some() => {
            let address = endpoint.address().filter(|it| it.ip().is_loopback())?;
            Some(Problem::warning(format!(
                "agents.address: {}, from which this host reaches Redis: agents of other hosts \
                    can't call this host's; set it",
                address.ip()
            )))
        }
        Ok(_) => None,
    }
}

/// Returns the problems of a pickup-rs that answers.
async fn ask(instance: &Instance) -> Result<Option<Vec<Problem>>, ClientError> {
    let (mut requests, mut replies) = client::connect(&instance.places.pickup_socket()).await?;
    requests.send(&Request::Ping).await?;
    while let Some(reply) = replies.next().await? {
        if let Reply::Pong { handoff, spool, trouble, pause, .. } = reply {
            let ours = spool::remembered(&instance.places.spool_file()).ok().flatten();
            let wrong = mismatch(ours, spool, trouble.as_deref()).map(Problem::error);
            let found = wrong.or_else(|| pause.map(paused));
            return Ok(Some(found.into_iter().chain(direct(handoff)).collect()));
        }
    }
    Ok(None)
}

/// Returns the problem of a pickup-rs that feeds nothing.
fn paused(Pause { cause, reason, for_s }: Pause) -> Problem {
    let words = format!("{reason} (for {for_s} s)");
    match cause {
        // A pause of this cause ends by itself.
        PauseCause::Waits => Problem::warning(words),
        _ => Problem::error(words),
    }
}

fn direct(handoff: Handoff) -> Option<Problem> {
    let text = "hand-off: direct, since content rules are set: mail may be sent twice when a \
        process dies during a hand-off";
    (handoff == Handoff::Direct).then(|| Problem::warning(text))
}

/// Returns a problem for each kind of mail that waits in the maildrop until Redis answers.
fn maildrop(instance: &Instance) -> Vec<Problem> {
    let maildrop = match Maildrop::of(&instance.main_cf) {
        Ok(maildrop) => maildrop,
        Err(error) => return vec![Problem::error(error.to_string())],
    };
    let place = instance.places.queue_directory.join("maildrop");
    let waits = [
        (
            in_doubt::count(&maildrop),
            "in doubt: Redis may have this mail; pickup-rs or `optimus maildrop` asks Redis",
        ),
        (
            stranded::count(&maildrop),
            "stranded: no pickup service reads this mail; start Postfix, or have `optimus \
                maildrop` submit the mail",
        ),
    ];
    let waits = waits.into_iter().filter(|(count, _)| *count > 0);
    waits
        .map(|(count, why)| Problem::warning(format!("{}: {count} {why}", place.display())))
        .collect()
}

/// Returns a problem for each of Postfix's folders that is open to everybody. These folders keep
/// others away from the files and sockets of OPTIMUS in them.
fn rooms(instance: &Instance) -> Vec<Problem> {
    let queue = &instance.places.queue_directory;
    let open =
        |name: &&str| queue.join(name).metadata().is_ok_and(|it| it.mode() & FOR_OTHERS != 0);
    let open = ["public", "private", "maildrop"].into_iter().filter(open);
    open.map(|name| {
        Problem::error(format!(
            "{}: open to everybody; run postfix set-permissions",
            queue.join(name).display()
        ))
    })
    .collect()
}
