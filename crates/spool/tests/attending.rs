//! Tests of attending, which decides which of all copies of a queue directory is the node.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{NOW_MS, assigned_lot, commit_of, node, resent, spool, token};
use proptest::prelude::*;
use spool::{
    Arrived, Attendance, Attended, CommitNumber, FencingToken, Generation, Lost, Spool, Start,
};
use testbed::{Redis, until};

const LIVE: Duration = Duration::from_millis(10_000);

/// A queue directory, as Redis sees it.
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

    /// Returns the disk with a new nonce.
    fn turned(self, nonce: u128) -> Self {
        Self { last: self.nonce, nonce, ..self }
    }

    async fn attend(self, spool: &Spool, generation: u64) -> Attended {
        self.say(spool, generation, false).await
    }

    async fn leave(self, spool: &Spool, generation: u64) -> Attended {
        self.say(spool, generation, true).await
    }

    async fn say(self, spool: &Spool, generation: u64, leaves: bool) -> Attended {
        let nonce = |n| Generation::from_parts(1, n);
        let attendance = Attendance {
            generation,
            last: nonce(self.last),
            nonce: nonce(self.nonce),
            mark: CommitNumber(self.mark),
            place: self.place,
            host: self.host,
            live: LIVE,
            leaves,
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
    assert_eq!(
        original.turned(2).turned(4).attend(&later, 1).await,
        here(1),
        "nothing has changed"
    );
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
async fn a_node_that_attends_keeps_its_commits_without_a_mail_agent() {
    let redis = Redis::start().unwrap();
    let (n, grace) = (node("n"), Duration::from_secs(5));
    let spool = spool(&redis);
    let lot = assigned_lot(&spool, &n, 2).await;
    spool.commit(&token(&n), &[commit_of(&lot, 1), commit_of(&lot, 2)]).await.unwrap();
    let at = |ms| spool.at(NOW_MS + ms);
    let lose = async |ms| at(ms).lose(&n, grace, false).await.unwrap();
    assert_eq!(Disk::NEW.attend(&at(0), 0).await, here(1));
    assert_eq!(lose(14_999).await, Lost::Alive, "live for 10 s, and the grace");
    assert_eq!(Disk::NEW.turned(2).leave(&at(12_000), 1).await, here(1));
    assert_eq!(lose(16_999).await, Lost::Alive, "the grace counts from the end");
    assert_eq!(lose(17_000).await, resent(2));
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
    // A process with the other state of the disk may still run, as on a machine copied with its
    // memory. So the restored disk must wait.
    assert_eq!(put_back.attend(&spool, 0).await, Attended::Occupied("a".into()));
    assert_eq!(put_back.attend(&spool, 1).await, Attended::Occupied("a".into()));
    let later = spool.at(11_000);
    assert_eq!(put_back.attend(&later, 0).await, Attended::Here { generation: 2, floor });
    assert_eq!(later.counts().await.unwrap()["put_back"], 1);
}

/// A message that is committed in Redis, and absent on the disk, counts as delivered.
#[tokio::test]
async fn an_old_nonce_in_redis_is_a_redis_that_was_put_back() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(11_000));
    let disk = Disk { mark: 7, ..Disk::NEW };
    assert_eq!(disk.attend(&now, 0).await, here(1));
    // The mark is above all numbers that Redis knows: from the first attendance on, Redis gives no
    // number out twice.
    let ahead = Disk { mark: 50, ..disk.turned(2).turned(3).turned(4) };
    assert_eq!(ahead.attend(&now, 0).await, Attended::Wait);
    let key = format!("optimus:{{0}}:node:{}:agent", node("n"));
    assert_eq!(redis.cli(&["HGET", &key, "commits"]).unwrap().trim(), "50");
    assert_eq!(ahead.attend(&later, 0).await, here(2));
    assert_eq!(ahead.turned(5).attend(&later, 2).await, here(2));
    assert!(!later.counts().await.unwrap().contains_key("put_back"));
}

/// Redis is put back to a state before the copy's refusal.
#[tokio::test]
async fn after_redis_is_put_back_the_node_is_the_latest_state_of_its_disk() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let at = |ms| spool.at(ms);
    assert_eq!(Disk::NEW.attend(&at(1_000), 0).await, here(1));
    let copy = Disk { place: "there", host: "b", ..Disk::NEW.turned(2).turned(3).turned(4) };
    let original = Disk::NEW.turned(5).turned(6).turned(7);
    assert_eq!(copy.attend(&at(50_000), 0).await, Attended::Wait);
    assert_eq!(original.attend(&at(53_000), 1).await, Attended::Wait);
    assert_eq!(copy.attend(&at(60_000), 0).await, Attended::Wait, "the other one was further");
    assert_eq!(original.attend(&at(61_000), 1).await, here(1));
    assert_eq!(copy.attend(&at(61_000), 0).await, Attended::Occupied("a".into()));
    assert_eq!(copy.attend(&at(90_000), 0).await, Attended::Elsewhere("a".into()));
}

