//! The directory of agents, with their leases.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Model;
use crate::{
    Agent, AgentId, AgentKind, Directory, Drained, Generation, Left, NodeId, Registered,
    Registration, Renewed, Start, Supervised, Supervision, Suspected, Unfit,
};

/// Time without a reap after which the Schedulers count as away, milliseconds.
const WATCH_MS: u64 = 60_000;
/// Time for which an ended Mail Agent stays listed, milliseconds.
const GONE_MS: u64 = 30 * 24 * 3600 * 1000;

/// An agent, alive or not.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    kind: AgentKind,
    generation: Generation,
    start: Start,
    name: String,
    capacity: u32,
    address: String,
    taken: u64,
    scheduler: Option<AgentId>,
    unfit: Option<(Unfit, u64)>,
}

impl Model {
    /// Models `Spool::register`.
    pub fn register(&mut self, registration: &Registration) -> Registered {
        let Registration { agent, kind, generation, lease, name, capacity, address, unfit } =
            registration;
        let before = self.agents.get(agent).map(|it| (it.generation, it.start));
        let outcome = match before {
            Some((same, start)) if same == *generation => Registered::Already(start),
            Some((later, _)) if self.is_alive(agent) && later > *generation => {
                return Registered::Superseded;
            }
            _ if self.is_alive(agent) => Registered::Replaced(self.next_start()),
            _ => Registered::New(self.next_start()),
        };
        let (Registered::Already(start) | Registered::Replaced(start) | Registered::New(start)) =
            outcome
        else {
            return outcome;
        };
        let takes = !self.is_alive(agent) || !matches!(outcome, Registered::Already(_));
        let taken = self.agents.get(agent).map_or(0, |it| it.taken) + u64::from(takes);
        let (kind, generation, name, capacity) = (*kind, *generation, name.clone(), *capacity);
        let address = address.clone().unwrap_or_default();
        let scheduler = self.agents.get(agent).and_then(|it| it.scheduler.clone());
        let before = self.agents.get(agent).and_then(|it| it.unfit);
        let unfit = unfit.map(|cause| match before {
            Some((same, since_ms)) if same == cause => (cause, since_ms),
            Some(_) | None => (cause, self.now_ms),
        });
        let entry =
            Entry { kind, generation, start, name, capacity, address, taken, scheduler, unfit };
        self.agents.insert(agent.clone(), entry);
        self.leases.insert(agent.clone(), self.now_ms + milliseconds(*lease));
        self.gone.remove(agent);
        outcome
    }

    fn is_alive(&self, agent: &AgentId) -> bool {
        self.leases.get(agent).is_some_and(|ends_ms| *ends_ms > self.now_ms)
    }

    fn next_start(&mut self) -> Start {
        self.starts = (self.starts + 1).max(self.now_ms);
        Start(self.starts)
    }

    /// Models `Spool::renew`.
    pub fn renew(&mut self, agent: &AgentId, generation: Generation, lease: Duration) -> Renewed {
        match self.agents.get(agent) {
            Some(it) if it.generation != generation => Renewed::Superseded,
            Some(_) if self.is_alive(agent) => {
                self.leases.insert(agent.clone(), self.now_ms + milliseconds(lease));
                Renewed::Renewed
            }
            Some(_) | None => Renewed::Lapsed,
        }
    }

    /// Models `Spool::leave`.
    pub fn leave(&mut self, agent: &AgentId, generation: Generation) -> Left {
        match self.agents.get(agent) {
            Some(it) if it.generation != generation => Left::Superseded,
            Some(_) if self.leases.contains_key(agent) => {
                self.end_lease(agent, self.now_ms);
                Left::Left
            }
            Some(_) | None => Left::Already,
        }
    }

    /// Models `Spool::suspect`.
    pub fn suspect(&mut self, agent: &AgentId, start: Start, taken: u64) -> Suspected {
        match self.agents.get(agent) {
            Some(it) if it.start == start && it.taken == taken && self.is_alive(agent) => {
                self.end_lease(agent, self.now_ms);
                Suspected::Ended
            }
            Some(_) | None => Suspected::Already,
        }
    }

