//! The running parts: pickup-rs behind its socket, and the folders that keep others out.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use agents::daemon::Instance;
use pickup_rs::client::{self, ClientError};
use pickup_rs::protocol::{Handoff, Reply, Request};

use super::Problem;

/// master may have to start it first.
const PATIENCE: Duration = Duration::from_secs(5);
const FOR_OTHERS: u32 = 0o007;

pub(super) async fn check(instance: &Instance) -> Vec<Problem> {
    let mut problems = rooms(instance);
    let socket = instance.places.pickup_socket();
    let place = format!("pickup-rs at {}", socket.display());
    match tokio::time::timeout(PATIENCE, ask(instance)).await {
        Ok(Ok(Some(Handoff::Hold))) => (),
        Ok(Ok(Some(Handoff::Direct))) => problems.push(Problem::warning(
            "content rules are set, so hand-off is direct: mail may be sent twice when something dies in that moment",
        )),
        Ok(Ok(None)) => problems.push(Problem::error(format!("{place}: closed the connection; see Postfix's log"))),
        Ok(Err(ClientError::Connect { source, .. })) => {
            problems.push(Problem::error(format!("{place}: {source}; is Postfix running?")));
        }
        Ok(Err(error)) => problems.push(Problem::error(error.to_string())),
        Err(_) => problems.push(Problem::error(format!("{place}: does not answer; see Postfix's log"))),
    }
    problems
}

async fn ask(instance: &Instance) -> Result<Option<Handoff>, ClientError> {
    let (mut requests, mut replies) = client::connect(&instance.places.pickup_socket()).await?;
    requests.send(&Request::Ping).await?;
    while let Some(reply) = replies.next().await? {
        if let Reply::Pong { handoff, .. } = reply {
            return Ok(Some(handoff));
        }
    }
    Ok(None)
}

/// Postfix's own rooms are the doors of ours.
fn rooms(instance: &Instance) -> Vec<Problem> {
    let queue = &instance.places.queue_directory;
    let open = |name: &&str| queue.join(name).metadata().is_ok_and(|it| it.mode() & FOR_OTHERS != 0);
    let open = ["public", "private", "maildrop"].into_iter().filter(open);
    open.map(|name| Problem::error(format!("{}: is open to everybody", queue.join(name).display()))).collect()
}