/// The latest disk may be gone for good. Then an earlier disk must become the node.
#[tokio::test]
async fn after_redis_is_put_back_a_disk_that_called_once_holds_up_no_other() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let at = |ms| spool.at(ms);
    assert_eq!(Disk::NEW.attend(&at(1_000), 0).await, here(1));
    let earlier = Disk { place: "there", ..Disk::NEW.turned(2).turned(3).turned(4) };
    let gone = Disk::NEW.turned(5).turned(6).turned(7);
    assert_eq!(gone.attend(&at(50_000), 0).await, Attended::Wait);
    assert_eq!(earlier.attend(&at(65_000), 0).await, Attended::Wait);
    assert_eq!(earlier.attend(&at(70_000), 0).await, Attended::Wait, "all begins anew");
    assert_eq!(earlier.attend(&at(80_000), 0).await, here(2));
}

/// The clone has the host name, machine id and path of the original, as a restored disk has.
#[tokio::test]
async fn a_clone_of_a_whole_machine_that_was_there_beside_the_original_is_a_copy_for_good() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(31_000));
    let original = Disk::NEW;
    assert_eq!(original.attend(&now, 0).await, here(1));
    let copy = |it: Disk| Disk { place: "there", ..it };
    let [one, other] = [copy(original), copy(original.turned(2))];
    assert_eq!(one.attend(&now, 0).await, Attended::Occupied("a".into()));
    assert_eq!(original.turned(2).attend(&now, 1).await, here(1));
    assert_eq!(other.attend(&now, 0).await, Attended::Occupied("a".into()));
    assert_eq!(one.attend(&now, 0).await, Attended::Occupied("a".into()));
    let latest = original.turned(2).turned(3);
    assert_eq!(latest.attend(&now, 1).await, here(1));
    // No attendance comes for a minute: the original stops, or Redis was away.
    for copy in [one, other] {
        assert_eq!(copy.attend(&later, 0).await, Attended::Elsewhere("a".into()));
    }
    let moved = Disk { place: "elsewhere", ..latest };
    assert_eq!(moved.attend(&later, 0).await, here(2), "the latest state may go on anywhere");
    assert_eq!(one.attend(&spool.at(61_000), 0).await, Attended::Elsewhere("a".into()));
}

/// The last attendance is that of a dead process, not of a live place.
#[tokio::test]
async fn a_disk_that_is_put_back_after_a_death_only_waits() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(11_000));
    assert_eq!(Disk::NEW.attend(&now, 0).await, here(1));
    assert_eq!(Disk::NEW.turned(2).attend(&now, 1).await, here(1));
    assert_eq!(Disk::NEW.turned(2).turned(3).attend(&now, 1).await, here(1));
    let put_back = Disk { place: "there", ..Disk::NEW };
    assert_eq!(put_back.attend(&now, 0).await, Attended::Occupied("a".into()));
    assert_eq!(put_back.attend(&later, 0).await, here(2));
    assert_eq!(put_back.turned(4).attend(&later, 2).await, here(2));
    let again = spool.at(31_000);
    assert_eq!(put_back.attend(&again, 0).await, here(3), "its own earlier words are no rival's");
}

/// Redis's clock goes back when it is set back, or when a replica whose clock is behind is
/// promoted.
#[tokio::test]
async fn no_place_is_live_for_longer_than_the_given_time() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let moved = Disk { place: "there", host: "b", ..Disk::NEW };
    assert_eq!(Disk::NEW.attend(&spool.at(9_000_000), 0).await, here(1));
    assert_eq!(moved.attend(&spool.at(8_999_999), 0).await, here(2));
    let back = Disk { place: "here", host: "a", ..moved };
    assert_eq!(back.attend(&spool.at(8_999_999), 0).await, Attended::Occupied("b".into()));
}

#[tokio::test]
async fn a_process_that_leaves_makes_room_at_once() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis).at(1_000);
    let moved = Disk { place: "there", host: "b", ..Disk::NEW };
    assert_eq!(Disk::NEW.attend(&spool, 0).await, here(1));
    assert_eq!(moved.leave(&spool, 0).await, Attended::Occupied("a".into()));
    assert_eq!(Disk::NEW.leave(&spool, 1).await, here(1));
    assert_eq!(moved.attend(&spool, 0).await, here(2));
}

