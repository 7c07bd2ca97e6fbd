//! The library as a program would use it: one client that all callers share, and a server that
//! echoes in one task.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use rpc::driver::{Client, Local, Server, Table};
use rpc::{Address, Epoch, Key, Port};

/// Port of the only server.
const PORT: Port = Port(1);
/// Key file in the folder of the place. The server writes it before it tells its address.
const KEY_FILE: &str = "rpc.key";
/// Unix socket of the server, in the same folder.
const SOCKET: &str = "rpc.sock";
/// Mode of the socket: only its owner may write to it.
const MODE: u32 = 0o600;

/// Transport of the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// UDP with a key where packets leave the machine, and without one elsewhere.
    Udp,
    /// UDP with a key everywhere.
    UdpWithKey,
    Unix,
}

/// Starts a server that echoes. Returns its address.
pub(super) fn serve(over: Over, address: Ipv4Addr) -> Result<String> {
    fs::write(KEY_FILE, "a key that everybody may know, since only a benchmark has it\n")?;
    fs::set_permissions(KEY_FILE, Permissions::from_mode(0o600))?;
    let local = match over {
        Over::Udp | Over::UdpWithKey => Local::Udp(SocketAddr::new(address.into(), 0)),
        Over::Unix => Local::Unix(SOCKET.into(), MODE),
    };
    let server = Server::bind(Server::config(PORT, Epoch(1), key(over, address)?)?, &[local])?;
    let address = server.addresses().first().context("server: bound to no address")?;
    let address = match address {
        Address::Udp(address) => address.to_string(),
        Address::Unix(path) => path.display().to_string(),
    };
    tokio::spawn(async move {
        while let Some(request) = server.recv().await {
            // A reply is refused only if its caller has given up, and then the benchmark has failed
            // already.
            let (id, body) = request.detach();
            let _ = server.reply(id, body);
        }
    });
    Ok(address)
}

/// One caller.
pub(super) struct RpcCaller(Client);

/// Returns callers that share a client.
pub(super) fn callers(over: Over, server: &str, callers: usize) -> Result<Vec<RpcCaller>> {
    let (address, local) = match over {
        Over::Udp | Over::UdpWithKey => {
            let server: SocketAddr = server.parse()?;
            let local =
                if server.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
            (Address::Udp(server), Some(SocketAddr::new(local.into(), 0)))
        }
        Over::Unix => (Address::Unix(server.into()), None),
    };
    let key = match &address {
        Address::Udp(SocketAddr::V4(server)) => key(over, *server.ip())?,
        Address::Udp(SocketAddr::V6(_)) | Address::Unix(_) => Key::none(),
    };
    let locals: Vec<_> = local.into_iter().map(Local::Udp).collect();
    let directory: Table = [(PORT, address)].into_iter().collect();
    let client = Client::bind(Client::config(key)?, &locals, directory)?;
    Ok((0..callers).map(|_| RpcCaller(client.clone())).collect())
}

impl RpcCaller {
    pub(super) async fn call(&self, body: &Bytes, limit: Duration) -> Result<Bytes> {
        Ok(self.0.call(PORT, body.clone(), limit).await?)
    }
}

fn key(over: Over, server: Ipv4Addr) -> Result<Key> {
    let needed = over == Over::UdpWithKey || over == Over::Udp && !server.is_loopback();
    Ok(if needed { Key::from_file(Path::new(KEY_FILE))? } else { Key::none() })
}
