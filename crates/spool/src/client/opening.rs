//! Connecting to the master that a server's name leads to at this moment.
//!
//! The name is resolved for each connection, and each of its addresses is tried until one is a
//! master. After a failover the name may lead to another server, or to several of which one is the
//! master. A replica is never used, even if it answers every call: its data may be old, and a write
//! to a replica is lost.
//!
//! `HELLO` tells the role, and every ACL user may send it (`CMD_NO_AUTH` in Redis's `hello.json`).

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use host::folder::is_refusal;
use host::peer::Socket;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, Value, from_redis_value,
};
use sansio::Policy;
use tokio::net::{UnixStream, lookup_host};
use tokio::time::timeout;

use super::SpoolError;
use crate::{Address, Server};

/// Time limit for an answer: the redis crate's half second is too short for an fsync of a busy
/// disk. Half a default lease is longer than this limit.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(2);

/// Pauses between two attempts to connect.
pub(super) const RECONNECT: Policy = Policy::from_millis(20, 500);

/// Size limit of a password file: no password is longer.
const PASSWORD_BYTES_MAX: u64 = 4_096;
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Time limit for resolving a name: resolvers ask a second server after some seconds.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Connects to the first of the server's addresses that is a master.
pub(super) async fn open(
    server: &Server,
) -> Result<(MultiplexedConnection, ConnectionAddr), SpoolError> {
    let mut failed = None;
    for target in targets(&server.address).await? {
        match open_one(server, &target).await {
            Ok(wire) => return Ok((wire, target)),
            Err(error) => failed = Some(more_telling(failed, error)),
        }
    }
    Err(failed
        .unwrap_or_else(|| SpoolError::Unavailable(format!("{}: no address", server.address))))
}

/// Returns the more useful of two errors: that of a replica, rather than that of a server that is
/// down.
fn more_telling(before: Option<SpoolError>, error: SpoolError) -> SpoolError {
    before.filter(|before| !matches!(before, SpoolError::Unavailable(_))).unwrap_or(error)
}

async fn targets(address: &Address) -> Result<Vec<ConnectionAddr>, SpoolError> {
    let (host, port) = match address {
        Address::Unix(path) => return Ok(vec![ConnectionAddr::Unix(path.clone())]),
        Address::Tcp(host, port) => (host, *port),
    };
    let unresolved = |error: io::Error| SpoolError::Unavailable(format!("host {host}: {error}"));
    let found = timeout(RESOLVE_LIMIT, lookup_host((host.as_str(), port))).await;
    let found =
        found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unresolved)?;
    Ok(found.map(|it| ConnectionAddr::Tcp(it.ip().to_string(), it.port())).collect())
}

async fn open_one(
    server: &Server,
    target: &ConnectionAddr,
) -> Result<MultiplexedConnection, SpoolError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_response_timeout(Some(RESPONSE_LIMIT));
    let client = client(server, target)?;
    let mut wire = match target {
        ConnectionAddr::Unix(path) if server.expects_owner => {
            let opened = timeout(CONNECT_LIMIT, open_expected(path, &client, config)).await;
            opened.unwrap_or_else(|_| Err(silent()))?
        }
        _ => client.get_multiplexed_async_connection_with_config(&config).await?,
    };
    expect_master(&mut wire, target).await?;
    Ok(wire)
}

fn silent() -> SpoolError {
    SpoolError::Unavailable("no answer in time".to_owned())
}

async fn open_expected(
    path: &Path,
    client: &Client,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, SpoolError> {
    let login = client.get_connection_info().redis_settings();
    let stream = connect_expected(path).await?;
    let (wire, driver) = MultiplexedConnection::new_with_config(login, stream, config).await?;
    // The task ends when the last handle of the connection is dropped.
    tokio::spawn(driver);
    Ok(wire)
}

/// Connects to a socket at which root or the owner of its folder listens, and to no other.
pub(super) async fn connect_expected(path: &Path) -> Result<UnixStream, SpoolError> {
    let connected = async {
        let socket = Socket::find(path)?;
        let stream = UnixStream::connect(socket.path()).await?;
        socket.expect_owner(&stream)?;
        Ok::<_, io::Error>(stream)
    };
    connected.await.map_err(|error| match is_refusal(&error) {
        true => SpoolError::of_file(path, "not used", &error, "see to the socket"),
        false => SpoolError::Unavailable(error.to_string()),
    })
}

/// Fails with [`SpoolError::NotMaster`] on a server that is no master.
pub(super) async fn expect_master(
    wire: &mut MultiplexedConnection,
    target: &ConnectionAddr,
) -> Result<(), SpoolError> {
    let answer: Value = redis::cmd("HELLO").arg(2).query_async(wire).await?;
    let mut facts: HashMap<String, Value> = from_redis_value(answer)
        .map_err(|error| SpoolError::Malformed(format!("{target}: HELLO: {error}")))?;
    let role = facts.remove("role").and_then(|role| from_redis_value::<String>(role).ok());
    match role.as_deref() {
        Some("master") => Ok(()),
        role => Err(SpoolError::NotMaster {
            server: target.to_string(),
            role: role.unwrap_or("server without a role").to_owned(),
        }),
    }
}

/// Returns a client of the redis crate for the server at one of its addresses.
pub(super) fn client(server: &Server, target: &ConnectionAddr) -> Result<Client, SpoolError> {
    let mut login =
        RedisConnectionInfo::default().set_db(server.database.into()).set_skip_set_lib_name();
    if let Some(user) = &server.user {
        login = login.set_username(user);
    }
    if let Some(password) = password_of(server)? {
        login = login.set_password(password);
    }
    let info: ConnectionInfo = target.clone().into_connection_info()?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(Client::open(info.set_redis_settings(login).set_tcp_settings(tcp))?)
}

fn password_of(server: &Server) -> Result<Option<String>, SpoolError> {
    let Some(path) = &server.password_file else { return Ok(server.password.clone()) };
    match host::file::read_text(path, PASSWORD_BYTES_MAX) {
        Ok(text) => Ok(text.lines().next().map(str::to_owned)),
        Err(error) => {
            let user = server.user.as_deref().unwrap_or("default");
            let failure = format!("password of user {user} not read");
            let remedy = "let the user that runs this read the file";
            Err(match error.kind() {
                io::ErrorKind::NotFound => {
                    SpoolError::Unavailable(format!("{}: {failure}: {error}", path.display()))
                }
                _ => SpoolError::of_file(path, &failure, &error, remedy),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_replica_precedes_that_of_a_dead_server() {
        let down = || SpoolError::Unavailable("down".to_owned());
        let replica = || SpoolError::NotMaster {
            server: "127.0.0.1:1".to_owned(),
            role: "replica".to_owned(),
        };
        assert_eq!(more_telling(None, down()), down());
        assert_eq!(more_telling(Some(replica()), down()), replica());
        assert_eq!(more_telling(Some(down()), replica()), replica());
    }
}
