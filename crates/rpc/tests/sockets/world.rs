//! Servers and clients for the tests of sockets.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rpc::driver::{Client, Local, Server, Table};
use rpc::{Address, CallError, Epoch, Key, Port};

/// Limit above any time that a test takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn v4() -> Local {
    Local::Udp((Ipv4Addr::LOCALHOST, 0).into())
}

pub(crate) fn v6() -> Local {
    Local::Udp((Ipv6Addr::LOCALHOST, 0).into())
}

pub(crate) fn unix(folder: &Path) -> Local {
    Local::Unix(folder.join("server"), 0o600)
}

pub(crate) fn server(port: Port, local: Local) -> Server {
    let config = Server::config(port, Epoch(1), Key::none()).unwrap();
    Server::bind(config, &[local]).unwrap()
}

/// Returns a client that can call all of these servers.
pub(crate) fn client(servers: &[(Port, &Server)]) -> Client {
    client_of(table(servers))
}

pub(crate) fn client_of(table: Arc<Table>) -> Client {
    Client::bind(Client::config(Key::none()).unwrap(), &[v4(), v6()], table).unwrap()
}

pub(crate) fn table(servers: &[(Port, &Server)]) -> Arc<Table> {
    Arc::new(servers.iter().map(|(port, server)| (*port, address(server))).collect())
}

pub(crate) fn address(server: &Server) -> Address {
    server.addresses()[0].clone()
}

/// Replies to each request with its own body.
pub(crate) fn echo(server: &Server) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Some(request) = server.recv().await {
            let (id, body) = request.detach();
            let _ = server.reply(id, body);
        }
    });
}

/// Calls until the server's next generation answers. Earlier calls may end because the server is
/// down or has restarted; any other error fails at once.
pub(crate) async fn until_answered(client: &Client, port: Port, body: &'static str) {
    let began = Instant::now();
    while let Err(error) = client.call(port, body, LONG).await {
        let may_come_back =
            matches!(error, CallError::ServerDown { .. } | CallError::ServerRestarted { .. });
        assert!(may_come_back, "{body}: {error}");
        assert!(began.elapsed() < LONG, "{body}: not answered within {LONG:?}: {error}");
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"));
}
