//! Deletes, holds, releases and requeues mail over the whole platform.
//!
//! Redis decides each message by itself, in the place where it was seen ([`Spool::operate`]). Mail
//! moves meanwhile, nearly always forward, and a listing reads places in that order. A message that
//! moved on is seen again later in the same pass or in the next one. Passes end when one finds
//! nothing left to decide.
//!
//! Mail committed to a node is in that node's Postfix. The order is noted in Redis, so that the
//! mail isn't sent again from there, and the node's Mail Agent carries it out. The caller learns
//! which queue files are concerned, and may wait for the orders to end ([`wait_for_nodes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postfix_wire::QueueId;
use spool::{Act, Listed, MessageId, MessagePlace, NodeId, Operated, Spool, SpoolError};

/// Most passes. More would mean that mail moves faster than this command decides.
const PASSES_MAX: usize = 10;

/// A selection of messages.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    /// These messages, wherever they are.
    Ids(BTreeSet<MessageId>),
    /// Messages for which all conditions are true. Quarantined mail is left out:
    /// `optimus quarantine` decides about that.
    Matching(Filter),
}

/// Conditions on a message; a missing one is true of every message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Sender; empty for the null sender. Case is ignored.
    pub(crate) from: Option<String>,
    /// Address of one of the recipients. Case is ignored.
    pub(crate) to: Option<String>,
    /// Domain of one of the recipients. Case is ignored.
    pub(crate) domain: Option<String>,
    /// Time before which the message was submitted, in Unix milliseconds.
    pub(crate) before_ms: Option<u64>,
    /// Postfix's names of queues; none means every queue.
    pub(crate) queues: Vec<String>,
}

impl Filter {
    fn needs_envelope(&self) -> bool {
        self.from.is_some() || self.to.is_some() || self.domain.is_some()
    }

    fn is_of(&self, it: &Listed) -> bool {
        let is_old = self.before_ms.is_none_or(|before_ms| it.id.unix_ms() < before_ms);
        !matches!(it.place, MessagePlace::Quarantine(_))
            && self.has_queue(it)
            && is_old
            && self.has_envelope(it)
    }

    fn is_of_in_doubt(&self, id: MessageId) -> bool {
        let is_old = self.before_ms.is_none_or(|before_ms| id.unix_ms() < before_ms);
        is_old && !self.needs_envelope() && self.queues.is_empty()
    }

    /// Whether the message is in one of the wanted queues. Mail in Redis has not been tried yet, as
    /// is true of mail in `incoming` and `active`, so it counts as in both.
    fn has_queue(&self, it: &Listed) -> bool {
        if matches!(it.place, MessagePlace::Committed(..)) {
            // Only Postfix knows in which of its queues a message is.
            return self.queues.is_empty();
        }
        let is_held = it.place == MessagePlace::Held || it.order == Some(Act::Hold);
        let names: &[&str] = if is_held { &["hold"] } else { &["incoming", "active"] };
        self.queues.is_empty() || self.queues.iter().any(|queue| names.contains(&queue.as_str()))
    }

    fn has_envelope(&self, it: &Listed) -> bool {
        if !self.needs_envelope() {
            return true;
        }
        let Some(envelope) = &it.envelope else { return false };
        let is = |raw: &[u8], wanted: &str| raw.eq_ignore_ascii_case(wanted.as_bytes());
        let in_domain = |raw: &[u8], wanted: &str| {
            raw.rsplitn(2, |&byte| byte == b'@').next().is_some_and(|domain| is(domain, wanted))
                && raw.contains(&b'@')
        };
        let to_any = |test: &dyn Fn(&[u8]) -> bool| envelope.recipients.iter().any(|it| test(it));
        self.from.as_ref().is_none_or(|from| is(&envelope.sender, from))
            && self.to.as_ref().is_none_or(|to| to_any(&|it| is(it, to)))
            && self.domain.as_ref().is_none_or(|domain| to_any(&|it| in_domain(it, domain)))
    }
}

impl Which {
    /// Whether messages' envelopes must be read to select by them.
    pub(crate) fn needs_envelopes(&self) -> bool {
        matches!(self, Self::Matching(filter) if filter.needs_envelope())
    }

    /// Whether a submission in doubt is selected. Its envelope is not read, so a condition on the
    /// envelope is never true, which the caller must report.
    pub(crate) fn is_of_in_doubt(&self, id: MessageId) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&id),
            Self::Matching(filter) => filter.is_of_in_doubt(id),
        }
    }

    fn is_of(&self, it: &Listed) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&it.id),
            Self::Matching(filter) => filter.is_of(it),
        }
    }
}

