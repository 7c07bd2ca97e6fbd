//! Supervision: which Scheduler looks after which Mail Agent.
//!
//! The directory has each Mail Agent's Scheduler. So all agents see the same assignment, it
//! outlives every process, and only what must move does. The rule is the paper's (section III.C):
//!
//! - *Birth of a Mail Agent.* Its notice greets all Schedulers. One accepts that has fewer agents
//!   than the largest number for each, which is agents / Schedulers, rounded up. When all have
//!   equally many, that is any. The directory takes the first acceptance, and no second one.
//! - *Birth of a Scheduler.* Each gives up what it has above the new largest number, and never more
//!   than the newcomer lacks.
//! - *Death of a Scheduler.* Its Mail Agents are as if just born. All others stay where they are.
//! - *Death of a Mail Agent.* Where two Schedulers differ by more than one then, one gives.
//!
//! Every Scheduler makes the same plan of the same view. It carries out its own part: it accepts
//! agents that have no live Scheduler, and gives away its surplus. With different views for a
//! moment, the directory decides, and the next look corrects the rest.
//!
//! A Mail Agent works on without any Scheduler. It hears of its lots by the notices of those who
//! assign them, and finds them at each renewal of its lease. Only its death goes unnoticed until
//! its lease ends, unless another Scheduler probes it: agents without a live Scheduler are probed
//! by all.
//!
//! The paper's messages differ: a Mail Agent asks all Schedulers and chooses the first that
//! accepts. Here Redis chooses, so that no agent has two Schedulers or none after a lost message.

use std::cmp::Reverse;

use spool::{AgentId, Supervision};

use crate::view::{Node, View};

/// Plans all changes that balance the supervision, with the fewest moves.
pub(crate) fn plan(view: &View) -> Vec<Supervision> {
    let mut groups: Vec<Group<'_>> =
        view.schedulers.iter().map(|it| Group { scheduler: it, agents: Vec::new() }).collect();
    let mut free = Vec::new();
    for node in view.nodes.iter().filter(|node| node.is_alive()) {
        let scheduler = view.scheduler_of(&node.node);
        match groups.iter_mut().find(|group| Some(group.scheduler) == scheduler) {
            Some(group) => group.agents.push(node),
            None => free.push(node),
        }
    }
    let quotas = quotas(&groups, free.len());
    for (group, quota) in groups.iter_mut().zip(&quotas) {
        free.extend(group.agents.drain((*quota).min(group.agents.len())..));
    }
    free.into_iter().filter_map(|node| accepted(&mut groups, &quotas, node)).collect()
}

/// Returns the part of a plan that a Scheduler carries out: it accepts agents without a live
/// Scheduler, and gives its own away.
pub(crate) fn part_of(view: &View, me: &AgentId) -> Vec<Supervision> {
    let is_mine = |change: &Supervision| {
        let scheduler = view.scheduler_of(&change.agent.clone().into());
        *scheduler.unwrap_or(&change.to) == *me
    };
    plan(view).into_iter().filter(is_mine).collect()
}

/// A Scheduler with its Mail Agents.
struct Group<'a> {
    scheduler: &'a AgentId,
    agents: Vec<&'a Node>,
}

/// Returns the number of agents that each Scheduler should have. Those that have most now have the
/// larger number, so that fewest move.
fn quotas(groups: &[Group<'_>], free: usize) -> Vec<usize> {
    let all = free + groups.iter().map(|group| group.agents.len()).sum::<usize>();
    let (Some(least), Some(larger)) =
        (all.checked_div(groups.len()), all.checked_rem(groups.len()))
    else {
        return Vec::new();
    };
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|at| Reverse(groups[*at].agents.len()));
    let mut quotas = vec![least; groups.len()];
    order.into_iter().take(larger).for_each(|at| quotas[at] += 1);
    quotas
}

