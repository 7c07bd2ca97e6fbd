//! Calls whose client's or server's process is killed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rpc::driver::{Client, PortDirectory, Server, Table};
use rpc::{Address, CallError, EpochFile, Execution, IdentityFile, Key, Port};
use tokio::task::JoinSet;

use crate::process::{Process, folder};
use crate::world::{LONG, address, server, until, v4};

const PORT: Port = Port(7);
const GENERATIONS: u32 = 5;
const CALLERS: usize = 8;
const CALLS_PER_GENERATION: u64 = 300;
/// Number of heartbeats after which a client must count as alive.
const HEARTBEATS: u64 = 10;

/// Executes each request by writing its bytes to a file, and replies with the same bytes.
#[tokio::test]
#[ignore = "a part of a_server_that_is_killed, in a process of its own"]
async fn server_process() {
    let Some(folder) = folder() else { return };
    let epoch = EpochFile::at(folder.join("epoch")).begin().unwrap();
    let server = Server::bind(Server::config(PORT, epoch, Key::none()).unwrap(), &[v4()]).unwrap();
    let mut executed =
        OpenOptions::new().create(true).append(true).open(folder.join("executed")).unwrap();
    fs::write(folder.join("new"), address(&server).to_string()).unwrap();
    fs::rename(folder.join("new"), folder.join("address")).unwrap();
    while let Some(request) = server.recv().await {
        executed.write_all(&request.body).unwrap();
        let (id, body) = request.detach();
        let _ = server.reply(id, body);
    }
}

/// Returns a directory that reads the address from a file: each generation has another.
fn directory(folder: PathBuf) -> impl PortDirectory {
    move |_| {
        let found = fs::read_to_string(folder.join("address")).map_err(Into::into);
        std::future::ready(found.map(|address| Some(Address::Udp(address.parse().unwrap()))))
    }
}

/// Outcomes of calls, by number.
#[derive(Default)]
struct Outcome {
    replied: Vec<u64>,
    failed: Vec<(u64, CallError)>,
}

async fn call_until(
    done: Arc<AtomicBool>,
    client: Client,
    numbers: Arc<AtomicU64>,
    replies: Arc<AtomicU64>,
) -> Outcome {
    let mut outcome = Outcome::default();
    while !done.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        match client.call(PORT, number.to_be_bytes().to_vec(), Duration::from_secs(20)).await {
            Ok(reply) => {
                assert_eq!(*reply, number.to_be_bytes());
                replies.fetch_add(1, Ordering::Relaxed);
                outcome.replied.push(number);
            }
            Err(error) => outcome.failed.push((number, error)),
        }
    }
    outcome
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Client::config(Key::none()).unwrap();
    config.limits.rto_max = Duration::from_millis(200);
    let client = Client::bind(config, &[v4()], directory(folder.path().to_owned())).unwrap();
    let (done, numbers, replies) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut callers = JoinSet::new();
    let mut process = Process::begin("crashes::server_process", folder.path());
    for _ in 0..CALLERS {
        callers.spawn(call_until(done.clone(), client.clone(), numbers.clone(), replies.clone()));
    }
    for generation in 1..=GENERATIONS {
        let so_far = replies.load(Ordering::Relaxed);
        until("replies", || replies.load(Ordering::Relaxed) > so_far + CALLS_PER_GENERATION).await;
        if generation < GENERATIONS {
            process.kill();
            process = Process::begin("crashes::server_process", folder.path());
        }
    }
    done.store(true, Ordering::Relaxed);
    check(folder.path(), &callers.join_all().await);
}

fn check(folder: &Path, outcomes: &[Outcome]) {
    let content = fs::read(folder.join("executed")).unwrap();
    let mut executed: Vec<u64> = content
        .chunks_exact(8)
        .map(|number| u64::from_be_bytes(number.try_into().unwrap()))
        .collect();
    executed.sort_unstable();
    let twice: Vec<_> = executed.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "executed twice: {twice:?}");
    for number in outcomes.iter().flat_map(|outcome| &outcome.replied) {
        assert!(executed.binary_search(number).is_ok(), "{number} was replied to and not executed");
    }
    for (number, error) in outcomes.iter().flat_map(|outcome| &outcome.failed) {
        let never = error.execution() == Execution::Never;
        assert!(
            !never || executed.binary_search(number).is_err(),
            "{number} was executed: {error}"
        );
        assert!(
            matches!(error, CallError::ServerRestarted { .. } | CallError::ServerDown { .. }),
            "{number}: {error}"
        );
    }
}

/// Makes a call that never gets a reply.
#[tokio::test]
#[ignore = "a part of a_client_that_is_killed, in a process of its own"]
async fn client_process() {
    let Some(folder) = folder() else { return };
    let address =
        fs::read_to_string(folder.join("address")).unwrap().parse().map(Address::Udp).unwrap();
    let mut config = Client::config(Key::none()).unwrap();
    (config.limits.heartbeat, config.limits.retransmissions) = (Duration::from_millis(50), 3);
    let client = Client::bind(config, &[v4()], Table::from_iter([(PORT, address)])).unwrap();
    let _ = client.call(PORT, "long work", LONG).await;
}

#[tokio::test]
async fn a_client_that_is_killed_is_noticed_and_its_request_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(PORT, v4());
    fs::write(folder.path().join("address"), address(&server).to_string()).unwrap();
    let process = Process::begin("crashes::client_process", folder.path());
    let request = server.recv().await.unwrap();
    until("heartbeats come", || server.counters().repeated >= HEARTBEATS).await;
    assert!(!request.is_cancelled(), "cancelled while its client lives");
    process.kill();
    tokio::time::timeout(LONG / 2, request.cancelled()).await.unwrap();
}

/// Makes a call as one generation of a client, with heartbeats so far apart that a server misses
/// none for minutes.
#[tokio::test]
#[ignore = "a part of a_client_that_comes_back, in a process of its own"]
async fn client_with_identity_process() {
    let Some(folder) = folder() else { return };
    let address =
        fs::read_to_string(folder.join("address")).unwrap().parse().map(Address::Udp).unwrap();
    let identity = IdentityFile::at(folder.join("identity")).begin().unwrap();
    let mut config = Client::config_of(identity, Key::none()).unwrap();
    config.limits.heartbeat = LONG;
    let client = Client::bind(config, &[v4()], Table::from_iter([(PORT, address)])).unwrap();
    let _ = client.call(PORT, "long work", 10 * LONG).await;
}

#[tokio::test]
async fn a_client_that_comes_back_cancels_what_its_earlier_generation_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(PORT, v4());
    fs::write(folder.path().join("address"), address(&server).to_string()).unwrap();
    let process = Process::begin("crashes::client_with_identity_process", folder.path());
    let first = server.recv().await.unwrap();
    process.kill();
    assert!(!first.is_cancelled(), "cancelled before its client is back");
    let _process = Process::begin("crashes::client_with_identity_process", folder.path());
    let second = server.recv().await.unwrap();
    // If the later generation didn't cancel the request, it would go on until its limit, 20
    // minutes.
    tokio::time::timeout(LONG / 2, first.cancelled()).await.unwrap();
    assert_eq!(first.client.id, second.client.id);
    assert!(first.client.generation < second.client.generation && !second.is_cancelled());
}
