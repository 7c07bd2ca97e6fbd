//! `optimus delete`, `hold`, `release`, `requeue`: operators' acts on mail, over the whole
//! platform.
//!
//! Redis comes first, so that no mail moves to a Postfix meanwhile. For mail that nodes have, Redis
//! notes orders, which the nodes' Mail Agents carry out within a second or two. The command waits
//! for that. When this host's Mail Agent isn't there, stock postsuper acts in its place. Orders
//! that are open after that are printed, node by node.

mod passes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agents::daemon::{self, Instance, Options};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use handoff::protocol::NewName;
use maildrop::Maildrop;
use maildrop::in_doubt::{self, DeletionError};
use nix::unistd::Uid;
use postfix_wire::QueueId;
use queue::held::{self, Released};
use serde_json::json;
use spool::{Act, MessageId, NodeId, Operated};

pub(crate) use self::passes::{Filter, Outcome, Which, operate};
use self::passes::{Waited, count, look, wait_for_nodes};
use crate::say;
use crate::stock::{Stock, Tally};

/// Time in which nodes must carry out orders.
const NODES_PATIENCE: Duration = Duration::from_secs(10);
/// Time in which this host's Mail Agent must report that files are gone.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true)]
pub(crate) struct Selection {
    /// Messages' ids; the marks that `mailq` puts behind an id may stay
    #[arg(group = "which", conflicts_with = "all", value_parser = message_id)]
    ids: Vec<MessageId>,
    /// All mail but the quarantine
    #[arg(long, group = "which")]
    all: bool,
    /// Mail from this sender; an empty one is the null sender
    #[arg(long, group = "which", value_name = "ADDRESS", conflicts_with = "ids")]
    from: Option<String>,
    /// Mail with this recipient
    #[arg(long, group = "which", value_name = "ADDRESS", conflicts_with = "ids")]
    to: Option<String>,
    /// Mail with a recipient in this domain
    #[arg(long, group = "which", value_name = "DOMAIN", conflicts_with = "ids")]
    domain: Option<String>,
    /// Mail submitted longer ago than this: a number and s, m, h or d
    #[arg(
        long,
        group = "which",
        value_name = "TIME",
        value_parser = duration,
        conflicts_with = "ids",
    )]
    older_than: Option<Duration>,
    /// Print the selected messages, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: not a number followed by s, m, h or d");
    let unit = text.chars().last().filter(char::is_ascii_alphabetic).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn message_id(text: &str) -> Result<MessageId, &'static str> {
    without_mark(text).parse().map_err(|_| "not the id of a message")
}

/// Returns an id without the mark that `mailq` shows behind it.
pub(crate) fn without_mark(id: &str) -> &str {
    id.trim().trim_end_matches(['*', '!', '#'])
}

