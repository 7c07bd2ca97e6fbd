//! The platform's health, in the terms of monitoring plugins: OK, WARNING, CRITICAL or UNKNOWN,
//! each with its exit status. Pure: a judgement of a [`Status`] by thresholds.
//!
//! - OK, 0: none of the following.
//! - WARNING, 1: mail waits or is quarantined beyond the first threshold; a node is gone with mail;
//!   fewer Mail Agents live than `status.mail_agents`; a submission is in doubt; a node is suspect.
//! - CRITICAL, 2: Redis can't be used; no agent of a kind lives; no node can take mail; a second
//!   threshold is passed.
//! - UNKNOWN, 3: the configuration can't be read, or Redis has functions of a version that can't be
//!   asked.
//!
//! A copy of a queue directory that is refused is a WARNING, and CRITICAL on its own host. A pause
//! in which pickup-rs feeds nothing is a WARNING, and CRITICAL from [`PAUSE_CRITICAL_S`] on.
//!
//! Source: Monitoring Plugins Development Guidelines, "Plugin Output" and "Plugin Return Codes".

use std::fmt;

use handoff::protocol::Pause;
use serde::{Deserialize, Serialize};
use settings::Thresholds;
use spool::{AgentKind, Unfit};

use crate::{NodeCopy, NodeState, Queue, Status};

/// Age from which a pause of feeding is critical, in seconds. A disk that is full for a moment, or
/// a Redis that is started again, takes less.
const PAUSE_CRITICAL_S: u64 = 10;

/// A plugin's state, from the best to the worst that it can report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// An operator has nothing to do.
    Ok,
    /// An operator should look.
    Warning,
    /// The health can't be determined.
    Unknown,
    /// Mail doesn't flow, or a second threshold is passed.
    Critical,
}

impl PluginState {
    /// Returns a plugin's exit status.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

impl fmt::Display for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// A judgement. Displayed as a plugin's first line, without performance data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The worst state that was found.
    pub state: PluginState,
    /// Findings, the worst first.
    pub reasons: Vec<String>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OPTIMUS {}: {}", self.state, self.reasons.join("; "))
    }
}

impl Health {
    /// Makes a judgement of one finding.
    pub fn of(state: PluginState, reason: impl Into<String>) -> Self {
        Self { state, reasons: vec![reason.into()] }
    }

    /// Adds a finding.
    pub fn and(mut self, state: PluginState, reason: impl Into<String>) -> Self {
        let at = if state > self.state { 0 } else { self.reasons.len() };
        if self.state == PluginState::Ok {
            self.reasons.clear();
        }
        self.reasons.insert(at.min(self.reasons.len()), reason.into());
        self.state = self.state.max(state);
        self
    }

    /// Adds the findings of this host's maildrop.
    pub fn and_maildrop(self, queue: &Queue) -> Self {
        maildrop(queue).into_iter().fold(self, |health, (state, reason)| health.and(state, reason))
    }

    /// Judges a whole state of the platform by these thresholds.
    pub fn judge(status: &Status, thresholds: &Thresholds) -> Self {
        let mut found: Vec<(PluginState, String)> =
            [agents(status, thresholds), nodes(status), mail(status, thresholds)].concat();
        found.extend(status.mismatch.iter().map(|why| (PluginState::Critical, why.clone())));
        found.extend(status.queue.waits.iter().map(|why| (PluginState::Warning, why.clone())));
        found.extend(pause(&status.queue));
        found.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        let well = format!("{} waiting, {} deferred", status.backlog, status.deferred.total);
        let state = found.first().map_or(PluginState::Ok, |(state, _)| *state);
        let reasons: Vec<String> = found.into_iter().map(|(_, reason)| reason).collect();
        Self { state, reasons: if reasons.is_empty() { vec![well] } else { reasons } }
    }
}

type Judgements = Vec<(PluginState, String)>;

