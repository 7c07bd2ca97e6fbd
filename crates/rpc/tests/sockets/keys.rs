//! Keys: only holders of the key may use public addresses and get answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use rpc::driver::{BindError, Client, Local, Server, Table};
use rpc::{Address, CallError, Epoch, Execution, Key, Port};

use crate::world::{LONG, address, echo, v4, v6};

const PORT: Port = Port(7);

fn anywhere() -> Local {
    Local::Udp((Ipv4Addr::UNSPECIFIED, 0).into())
}

fn secret(letter: u8) -> Key {
    Key::from_secret(&[letter; 32])
}

#[tokio::test]
async fn without_a_key_no_public_address_is_bound() {
    let config = Server::config(PORT, Epoch(1), Key::none()).unwrap();
    let error = Server::bind(config.clone(), &[anywhere()]).unwrap_err();
    assert!(matches!(&error, BindError::KeyNeeded(_)), "{error}");
    let error = Server::bind(config, &[v6(), anywhere()]).unwrap_err();
    assert!(matches!(&error, BindError::KeyNeeded(_)), "{error}");
    let config = Client::config(Key::none()).unwrap();
    let error = Client::bind(config, &[anywhere()], Table::default()).unwrap_err();
    assert!(
        matches!(&error, BindError::KeyNeeded(_)) && error.to_string().contains("0.0.0.0:0"),
        "{error}"
    );
    let config = Server::config(PORT, Epoch(1), secret(b'k')).unwrap();
    Server::bind(config, &[anywhere()]).unwrap();
}

#[tokio::test]
async fn a_client_without_a_key_sends_no_packet_to_another_machine() {
    let elsewhere = Address::Udp((Ipv4Addr::new(192, 0, 2, 1), 25).into());
    let table: Table = [(PORT, elsewhere.clone())].into_iter().collect();
    let client = Client::bind(Client::config(Key::none()).unwrap(), &[v4()], table).unwrap();
    let error = client.call(PORT, "hello", LONG).await.unwrap_err();
    assert!(
        matches!(&error, CallError::AddressRefused { address, .. } if *address == elsewhere),
        "{error}"
    );
    assert_eq!((error.execution(), client.datagrams().sent), (Execution::Never, 0));
}

#[tokio::test]
async fn an_address_of_a_kind_that_the_client_has_no_socket_for_is_named() {
    let table: Table = [(PORT, Address::Udp("[::1]:25".parse().unwrap()))].into_iter().collect();
    let client = Client::bind(Client::config(Key::none()).unwrap(), &[v4()], table).unwrap();
    let error = client.call(PORT, "hello", LONG).await.unwrap_err();
    assert!(error.to_string().contains("[::1]:25"), "{error}");
}

#[tokio::test]
async fn another_key_gets_no_answer_and_the_right_one_does() {
    let config = Server::config(PORT, Epoch(1), secret(b'k')).unwrap();
    let server = Server::bind(config, &[v4()]).unwrap();
    echo(&server);
    let table = || Table::from_iter([(PORT, address(&server))]);
    for wrong in [secret(b'w'), Key::none()] {
        let client = Client::bind(Client::config(wrong).unwrap(), &[v4()], table()).unwrap();
        let error = client.call(PORT, "let me in", Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{error}");
    }
    let counters = server.counters();
    assert_eq!((server.datagrams().sent, counters.executed), (0, 0));
    assert!(counters.unauthentic + counters.foreign + counters.malformed >= 2, "{counters:?}");
    let client = Client::bind(Client::config(secret(b'k')).unwrap(), &[v4()], table()).unwrap();
    assert_eq!(client.call(PORT, "let me in", LONG).await.unwrap(), "let me in");
}

#[tokio::test]
async fn an_address_that_can_not_be_bound_is_named() {
    let config = || Server::config(PORT, Epoch(1), secret(b'k')).unwrap();
    assert!(matches!(Server::bind(config(), &[]).unwrap_err(), BindError::Nowhere));
    let foreign = Local::Udp((Ipv4Addr::new(192, 0, 2, 1), 0).into());
    let error = Server::bind(config(), &[foreign]).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1"), "{error}");
    let taken = Server::bind(config(), &[v4()]).unwrap();
    let Address::Udp(at) = address(&taken) else { panic!("UDP") };
    let error = Server::bind(config(), &[Local::Udp(at)]).unwrap_err().to_string();
    assert!(error.contains(&at.to_string()), "{error}");
}
