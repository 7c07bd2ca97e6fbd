//! Nodes that hold their lease and can't work, and nodes that operators drain.

use super::world::World;
use super::{CHAOS_MS, Crew, FOREVER, chaos, everything_ends, expect_rest, for_each_seed, submit};

/// Checks frozen nodes, full disks, frozen queue managers and drained nodes, along with deaths.
#[test]
fn whatever_falls_sick_or_dies_every_message_is_delivered_once_and_everything_ends() {
    for_each_seed(200, |seed| {
        let mut world = World::new(seed, 2 + seed as usize % 2, FOREVER);
        world.has_sickness = true;
        chaos(seed, &mut world);
        for (id, times) in world.deliveries() {
            assert_eq!(times, 1, "{id} delivered {times} times\n{}", world.describe());
        }
    });
}

/// Sickness of a node.
#[derive(Debug, Clone, Copy)]
enum Sickness {
    Frozen,
    Full,
    ManagerFrozen,
    Drained,
}

impl Sickness {
    const ALL: [Self; 4] = [Self::Frozen, Self::Full, Self::ManagerFrozen, Self::Drained];

    fn befall(self, world: &mut World, place: usize) {
        world.note(&format!("{self:?} at {place}"));
        let postfix = &mut world.postfixes[place];
        match self {
            Self::Frozen => postfix.freeze(),
            Self::Full => postfix.is_full = true,
            Self::ManagerFrozen => postfix.is_manager_frozen = true,
            Self::Drained => _ = world.redis.spool.drain(&postfix.node),
        }
    }
}

/// Messages that no agent has taken from the node's lots.
fn pending(world: &World, place: usize) -> u64 {
    let node = &world.postfixes[place].node;
    let nodes = world.redis.spool.overview().nodes;
    nodes.iter().find(|it| it.node == *node).map_or(0, |it| it.pending)
}

/// Checks that the lots of a sick node go to the other one, that nothing new goes there, and that
/// the node gets mail again when it is well.
#[test]
fn a_sick_node_s_lots_move_while_another_is_well_and_it_serves_again_afterwards() {
    for_each_seed(100, |seed| {
        let mut world = World::new(seed, 2, FOREVER);
        let sickness = Sickness::ALL[seed as usize % 4];
        let crew = Crew::of(&mut world, 1, 1);
        world.run_until(500, |_| false);
        submit(&mut world, 40);
        let when = world.now_ms() + world.random.between(1, 200);
        world.run_until(when, |_| false);
        sickness.befall(&mut world, 0);
        // A queue manager is known to be stopped once it has got mail.
        world.run_until(CHAOS_MS + 2_000, |_| false);
        let is_moved = |world: &World| pending(world, 0) == 0;
        assert!(is_moved(&world), "{sickness:?}: lots stay\n{}", world.describe());
        let (released, ids) = (world.postfixes[0].all_released.len(), world.submitted.clone());
        submit(&mut world, 20);
        let new: Vec<_> = world.submitted.difference(&ids).copied().collect();
        let limit = world.now_ms() + CHAOS_MS + 20_000;
        let is_sent = |world: &World| {
            let fates = &world.postfixes[1].fates;
            let is_aside = |id| world.redis.spool.quarantined().contains(id);
            new.iter().all(|id| fates.iter().any(|(it, _)| it == id) || is_aside(id))
        };
        assert!(world.run_until(limit, is_sent), "{sickness:?}: waits\n{}", world.describe());
        assert_eq!(world.postfixes[0].all_released.len(), released, "{sickness:?}");
        world.heal(0);
        let limit = world.now_ms() + 2_000;
        world.run_until(limit, |_| false);
        submit(&mut world, 40);
        expect_rest(&mut world);
        assert!(world.postfixes[0].all_released.len() > released, "{sickness:?}: gets no mail");
        assert!(world.deliveries().values().all(|times| *times == 1));
        everything_ends(&mut world, &crew);
    });
}

/// Checks that mail waits in Redis, and agents ask no more than leases need.
#[test]
fn nobody_spins_while_all_nodes_are_sick() {
    for_each_seed(40, |seed| {
        let mut world = World::new(seed, 2, FOREVER);
        let _crew = Crew::of(&mut world, 1, 1);
        let sickness = Sickness::ALL[seed as usize % 4];
        (0..2).for_each(|place| sickness.befall(&mut world, place));
        submit(&mut world, 40);
        world.run_until(CHAOS_MS + 5_000, |_| false);
        assert_eq!(pending(&world, 0) + pending(&world, 1), 0, "{sickness:?}");
        let before = world.questions;
        let seconds = 20;
        let until = world.now_ms() + seconds * 1_000;
        world.run_until(until, |_| false);
        let each = (world.questions - before) as u64 / seconds;
        // Four agents renew a lease of 0.3 s ten times a second, and look then.
        assert!(each < 4 * 10 * 5, "{sickness:?}: {each} a second\n{}", world.describe());
        (0..2).for_each(|place| world.heal(place));
        expect_rest(&mut world);
        assert!(world.deliveries().values().all(|times| *times == 1));
    });
}
