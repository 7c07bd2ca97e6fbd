//! The state of the platform for an operator, read from Redis and from this host's pickup-rs, if
//! that answers. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::FileType;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agents::daemon::Instance;
use agents::driver::mismatch;
use agents::view::{MailAgentState, Node, View};
use handoff::client;
use handoff::protocol::{FolderKind, QueuedFile, Reply, Request, Served};
use maildrop::Maildrop;
use maildrop::in_doubt;
use maildrop::stranded;
use spool::{
    AgentId, AgentKind, Directory, Domain, Lane, LastAttendance, MessageId, NodeId, Overview,
    Spool, SpoolError, Unfit,
};
use status::{AgentStatus, Deferred, Lots, NodeCopy, NodeState, NodeStatus, Parked, Queue, Status};

const READY_SHOWN: u32 = 1_000;
/// Most lots counted of each lane; Redis lists fewer.
const LANE_LOTS_COUNTED: u32 = 100_000;
const QUARANTINE_SHOWN: usize = 100;
/// Most levels of folders below a hashed queue, which is Postfix's own bound.
const DEPTH_MAX: usize = 16;
const DESTINATIONS_SHOWN: usize = 10;
/// Time for which a refused copy is shown. A copy attends every second while its Postfix runs.
const REFUSED_SHOWN_MS: u64 = 30_000;
/// Time in which pickup-rs must answer; master may have to start it.
const PICKUP_PATIENCE: Duration = Duration::from_secs(5);

/// Reads the state from Redis, and from this host's Postfix.
pub(crate) async fn platform(spool: &Spool, instance: &Instance) -> Result<Status, SpoolError> {
    let (directory, overview, quarantine, counts, standing, lanes) = tokio::try_join!(
        spool.directory(),
        spool.overview(READY_SHOWN),
        spool.all_quarantined(),
        spool.counts(),
        spool.standing(),
        spool.lanes(LANE_LOTS_COUNTED)
    )?;
    let mut next_attempt_ms = None;
    for it in overview.nodes.iter().filter(|it| it.deferred > 0) {
        let next_ms = spool.next_attempt_ms(&it.node).await?;
        next_attempt_ms = next_attempt_ms.into_iter().chain(next_ms).min();
    }
    let in_lots_ms = spool.oldest_in_lots().await?.map(MessageId::unix_ms);
    let oldest_ms = overview.inbox.oldest_ms.into_iter().chain(in_lots_ms).min();
    let view = View::of(&directory, &overview, instance.settings.mail.window_shared);
    let identity = spool.identity().await?;
    let copies = copies(spool, &directory, &overview).await?;
    let queue = queue(instance).await;
    Ok(Status {
        now_ms: overview.now_ms,
        spool: identity,
        mismatch: mismatch(identity, queue.spool, queue.trouble.as_deref()),
        agents: agents(&directory),
        nodes: view.nodes.iter().map(|it| node(it, &directory)).collect(),
        copies,
        backlog: overview.backlog(),
        oldest_waiting_s: oldest_ms.map(|ms| overview.now_ms.saturating_sub(ms) / 1000),
        parked: lanes.iter().map(Lane::messages).sum(),
        lanes: lanes.into_iter().map(parked).collect(),
        deferred: Deferred {
            total: overview.nodes.iter().map(|it| it.deferred).sum(),
            next_attempt_ms,
        },
        standing,
        on_hold: overview.nodes.iter().map(|it| it.on_hold).sum(),
        quarantine_total: overview.quarantine,
        quarantine_bytes: quarantine.iter().map(|it| it.bytes).sum(),
        quarantine: quarantine.into_iter().take(QUARANTINE_SHOWN).collect(),
        waiting: waiting(&view, overview.backlog()),
        queue,
        counts,
        lots: lots(overview),
    })
}

