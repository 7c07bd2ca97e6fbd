//! A message's whole life, by users with the least sufficient rights. Before every step Redis is
//! killed and started again, its functions are removed, or the connections are cut.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use spool::acl::{self, Proof};
use spool::sync::Submitter;
use spool::*;
use testbed::Redis;

struct World {
    redis: Redis,
    spool: Spool,
    submitter: Submitter,
    lot: Option<AssignedLot>,
}

impl World {
    fn new() -> Self {
        let proof = Proof::Password("secret");
        let users = [acl::agent("agent", proof, 0), acl::submitter("mail", proof, 0)];
        let redis = Redis::start_with(&[&users[0], &users[1]]).unwrap();
        let server = |user| {
            Server::parse(&redis.url()).unwrap().with_credentials(Some(user), Some("secret"))
        };
        let submitter = Submitter::new(server("mail"));
        Self { spool: Spool::new(server("agent")).at(NOW_MS), submitter, redis, lot: None }
    }

    fn submit_sync(&mut self, n: u32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.submitter.submit(&submission(id(n)), deadline).unwrap();
    }

    fn lot(&self) -> &AssignedLot {
        self.lot.as_ref().unwrap()
    }
}

/// Takes one step, whose outcome must be the same after any disturbance. Returns whether more steps
/// follow.
async fn step(world: &mut World, number: usize) -> bool {
    let a = node("a");
    match number {
        0 => world.submit_sync(1),
        1 => submit(&world.spool, id(2)).await,
        2 => world.submit_sync(2),
        3 => assert_eq!(world.spool.disown(id(3)).await.unwrap(), Disowned::Disowned),
        4 => world.submit_sync(3),
        5 => {
            let cut = world.spool.cut(LotNumber(1), 9, Some(&a)).await.unwrap();
            assert_eq!(cut, Cut::Cut { messages: 2, left: 0 });
        }
        6 => assert_eq!(world.spool.reassign(&a).await.unwrap(), 1),
        7 => assert_eq!(assign(&world.spool, LotNumber(1), &a).await, Assigned::Assigned(Epoch(2))),
        8 => world.lot = world.spool.fetch(&token(&a)).await.unwrap().pop(),
        9 => assert!(world.spool.get(&world.lot().ids).await.unwrap().iter().all(Result::is_ok)),
        10 => {
            let commits = [commit_of(world.lot(), 1)];
            assert_eq!(
                world.spool.commit(&token(&a), &commits).await.unwrap(),
                [Committed::Committed]
            );
        }
        11 => {
            let tenure = (world.lot().lot, world.lot().epoch);
            assert_eq!(
                world.spool.refuse(&token(&a), id(2), tenure, "why").await.unwrap(),
                Refused::Refused
            );
        }
        12 => {
            let later = Deferral { queue_id: queue_id(1), id: id(1), rest: Rest::Until(5) };
            assert_eq!(
                world.spool.defer(&token(&a), &[later]).await.unwrap(),
                [Deferred::Deferred]
            );
        }
        13 => assert_eq!(world.spool.inventory(&a).await.unwrap(), [placed(1)]),
        14 => assert_eq!(world.spool.overview(5).await.unwrap().nodes[0].deferred, 1),
        15 => assert_eq!(
            world.spool.settle(&token(&a), &[placed(1)]).await.unwrap(),
            [Settled::Settled]
        ),
        16 => assert!(!comes_in(&world.spool, id(1)).await),
        17 => assert_eq!(world.spool.lose(&a, Duration::ZERO, false).await.unwrap(), resent(0)),
        18 => assert_eq!(world.spool.quarantined(5).await.unwrap()[0].id, id(2)),
        19 => {
            assert_eq!(world.spool.drop_quarantined(&[id(2)]).await.unwrap(), [Dropped::Dropped]);
        }
        20 => {
            assert_eq!(world.spool.retry_quarantined(&[id(2)]).await.unwrap(), [Retried::Settled]);
        }
        21 => assert_eq!(world.spool.counts().await.unwrap()["settled"], 1),
        22 => assert_eq!(world.spool.counts().await.unwrap()["submitted"], 2),
        _ => return false,
    }
    true
}

async fn live(disturb: impl Fn(&mut Redis)) {
    let mut before = 0;
    loop {
        let mut world = World::new();
        let mut number = 0;
        loop {
            if number == before {
                disturb(&mut world.redis);
            }
            if !step(&mut world, number).await {
                break;
            }
            number += 1;
        }
        if before == number {
            return;
        }
        before += 1;
    }
}

#[tokio::test]
async fn redis_is_killed_and_started_again_before_each_step() {
    live(|redis| redis.restart().unwrap()).await;
}

#[tokio::test]
async fn the_functions_vanish_before_each_step() {
    live(|redis| drop(redis.cli(&["FUNCTION", "FLUSH"]).unwrap())).await;
}

#[tokio::test]
async fn the_connections_are_cut_before_each_step() {
    live(|redis| drop(redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap()))
        .await;
}
