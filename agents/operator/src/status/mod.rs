//! `optimus status`: prints the state of the platform, as text or as one JSON object. The command
//! is a monitoring plugin: its first line is the judgement, and its exit status the state's.

mod read;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use agents::daemon::{Instance, Options};
use comfy_table::{ContentArrangement, Table, presets};
use handoff::protocol::Pause;
use serde_json::json;
use settings::{Quarantine, Thresholds};
use spool::{AgentKind, Inbox, LibraryState, OrdersAt, Spool, SpoolError, Standing};
pub(crate) use status::PluginState;
use status::{
    AgentStatus, Health, Host, NodeState, NodeStatus, Output, Part, Queue, RedisStatus, Seen,
    Status, performance, remedy,
};

use crate::say;
use crate::served::mismatch;

/// Arguments of `optimus status`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Exit with 1 when mail has waited for this long [default: status.oldest_warning_s]
    #[arg(long, value_name = "SECONDS")]
    oldest_warning_s: Option<u64>,
    /// Exit with 2 when mail has waited for this long [default: status.oldest_critical_s]
    #[arg(long, value_name = "SECONDS")]
    oldest_critical_s: Option<u64>,
    /// Exit with 1 when this many messages are in quarantine [default: status.quarantine_warning]
    #[arg(long, value_name = "MESSAGES")]
    quarantine_warning: Option<u64>,
    /// Exit with 2 when this many messages are in quarantine [default: status.quarantine_critical]
    #[arg(long, value_name = "MESSAGES")]
    quarantine_critical: Option<u64>,
    /// Exit with 1 when fewer Mail Agents are alive [default: status.mail_agents]
    #[arg(long, value_name = "AGENTS")]
    mail_agents: Option<usize>,
}

impl Arguments {
    fn thresholds(&self, set: &Thresholds) -> Thresholds {
        Thresholds {
            oldest_warning_s: self.oldest_warning_s.unwrap_or(set.oldest_warning_s),
            oldest_critical_s: self.oldest_critical_s.unwrap_or(set.oldest_critical_s),
            quarantine_warning: self.quarantine_warning.unwrap_or(set.quarantine_warning),
            quarantine_critical: self.quarantine_critical.unwrap_or(set.quarantine_critical),
            mail_agents: self.mail_agents.unwrap_or(set.mail_agents),
        }
    }
}

/// Findings, as text and as JSON.
struct StatusReport {
    health: Health,
    performance: String,
    lines: Vec<String>,
    redis: RedisStatus,
    seen: Seen,
}

/// Looks, changes nothing, and exits as a monitoring plugin does.
pub(crate) fn run(options: &Options, arguments: &Arguments) -> ExitCode {
    let looked = crate::unprivileged(options).and_then(|instance| {
        agents::daemon::block_on(async move { look(&instance, arguments).await })
    });
    match looked {
        Ok(report) => report.print(arguments.json),
        Err(error) => {
            let health = Health::of(PluginState::Unknown, settings::told(error.as_ref()));
            // Without findings there is no JSON object.
            if arguments.json {
                eprintln!("{health}");
            } else {
                say(&health);
            }
            ExitCode::from(health.state.exit_status())
        }
    }
}

impl StatusReport {
    fn print(self, as_json: bool) -> ExitCode {
        let exit_status = self.health.state.exit_status();
        if as_json {
            let Self { health, redis, seen, .. } = self;
            say(json!(Output { health, redis, seen }));
            return ExitCode::from(exit_status);
        }
        if self.performance.is_empty() {
            say(&self.health);
        } else {
            say(format!("{} | {}", self.health, self.performance));
        }
        self.lines.iter().for_each(say);
        ExitCode::from(exit_status)
    }

    fn and(self, state: PluginState, reason: impl Into<String>) -> Self {
        Self { health: self.health.and(state, reason), ..self }
    }
}