async fn copies(
    spool: &Spool,
    directory: &Directory,
    overview: &Overview,
) -> Result<Vec<NodeCopy>, SpoolError> {
    let agents = directory.leases.iter().chain(&directory.gone);
    let mails = agents.filter(|it| it.kind == AgentKind::Mail);
    let mut nodes: BTreeSet<NodeId> =
        mails.filter_map(|it| it.agent.as_str().parse().ok()).collect();
    nodes.extend(overview.nodes.iter().map(|it| it.node.clone()));
    let mut copies = Vec::new();
    for node in nodes {
        let LastAttendance { host, refused, .. } = spool.last_attendance(&node).await?;
        let recent = refused.filter(|(_, at_ms)| at_ms + REFUSED_SHOWN_MS > overview.now_ms);
        let served_by = host.unwrap_or_default();
        copies.extend(recent.map(|(host, _)| NodeCopy { node, served_by, host }));
    }
    Ok(copies)
}

fn parked(lane: Lane) -> Parked {
    Parked { messages: lane.messages(), lots: lane.lots_total, to: lane.to }
}

fn lots(overview: Overview) -> Lots {
    Lots {
        assigned_total: overview.nodes.iter().map(|it| it.lots).sum(),
        inbox: overview.inbox,
        ready_total: overview.ready_lots,
        ready: overview.ready,
    }
}

fn agents(directory: &Directory) -> Vec<AgentStatus> {
    let mut all: Vec<AgentStatus> = Vec::new();
    for kind in [AgentKind::Info, AgentKind::Scheduler, AgentKind::Mail] {
        let alive = directory.alive(kind);
        let number = |agent: &spool::Agent| alive.iter().position(|it| it.agent == agent.agent);
        let known = directory.leases.iter().chain(&directory.gone).filter(|it| it.kind == kind);
        let mut of_kind: Vec<_> = known.map(|it| agent(it, number(it), directory)).collect();
        of_kind.sort_by_key(|it| (it.number.is_none(), it.number));
        all.extend(of_kind);
    }
    all
}

fn agent(it: &spool::Agent, number: Option<usize>, directory: &Directory) -> AgentStatus {
    let lease_left_ms = it.lease_ends_ms as i64 - directory.now_ms as i64;
    let schedulers = directory.alive(AgentKind::Scheduler).into_iter().map(|it| &it.agent);
    let scheduler = schedulers.into_iter().find(|name| it.scheduler.as_ref() == Some(name));
    AgentStatus {
        kind: it.kind,
        agent: it.agent.to_string(),
        host: it.name.clone(),
        number,
        lease_left_ms,
        // A loopback address has the host behind it, for agents alone.
        address: it.address.split(' ').next().unwrap_or_default().to_owned(),
        scheduler: scheduler.map(AgentId::to_string),
    }
}

/// Returns the state of a node, its cause, and the time since which it holds, in Unix milliseconds.
fn state(it: &Node, directory: &Directory) -> (NodeState, Option<Unfit>, Option<u64>) {
    let agents = directory.leases.iter().chain(&directory.gone);
    let agent = agents.clone().find(|agent| agent.agent == it.node.clone().into());
    let unfit = agent.and_then(|agent| agent.unfit).filter(|_| it.is_alive());
    let drained_ms = directory.drained.get(&it.node).copied();
    match (it.agent, drained_ms, unfit) {
        (MailAgentState::Alive { .. }, Some(since_ms), None | Some((Unfit::Drained, _))) => {
            (NodeState::Draining, Some(Unfit::Drained), Some(since_ms))
        }
        (MailAgentState::Alive { .. }, _, Some((cause, since_ms))) => {
            (NodeState::Suspect, Some(cause), Some(since_ms))
        }
        // Mail Agents of earlier versions tell no cause.
        (MailAgentState::Alive { capacity: 0, .. }, None, None) => {
            (NodeState::Suspect, Some(Unfit::Away), None)
        }
        (MailAgentState::Alive { .. }, None, None) => (NodeState::Up, None, None),
        (MailAgentState::Ended(_) | MailAgentState::Unknown, ..) => {
            (NodeState::Gone, None, agent.map(|agent| agent.lease_ends_ms))
        }
    }
}

