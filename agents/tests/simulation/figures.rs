//! The scenarios of the paper's figures, with its numbers, over the real machines. The rules of
//! supervision are in `agents/src/supervision.rs`, whose tests have figures 6, 7 and 11 as plans.

use agents::view::View;
use spool::{AgentId, AgentKind};

use crate::world::World;
use crate::{FOREVER, REST_MS, for_each_seed, submit};

/// Limit for agents to agree on who looks after whom: some leases.
const SETTLE_MS: u64 = 5_000;

/// Returns the number of Mail Agents of each Scheduler, in the order of their start; none while a
/// Mail Agent has no live Scheduler.
fn groups(view: &View) -> Option<Vec<usize>> {
    let alive = || view.nodes.iter().filter(|it| it.is_alive());
    let schedulers: Vec<_> =
        alive().map(|it| view.scheduler_of(&it.node)).collect::<Option<Vec<_>>>()?;
    let count = |name| schedulers.iter().filter(|it| **it == name).count();
    Some(view.schedulers.iter().map(count).collect())
}

/// Returns whether each live Mail Agent has a Scheduler, and these differ by one at most.
pub(crate) fn is_balanced(world: &World) -> bool {
    let groups = groups(&world.redis.see()).unwrap_or_else(|| vec![0, 9]);
    groups.iter().max().unwrap_or(&0) - groups.iter().min().unwrap_or(&0) <= 1
}

fn until_groups(world: &mut World, expected: &[usize]) {
    let limit = world.now_ms() + SETTLE_MS;
    let are_there = |world: &World| groups(&world.redis.see()).as_deref() == Some(expected);
    assert!(world.run_until(limit, are_there), "{expected:?}\n{}", world.describe());
    // Nothing goes on moving.
    let (moved, until) = (world.moved, world.now_ms() + SETTLE_MS);
    world.run_until(until, |_| false);
    assert_eq!(world.moved, moved, "{}", world.describe());
}

/// Starts Schedulers and then Mail Agents. Returns the Schedulers' numbers.
fn start(world: &mut World, schedulers: usize, agents: usize) -> Vec<usize> {
    let numbers = (0..schedulers)
        .map(|place| {
            let number = world.start(AgentKind::Scheduler, place);
            let until = world.now_ms() + 200;
            world.run_until(until, |_| false);
            number
        })
        .collect();
    for place in 0..agents {
        world.start(AgentKind::Mail, place);
        let until = world.now_ms() + 200;
        world.run_until(until, |_| false);
    }
    numbers
}

#[test]
fn figure_6_a_newborn_mail_agent_goes_to_the_scheduler_with_fewer() {
    for_each_seed(20, |seed| {
        let mut world = World::new(seed, 4, FOREVER);
        start(&mut world, 2, 3);
        until_groups(&mut world, &[2, 1]);
        world.start(AgentKind::Mail, 3);
        until_groups(&mut world, &[2, 2]);
        assert_eq!(world.moved, 4, "nobody moved");
    });
}

#[test]
fn figure_7_a_newborn_scheduler_gets_the_surplus_of_the_others() {
    for_each_seed(20, |seed| {
        let mut world = World::new(seed, 6, FOREVER);
        start(&mut world, 2, 6);
        until_groups(&mut world, &[3, 3]);
        world.start(AgentKind::Scheduler, 2);
        until_groups(&mut world, &[2, 2, 2]);
        assert_eq!(world.moved, 6 + 2);
    });
}

#[test]
fn figure_8_mail_waits_while_a_layer_is_absent() {
    for_each_seed(20, |seed| {
        let layers = [(AgentKind::Info, 0), (AgentKind::Scheduler, 0), (AgentKind::Mail, 0)];
        for absent in layers {
            let mut world = World::new(seed, 1, FOREVER);
            layers.iter().filter(|it| **it != absent).for_each(|it| _ = world.start(it.0, it.1));
            submit(&mut world, 10);
            world.run_until(2_000, |_| false);
            assert_eq!(world.deliveries().len(), 0, "{absent:?}");
            world.start(absent.0, absent.1);
            let limit = world.now_ms() + REST_MS;
            assert!(world.run_until(limit, World::is_at_rest), "{}", world.describe());
        }
    });
}

/// Checks figures 9 and 10: of three Info Agents the first one dies. The others have its numbers
/// and its lots.
#[test]
fn figure_9_info_agents_renumber_and_take_the_dead_one_s_lots() {
    for_each_seed(20, |seed| {
        let mut world = World::new(seed, 2, FOREVER);
        let infos: Vec<usize> = (0..3).map(|place| world.start(AgentKind::Info, place)).collect();
        start(&mut world, 1, 2);
        let order = |world: &World| -> Vec<AgentId> {
            world.redis.see().infos.into_iter().map(|it| it.agent).collect()
        };
        let before = order(&world);
        assert_eq!(before.len(), 3);
        let first = before[0].as_str().rsplit('-').next().and_then(|it| it.parse::<usize>().ok());
        world.kill(infos[first.expect("the place is in the name")]);
        submit(&mut world, 40);
        let limit = world.now_ms() + REST_MS;
        assert!(world.run_until(limit, World::is_at_rest), "{}", world.describe());
        assert_eq!(order(&world), before[1..]);
        assert!(world.deliveries().values().all(|times| *times == 1));
    });
}

#[test]
fn figure_11_the_agents_of_a_dead_scheduler_go_to_the_others() {
    for_each_seed(20, |seed| {
        let mut world = World::new(seed, 6, FOREVER);
        let schedulers = start(&mut world, 3, 6);
        until_groups(&mut world, &[2, 2, 2]);
        let moved = world.moved;
        world.kill(schedulers[1]);
        until_groups(&mut world, &[3, 3]);
        assert_eq!(world.moved, moved + 2, "only its agents moved");
    });
}

/// Checks the end of figure 13: when a Mail Agent has died, the Schedulers balance the rest.
#[test]
fn figure_13_the_death_of_mail_agents_is_balanced() {
    for_each_seed(20, |seed| {
        let mut world = World::new(seed, 5, FOREVER);
        let first = start(&mut world, 2, 0)[0];
        let agents: Vec<usize> = (0..5)
            .map(|place| {
                let number = world.start(AgentKind::Mail, place);
                let until = world.now_ms() + 200;
                world.run_until(until, |_| false);
                number
            })
            .collect();
        until_groups(&mut world, &[3, 2]);
        // The second Scheduler has the second and the fourth.
        for place in [1, 3] {
            world.kill(agents[place]);
        }
        until_groups(&mut world, &[2, 1]);
        assert!(world.is_alive(first) && world.moved == 5 + 1, "{}", world.moved);
    });
}
