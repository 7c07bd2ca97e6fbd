//! `optimus status`: how things stand, as text or as one JSON object.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use agents::daemon::Instance;
use agents::status::{AgentStatus, NodeStatus, Queue, Status};
use anyhow::{Context, Result, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use spool::{AgentKind, Inbox, LibraryState, Spool, SpoolError};

use crate::say;
use crate::served::mismatch;

/// Looks, and leaves everything as it is. Fails when Redis can't be asked or has not the functions that answers are made by,
/// after saying what can be said all the same, in the form that was asked for.
pub(crate) async fn print(instance: Instance, as_json: bool) -> Result<ExitCode> {
    let server = instance.server.address.to_string();
    let spool = instance.looking();
    match spool.library().await {
        Ok(LibraryState::Ours) => {
            let seen = all(&instance, &spool, &LibraryState::Ours, as_json).await;
            let wrong = seen.with_context(|| format!("redis at {server}"))?;
            if let Some(wrong) = mismatch(&instance, &spool).await?.or(wrong) {
                bail!("redis at {server}: {wrong}");
            }
        }
        Ok(state @ LibraryState::Missing) => {
            part(&instance, &spool, &state, as_json).await?;
            bail!("redis at {server}: {}", SpoolError::NoLibrary);
        }
        Ok(ref state @ LibraryState::Other { ref loaded, ref ours }) => {
            let about =
                format!("redis at {server} has the functions of another OPTIMUS ({loaded}, here {ours})");
            if let Err(error) = all(&instance, &spool, state, as_json).await {
                part(&instance, &spool, state, as_json).await?;
                return Err(error.context(about));
            }
            bail!("{about}: this may not be the truth");
        }
        Err(error) => {
            if as_json {
                let redis = json!({ "server": server, "reachable": false, "error": error.to_string() });
                say(json!({ "redis": redis }));
            }
            return Err(anyhow::Error::new(error).context(format!("redis at {server}")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says all, and returns why this host's pickup-rs is of no use, if it isn't.
async fn all(
    instance: &Instance,
    spool: &Spool,
    library: &LibraryState,
    as_json: bool,
) -> Result<Option<String>> {
    let server = instance.server.address.to_string();
    let (pickup, queue) = (instance.places.pickup_socket(), &instance.places.queue_directory);
    let status = Status::read(spool, &pickup, queue).await?;
    if as_json {
        let mut value = serde_json::to_value(&status)?;
        value["redis"] = json!({ "server": server, "reachable": true, "library": library });
        say(value);
    } else {
        text(&server, &status).iter().for_each(say);
    }
    Ok(status.mismatch)
}

/// What can be said without the functions.
async fn part(instance: &Instance, spool: &Spool, library: &LibraryState, as_json: bool) -> Result<()> {
    let server = instance.server.address.to_string();
    let of_host = Queue::read(&instance.places.pickup_socket(), &instance.places.queue_directory).await;
    let (counted, waiting) = (spool.counts().await?, spool.inbox_length().await?);
    if as_json {
        let redis = json!({ "server": server, "reachable": true, "library": library });
        say(json!({ "redis": redis, "inbox": waiting, "queue": of_host, "counts": counted }));
    } else {
        let lines =
            [vec![redis(&server), inbox(waiting, None)], queue(&of_host), vec![counts(&counted)]].concat();
        lines.iter().for_each(say);
    }
    Ok(())
}

fn redis(server: &str) -> String {
    format!("redis      {server}")
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
    format!("counts     {}", counts.join(", "))
}

fn text(server: &str, status: &Status) -> Vec<String> {
    let mut lines = vec![redis(server)];
    lines.extend(status.spool.map(|spool| format!("spool      {spool}")));
    lines.push(lots(status));
    let Inbox { entries, oldest_ms, strange: strangers, .. } = status.lots.inbox;
    lines.push(inbox(entries, oldest_ms.map(|oldest_ms| status.now_ms.saturating_sub(oldest_ms))));
    lines.extend(strange(strangers));
    lines.extend(standing(status));
    lines.push(deferred(status));
    lines.push(format!("corrupt    {}", messages(status.corrupt_total)));
    let corrupt = status.corrupt.iter().map(|it| format!("           {} {}", it.id, it.reason));
    lines.extend(corrupt);
    lines.extend(queue(&status.queue));
    let waiting = status.waiting.iter().map(|reason| format!("waiting    {reason}"));
    lines.extend(waiting);
    lines.push(counts(&status.counts));
    lines.push(String::new());
    lines.push(table(status).to_string());
    lines
}

fn lots(status: &Status) -> String {
    let lots = &status.lots;
    let ready = format!("{} lots ready, {} assigned", lots.ready_total, lots.assigned_total);
    format!("backlog    {}; {ready}", messages(status.backlog))
}

/// What waits there for a lot, and for how long.
fn inbox(entries: u64, age_ms: Option<u64>) -> String {
    let age = age_ms.map_or_else(String::new, |ms| format!(", the oldest {} old", seconds(ms as i64)));
    format!("inbox      {}{age}", messages(entries))
}

/// What came there, and nobody can make a message of.
fn strange(entries: u64) -> Option<String> {
    (entries > 0).then(|| format!("strange    {entries} of the inbox that are no messages, kept aside"))
}

/// What operators have put on hold in Redis, and what waits in the inbox to be put on hold or taken away.
fn standing(status: &Status) -> Option<String> {
    let spool::Standing { held, ordered } = status.standing;
    let inbox = if ordered > 0 {
        format!(", and {ordered} in the inbox to be held or deleted")
    } else {
        String::new()
    };
    (held + ordered > 0).then(|| format!("on hold    {}{inbox}", messages(held)))
}

fn deferred(status: &Status) -> String {
    let next = status.deferred.next_attempt_ms.map(|when_ms| when_ms.saturating_sub(status.now_ms));
    let next = next.map_or_else(String::new, |ms| format!(", the next one in {}", seconds(ms as i64)));
    format!("deferred   {}{next}", messages(status.deferred.total))
}

fn queue(queue: &Queue) -> Vec<String> {
    let mut lines = vec![match (&queue.error, &queue.node, queue.handoff) {
        (Some(error), ..) => format!("pickup-rs  {error}"),
        (None, Some(node), Some(handoff)) => {
            format!("pickup-rs  node {node}, hand-off {handoff:?}").to_lowercase()
        }
        (None, ..) => "pickup-rs  has not said who it is".to_owned(),
    }];
    if queue.in_doubt > 0 {
        lines.push(format!("in doubt   {}", messages(queue.in_doubt as u64)));
    }
    if !queue.undecided.is_empty() {
        lines.push(format!("undecided  {} in hold", queue.undecided.len()));
    }
    lines
}

fn table(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "agent", "name", "host", "no.", "lease", "lots", "load", "window", "credit", "deferred",
    ]);
    for agent in &status.agents {
        let node =
            status.nodes.iter().find(|it| agent.kind == AgentKind::Mail && it.node.as_str() == agent.agent);
        table.add_row(row(agent, node));
    }
    table
}

fn row(agent: &AgentStatus, node: Option<&NodeStatus>) -> Vec<String> {
    let lease = match agent.lease_left_ms {
        left if left > 0 => seconds(left),
        left => format!("gone {}", seconds(-left)),
    };
    let number = agent.number.map(|number| number.to_string());
    let mut row = vec![
        agent.kind.to_string(),
        agent.agent.clone(),
        agent.host.clone(),
        number.unwrap_or_default(),
        lease,
    ];
    if let Some(it) = node {
        let window = it.window.map_or_else(String::new, |window| window.to_string());
        row.extend([
            it.lots.to_string(),
            it.load.to_string(),
            window,
            it.credit.to_string(),
            it.deferred.to_string(),
        ]);
    }
    row
}

fn messages(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

fn seconds(ms: i64) -> String {
    let time = Duration::from_millis(ms.unsigned_abs());
    if time.as_secs() < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min", time.as_secs() / 60)
    }
}