    /// Models `Spool::supervise`.
    pub fn supervise(&mut self, changes: &[Supervision]) -> Vec<Supervised> {
        changes.iter().map(|it| self.supervise_one(it)).collect()
    }

    fn supervise_one(&mut self, change: &Supervision) -> Supervised {
        let is_alive = self.is_alive(&change.to);
        match self.agents.get_mut(&change.agent) {
            Some(it) if it.start != change.start || !is_alive => Supervised::Moved,
            Some(it) if it.scheduler.as_ref() == Some(&change.to) => Supervised::Already,
            Some(it) if it.scheduler == change.from => {
                it.scheduler = Some(change.to.clone());
                Supervised::Supervised
            }
            Some(_) | None => Supervised::Moved,
        }
    }

    fn end_lease(&mut self, agent: &AgentId, ended_ms: u64) {
        self.leases.remove(agent);
        if self.agents.get(agent).is_some_and(|it| it.kind == AgentKind::Mail) {
            self.gone.insert(agent.clone(), ended_ms);
        } else {
            self.agents.remove(agent);
        }
    }

    /// Models `Spool::reap`.
    pub fn reap(&mut self) -> Vec<AgentId> {
        let now_ms = self.now_ms;
        if now_ms.saturating_sub(self.watched_ms) > WATCH_MS {
            self.watching_since_ms = now_ms;
        }
        self.watched_ms = now_ms;
        let ended: Vec<(AgentId, u64)> =
            in_order(&self.leases).into_iter().filter(|(_, ends_ms)| *ends_ms <= now_ms).collect();
        for (agent, ended_ms) in &ended {
            self.end_lease(agent, *ended_ms);
        }
        let (gone, agents) = (&mut self.gone, &mut self.agents);
        gone.retain(|agent, ended_ms| {
            let is_kept = *ended_ms > now_ms.saturating_sub(GONE_MS);
            if !is_kept {
                agents.remove(agent);
            }
            is_kept
        });
        ended.into_iter().map(|(agent, _)| agent).collect()
    }

    /// Models `Spool::directory`.
    pub fn directory(&self) -> Directory {
        let describe = |ends: &BTreeMap<AgentId, u64>| {
            in_order(ends).into_iter().filter_map(|(agent, ms)| self.describe(agent, ms)).collect()
        };
        Directory {
            now_ms: self.now_ms,
            watching_since_ms: self.watching_since_ms,
            leases: describe(&self.leases),
            gone: describe(&self.gone),
            drained: self.drained.clone(),
        }
    }

    /// Models `Spool::drain`.
    pub fn drain(&mut self, node: &NodeId) -> Drained {
        if self.drained.contains_key(node) {
            return Drained::Already;
        }
        self.drained.insert(node.clone(), self.now_ms);
        Drained::Done
    }

    /// Models `Spool::undrain`.
    pub fn undrain(&mut self, node: &NodeId) -> Drained {
        match self.drained.remove(node) {
            Some(_) => Drained::Done,
            None => Drained::Already,
        }
    }

    fn describe(&self, agent: AgentId, lease_ends_ms: u64) -> Option<Agent> {
        let Entry { kind, generation, start, name, capacity, address, taken, scheduler, unfit } =
            self.agents.get(&agent)?.clone();
        Some(Agent {
            agent,
            lease_ends_ms,
            kind,
            generation,
            start,
            name,
            capacity,
            address,
            taken,
            scheduler,
            unfit,
        })
    }
}

/// Returns agents by the ends of their leases, and by name where these are equal.
fn in_order(ends: &BTreeMap<AgentId, u64>) -> Vec<(AgentId, u64)> {
    let mut list: Vec<_> = ends.iter().map(|(agent, ms)| (agent.clone(), *ms)).collect();
    list.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    list
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