async fn look(instance: &Instance, arguments: &Arguments) -> StatusReport {
    let thresholds = arguments.thresholds(&instance.settings.status);
    let server = instance.server.address.to_string();
    let about = |text: &dyn std::fmt::Display| format!("redis at {server}: {text}");
    let spool = instance.looking();
    let seen = match spool.library().await {
        Ok(state @ LibraryState::Ours) => match all(instance, &spool, &state, &thresholds).await {
            Ok(report) => match mismatch(instance, &spool).await {
                Ok(Some(wrong)) => Ok(report.and(PluginState::Critical, about(&wrong))),
                Ok(None) => Ok(report),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        },
        Ok(state @ LibraryState::Missing) => {
            let health = Health::of(PluginState::Critical, about(&SpoolError::NoLibrary));
            part(instance, &spool, &state, health).await
        }
        Ok(state @ LibraryState::Other { .. }) => {
            other(instance, &spool, &state, &thresholds).await
        }
        Err(error) => Err(error),
    };
    match seen {
        Ok(report) => report,
        Err(error) => local(instance, about(&error), &error).await,
    }
}

/// Reports the state of this host alone, while Redis is away.
async fn local(instance: &Instance, about: String, error: &SpoolError) -> StatusReport {
    let server = instance.server.address.to_string();
    let of_host = read::queue(instance).await;
    let error = Some(error.to_string());
    StatusReport {
        health: Health::of(PluginState::Critical, about).and_maildrop(&of_host),
        performance: String::new(),
        lines: queue(&of_host),
        redis: RedisStatus { server, reachable: false, library: None, error },
        seen: Seen::Host(Host { queue: of_host }),
    }
}

/// Reports on a Redis with functions of another version, whose answers may not be readable.
async fn other(
    instance: &Instance,
    spool: &Spool,
    state: &LibraryState,
    thresholds: &Thresholds,
) -> Result<StatusReport, SpoolError> {
    let LibraryState::Other { loaded, ours } = state else {
        unreachable!("called for another version")
    };
    let server = &instance.server.address;
    let about =
        format!("redis at {server}: has the functions of another OPTIMUS ({loaded}, here {ours})");
    match all(instance, spool, state, thresholds).await {
        Ok(report) => {
            Ok(report.and(PluginState::Warning, format!("{about}: the figures may be wrong")))
        }
        Err(error) => {
            let health = Health::of(PluginState::Unknown, format!("{about}: {error}"));
            part(instance, spool, state, health).await
        }
    }
}

async fn all(
    instance: &Instance,
    spool: &Spool,
    library: &LibraryState,
    thresholds: &Thresholds,
) -> Result<StatusReport, SpoolError> {
    let server = instance.server.address.to_string();
    let status = read::platform(spool, instance).await?;
    Ok(StatusReport {
        health: Health::judge(&status, thresholds),
        performance: performance(&status, thresholds),
        lines: text(&server, &status, &instance.settings.quarantine),
        redis: reachable(server, library),
        seen: Seen::All(Box::new(status)),
    })
}

/// Reports what can be read without the functions.
async fn part(
    instance: &Instance,
    spool: &Spool,
    library: &LibraryState,
    health: Health,
) -> Result<StatusReport, SpoolError> {
    let server = instance.server.address.to_string();
    let of_host = read::queue(instance).await;
    let health = health.and_maildrop(&of_host);
    let (counted, waiting) = (spool.counts().await?, spool.inbox_length().await?);
    let lines =
        [vec![redis(&server), inbox(waiting, None)], queue(&of_host), vec![counts(&counted)]];
    Ok(StatusReport {
        health,
        performance: String::new(),
        lines: lines.concat(),
        redis: reachable(server, library),
        seen: Seen::Part(Part { inbox: waiting, queue: of_host, counts: counted }),
    })
}

fn reachable(server: String, library: &LibraryState) -> RedisStatus {
    RedisStatus { server, reachable: true, library: Some(library.clone()), error: None }
}

fn redis(server: &str) -> String {
    format!("redis      {server}")
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
    format!("counts     {}", counts.join(", "))
}

fn text(server: &str, status: &Status, limits: &Quarantine) -> Vec<String> {
    let mut lines = vec![redis(server)];
    lines.extend(status.spool.map(|spool| format!("spool      {spool}")));
    lines.push(lots(status));
    let Inbox { entries, oldest_ms, malformed: strangers, .. } = status.lots.inbox;
    lines.push(inbox(entries, oldest_ms.map(|oldest_ms| status.now_ms.saturating_sub(oldest_ms))));
    lines.extend(malformed(strangers));
    lines.extend(parked(status));
    lines.push(deferred(status));
    lines.push(on_hold(status));
    lines.extend(orders(status));
    lines.push(quarantine(status, limits));
    lines.extend(status.quarantine.iter().map(|it| format!("           {} {}", it.id, it.reason)));
    lines.extend(queue(&status.queue));
    let copies = status.copies.iter();
    lines.extend(
        copies.map(|it| format!("copy       of node {}, refused, at {}", it.node, it.host)),
    );
    lines.extend(unfit(status));
    let waiting = status.waiting.iter().map(|reason| format!("waiting    {reason}"));
    lines.extend(waiting);
    lines.push(counts(&status.counts));
    lines.push(String::new());
    lines.push(table(status).to_string());
    lines
}

/// Returns the line about the quarantine and its limits. A limit of 0 means no limit.
fn quarantine(status: &Status, limits: &Quarantine) -> String {
    let Quarantine { total_mb, user_mb, age_days } = *limits;
    let limit = |value: u64, unit: &str| (value > 0).then(|| format!("{value} {unit}"));
    let limits = [limit(total_mb, "MiB"), limit(user_mb, "MiB a user"), limit(age_days, "days")];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let size = format!(
        "{}, {} KiB",
        messages(status.quarantine_total),
        status.quarantine_bytes.div_ceil(1024)
    );
    match &limits[..] {
        [] => format!("quarantine {size}"),
        limits => format!("quarantine {size} of at most {}", limits.join(", ")),
    }
}

fn lots(status: &Status) -> String {
    let lots = &status.lots;
    let ready = format!("{} lots ready, {} assigned", lots.ready_total, lots.assigned_total);
    format!("backlog    {}; {ready}", messages(status.backlog))
}

/// Returns the line about mail that waits in the inbox, with the age of the oldest.
fn inbox(entries: u64, age_ms: Option<u64>) -> String {
    let age =
        age_ms.map_or_else(String::new, |ms| format!(", the oldest {} old", seconds(ms as i64)));
    format!("inbox      {}{age}", messages(entries))
}

/// Returns the line about entries of the inbox that are no messages.
fn malformed(entries: u64) -> Option<String> {
    (entries > 0)
        .then(|| format!("malformed  {entries} of the inbox that are no messages, in quarantine"))
}

/// Returns the line about mail on hold, in Redis and in Postfix, and about orders in the inbox.
fn on_hold(status: &Status) -> String {
    let Standing { held, held_since_ms, ordered, ordered_since_ms, .. } = status.standing;
    let held_for = held_since_ms
        .map_or_else(String::new, |ms| format!(", the longest for {}", since(status, ms)));
    let inbox = match ordered {
        0 => String::new(),
        _ => {
            let ordered_for = ordered_since_ms
                .map_or_else(String::new, |ms| format!(", the oldest for {}", since(status, ms)));
            format!(", and {ordered} in the inbox to be held or deleted{ordered_for}")
        }
    };
    format!(
        "on hold    {} in Redis{held_for}; {} in Postfix{inbox}",
        messages(held),
        status.on_hold
    )
}

/// Returns a line for each node that has open orders.
fn orders(status: &Status) -> Vec<String> {
    let line = |OrdersAt { node, orders, since_ms }: &OrdersAt| {
        let since = since_ms
            .map_or_else(String::new, |ms| format!(", the oldest for {}", since(status, ms)));
        format!("orders     {orders} wait for node {node}{since}")
    };
    status.standing.at_nodes.iter().map(line).collect()
}

/// Returns the line about destinations that have their share of every node, and their parked mail.
fn parked(status: &Status) -> Option<String> {
    let lanes: Vec<String> =
        status.lanes.iter().map(|it| format!("{} {}", it.to, it.messages)).collect();
    (status.parked > 0)
        .then(|| format!("parked     {}: {}", messages(status.parked), lanes.join(", ")))
}

fn deferred(status: &Status) -> String {
    let next = status.deferred.next_attempt_ms.map(|when_ms| when_ms.saturating_sub(status.now_ms));
    let next =
        next.map_or_else(String::new, |ms| format!(", the next one in {}", seconds(ms as i64)));
    format!("deferred   {}{next}", messages(status.deferred.total))
}

fn queue(queue: &Queue) -> Vec<String> {
    let mut lines = vec![match (&queue.error, &queue.node, queue.handoff) {
        (Some(error), ..) => format!("pickup-rs  {error}"),
        (None, Some(node), Some(handoff)) => {
            format!("pickup-rs  node {node}, hand-off {handoff:?}").to_lowercase()
        }
        (None, ..) => "pickup-rs  has not named its node".to_owned(),
    }];
    if let Some(Pause { reason, for_s, .. }) = &queue.pause {
        lines.push(format!("paused     for {for_s} s: {reason}"));
    }
    if queue.in_doubt > 0 {
        lines.push(format!("in doubt   {}", messages(queue.in_doubt as u64)));
    }
    if queue.stranded > 0 {
        let count = messages(queue.stranded as u64);
        lines.push(format!("stranded   {count} in a maildrop that no pickup service reads"));
    }
    if !queue.undecided.is_empty() {
        lines.push(format!("undecided  {} prepared", queue.undecided.len()));
    }
    if !queue.destinations.is_empty() {
        let shown =
            queue.destinations.iter().map(|(domain, messages)| format!("{domain} {messages}"));
        lines.push(format!("in flight  {}", shown.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// Returns a line for each node that takes no mail, with the cause.
fn unfit(status: &Status) -> Vec<String> {
    let line = |it: &NodeStatus| {
        let cause = it.cause?;
        let age = it.since_ms.map_or_else(String::new, |ms| format!(" for {}", since(status, ms)));
        let state = match it.state {
            NodeState::Draining => "draining",
            NodeState::Up | NodeState::Suspect | NodeState::Gone => "suspect",
        };
        Some(format!("node       {} {state}{age}: {}", it.node, remedy(cause)))
    };
    status.nodes.iter().filter_map(line).collect()
}

fn table(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "agent",
        "name",
        "host",
        "no.",
        "lease",
        "lots",
        "load",
        "window",
        "credit",
        "deferred",
        "on hold",
        "scheduler",
    ]);
    for agent in &status.agents {
        let node = status
            .nodes
            .iter()
            .find(|it| agent.kind == AgentKind::Mail && it.node.as_str() == agent.agent);
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
            it.on_hold.to_string(),
            agent.scheduler.clone().unwrap_or_default(),
        ]);
    }
    row
}

fn since(status: &Status, then_ms: u64) -> String {
    seconds(status.now_ms.saturating_sub(then_ms) as i64)
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
