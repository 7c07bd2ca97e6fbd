//! Calls over a path whose second link is narrower than the first, and whose router sends no ICMP.
//! The test needs root, for network namespaces.
//!
//! ```text
//!   client 192.0.2.2 ── 1500 ── 192.0.2.1 router 198.51.100.1 ── 1280 ── 198.51.100.2 server
//! ```

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use rpc::driver::{Client, Local, Server, Table};
use rpc::{Address, Epoch, Key, Port};
use testbed::Network;

use crate::process::{Process, folder};
use crate::world::{LONG, echo, until, until_answered};

const PORT: Port = Port(7);
const SERVER: &str = "198.51.100.2:700";

#[test]
fn large_messages_get_through_where_the_router_tells_nobody() {
    let network = Network::loopback().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = network.command(0, &env::current_exe().unwrap());
    Process::begin_by(program, "narrow::router", folder.path()).wait();
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// Begins both ends, each in a namespace that ends with its process.
#[tokio::test]
#[ignore = "a part of large_messages_get_through, in a process of its own"]
async fn router() {
    let Some(folder) = folder() else { return };
    let server = begin(&folder, "server").await;
    let client = begin(&folder, "client").await;
    for (end, process, own, mtu) in
        [("server", &server, "198.51.100.1", 1280), ("client", &client, "192.0.2.1", 1500)]
    {
        ip(&format!("link add {end} type veth peer name wire netns {}", process.id()));
        ip(&format!("address add {own}/24 dev {end}"));
        ip(&format!("link set {end} mtu {mtu} up"));
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    // The router drops its own packets, ICMP messages among them.
    ip("rule add pref 100 iif lo blackhole");
    fs::write(folder.join("joined"), "").unwrap();
    client.wait();
    drop(server);
}

async fn begin(folder: &Path, end: &str) -> Process {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(env::current_exe().unwrap());
    let process = Process::begin_by(command, &format!("narrow::{end}"), folder);
    until("it is in its namespace", || folder.join(end).exists()).await;
    process
}

/// Waits for the link, and sets it up.
async fn join(folder: &Path, end: &str, own: &str, router: &str, mtu: u32) {
    fs::write(folder.join(end), "").unwrap();
    until("the router is there", || folder.join("joined").exists()).await;
    ip("link set lo up");
    ip(&format!("address add {own}/24 dev wire"));
    ip(&format!("link set wire mtu {mtu} up"));
    ip(&format!("route add default via {router}"));
}

fn key() -> Key {
    Key::from_secret(b"a secret that both ends were given")
}

#[tokio::test]
#[ignore = "a part of large_messages_get_through, in a process of its own"]
async fn server() {
    let Some(folder) = folder() else { return };
    join(&folder, "server", "198.51.100.2", "198.51.100.1", 1280).await;
    let config = Server::config(PORT, Epoch(1), key()).unwrap();
    let server = Server::bind(config, &[Local::Udp(SERVER.parse().unwrap())]).unwrap();
    echo(&server);
    // The process runs until it is killed.
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "a part of large_messages_get_through, in a process of its own"]
async fn client() {
    let Some(folder) = folder() else { return };
    join(&folder, "client", "192.0.2.2", "192.0.2.1", 1500).await;
    let table = Table::from_iter([(PORT, Address::Udp(SERVER.parse().unwrap()))]);
    let any = Local::Udp("0.0.0.0:0".parse().unwrap());
    let client = Client::bind(Client::config(key()).unwrap(), &[any], table).unwrap();
    // The server may not serve yet.
    until_answered(&client, PORT, "small").await;
    for bytes in [1_300, 100_000, 1 << 20] {
        let body: Bytes =
            (0..bytes).map(|i: u32| (i >> 3) as u8 ^ i as u8).collect::<Vec<_>>().into();
        assert!(client.call(PORT, body.clone(), LONG).await.unwrap() == body, "{bytes}");
    }
}
