//! Which of all copies of a node's queue directory is the node.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use common::{node, spool};
use spool::{Arrived, Attendance, Attended, CommitNumber, Incarnation, Seat, Spool, Start};
use testbed::Redis;

const LIVE: Duration = Duration::from_millis(10_000);

/// A queue directory, as far as Redis cares.
#[derive(Debug, Clone, Copy)]
struct Disk {
    last: u128,
    nonce: u128,
    mark: u64,
    place: &'static str,
    host: &'static str,
}

impl Disk {
    const NEW: Self = Self { last: 0, nonce: 1, mark: 0, place: "here", host: "a" };

    /// With a new nonce.
    fn turned(self, nonce: u128) -> Self {
        Self { last: self.nonce, nonce, ..self }
    }

    async fn attend(self, spool: &Spool, generation: u64) -> Attended {
        let nonce = |n| Incarnation::from_parts(1, n);
        let attendance = Attendance {
            generation,
            last: nonce(self.last),
            nonce: nonce(self.nonce),
            mark: CommitNumber(self.mark),
            place: self.place,
            host: self.host,
            live: LIVE,
        };
        spool.attend(&node("n"), &attendance).await.unwrap()
    }
}

fn here(generation: u64) -> Attended {
    Attended::Here { generation, floor: CommitNumber(0) }
}

#[tokio::test]
async fn a_copy_is_refused_while_the_original_attends_and_after_it_has_moved_on() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(1_000 + 10_000));
    let original = Disk::NEW;
    assert_eq!(original.attend(&now, 0).await, here(1));
    assert_eq!(original.attend(&now, 1).await, here(1), "the same pair again");
    let copy = Disk { place: "there", host: "b", ..original };
    assert_eq!(copy.attend(&now, 0).await, Attended::Occupied("a".into()));
    assert_eq!(original.turned(2).attend(&now, 1).await, here(1));
    assert_eq!(copy.turned(3).attend(&later, 0).await, Attended::Elsewhere("a".into()));
    assert_eq!(original.turned(2).turned(4).attend(&later, 1).await, here(1), "nothing has changed");
}

#[tokio::test]
async fn a_directory_may_move_and_the_original_that_comes_back_is_refused() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later, last) = (spool.at(1_000), spool.at(11_000), spool.at(31_000));
    let original = Disk::NEW;
    assert_eq!(original.attend(&now, 0).await, here(1));
    let moved = Disk { place: "there", host: "b", ..original };
    assert_eq!(moved.attend(&later, 0).await, here(2));
    assert_eq!(moved.turned(2).attend(&later, 2).await, here(2));
    assert_eq!(original.attend(&later, 1).await, Attended::Superseded);
    assert_eq!(original.attend(&later, 0).await, Attended::Occupied("b".into()));
    assert_eq!(original.attend(&last, 0).await, Attended::Elsewhere("b".into()));
}

#[tokio::test]
async fn an_old_nonce_from_the_same_host_is_a_disk_that_was_put_back() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis).at(1_000);
    let kept = Disk { mark: 7, ..Disk::NEW };
    assert_eq!(kept.attend(&spool, 0).await, here(1));
    assert_eq!(kept.turned(2).attend(&spool, 1).await, here(1));
    assert_eq!(kept.turned(2).turned(3).attend(&spool, 1).await, here(1));
    let floor = CommitNumber(7);
    let put_back = Disk { nonce: 2, ..kept }.turned(9);
    let put_back = Disk { last: 1, ..put_back };
    // While the other state of it may still be there, as of a machine copied with its memory, it waits.
    assert_eq!(put_back.attend(&spool, 0).await, Attended::Occupied("a".into()));
    assert_eq!(put_back.attend(&spool, 1).await, Attended::Occupied("a".into()));
    let later = spool.at(11_000);
    assert_eq!(put_back.attend(&later, 0).await, Attended::Here { generation: 2, floor });
    assert_eq!(later.counts().await.unwrap()["put_back"], 1);
}

/// What it calls committed, and the disk lacks, is delivered.
#[tokio::test]
async fn an_old_nonce_in_redis_is_a_redis_that_was_put_back() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis).at(1_000);
    let disk = Disk { mark: 7, ..Disk::NEW };
    assert_eq!(disk.attend(&spool, 0).await, here(1));
    let ahead = disk.turned(2).turned(3).turned(4);
    assert_eq!(ahead.attend(&spool, 0).await, here(2));
    // A mark above all numbers: none is given out twice.
    let ahead = Disk { mark: 50, ..ahead.turned(5).turned(6).turned(7) };
    assert_eq!(ahead.attend(&spool, 0).await, here(3));
    assert!(!spool.counts().await.unwrap().contains_key("put_back"));
}

/// It may not know yet that its pickup-rs serves nothing any more.
#[tokio::test]
async fn the_mail_agent_of_a_node_that_moves_is_fenced() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(11_000));
    assert_eq!(Disk::NEW.attend(&now, 0).await, here(1));
    let seat = |start| Seat { node: node("n"), start: Start(start) };
    assert_eq!(now.arrive(&seat(5)).await.unwrap(), Arrived::Arrived);
    // Another place of this host: the queue directory was put back, and the Mail Agent stays.
    let put_back = Disk { place: "boot 2", ..Disk::NEW };
    assert_eq!(Disk { place: "boot 1", ..Disk::NEW }.attend(&later, 0).await, here(2));
    assert!(now.fetch(&seat(5)).await.is_err(), "it may be another boot of this machine, or a copy of it");
    assert_eq!(now.arrive(&seat(6)).await.unwrap(), Arrived::Arrived);
    assert_eq!(put_back.attend(&spool.at(21_000), 0).await, here(3));
    assert!(now.fetch(&seat(6)).await.is_ok());
    let moved = Disk { place: "boot 3", host: "b", ..Disk::NEW };
    assert_eq!(moved.attend(&spool.at(31_000), 0).await, here(4));
    assert!(now.fetch(&seat(6)).await.is_err());
    assert_eq!(now.arrive(&seat(6)).await.unwrap(), Arrived::Superseded);
    assert_eq!(now.arrive(&seat(7)).await.unwrap(), Arrived::Arrived);
    assert!(now.fetch(&seat(7)).await.is_ok());
}