fn node(it: &Node, directory: &Directory) -> NodeStatus {
    let window = match it.agent {
        MailAgentState::Alive { capacity, .. } => Some(capacity),
        MailAgentState::Ended(_) | MailAgentState::Unknown => None,
    };
    let (state, cause, since_ms) = state(it, directory);
    NodeStatus {
        node: it.node.clone(),
        state,
        cause,
        since_ms,
        window,
        load: it.load(),
        credit: it.credit(),
        lots: it.lots,
        pending: it.pending,
        committed: it.committed,
        deferred: it.deferred,
        on_hold: it.on_hold,
    }
}

/// Returns the reasons why mail waits longer than it should.
pub(crate) fn waiting(view: &View, backlog: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if backlog > 0 {
        reasons
            .extend(nobody(view).map(|why| format!("{backlog} messages wait for a node: {why}")));
    }
    for it in view.nodes.iter().filter(|it| !it.is_alive()) {
        if it.pending > 0 {
            let why = if view.schedulers.is_empty() {
                "no scheduler agent is alive to take them"
            } else {
                "being taken"
            };
            reasons.push(format!(
                "{} messages wait on node {}, whose mail agent is gone: {why}",
                it.pending, it.node
            ));
        }
        if it.committed > 0 {
            let what = "messages are with the Postfix of node";
            reasons.push(format!("{} {what} {}, whose mail agent is gone", it.committed, it.node));
        }
    }
    reasons
}

/// Returns the reason why no node takes a lot, if there is one.
fn nobody(view: &View) -> Option<&'static str> {
    let alive = || view.nodes.iter().filter(|it| it.is_alive());
    let can_work = |it: &Node| !matches!(it.agent, MailAgentState::Alive { capacity: 0, .. });
    match () {
        () if view.infos.is_empty() => Some("no info agent is alive"),
        () if view.schedulers.is_empty() => Some("no scheduler agent is alive"),
        () if alive().next().is_none() => Some("no mail agent is alive"),
        () if !alive().any(can_work) => Some("all nodes are suspect or drained"),
        () if alive().all(|it| it.credit() == 0) => Some("all windows are full"),
        () => None,
    }
}

/// Asks pickup-rs, and counts the mail that waits in the maildrop. A pickup-rs that can't be
/// asked shows in `error`.
pub(crate) async fn queue(instance: &Instance) -> Queue {
    let pickup_socket = instance.places.pickup_socket();
    let prepared = instance.places.queue_directory.join("optimus/prepared");
    let mut queue = Queue { prepared: files_in(&prepared, DEPTH_MAX), ..Queue::default() };
    queue.error = match tokio::time::timeout(PICKUP_PATIENCE, ask(&mut queue, &pickup_socket)).await
    {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("pickup-rs at {}: does not answer", pickup_socket.display())),
    };
    match Maildrop::of(&instance.main_cf) {
        Ok(maildrop) => {
            (queue.in_doubt, queue.stranded) =
                (in_doubt::count(&maildrop), stranded::count(&maildrop));
        }
        Err(error) => queue.error = Some(error.to_string()),
    }
    queue
}

async fn ask(queue: &mut Queue, pickup_socket: &Path) -> Result<(), client::ClientError> {
    let (mut requests, mut replies) = client::connect(pickup_socket).await?;
    requests.send(&Request::Ping).await?;
    let mut in_flight = BTreeMap::new();
    while let Some(reply) = replies.next().await? {
        match reply {
            Reply::Pong { node, handoff, spool, trouble, waits, pause, served, .. } => {
                queue.node = Some(node);
                queue.handoff = Some(handoff);
                (queue.spool, queue.trouble, queue.waits) = (spool, trouble, waits);
                queue.pause = pause;
                // A copy has nothing to list, and a pickup-rs that waits has nothing yet.
                let waits =
                    queue.trouble.is_some() || queue.waits.is_some() || queue.pause.is_some();
                if served == Served::Elsewhere || served == Served::Unknown && waits {
                    break;
                }
                requests.send(&Request::Inventory).await?;
            }
            Reply::Inventory { files, complete, .. } => {
                count_destinations(&files, &mut in_flight);
                let undecided = files.into_iter().filter(|file| file.place == FolderKind::Prepared);
                queue
                    .undecided
                    .extend(undecided.map(|file| format!("{} {}", file.queue_id, file.id)));
                if complete {
                    break;
                }
            }
            _ => (),
        }
    }
    queue.destinations = most(in_flight);
    Ok(())
}