/// Returns words for a cause for which a node takes no mail, and the remedy.
pub fn remedy(cause: Unfit) -> &'static str {
    match cause {
        Unfit::Drained => "drained by an operator; `optimus undrain` ends that",
        Unfit::Away => "pickup-rs can't be reached, or serves nothing; check that Postfix runs",
        Unfit::Silent => "pickup-rs does not answer; see whether its Postfix is stopped or hangs",
        Unfit::Room => "cleanup can't write; make room on the disk of its queue",
        Unfit::Cleanup => "cleanup does not answer; see to that Postfix and its log",
        Unfit::Manager => "the queue manager does not answer; see to that Postfix and its log",
        Unfit::Other => "its Mail Agent, of a later version, says so; see that Mail Agent's log",
    }
}

/// Judges a pause of feeding on this host, unless another finding gives the same reason.
fn pause(queue: &Queue) -> Option<(PluginState, String)> {
    let Pause { reason, for_s, .. } = queue.pause.as_ref()?;
    if queue.trouble.is_some() || queue.waits.is_some() {
        return None;
    }
    let state =
        if *for_s >= PAUSE_CRITICAL_S { PluginState::Critical } else { PluginState::Warning };
    Some((state, format!("{reason} (for {for_s} s)")))
}

fn alive(status: &Status, kind: AgentKind) -> usize {
    status.agents.iter().filter(|it| it.kind == kind && it.number.is_some()).count()
}

fn agents(status: &Status, thresholds: &Thresholds) -> Judgements {
    let kinds = [AgentKind::Info, AgentKind::Scheduler, AgentKind::Mail];
    let missing = kinds.into_iter().filter(|kind| alive(status, *kind) == 0);
    let mut found: Judgements =
        missing.map(|kind| (PluginState::Critical, format!("no {kind} agent is alive"))).collect();
    let mails = alive(status, AgentKind::Mail);
    if mails > 0 && mails < thresholds.mail_agents {
        let least = thresholds.mail_agents;
        found.push((PluginState::Warning, format!("{mails} mail agents are alive, not {least}")));
    }
    found
}

fn nodes(status: &Status) -> Judgements {
    let living = || status.nodes.iter().filter(|it| it.window.is_some());
    let is_stuck = living().next().is_some() && living().all(|it| it.window == Some(0));
    let state = if is_stuck { PluginState::Critical } else { PluginState::Warning };
    let suspect = status.nodes.iter().filter(|it| it.state == NodeState::Suspect);
    let mut found: Judgements = suspect
        .map(|it| {
            let cause = it.cause.unwrap_or(Unfit::Other);
            let age_s = it.since_ms.map_or(0, |ms| status.now_ms.saturating_sub(ms) / 1000);
            (state, format!("node {} is suspect: {} (for {age_s} s)", it.node, remedy(cause)))
        })
        .collect();
    if is_stuck && living().any(|it| it.state == NodeState::Draining) {
        found.push((PluginState::Critical, "no node takes mail, and nodes are drained".to_owned()));
    }
    let gone =
        status.nodes.iter().filter(|it| it.window.is_none() && it.pending + it.committed > 0);
    found.extend(gone.map(|it| {
        let messages = it.pending + it.committed;
        (PluginState::Warning, format!("node {} is gone with {messages} messages", it.node))
    }));
    found.extend(status.copies.iter().map(|NodeCopy { node, host, served_by }| {
        let remedy = "there, stop Postfix; or delete the copied mail with `postsuper -d -`; or \
            have that mail sent twice with `optimus node new --even-with-mail`";
        let text = format!(
            "{host}: not served: a copy of node {node}, which is served by {served_by}; {remedy}"
        );
        (PluginState::Warning, text)
    }));
    found
}