/// Outcome of an operation.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Number of messages in the queue before the act. Those that operators have deleted in the
    /// inbox don't count.
    pub(crate) before: u64,
    /// Number of messages in the queue after the act, counted alike.
    pub(crate) after: u64,
    /// Outcome for each message. In a dry run: [`Operated::Moved`] for each that was found.
    pub(crate) each: BTreeMap<MessageId, Operated>,
    /// Mail that nodes have, with its queue file.
    pub(crate) at_nodes: BTreeMap<MessageId, (NodeId, QueueId)>,
    /// Mail that moved on before it was decided.
    pub(crate) undecided: BTreeSet<MessageId>,
}

impl Outcome {
    /// Counts the messages with this outcome.
    pub(crate) fn count(&self, operated: Operated) -> u64 {
        self.each.values().filter(|it| **it == operated).count() as u64
    }
}

/// Finds the selected messages, and changes nothing.
pub(crate) async fn look(spool: &Spool, which: &Which) -> Result<Outcome, SpoolError> {
    let mut outcome = Outcome::default();
    pass(spool, None, which, &mut outcome, u64::MAX).await?;
    outcome.after = outcome.before;
    Ok(outcome)
}

/// Carries out the act on all selected messages.
pub(crate) async fn operate(spool: &Spool, act: Act, which: &Which) -> Result<Outcome, SpoolError> {
    let start_ms = spool.overview(0).await?.now_ms;
    let mut outcome = Outcome::default();
    let mut until_ms = u64::MAX;
    for _ in 0..PASSES_MAX {
        let decided = outcome.each.len();
        let count = pass(spool, Some(act), which, &mut outcome, until_ms).await?;
        if until_ms == u64::MAX {
            outcome.before = count;
        }
        // The command does not wait for mail that came in after its start.
        until_ms = start_ms;
        let is_complete = matches!(which, Which::Ids(ids) if ids.len() == outcome.each.len());
        if outcome.undecided.is_empty() && (is_complete || outcome.each.len() == decided) {
            break;
        }
    }
    spool.tidy().await?;
    if let Which::Ids(ids) = which {
        name_the_rest(spool, act, ids, &mut outcome).await?;
    }
    outcome.after = count(spool).await?;
    Ok(outcome)
}

/// Adds the outcome for ids that are nowhere: known and gone, or unknown.
async fn name_the_rest(
    spool: &Spool,
    act: Act,
    ids: &BTreeSet<MessageId>,
    outcome: &mut Outcome,
) -> Result<(), SpoolError> {
    let is_open = |id: &&MessageId| !outcome.each.contains_key(id);
    let rest: Vec<_> = ids.iter().filter(is_open).map(|&id| (id, MessagePlace::Held)).collect();
    let answers = spool.operate(act, &rest).await?;
    outcome.each.extend(rest.iter().map(|(id, _)| *id).zip(answers));
    Ok(())
}

/// State of the orders at the end of the wait.
#[derive(Debug, Default)]
pub(crate) struct Waited {
    /// Messages whose orders have not ended, by node, with their queue files.
    pub(crate) left: BTreeMap<NodeId, BTreeMap<MessageId, QueueId>>,
    /// Messages that left Postfix in another way, as by delivery, before the order reached them.
    pub(crate) late: BTreeSet<MessageId>,
}

