//! Unix sockets of dead servers, and servers that begin at once.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Barrier;
use std::{fs, thread};

use rpc::driver::{BindError, Client, Server, Table};
use rpc::{Address, Epoch, Key, Port};
use tokio::runtime::Handle;

use crate::process::{Process, folder};
use crate::unix::names_in_abstract_namespace;
use crate::world::{LONG, echo, server, unix, until_answered};

const PORT: Port = Port(7);
const ROUNDS: usize = 500;
const AT_ONCE: usize = 4;

/// Each round begins with the file of a dead server, which all servers find.
#[tokio::test]
async fn one_of_several_servers_that_begin_at_once_serves() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        drop(UnixDatagram::bind(folder.path().join("server")).unwrap());
        let bound = begin_at_once(folder.path());
        assert_eq!(bound.iter().filter(|server| server.is_ok()).count(), 1, "{round}: {bound:?}");
        for error in bound.iter().filter_map(|bound| bound.as_ref().err()) {
            let BindError::Socket { source, .. } = error else { panic!("{error}") };
            assert_eq!(source.kind(), ErrorKind::AddrInUse, "{round}: {error}");
        }
        assert!(folder.path().join("server").exists(), "{round}");
        drop(bound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{round}");
    }
}

fn begin_at_once(folder: &Path) -> Vec<Result<Server, BindError>> {
    let (barrier, runtime) = (Barrier::new(AT_ONCE), Handle::current());
    let begin = || {
        let _runtime = runtime.enter();
        let config = Server::config(PORT, Epoch(1), Key::none()).unwrap();
        barrier.wait();
        Server::bind(config, &[unix(folder)])
    };
    thread::scope(|scope| {
        let servers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(begin)).collect();
        // No server is dropped before all have tried to bind.
        servers.into_iter().map(|server| server.join().unwrap()).collect()
    })
}

#[test]
fn nobody_can_send_to_a_client_whose_server_is_dead() {
    let network = testbed::Network::loopback().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = network.command(0, &std::env::current_exe().unwrap());
    Process::begin_by(program, "files::dead_server", folder.path()).wait();
}

/// The test process is in a network namespace of its own, where the client's name is the only one
/// that the kernel has chosen.
#[tokio::test]
#[ignore = "a part of nobody_can_send_to_a_client_whose_server_is_dead, in a process of its own"]
async fn dead_server() {
    let Some(folder) = folder() else { return };
    let first = server(PORT, unix(&folder));
    let table = Table::from_iter([(PORT, Address::Unix(folder.join("server")))]);
    let mut config = Client::config(Key::none()).unwrap();
    config.limits.retransmissions = 2;
    let client = Client::bind(config, &[], table).unwrap();
    let serve = async { first.recv().await.unwrap().reply("yes").unwrap() };
    assert_eq!(tokio::join!(client.call(PORT, "alive?", LONG), serve).0.unwrap(), "yes");
    drop(first);
    // The kernel must have reported the absent server more than once.
    client.call(PORT, "dead", LONG).await.unwrap_err();
    assert!(client.datagrams().undeliverable > 1);
    let [name] = &names_in_abstract_namespace()[..] else { panic!("one client") };
    let to = SocketAddr::from_abstract_name(name).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    let error = stranger.send_to_addr(b"forged", &to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let received = client.datagrams();
    assert_eq!(received.returned + received.nameless, 0);
    // The client must find the next server.
    let second = server(PORT, unix(&folder));
    echo(&second);
    until_answered(&client, PORT, "alive again").await;
}
