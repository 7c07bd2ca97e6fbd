//! Packets of an attacker.

use std::net::UdpSocket;

use rpc::driver::{Client, Server, Table};
use rpc::packet::MAX_ENDED;
use rpc::{Address, Epoch, Key, Port};
use simulation::Random;

use crate::world::{LONG, address, echo, until, v4};

const PORT: Port = Port(7);
const PACKETS: u64 = 20_000;
const CALLS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_is_counted_and_not_answered() {
    let key = Key::from_secret(&[b'k'; 32]);
    let server =
        Server::bind(Server::config(PORT, Epoch(1), key.clone()).unwrap(), &[v4()]).unwrap();
    echo(&server);
    let Address::Udp(at) = address(&server) else { panic!("UDP") };
    let flood = tokio::task::spawn_blocking(move || {
        let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut random = Random::new(1);
        for _ in 0..PACKETS {
            attacker.send_to(&garbage(&mut random), at).unwrap();
        }
        attacker
    });
    let table = Table::from_iter([(PORT, address(&server))]);
    let client = Client::bind(Client::config(key).unwrap(), &[v4()], table).unwrap();
    for _ in 0..CALLS {
        client.call(PORT, "still there?", LONG).await.unwrap();
    }
    let attacker = flood.await.unwrap();
    attacker.set_nonblocking(true).unwrap();
    // After a last call the server has handled all packets of the client. Of the flood, it handles
    // those that the kernel took.
    assert_eq!(client.call(PORT, "still there?", LONG).await.unwrap(), "still there?");
    until("all has been handled", || server.counters().received == server.datagrams().received)
        .await;
    let counters = server.counters();
    let bad = counters.foreign + counters.unauthentic + counters.malformed + counters.misdirected;
    // Packets that the kernel dropped because it had no room were never received.
    let sent = client.datagrams().sent;
    assert!(bad > PACKETS / 100 && bad <= PACKETS, "{counters:?}");
    assert!(
        counters.received <= bad + sent && counters.received >= bad + CALLS,
        "{counters:?} {sent}"
    );
    assert_eq!(counters.executed, CALLS + 1);
    assert!(attacker.recv(&mut [0; 2_000]).is_err(), "an answer");
    // No part of the flood is kept. The server keeps the client's session, the last request,
    // requests that were acknowledged before their reply and not yet reported as ended, and their
    // timers.
    let usage = server.usage();
    assert!(usage.sessions == 1 && usage.requests <= 1 + MAX_ENDED, "{usage:?}");
    assert!(usage.timers <= usage.requests + 2 && usage.bytes <= 100 * usage.requests, "{usage:?}");
}

/// Returns an empty packet, noise, or a packet that begins rightly.
fn garbage(random: &mut Random) -> Vec<u8> {
    let length = random.between(0, 300);
    let mut packet: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
    if packet.len() >= 12 && random.chance(500) {
        packet[..4].copy_from_slice(&[b'O', b'R', 1, random.between(0, 5) as u8]);
        packet[4..12].copy_from_slice(&PORT.0.to_be_bytes());
    }
    packet
}