/// Pause between two questions to Redis whether orders have ended.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the nodes' Mail Agents have carried out the orders, for `patience` at most. The wait
/// also ends when no node that has orders has a Mail Agent.
pub(crate) async fn wait_for_nodes(
    spool: &Spool,
    act: Act,
    outcome: &Outcome,
    patience: Duration,
) -> Result<Waited, SpoolError> {
    let until = tokio::time::Instant::now() + patience;
    loop {
        let left = still_ordered(spool, act, outcome).await?;
        let is_over =
            tokio::time::Instant::now() >= until || !is_anybody_at_work(spool, &left).await?;
        if left.is_empty() || is_over {
            let late = late(spool, act, outcome, &left).await?;
            return Ok(Waited { left, late });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn still_ordered(
    spool: &Spool,
    act: Act,
    outcome: &Outcome,
) -> Result<BTreeMap<NodeId, BTreeMap<MessageId, QueueId>>, SpoolError> {
    let mut by_node: BTreeMap<NodeId, BTreeMap<MessageId, QueueId>> = BTreeMap::new();
    for (id, (node, queue_id)) in &outcome.at_nodes {
        by_node.entry(node.clone()).or_default().insert(*id, queue_id.clone());
    }
    for (node, files) in &mut by_node {
        let orders = spool.orders_of(node).await?;
        files.retain(|id, _| orders.get(id) == Some(&act));
    }
    by_node.retain(|_, files| !files.is_empty());
    Ok(by_node)
}

/// Whether one of these nodes has a Mail Agent.
async fn is_anybody_at_work<T>(
    spool: &Spool,
    nodes: &BTreeMap<NodeId, T>,
) -> Result<bool, SpoolError> {
    if nodes.is_empty() {
        return Ok(false);
    }
    let directory = spool.directory().await?;
    // A Mail Agent whose pickup-rs is away declares no capacity.
    let is_alive = |it: &&spool::Agent| it.lease_ends_ms > directory.now_ms && it.capacity > 0;
    let agents: BTreeSet<_> =
        directory.leases.iter().filter(is_alive).map(|it| it.agent.clone()).collect();
    Ok(nodes.keys().any(|node| agents.contains(&node.clone().into())))
}

/// Returns the messages that were sent before the order to delete them reached their node.
async fn late(
    spool: &Spool,
    act: Act,
    outcome: &Outcome,
    left: &BTreeMap<NodeId, BTreeMap<MessageId, QueueId>>,
) -> Result<BTreeSet<MessageId>, SpoolError> {
    let is_left = |id: &MessageId| left.values().any(|files| files.contains_key(id));
    let ended: Vec<MessageId> =
        outcome.at_nodes.keys().filter(|id| !is_left(id)).copied().collect();
    // Redis has neither a sent nor a deleted message, but remembers how a message ended.
    let nowhere: Vec<_> = ended.iter().map(|&id| (id, MessagePlace::Held)).collect();
    let is_late = match act {
        Act::Delete => spool.operate(Act::Delete, &nowhere).await?,
        Act::Hold | Act::Release | Act::Requeue => return Ok(BTreeSet::new()),
    };
    let late = ended.into_iter().zip(is_late).filter(|(_, it)| *it == Operated::Gone);
    Ok(late.map(|(id, _)| id).collect())
}

/// Counts all messages. Those that operators have deleted in the inbox don't count.
///
/// # Errors
///
/// Redis could not be asked. Nothing was changed.
pub(crate) async fn count(spool: &Spool) -> Result<u64, SpoolError> {
    let mut ids = BTreeSet::new();
    let mut listing = spool.listing_of_names();
    while let Some(page) = listing.next_page().await? {
        ids.extend(page.iter().filter(|it| !is_deleted(it)).map(|it| it.id));
    }
    Ok(ids.len() as u64)
}

fn is_deleted(it: &Listed) -> bool {
    it.place == MessagePlace::Inbox && it.order == Some(Act::Delete)
}

/// Looks at every message once, and acts on the selected ones that are not decided. Returns the
/// number of all messages.
async fn pass(
    spool: &Spool,
    act: Option<Act>,
    which: &Which,
    outcome: &mut Outcome,
    until_ms: u64,
) -> Result<u64, SpoolError> {
    let mut listing =
        if which.needs_envelopes() { spool.listing() } else { spool.listing_of_names() };
    let mut seen = BTreeSet::new();
    while let Some(page) = listing.next_page().await? {
        let page: Vec<Listed> = page.into_iter().filter(|it| !is_deleted(it)).collect();
        seen.extend(page.iter().map(|it| it.id));
        let is_open =
            |it: &Listed| !outcome.each.contains_key(&it.id) && it.id.unix_ms() <= until_ms;
        let meant: Vec<_> = page.into_iter().filter(|it| is_open(it) && which.is_of(it)).collect();
        decide(spool, act, meant, outcome).await?;
    }
    if act.is_none() {
        outcome.before = seen.len() as u64;
    }
    // A message that was settled meanwhile needs no decision.
    outcome.undecided.retain(|id| seen.contains(id) && !outcome.each.contains_key(id));
    Ok(seen.len() as u64)
}

async fn decide(
    spool: &Spool,
    act: Option<Act>,
    meant: Vec<Listed>,
    outcome: &mut Outcome,
) -> Result<(), SpoolError> {
    let messages: Vec<(MessageId, MessagePlace)> =
        meant.into_iter().map(|it| (it.id, it.place)).collect();
    let answers = match act {
        Some(act) => spool.operate(act, &messages).await?,
        None => vec![Operated::Moved; messages.len()],
    };
    for ((id, place), answer) in messages.into_iter().zip(answers) {
        if act.is_some() && answer == Operated::Moved {
            outcome.undecided.insert(id);
            continue;
        }
        outcome.each.insert(id, answer);
        if let MessagePlace::Committed(node, queue_id) = place {
            outcome.at_nodes.insert(id, (node, queue_id));
        }
    }
    Ok(())
}