/// A redis-server whose locale puts Z before T.
struct Estonian {
    server: Child,
    folder: tempfile::TempDir,
}

impl Estonian {
    /// Returns `None` where the locale can't be made.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut make = Command::new("localedef");
        make.args(["-i", "et_EE", "-f", "UTF-8"]).arg(folder.path().join("et_EE.UTF-8"));
        make.stdout(Stdio::null()).stderr(Stdio::null());
        if !make.status().is_ok_and(|it| it.success()) {
            return None;
        }
        let mut redis = Command::new("redis-server");
        redis.args(["--port", "0", "--unixsocket"]).arg(folder.path().join("socket"));
        redis.env("LOCPATH", folder.path()).env("LC_ALL", "et_EE.UTF-8").stdout(Stdio::null());
        Some(Self { server: redis.current_dir(folder.path()).spawn().unwrap(), folder })
    }

    fn spool(&self) -> Spool {
        let socket = self.folder.path().join("socket");
        // Redis makes the socket before it listens there.
        let listens = || UnixStream::connect(&socket).is_ok();
        until(Duration::from_secs(20), "Redis to listen", listens).unwrap();
        Spool::new(spool::Server::parse(&format!("unix://{}", socket.display())).unwrap())
    }
}

impl Drop for Estonian {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn nonces_are_ordered_by_their_bytes_in_any_locale_of_redis() {
    let Some(redis) = Estonian::start() else {
        eprintln!("not tried: no sources of the locale et_EE here");
        return;
    };
    let spool = redis.spool().at(1_000);
    let [t, z] = [26, 31];
    let disk = Disk { nonce: t, ..Disk::NEW };
    assert!(Generation::from_parts(1, t).to_string().ends_with('T'));
    assert!(Generation::from_parts(1, z).to_string().ends_with('Z'));
    assert_eq!(disk.attend(&spool, 0).await, here(1));
    assert_eq!(disk.turned(z).turned(z + 1).attend(&spool, 0).await, Attended::Wait);
}

/// The Mail Agent may not know yet that its pickup-rs no longer serves the node.
#[tokio::test]
async fn the_mail_agent_of_a_node_that_moves_is_fenced() {
    let redis = Redis::start().unwrap();
    let spool = spool(&redis);
    let (now, later) = (spool.at(1_000), spool.at(11_000));
    assert_eq!(Disk::NEW.attend(&now, 0).await, here(1));
    let token = |start| FencingToken { node: node("n"), start: Start(start) };
    assert_eq!(now.arrive(&token(5)).await.unwrap(), Arrived::Arrived);
    // The queue directory was restored at another place of this host, and the Mail Agent goes on.
    let put_back = Disk { place: "boot 2", ..Disk::NEW };
    assert_eq!(Disk { place: "boot 1", ..Disk::NEW }.attend(&later, 0).await, here(2));
    assert!(
        now.fetch(&token(5)).await.is_err(),
        "it may be another boot of this machine, or a copy of it"
    );
    assert_eq!(now.arrive(&token(6)).await.unwrap(), Arrived::Arrived);
    assert_eq!(put_back.attend(&spool.at(21_000), 0).await, here(3));
    assert!(now.fetch(&token(6)).await.is_ok());
    let moved = Disk { place: "boot 3", host: "b", ..Disk::NEW };
    assert_eq!(moved.attend(&spool.at(31_000), 0).await, here(4));
    assert!(now.fetch(&token(6)).await.is_err());
    assert_eq!(now.arrive(&token(6)).await.unwrap(), Arrived::Superseded);
    assert_eq!(now.arrive(&token(7)).await.unwrap(), Arrived::Arrived);
    assert!(now.fetch(&token(7)).await.is_ok());
}

/// An event at one of three places. The first and the last are of one host.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// The process at this place attends.
    Attends(usize),
    /// The process at this place is killed and starts again. The flag says whether it had written a
    /// nonce that Redis has not seen.
    Restarts(usize, bool),
    /// The first place's disk is copied to the second.
    Copies(usize, usize),
    Passes(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let place = 0..3_usize;
    prop_oneof![
        8 => place.clone().prop_map(Happening::Attends),
        2 => (place.clone(), any::<bool>()).prop_map(|(it, wrote)| Happening::Restarts(it, wrote)),
        1 => (place.clone(), place).prop_map(|(from, to)| Happening::Copies(from, to)),
        2 => prop_oneof![Just(1_000), Just(11_000)].prop_map(Happening::Passes),
    ]
}

const PLACES: [(&str, &str); 3] = [("boot1 1", "a"), ("boot2 1", "b"), ("boot1 2", "a")];

/// A disk, and the process that serves it.
#[derive(Debug, Clone, Copy)]
struct Server {
    disk: Disk,
    is_told: bool,
    generation: u64,
    /// Whether there is a disk.
    is_there: bool,
}

#[derive(Debug)]
struct Servers {
    all: [Server; 3],
    nonces: u128,
    now_ms: u64,
    /// The last attendance that was accepted: its nonce, its place, and the end of its life in ms.
    last: Option<(u128, usize, u64)>,
    /// Nonces that were refused since the last accepted attendance.
    rivals: Vec<u128>,
    /// Nonces that were refused while the same place was live before and after.
    copies: Vec<u128>,
}

impl Servers {
    fn new() -> Self {
        let server = |(place, host)| Server {
            disk: Disk { last: 0, nonce: 0, mark: 0, place, host },
            is_told: true,
            generation: 0,
            is_there: place == PLACES[0].0,
        };
        Self {
            all: PLACES.map(server),
            nonces: 0,
            now_ms: 1_000,
            last: None,
            rivals: vec![],
            copies: vec![],
        }
    }