impl Selection {
    fn which(&self) -> Which {
        if !self.ids.is_empty() {
            return Which::Ids(self.ids.iter().copied().collect());
        }
        let before_ms = self.older_than.map(|age| now_ms().saturating_sub(age.as_millis() as u64));
        let Self { from, to, domain, .. } = self;
        let (from, to, domain) = (from.clone(), to.clone(), domain.clone());
        Which::Matching(Filter { from, to, domain, before_ms, queues: Vec::new() })
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Returns the option of postsuper for an act, and the words of its summary.
pub(crate) fn of_stock(act: Act) -> (&'static str, &'static str) {
    match act {
        Act::Delete => ("-d", "Deleted"),
        Act::Hold => ("-h", "Placed on hold"),
        Act::Release => ("-H", "Released from hold"),
        Act::Requeue => ("-r", "Requeued"),
    }
}

/// Returns stock's words for one message, as in `: removed`.
pub(crate) fn done_words(act: Act) -> &'static str {
    match act {
        Act::Delete => "removed",
        Act::Hold => "placed on hold",
        Act::Release => "released from hold",
        Act::Requeue => "requeued",
    }
}

/// Returns the outcome that means that Redis has carried out the act.
pub(crate) fn done(act: Act) -> Operated {
    match act {
        Act::Delete => Operated::Deleted,
        Act::Hold => Operated::Held,
        Act::Release => Operated::Released,
        Act::Requeue => Operated::Requeued,
    }
}

pub(crate) fn run(options: &Options, act: Act, selection: &Selection) -> Result<ExitCode> {
    let (instance, which) = (Instance::open(options)?, selection.which());
    let server = instance.server.address.to_string();
    let about = || format!("redis at {server}");
    if selection.dry_run {
        let looking = instance.looking();
        let seen = instance.with_least_rights(|| daemon::block_on(look(&looking, &which)))??;
        return report_dry(act, selection.json, &seen.with_context(about)?);
    }
    let spool = instance.spool();
    let found = without_doubt(&instance, act, which)?;
    let outcome =
        instance.with_least_rights(|| daemon::block_on(operate(&spool, act, &found.rest)))??;
    let mut outcome = outcome.with_context(|| {
        format!("redis at {server}: the act may be done in part; run the command again")
    })?;
    let left_in_doubt = left_in_doubt(act, &found, &outcome);
    outcome.each.retain(|id, _| !left_in_doubt.contains_key(id));
    let mut tally = Tally::default();
    let mut at_nodes = at_nodes(&instance, act, &outcome, &mut tally)?;
    at_nodes.after =
        instance.with_least_rights(|| daemon::block_on(count(&spool)))??.with_context(about)?;
    at_nodes.in_doubt = found.deleted.len() as u64;
    at_nodes.left_in_doubt = left_in_doubt;
    report(act, selection.json, &outcome, &at_nodes, &tally)
}

/// A selection, after this host's submissions in doubt have been decided.
pub(crate) struct WithoutDoubt {
    pub(crate) rest: Which,
    pub(crate) deleted: BTreeSet<MessageId>,
    /// Submissions in doubt that the act leaves as they are: selected ones, or possibly selected.
    left: BTreeSet<MessageId>,
}

/// Deletes submissions in doubt, which are copies in this host's maildrop of mail that Redis may
/// have. They can't be held: Redis takes no message that it was asked to disown. Stock postsuper
/// doesn't hold mail in the maildrop either.
pub(crate) fn without_doubt(instance: &Instance, act: Act, which: Which) -> Result<WithoutDoubt> {
    let (maildrop, spool) = (Maildrop::of(&instance.main_cf)?, instance.spool());
    let delete = || match act {
        Act::Delete => {
            daemon::block_on(in_doubt::delete(&maildrop, &spool, |id| which.is_of_in_doubt(id)))
        }
        Act::Hold | Act::Release | Act::Requeue => Ok(Ok(BTreeSet::new())),
    };
    let deleted = none_if_denied(instance.with_least_rights(delete)??)?;
    let in_doubt =
        instance.with_least_rights(|| in_doubt::messages(&maildrop))?.map_err(DeletionError::from);
    // Mail in doubt is on hold nowhere, and nobody needs to release or requeue it.
    let is_concerned = act.stops() || matches!(which, Which::Ids(_));
    let is_left =
        |id: &MessageId| is_concerned && (which.needs_envelopes() || which.is_of_in_doubt(*id));
    let left = none_if_denied(in_doubt)?.into_iter().filter(is_left).collect();
    let rest = match which {
        Which::Ids(ids) => Which::Ids(ids.difference(&deleted).copied().collect()),
        matching @ Which::Matching(_) => matching,
    };
    Ok(WithoutDoubt { rest, deleted, left })
}

/// Returns no submissions in doubt for a user who may not read the maildrop.
fn none_if_denied(
    found: Result<BTreeSet<MessageId>, DeletionError>,
) -> Result<BTreeSet<MessageId>, DeletionError> {
    match found {
        Err(DeletionError::File(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(BTreeSet::new())
        }
        found => found,
    }
}

/// Returns words about submissions in doubt that stay as they are, by message.
pub(crate) fn left_in_doubt(
    act: Act,
    found: &WithoutDoubt,
    outcome: &Outcome,
) -> BTreeMap<MessageId, String> {
    let is_nowhere_else =
        |id: &&MessageId| !matches!(outcome.each.get(id), Some(it) if *it != Operated::Unknown);
    let words = if found.rest.needs_envelopes() {
        "not looked at: conditions on sender and recipients don't apply to mail in doubt in the \
         maildrop; give the id or --all"
            .to_owned()
    } else {
        format!(
            "not {}: mail in doubt in the maildrop can only be deleted, and is sent unless Redis \
                has the message",
            done_words(act)
        )
    };
    found.left.iter().filter(is_nowhere_else).map(|id| (*id, words.clone())).collect()
}

/// Returns the node that this host serves. A copy of a node's queue directory serves none: its
/// files are not those that Redis knows. Returns `None` too while Redis can't be asked.
pub(crate) fn own_node(instance: &Instance) -> Option<NodeId> {
    let identity = instance.with_least_rights(|| instance.places.identity()).ok()?.ok()??;
    let (node, spool): (NodeId, _) = (identity.parse().ok()?, instance.looking());
    let last = || daemon::block_on(spool.last_attendance(&node));
    let Some(nonce) = instance.with_least_rights(last).ok()?.ok()?.ok()?.nonce else {
        return Some(node);
    };
    let is_latest = || queue::mark::is_latest(&instance.places.mark_file(), nonce);
    instance.with_least_rights(is_latest).ok()?.ok()?.then_some(node)
}

/// Outcome for the mail that nodes have.
#[derive(Debug, Default)]
pub(crate) struct AtNodes {
    /// Number of messages for which Mail Agents carried out the order.
    pub(crate) done: u64,
    /// Number of messages that were sent or deleted before the order reached them.
    pub(crate) late: u64,
    /// Queue files whose orders are still open, by node.
    pub(crate) left: BTreeMap<NodeId, BTreeSet<String>>,
    /// Number of messages in the queue afterwards.
    after: u64,
    /// Number of submissions in doubt that were deleted.
    in_doubt: u64,
    /// Submissions in doubt that stay as they are, with the reason.
    left_in_doubt: BTreeMap<MessageId, String>,
}

/// Waits for the nodes' Mail Agents, and has stock postsuper do what this host's Mail Agent didn't.
pub(crate) fn at_nodes(
    instance: &Instance,
    act: Act,
    outcome: &Outcome,
    tally: &mut Tally,
) -> Result<AtNodes> {
    if outcome.at_nodes.is_empty() {
        return Ok(AtNodes::default());
    }
    let spool = instance.spool();
    let wait = || daemon::block_on(wait_for_nodes(&spool, act, outcome, NODES_PATIENCE));
    let waited = instance.with_least_rights(wait)??;
    let Waited { left, late } = waited.with_context(|| {
        format!(
            "redis at {}: can't tell what became of {} orders for nodes, which are carried out \
                when it is back",
            instance.server.address,
            outcome.at_nodes.len()
        )
    })?;
    let count_left: usize = left.values().map(BTreeMap::len).sum();
    let done = (outcome.at_nodes.len() - count_left - late.len()) as u64;
    let names = |files: BTreeMap<MessageId, QueueId>| {
        files.into_values().map(|it| it.to_string()).collect()
    };
    let left = left.into_iter().map(|(node, files)| (node, names(files))).collect();
    let mut at_nodes = AtNodes { done, late: late.len() as u64, left, ..AtNodes::default() };
    here(instance, act, outcome, &mut at_nodes.left, tally)?;
    Ok(at_nodes)
}

/// Has this host's Postfix act on mail that is committed to it.
fn here(
    instance: &Instance,
    act: Act,
    outcome: &Outcome,
    left: &mut BTreeMap<NodeId, BTreeSet<String>>,
    tally: &mut Tally,
) -> Result<()> {
    let own =
        own_node(instance).filter(|node| Uid::effective().is_root() && left.contains_key(node));
    let Some(node) = own else { return Ok(()) };
    let mut ours: Vec<String> = left.remove(&node).into_iter().flatten().collect();
    let (stock, until) = (Stock::of(instance)?, Instant::now() + PATIENCE);
    if act == Act::Release {
        let Released { renamed, unknown, others } = release_held(instance, Some(&ours), tally)?;
        for NewName { was, now } in renamed {
            eprintln!("{was}: released from hold as {now}");
        }
        let rest: BTreeSet<String> =
            unknown.iter().chain(&others).map(ToString::to_string).collect();
        if !rest.is_empty() {
            left.insert(node, rest);
        }
        return Ok(());
    }
    loop {
        stock.run(&[of_stock(act).0.to_owned(), "-".to_owned()], &ours, tally)?;
        if act != Act::Delete {
            return Ok(());
        }
        // Stock misses a file that moves between two folders meanwhile. Without another look, a
        // file that is released later would be sent.
        let ids: BTreeSet<MessageId> = outcome.at_nodes.keys().copied().collect();
        ours = still_there(instance, &node, &ids)?;
        if ours.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            left.insert(node, ours.into_iter().collect());
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Releases mail of OPTIMUS that is on hold in this host's Postfix: files of these names, or all.
/// Stock's way is not safe for mail that the queue manager may still have in its memory.
pub(crate) fn release_held(
    instance: &Instance,
    names: Option<&[String]>,
    tally: &mut Tally,
) -> Result<Released> {
    let names: Option<Vec<QueueId>> =
        names.map(|names| names.iter().filter_map(|it| it.parse().ok()).collect());
    let (directory, committed) = (&instance.places.queue_directory, committed_here(instance));
    let release =
        || held::release(&instance.main_cf, directory, names.as_deref(), committed.as_ref());
    let released = instance.with_least_rights(release)??;
    tally.add(of_stock(Act::Release).1, released.renamed.len() as u64);
    Ok(released)
}

/// Returns the messages that Redis has as committed to this queue directory, and none if it serves
/// no node. `None` means that Redis can't be asked.
fn committed_here(instance: &Instance) -> Option<BTreeSet<MessageId>> {
    let spool = instance.looking();
    let Some(node) = own_node(instance) else {
        let asked = instance.with_least_rights(|| daemon::block_on(spool.overview(0)));
        return asked.ok()?.ok()?.ok().map(|_| BTreeSet::new());
    };
    let placed = instance.with_least_rights(|| daemon::block_on(spool.inventory(&node)));
    Some(placed.ok()?.ok()?.ok()?.into_iter().map(|it| it.id).collect())
}

/// Returns the files of this node that Redis doesn't know to be gone.
fn still_there(
    instance: &Instance,
    node: &NodeId,
    ids: &BTreeSet<MessageId>,
) -> Result<Vec<String>> {
    let spool = instance.looking();
    let placed = instance.with_least_rights(|| daemon::block_on(spool.inventory(node)))???;
    Ok(placed
        .into_iter()
        .filter(|it| ids.contains(&it.id))
        .map(|it| it.queue_id.to_string())
        .collect())
}

fn report_dry(act: Act, as_json: bool, outcome: &Outcome) -> Result<ExitCode> {
    if as_json {
        let ids: Vec<_> = outcome.each.keys().map(ToString::to_string).collect();
        say(json!({ "act": act, "dry_run": true, "before": outcome.before, "messages": ids }));
    } else {
        outcome.each.keys().for_each(&say);
        let count = outcome.each.len();
        say(format_args!("would {act} {count} of {} messages; nothing was done", outcome.before));
    }
    Ok(ExitCode::SUCCESS)
}

fn report(
    act: Act,
    as_json: bool,
    outcome: &Outcome,
    at_nodes: &AtNodes,
    tally: &Tally,
) -> Result<ExitCode> {
    let by_stock: u64 = tally.messages.values().sum();
    let (in_redis, in_postfix) = (outcome.count(done(act)), at_nodes.done + by_stock);
    let AtNodes { late, left, after, in_doubt, left_in_doubt, .. } = at_nodes;
    let before = outcome.before;
    if as_json {
        let each: BTreeMap<String, Operated> =
            outcome.each.iter().map(|(id, it)| (id.to_string(), *it)).collect();
        let nodes: BTreeMap<String, _> =
            left.iter().map(|(node, ids)| (node.to_string(), ids)).collect();
        say(json!({ "act": act, "dry_run": false, "before": before, "after": after,
            "in_redis": in_redis,
            "in_postfix": in_postfix, "in_doubt": in_doubt, "too_late": late, "messages": each,
            "left_at_nodes": nodes, "left_in_doubt": left_in_doubt.keys().map(ToString::to_string)
                .collect::<Vec<_>>() }));
    } else {
        say(format_args!("before: {before} messages in the queue"));
        say(format_args!("{}: {in_redis} in Redis, {in_postfix} in Postfix", of_stock(act).1));
        if *in_doubt > 0 {
            say(format_args!("deleted in the maildrop: {in_doubt} in doubt"));
        }
        if *late > 0 {
            say(format_args!("too late for {late}: sent or deleted before the order arrived"));
        }
        say_left(act, left);
        say(format_args!("after: {after} messages in the queue"));
        exceptions(outcome);
        left_in_doubt.iter().for_each(|(id, words)| say(format_args!("{id} {words}")));
    }
    ensure!(tally.failed.is_none(), "postsuper: failed; see the messages above");
    if !outcome.undecided.is_empty() {
        bail!(
            "orders: {} messages moved on before a decision; run the command again",
            outcome.undecided.len()
        );
    }
    let failed = outcome.each.values().filter(|it| is_failure(act, **it)).count();
    ensure!(failed == 0, "orders: {failed} messages not found; see `optimus queue` for the ids");
    Ok(if left.is_empty() && left_in_doubt.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn say_left(act: Act, left: &BTreeMap<NodeId, BTreeSet<String>>) {
    for (node, ids) in left {
        let (count, option) = (ids.len(), of_stock(act).0);
        say(format_args!(
            "still ordered: {count} at node {node}; done once its Mail Agent is back"
        ));
        say(format_args!("  to do it now, on its host run: postsuper {option} -"));
        ids.iter().for_each(|id| say(format_args!("  {id}")));
    }
}

pub(crate) fn is_failure(act: Act, operated: Operated) -> bool {
    match operated {
        Operated::Unknown | Operated::Missing => true,
        Operated::Gone => act != Act::Delete,
        _ => false,
    }
}

fn exceptions(outcome: &Outcome) {
    for (id, operated) in &outcome.each {
        let words = match operated {
            Operated::Kept => "is in quarantine; see `optimus quarantine`",
            Operated::Missing => "has an id in Redis but no content; run `optimus delete`",
            Operated::Gone => "was sent or deleted before",
            Operated::Unknown => "is unknown to Redis",
            _ => continue,
        };
        say(format_args!("{id} {words}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in
            ["", "5", "d", "1w", "-1s", "1é", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mark_of_mailq_is_no_part_of_an_id() {
        for shown in ["ABC", "ABC!", "ABC*", "ABC!#", " ABC\r"] {
            assert_eq!(without_mark(shown), "ABC");
        }
    }
}
