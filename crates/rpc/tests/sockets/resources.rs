//! Descriptors that run out, and senders that take more than their share.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rpc::driver::{Client, Local, Server, Table};
use rpc::{Address, CallError, Epoch, Execution, Key, Port};

use crate::process::{Process, folder};
use crate::world::{LONG, client, echo, server, unix, until, v4};

const PORT: Port = Port(7);
/// Size above a Unix socket's buffer, so that a part of it waits.
const LARGE_BYTES: usize = 4 << 20;
/// Number of servers; a client is connected to 256 at once.
const SERVERS: u64 = 260;

#[test]
fn waiting_datagrams_are_sent_without_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    Process::begin("resources::no_descriptors", folder.path()).wait();
}

#[tokio::test]
#[ignore = "a part of without_descriptors, in a process of its own"]
async fn no_descriptors() {
    let Some(folder) = folder() else { return };
    let server = server(PORT, unix(&folder));
    echo(&server);
    let client = client(&[(PORT, &server)]);
    client.call(PORT, "while there are some", LONG).await.unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    fs::File::open("/dev/null").unwrap_err();
    let body = Bytes::from(vec![7; LARGE_BYTES]);
    assert!(client.call(PORT, body.clone(), LONG).await.unwrap() == body);
    assert_eq!(client.call(PORT, "small", LONG).await.unwrap(), "small");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(client.call(PORT, body.clone(), LONG).await.unwrap() == body);
}

#[tokio::test]
async fn senders_without_a_name_delay_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let config = Server::config(PORT, Epoch(1), Key::none()).unwrap();
    let server = Server::bind(config, &[unix(folder.path()), v4()]).unwrap();
    echo(&server);
    let done = Arc::<AtomicBool>::default();
    let flood = |_| {
        let (done, path) = (done.clone(), folder.path().join("server"));
        std::thread::spawn(move || {
            let nameless = UnixDatagram::unbound().unwrap();
            while !done.load(Ordering::Relaxed) {
                let _ = nameless.send_to(b"nobody", &path);
            }
        })
    };
    let floods: Vec<_> = (0..3).map(flood).collect();
    until("some have come", || server.datagrams().nameless > 1_000).await;
    let client =
        crate::world::client_of(Table::from_iter([(PORT, server.addresses()[1].clone())]).into());
    for _ in 0..100 {
        client.call(PORT, "let me through", LONG).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    // The threads are joined in another thread, since the server must read on: a sender waits for
    // room in the server's socket.
    let joined = || floods.into_iter().for_each(|flood| flood.join().unwrap());
    tokio::task::spawn_blocking(joined).await.unwrap();
    assert_eq!(server.datagrams().received, server.counters().received);
}

/// If the socket of the open call were closed, the call would end as forgotten, since the client's
/// next socket has another name.
#[tokio::test]
async fn a_socket_that_is_in_use_is_not_given_to_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let at = |port: u64| folder.path().join(port.to_string());
    let servers: Vec<_> =
        (0..SERVERS).map(|port| server(Port(port), Local::Unix(at(port), 0o600))).collect();
    let table = (0..SERVERS).map(|port| (Port(port), Address::Unix(at(port))));
    let mut config = Client::config(Key::none()).unwrap();
    // Each heartbeat must arrive.
    (config.limits.heartbeat, config.limits.retransmissions) = (Duration::from_millis(50), 50);
    let client = Client::bind(config, &[], table.collect::<Table>()).unwrap();
    let open = client.send(Port(0), "long work", LONG).await.unwrap();
    let request = servers[0].recv().await.unwrap();
    servers[1..].iter().for_each(echo);
    let mut refused = 0;
    for port in 1..SERVERS {
        match client.call(Port(port), "hello", LONG).await {
            Ok(reply) => assert_eq!(reply, "hello"),
            Err(error) => {
                assert!(matches!(&error, CallError::AddressRefused { .. }), "{port}: {error}");
                assert_eq!(error.execution(), Execution::Never);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, SERVERS - 256);
    request.reply("done").unwrap();
    assert_eq!(open.await.unwrap(), "done");
}
