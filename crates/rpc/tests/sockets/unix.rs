//! Behaviour that only Unix sockets have: files, modes and names.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rpc::driver::{BindError, Client, Local, Server, Table};
use rpc::{Address, CallError, Epoch, Key, Port};

use crate::process::{Process, folder};
use crate::world::{LONG, client, echo, server, unix, until_answered, v4};

const PORT: Port = Port(7);

#[tokio::test]
async fn the_mode_is_as_asked_and_the_file_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o666] {
        let path = folder.path().join("server");
        let server = server(PORT, Local::Unix(path.clone(), mode));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        drop(server);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_dead_servers_file_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    drop(UnixDatagram::bind(folder.path().join("server")).unwrap());
    let living = server(PORT, unix(folder.path()));
    let config = Server::config(PORT, Epoch(2), Key::none()).unwrap();
    let error = Server::bind(config.clone(), &[unix(folder.path())]).unwrap_err();
    assert!(
        matches!(&error, BindError::Socket { source, .. } if source.kind() == ErrorKind::AddrInUse),
        "{error}"
    );
    echo(&living);
    let caller = client(&[(PORT, &living)]);
    caller.call(PORT, "alive", LONG).await.unwrap();
    // A foreign file is not a socket, and stays.
    let path = folder.path().join("file");
    fs::write(&path, "content").unwrap();
    assert!(Server::bind(config, &[Local::Unix(path.clone(), 0o600)]).is_err());
    assert_eq!(fs::read_to_string(path).unwrap(), "content");
}

#[tokio::test]
async fn a_server_that_began_again_at_its_path_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let first = server(PORT, unix(folder.path()));
    echo(&first);
    let client = client(&[(PORT, &first)]);
    client.call(PORT, "first", LONG).await.unwrap();
    first.shutdown();
    let config = Server::config(PORT, Epoch(2), Key::none()).unwrap();
    let second = Server::bind(config, &[unix(folder.path())]).unwrap();
    echo(&second);
    until_answered(&client, PORT, "second").await;
}

#[test]
fn nobody_but_the_server_can_send_to_a_client() {
    let network = testbed::Network::loopback().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = network.command(0, &std::env::current_exe().unwrap());
    Process::begin_by(program, "unix::strangers", folder.path()).wait();
}

/// The test process is in a network namespace of its own, where the client's name is the only one
/// that the kernel has chosen.
#[tokio::test]
#[ignore = "a part of nobody_but_the_server_can_send_to_a_client, in a process of its own"]
async fn strangers() {
    let Some(folder) = folder() else { return };
    let server = server(PORT, unix(&folder));
    echo(&server);
    let client = client(&[(PORT, &server)]);
    assert_eq!(client.call(PORT, "before", LONG).await.unwrap(), "before");
    let [name] = &names_in_abstract_namespace()[..] else { panic!("one client") };
    let to = SocketAddr::from_abstract_name(name).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    // An unconnected socket takes any process's datagrams: only the connection keeps them out.
    let open = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("open").unwrap()).unwrap();
    stranger.send_to_addr(b"forged", &open.local_addr().unwrap()).unwrap();
    for _ in 0..2 {
        let received = client.datagrams().received;
        let error = stranger.send_to_addr(b"forged", &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!(client.call(PORT, "after", LONG).await.unwrap(), "after");
        // Only the reply was received.
        assert_eq!(client.datagrams().received, received + 1);
    }
    let counters = client.counters();
    assert_eq!(
        (counters.foreign, counters.malformed, counters.unauthentic, counters.stray),
        (0, 0, 0, 0)
    );
}

/// Returns the names that the kernel has chosen: five hexadecimal digits each.
pub(crate) fn names_in_abstract_namespace() -> Vec<String> {
    let sockets = fs::read_to_string("/proc/self/net/unix").unwrap();
    let chosen = |name: &&str| name.len() == 5 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    sockets
        .lines()
        .filter_map(|line| line.split_once('@'))
        .map(|(_, name)| name)
        .filter(chosen)
        .map(Into::into)
        .collect()
}

#[tokio::test]
async fn one_client_calls_servers_of_all_kinds_and_one_server_is_called_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = Server::config(PORT, Epoch(1), Key::none()).unwrap();
    let server = Server::bind(config, &[unix(folder.path()), v4(), crate::world::v6()]).unwrap();
    echo(&server);
    for address in server.addresses() {
        let client = crate::world::client_of(Table::from_iter([(PORT, address.clone())]).into());
        assert_eq!(client.call(PORT, "hello", LONG).await.unwrap(), "hello", "{address}");
    }
}

#[tokio::test]
async fn a_thread_outside_of_the_runtime_can_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(PORT, unix(folder.path()));
    echo(&server);
    let client = client(&[(PORT, &server)]);
    let thread =
        std::thread::spawn(move || (client.try_send(PORT, "from a thread", LONG).unwrap(), client));
    let (pending, client) = thread.join().unwrap();
    assert_eq!(pending.await.unwrap(), "from a thread");
    let at = Address::Unix(folder.path().join("server"));
    let other = crate::world::client_of(Table::from_iter([(PORT, at)]).into());
    std::thread::spawn(move || drop((client, other))).join().unwrap();
}

#[tokio::test]
async fn a_path_that_is_too_long_is_named() {
    let path = std::path::PathBuf::from(format!("/tmp/{}", "long".repeat(40)));
    let config = Server::config(PORT, Epoch(1), Key::none()).unwrap();
    let error = Server::bind(config, &[Local::Unix(path.clone(), 0o600)]).unwrap_err().to_string();
    assert!(error.contains("longlong"), "{error}");
    for wrong in [path.clone(), "".into(), "in\0side".into()] {
        let table = Table::from_iter([(PORT, Address::Unix(wrong.clone()))]);
        let client = Client::bind(Client::config(Key::none()).unwrap(), &[], table).unwrap();
        let error = client.call(PORT, "hello", LONG).await.unwrap_err();
        assert!(matches!(&error, CallError::AddressRefused { .. }), "{}: {error}", wrong.display());
    }
    let error = Client::bind(
        Client::config(Key::none()).unwrap(),
        &[Local::Unix(path, 0o600)],
        Table::default(),
    );
    assert!(matches!(error.unwrap_err(), BindError::ServersOnly(_)));
}
