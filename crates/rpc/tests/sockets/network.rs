//! Calls over private networks: one that counts packets, and one that loses and reorders them. The
//! tests need root, for network namespaces.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rpc::driver::{Client, Local, Server, Table};
use rpc::{Address, Epoch, Key, Port};
use testbed::{LinkConditions, Network};
use tokio::task::JoinSet;

use crate::process::{Process, folder};
use crate::world::{LONG, client, echo, server, until, v4};

const PORT: Port = Port(7);
const ROUNDS: u32 = 20;
const CALLS_PER_ROUND: u64 = 100;
const CALLS: u32 = 100_000;
const CALLERS: u32 = 500;

#[test]
fn an_exchange_takes_two_packets() {
    let network = Network::loopback().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = network.command(0, &env::current_exe().unwrap());
    Process::begin_by(program, "network::count_packets", folder.path()).wait();
}

/// The process is in a namespace without other traffic.
#[tokio::test]
#[ignore = "a part of an_exchange_takes_two_packets, in a process of its own"]
async fn count_packets() {
    if folder().is_none() {
        return;
    }
    let server = server(PORT, v4());
    echo(&server);
    let client = client(&[(PORT, &server)]);
    client.call(PORT, "the first one greets", LONG).await.unwrap();
    // If the machine stands still for a moment, a timer may expire, and the client repeats a
    // packet. Such a round doesn't count.
    let mut counted = 0;
    while counted < ROUNDS {
        let (packets, repeated) = (packets_on("lo"), client.counters().repeated);
        for _ in 0..CALLS_PER_ROUND {
            client.call(PORT, "two packets", LONG).await.unwrap();
        }
        if client.counters().repeated == repeated {
            assert_eq!(packets_on("lo") - packets, 2 * CALLS_PER_ROUND);
            counted += 1;
        }
    }
}

/// Returns the number of packets that a device has received: the second of its numbers.
fn packets_on(device: &str) -> u64 {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = devices
        .lines()
        .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn key() -> Key {
    Key::from_secret(b"a secret that both ends were given")
}

#[test]
fn a_hundred_thousand_calls_where_a_tenth_is_lost_and_a_quarter_overtakes() {
    let link = LinkConditions {
        round_trip: Duration::from_millis(2),
        lost_percent: 10,
        overtaking_percent: 25,
    };
    let network = Network::with(&link).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("address"), network.address(1).to_string()).unwrap();
    let program = env::current_exe().unwrap();
    let server =
        Process::begin_by(network.command(1, &program), "network::lossy_server", folder.path());
    Process::begin_by(network.command(0, &program), "network::lossy_client", folder.path()).wait();
    server.wait();
    check_link(folder.path());
    // A link made by the kernel's own means doesn't count overtaken packets.
    assert!(
        network.overtaken().is_none_or(|overtaken| overtaken > u64::from(CALLS / 10)),
        "{:?}",
        network.overtaken()
    );
}

/// Checks that the link lost about a tenth of each side's packets.
fn check_link(folder: &Path) {
    let [client, server] = ["client-datagrams", "server-datagrams"].map(|name| {
        let content = fs::read_to_string(folder.join(name)).unwrap();
        let numbers: Vec<f64> = content.split(' ').map(|number| number.parse().unwrap()).collect();
        <[f64; 2]>::try_from(numbers).unwrap()
    });
    for (from, to, way) in [(client, server, "to the server"), (server, client, "to the client")] {
        let lost = 1.0 - to[1] / from[0];
        eprintln!("{way}: {:.1} % of {} datagrams lost", lost * 100.0, from[0]);
        assert!((0.08..0.12).contains(&lost), "{way}: {lost}");
    }
}

/// Writes the numbers of sent and received datagrams for the other process.
fn tell(folder: &Path, name: &str, datagrams: rpc::driver::Datagrams) {
    fs::write(folder.join(name), format!("{} {}", datagrams.sent, datagrams.received)).unwrap();
}

/// Executes requests, and counts the executions of each number, until the client is done.
#[tokio::test]
#[ignore = "a part of the hundred thousand calls, in a process of its own"]
async fn lossy_server() {
    let Some(folder) = folder() else { return };
    let config = Server::config(PORT, Epoch(1), key()).unwrap();
    let server =
        Server::bind(config, &[Local::Udp(format!("{}:0", own(&folder)).parse().unwrap())])
            .unwrap();
    fs::write(folder.join("new"), server.addresses()[0].to_string()).unwrap();
    fs::rename(folder.join("new"), folder.join("server")).unwrap();
    let mut executions = HashMap::<Vec<u8>, u32>::new();
    while executions.len() < CALLS as usize {
        let request = server.recv().await.unwrap();
        *executions.entry(request.body.to_vec()).or_default() += 1;
        let (id, body) = request.detach();
        server.reply(id, body).unwrap();
    }
    assert!(executions.values().all(|times| *times == 1));
    // The server goes on until the client is done: the last replies may have to be repeated.
    until("the client is done", || folder.join("done").exists()).await;
    assert_eq!(server.counters().executed, u64::from(CALLS));
    eprintln!("server: {:?} {:?}", server.counters(), server.datagrams());
    tell(&folder, "server-datagrams", server.datagrams());
}

fn own(folder: &Path) -> String {
    fs::read_to_string(folder.join("address")).unwrap()
}

#[tokio::test]
#[ignore = "a part of the hundred thousand calls, in a process of its own"]
async fn lossy_client() {
    let Some(folder) = folder() else { return };
    until("the server is up", || folder.join("server").exists()).await;
    let at = fs::read_to_string(folder.join("server")).unwrap().parse().map(Address::Udp).unwrap();
    let any = Local::Udp("0.0.0.0:0".parse().unwrap());
    let client =
        Client::bind(Client::config(key()).unwrap(), &[any], Table::from_iter([(PORT, at)]))
            .unwrap();
    let (next, began) = (Arc::new(AtomicU32::new(0)), Instant::now());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_all(client.clone(), next.clone()));
    }
    callers.join_all().await;
    eprintln!("client: {:?} {:?} {:?}", began.elapsed(), client.counters(), client.datagrams());
    assert!(client.counters().repeated > u64::from(CALLS / 10), "hardly anything was lost");
    tell(&folder, "client-datagrams", client.datagrams());
    fs::write(folder.join("done"), "").unwrap();
}

async fn call_all(client: Client, next: Arc<AtomicU32>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CALLS {
            return;
        }
        let body = number.to_be_bytes().to_vec();
        assert_eq!(client.call(PORT, body.clone(), LONG).await.unwrap(), body, "{number}");
    }
}