/// Counts files, also where they are hashed into subfolders. No link is followed.
fn files_in(folder: &Path, depth: usize) -> usize {
    if !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return 0;
    }
    let kinds =
        folder.read_dir().into_iter().flatten().flatten().map(|it| (it.path(), it.file_type()));
    let count = |(path, kind): (PathBuf, std::io::Result<FileType>)| match kind {
        Ok(kind) if kind.is_dir() && depth > 0 => files_in(&path, depth - 1),
        _ => 1,
    };
    kinds.map(count).sum()
}

fn count_destinations(files: &[QueuedFile], in_flight: &mut BTreeMap<Domain, usize>) {
    let at_work =
        files.iter().filter(|file| matches!(file.place, FolderKind::Prepared | FolderKind::Queued));
    at_work.flat_map(|file| &file.to).for_each(|to| *in_flight.entry(to.clone()).or_default() += 1);
}

fn most(in_flight: BTreeMap<Domain, usize>) -> Vec<(Domain, usize)> {
    let mut destinations: Vec<_> = in_flight.into_iter().collect();
    destinations.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    destinations.truncate(DESTINATIONS_SHOWN);
    destinations
}

#[cfg(test)]
mod tests {
    use super::*;
    use agents::view::Fellow;

    fn alive(capacity: u32, load: u64) -> Node {
        let agent = MailAgentState::Alive { capacity, lease_left: Duration::from_secs(1) };
        Node {
            node: "n".parse().unwrap(),
            agent,
            lots: 0,
            pending: 0,
            committed: load,
            deferred: 0,
            on_hold: 0,
            peer: None,
            start: None,
            scheduler: None,
        }
    }

    fn view(infos: usize, schedulers: usize, nodes: Vec<Node>) -> View {
        let some = |count| (0..count).map(|n| format!("a{n}").parse().unwrap());
        let infos = some(infos).map(|agent| Fellow { agent, lease_ends_ms: 0 }).collect();
        View { infos, schedulers: some(schedulers).collect(), nodes, ..View::default() }
    }

    #[test]
    fn the_first_missing_part_on_the_way_of_mail_is_named() {
        let why = |view: &View| waiting(view, 7).first().cloned().unwrap_or_default();
        assert!(why(&view(0, 0, vec![])).ends_with("no info agent is alive"));
        assert!(why(&view(1, 0, vec![])).ends_with("no scheduler agent is alive"));
        assert!(why(&view(1, 1, vec![])).ends_with("no mail agent is alive"));
        assert!(why(&view(1, 1, vec![alive(0, 0)])).ends_with("all nodes are suspect or drained"));
        assert!(why(&view(1, 1, vec![alive(5, 5)])).ends_with("all windows are full"));
        assert_eq!(why(&view(1, 1, vec![alive(5, 4)])), "");
    }

    #[test]
    fn without_mail_nothing_waits() {
        assert_eq!(waiting(&view(0, 0, vec![]), 0), Vec::<String>::new());
    }

    #[test]
    fn the_mail_of_a_dead_node_is_named() {
        let dead = Node {
            agent: MailAgentState::Ended(Duration::from_secs(9)),
            pending: 3,
            lots: 1,
            ..alive(0, 2)
        };
        let reasons = waiting(&view(1, 0, vec![dead]), 0);
        assert!(
            reasons[0].contains("3 messages wait on node n") && reasons[0].contains("no scheduler"),
            "{reasons:?}"
        );
        assert!(reasons[1].contains("2 messages are with the Postfix of node n"), "{reasons:?}");
    }
}