fn mail(status: &Status, thresholds: &Thresholds) -> Judgements {
    let mut found = Judgements::new();
    let mut beyond = |value: u64, warning: u64, critical: u64, text: String| {
        let state = match value {
            _ if critical > 0 && value >= critical => PluginState::Critical,
            _ if warning > 0 && value >= warning => PluginState::Warning,
            _ => return,
        };
        found.push((state, text));
    };
    let (oldest_s, aside) = (status.oldest_waiting_s.unwrap_or(0), quarantined(status));
    let Thresholds { oldest_warning_s, oldest_critical_s, .. } = *thresholds;
    beyond(
        oldest_s,
        oldest_warning_s,
        oldest_critical_s,
        format!("mail has waited for {oldest_s} s"),
    );
    let Thresholds { quarantine_warning, quarantine_critical, .. } = *thresholds;
    beyond(
        aside,
        quarantine_warning,
        quarantine_critical,
        format!("{aside} messages are in quarantine"),
    );
    let age_s = |since_ms: Option<u64>| {
        since_ms.map_or(0, |since_ms| status.now_ms.saturating_sub(since_ms) / 1000)
    };
    let (ordered, ordered_s) = (status.standing.ordered, age_s(status.standing.ordered_since_ms));
    let text = format!("{ordered} orders have waited in the inbox for {ordered_s} s");
    beyond(ordered_s, oldest_warning_s, oldest_critical_s, text);
    for it in &status.standing.at_nodes {
        let age_s = age_s(it.since_ms);
        let text = format!("{} orders have waited for node {} for {age_s} s", it.orders, it.node);
        beyond(age_s, oldest_warning_s, oldest_critical_s, text);
    }
    found.extend(maildrop(&status.queue));
    found
}

/// Judges this host's maildrop, which can be read without Redis, too.
fn maildrop(queue: &Queue) -> Judgements {
    let Queue { in_doubt, stranded, .. } = *queue;
    let found = [
        (in_doubt, format!("{in_doubt} submissions are in doubt")),
        (stranded, format!("{stranded} messages lie in a maildrop that no pickup service reads")),
    ];
    let found = found.into_iter().filter(|(count, _)| *count > 0);
    found.map(|(_, text)| (PluginState::Warning, text)).collect()
}

/// Counts quarantined messages, and malformed entries of the inbox.
fn quarantined(status: &Status) -> u64 {
    status.quarantine_total + status.lots.inbox.malformed
}

/// Returns performance data in the format of plugins: `name=value[unit];warning;critical;minimum`.
pub fn performance(status: &Status, thresholds: &Thresholds) -> String {
    let Thresholds {
        oldest_warning_s,
        oldest_critical_s,
        quarantine_warning,
        quarantine_critical,
        ..
    } = *thresholds;
    format!(
        "waiting={};;;0 oldest={}s;{oldest_warning_s};{oldest_critical_s};0 deferred={};;;0 \
         quarantined={};{quarantine_warning};{quarantine_critical};0 mail_agents={};;;0",
        status.backlog,
        status.oldest_waiting_s.unwrap_or(0),
        status.deferred.total,
        quarantined(status),
        alive(status, AgentKind::Mail)
    )
}

#[cfg(test)]
mod tests {
    use handoff::protocol::PauseCause;

    use super::*;

    #[test]
    fn each_state_has_the_exit_status_of_a_plugin() {
        let states =
            [PluginState::Ok, PluginState::Warning, PluginState::Critical, PluginState::Unknown];
        assert_eq!(states.map(PluginState::exit_status), [0, 1, 2, 3]);
    }

    /// Checks that a monitor sees each kind of pause, and that a long pause is critical.
    #[test]
    fn each_pause_of_feeding_is_told_with_its_age_and_fails() {
        for cause in PauseCause::ALL {
            for (for_s, expected) in [(0, PluginState::Warning), (10, PluginState::Critical)] {
                let it = Pause { cause, reason: "x: nothing is fed".to_owned(), for_s };
                let queue = Queue { pause: Some(it), ..Queue::default() };
                let (state, words) = pause(&queue).unwrap();
                assert_eq!((state, state.exit_status() > 0), (expected, true), "{cause:?}");
                assert_eq!(words, format!("x: nothing is fed (for {for_s} s)"));
                let told = Queue { trouble: Some("x".to_owned()), ..queue };
                assert_eq!(pause(&told), None, "it is told once");
            }
        }
        assert_eq!(pause(&Queue::default()), None);
    }

    #[test]
    fn the_worst_finding_is_named_first_and_decides_the_state() {
        let health = Health::of(PluginState::Ok, "0 waiting")
            .and(PluginState::Warning, "a")
            .and(PluginState::Critical, "b");
        assert_eq!(health.to_string(), "OPTIMUS CRITICAL: b; a");
        assert_eq!(health.and(PluginState::Warning, "c").to_string(), "OPTIMUS CRITICAL: b; a; c");
    }
}