    fn turn(&mut self, at: usize) {
        self.nonces += 1;
        self.all[at].disk = self.all[at].disk.turned(self.nonces);
        self.all[at].is_told = false;
    }

    async fn apply(&mut self, spool: &Spool, happening: Happening) {
        match happening {
            Happening::Attends(at) => self.attend(spool, at).await,
            Happening::Restarts(at, has_written) => {
                if has_written && self.all[at].is_told {
                    self.turn(at);
                }
                let server = &mut self.all[at];
                (server.generation, server.is_told) = (0, server.disk.nonce == 0);
            }
            Happening::Copies(from, to) => {
                let (place, host) = PLACES[to];
                let Server { disk, is_there, .. } = self.all[from];
                let disk = Disk { place, host, ..disk };
                self.all[to] = Server { disk, is_there, generation: 0, is_told: disk.nonce == 0 };
            }
            Happening::Passes(ms) => self.now_ms += ms,
        }
    }

    async fn attend(&mut self, spool: &Spool, at: usize) {
        if !self.all[at].is_there {
            return;
        }
        if self.all[at].is_told {
            self.turn(at);
        }
        let Server { disk, generation, .. } = self.all[at];
        let answer = disk.attend(&spool.at(self.now_ms), generation).await;
        let others = self.last.filter(|(_, place, until)| *place != at && *until > self.now_ms);
        let is_latest =
            self.last.is_none_or(|(nonce, ..)| nonce == disk.nonce || nonce == disk.last);
        let is_at_home = self.last.is_some_and(|(_, place, _)| PLACES[place].1 == PLACES[at].1);
        let is_put_back = is_at_home && !self.copies.contains(&disk.nonce);
        let is_one_live = self.last.is_some_and(|(.., until)| until > self.now_ms);
        match answer {
            Attended::Here { generation, .. } => {
                assert!(others.is_none(), "{at} is the node, and so is {others:?}");
                assert!(is_latest || is_put_back, "{at} is a copy, and the node: {self:?}");
                if is_latest && self.all[at].generation != 0 {
                    self.copies.extend(&self.rivals);
                }
                self.rivals.clear();
                let server = &mut self.all[at];
                (server.generation, server.is_told) = (generation, true);
                self.last = Some((disk.nonce, at, self.now_ms + 10_000));
            }
            Attended::Superseded | Attended::Wait => {
                let server = &mut self.all[at];
                (server.generation, server.is_told) = (0, false);
            }
            Attended::Occupied(_) | Attended::Elsewhere(_) => {
                assert!(
                    !is_latest || others.is_some(),
                    "{at} has the latest state, and is refused: {self:?}"
                );
                assert!(!is_put_back || is_one_live, "{at} is no copy, and is refused: {self:?}");
                if matches!(answer, Attended::Occupied(_)) {
                    self.rivals.push(disk.nonce);
                }
                let server = &mut self.all[at];
                (server.generation, server.is_told) = (0, false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn one_of_all_copies_is_the_node_and_no_earlier_state_is(
        happenings in prop::collection::vec(happening(), 60)
    ) {
        thread_local!(static REDIS: Redis = Redis::start().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        REDIS.with(|redis| runtime.block_on(async {
            redis.cli(&["FLUSHALL"]).unwrap();
            let (spool, mut servers) = (spool(redis), Servers::new());
            for happening in happenings {
                servers.apply(&spool, happening).await;
            }
        }));
    }
}