/// Gives an agent to the Scheduler with fewest, of those below their quota.
fn accepted<'a>(groups: &mut [Group<'a>], quotas: &[usize], node: &'a Node) -> Option<Supervision> {
    let is_below = |(group, quota): &(&mut Group<'_>, &usize)| group.agents.len() < **quota;
    let (group, _) = groups
        .iter_mut()
        .zip(quotas)
        .filter(is_below)
        .min_by_key(|(group, _)| group.agents.len())?;
    group.agents.push(node);
    Some(Supervision {
        agent: node.node.clone().into(),
        start: node.start?,
        from: node.scheduler.clone(),
        to: group.scheduler.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::MailAgentState;
    use spool::Start;
    use std::time::Duration;

    /// Returns a view in which Mail Agents have these Schedulers, of which these live.
    fn view(schedulers: &[&str], agents: &[(&str, &str)]) -> View {
        let node = |(name, scheduler): &(&str, &str)| Node {
            agent: MailAgentState::Alive { capacity: 1, lease_left: Duration::from_secs(1) },
            start: Some(Start(1)),
            scheduler: scheduler.parse().ok(),
            ..Node::idle(name.parse().unwrap())
        };
        let schedulers = schedulers.iter().map(|it| it.parse().unwrap()).collect();
        View { schedulers, nodes: agents.iter().map(node).collect(), ..View::default() }
    }

    /// Returns a plan as pairs of agent and Scheduler.
    fn planned(schedulers: &[&str], agents: &[(&str, &str)]) -> Vec<(String, String)> {
        let changes = plan(&view(schedulers, agents));
        changes.iter().map(|it| (it.agent.to_string(), it.to.to_string())).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    /// The paper's figure 6: with two Schedulers and three Mail Agents, the fourth is born.
    #[test]
    fn figure_6_the_scheduler_with_fewer_agents_accepts_a_newborn() {
        let agents = [("m1", "s1"), ("m2", "s1"), ("m3", "s2"), ("m4", "")];
        assert_eq!(planned(&["s1", "s2"], &agents), pairs(&[("m4", "s2")]));
    }

    /// The paper's figure 7: of two Schedulers with three Mail Agents each, a third is born.
    #[test]
    fn figure_7_each_scheduler_gives_its_surplus_to_a_newborn() {
        let agents =
            [("m1", "s1"), ("m2", "s1"), ("m3", "s1"), ("m4", "s2"), ("m5", "s2"), ("m6", "s2")];
        let all = ["s1", "s2", "s3"];
        assert_eq!(planned(&all, &agents), pairs(&[("m3", "s3"), ("m6", "s3")]));
        let view = view(&all, &agents);
        let part = |name: &str| part_of(&view, &name.parse().unwrap()).len();
        assert_eq!(["s1", "s2", "s3"].map(part), [1, 1, 0]);
    }

    /// The paper's figure 11: the second of three Schedulers fails.
    #[test]
    fn figure_11_only_the_agents_of_a_dead_scheduler_move() {
        let agents =
            [("m1", "s1"), ("m2", "s1"), ("m3", "s2"), ("m4", "s2"), ("m5", "s3"), ("m6", "s3")];
        let planned = planned(&["s1", "s3"], &agents);
        assert_eq!(planned, pairs(&[("m3", "s1"), ("m4", "s3")]));
    }

    #[test]
    fn without_a_scheduler_nothing_is_planned() {
        assert_eq!(planned(&[], &[("m1", "s1")]), pairs(&[]));
    }

    /// Checks every assignment of up to seven agents to up to three Schedulers and a dead one.
    #[test]
    fn every_plan_balances_to_within_one_and_moves_as_few_as_that_needs() {
        for (count, places) in (0..=7_u32).flat_map(|n| (1..=3_u32).map(move |s| (n, s))) {
            let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
            let all = ["s0", "s1", "s2", "dead"];
            let live = &all[..places as usize];
            let choices = places + 1;
            for code in 0..choices.pow(count) {
                let at = |n: u32| (code / choices.pow(n) % choices) as usize;
                let name = |at: usize| if at == places as usize { "dead" } else { all[at] };
                let agents: Vec<(&str, &str)> =
                    (0..count).map(|n| (names[n as usize].as_str(), name(at(n)))).collect();
                let view = view(live, &agents);
                check(&view, &plan(&view));
            }
        }
    }

    fn check(view: &View, plan: &[Supervision]) {
        let mut after = view.clone();
        for change in plan {
            let is_it = |it: &&mut Node| change.agent == it.node.clone().into();
            let node = after.nodes.iter_mut().find(is_it).unwrap();
            assert_eq!(node.scheduler, change.from);
            assert_ne!(node.scheduler.as_ref(), Some(&change.to));
            node.scheduler = Some(change.to.clone());
        }
        let counts = |view: &View| -> Vec<usize> {
            let count = |it: &AgentId| {
                view.nodes.iter().filter(|node| view.scheduler_of(&node.node) == Some(it)).count()
            };
            view.schedulers.iter().map(count).collect()
        };
        let (before, now) = (counts(view), counts(&after));
        assert_eq!(now.iter().sum::<usize>(), view.nodes.len(), "each has a Scheduler: {now:?}");
        assert!(now.iter().max().unwrap() - now.iter().min().unwrap() <= 1, "{now:?}");
        // Each Scheduler keeps at most the larger number of those who stay; so many keep it.
        let (least, larger) = (view.nodes.len() / now.len(), view.nodes.len() % now.len());
        let above = before.iter().filter(|it| **it > least).count();
        let stay: usize =
            before.iter().map(|it| (*it).min(least)).sum::<usize>() + above.min(larger);
        assert_eq!(plan.len(), view.nodes.len() - stay, "{before:?}, {now:?}");
        assert_eq!(super::plan(&after), [], "a balanced platform stays");
    }
}
