//! The rpc endpoint of an agent's process, at which it answers other agents and from which it calls
//! them.
//!
//! The address is the configured one (`agents.address`). Without one, a process that has a key
//! (`agents.rpc_key`) takes the address from which it reaches Redis, and one without a key a
//! loopback address. Packets of other hosts are authenticated by the key, so there is no other
//! address without one (decision 0016).
//!
//! A process without an endpoint works on: its lease alone shows that it lives.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rpc::driver::{BindError, Client, Local, Server, Table};
use rpc::typed::{self, TypedError};
use rpc::{Address, CallError, Epoch, Key, Port};
use settings::AgentAddress;
use spool::Generation;
use tokio::net::{UdpSocket, lookup_host};

use crate::daemon::Instance;
use crate::peer::{CALL_LIMIT, CallEnd, CallNumber, Peer, Reply, Request};

/// Number of ports that are tried from the configured one on: agents of one host share a setting.
const PORTS: u16 = 16;
/// Retransmission timer of the first calls: a reply takes less on any network, and a lost packet is
/// sent again within [`CALL_LIMIT`].
const RTO_INITIAL: Duration = Duration::from_millis(80);

/// The endpoint of a process; see the module.
#[derive(Debug)]
pub struct Endpoint(Option<Open>);

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    server: typed::Server<Request, Reply>,
    client: typed::Client<Request, Reply>,
    table: Arc<Table>,
    asked: BTreeMap<CallNumber, typed::Responder<Reply>>,
    calls: u64,
}

impl Endpoint {
    /// Returns an endpoint that answers nobody.
    pub fn closed() -> Self {
        Self(None)
    }

    /// Opens the endpoint of one generation of an agent. A failure is logged as an error.
    pub async fn open(instance: &Instance, generation: Generation) -> Self {
        match Self::try_open(instance, generation).await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(
                    failure = %settings::told(error.as_ref()),
                    "rpc not opened: other agents see only this one's lease; correct the cause \
                        and start the agent again"
                );
                Self(None)
            }
        }
    }

    /// Opens the endpoint of one generation of an agent.
    pub async fn try_open(instance: &Instance, generation: Generation) -> Result<Self> {
        let key = match &instance.rpc_key {
            Some(Ok(key)) => key.clone(),
            Some(Err(words)) => bail!("agents.rpc_key: {words}"),
            None => Key::none(),
        };
        Self::at(place(instance, &key).await?, key, generation)
    }

    /// Opens an endpoint at an address, for tests also without an instance.
    pub fn at(at: AgentAddress, key: Key, generation: Generation) -> Result<Self> {
        Open::at(at, key, generation).map(|open| Self(Some(open)))
    }

    /// Returns the address at which the endpoint answers.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(|it| it.address)
    }

    /// Returns the next call of another agent. The call may be abandoned and made again: nothing is
    /// lost by it.
    pub async fn next(&mut self) -> (CallNumber, Request) {
        let Some(open) = &mut self.0 else { return pending().await };
        let Some(request) = open.server.recv().await else {
            // The server has closed, as rpc has logged.
            return pending().await;
        };
        open.calls += 1;
        let call = CallNumber(open.calls);
        let (request, responder) = request.into_parts();
        open.asked.insert(call, responder);
        (call, request)
    }

    /// Replies to a call.
    pub fn reply(&mut self, call: CallNumber, reply: Reply) {
        let responder = self.0.as_mut().and_then(|it| it.asked.remove(&call));
        let Some(responder) = responder else {
            return debug_assert!(false, "a call is answered once");
        };
        if let Err(error) = responder.send(reply) {
            tracing::debug!(%error, "reply not sent");
        }
    }

    /// Calls another agent.
    pub fn call(&self, peer: &Peer, request: Request) -> LocalBoxFuture<'static, CallEnd> {
        let Some(open) = &self.0 else { return async { CallEnd::Failed }.boxed_local() };
        let (client, table, port) =
            (open.client.clone(), open.table.clone(), port(peer.generation));
        table.set(port, peer.address);
        let agent = peer.agent.clone();
        async move {
            let reply = client.call(port, &request, CALL_LIMIT).await;
            table.remove(port);
            match reply {
                Ok(reply) => CallEnd::Replied(reply),
                Err(error) => {
                    tracing::debug!(%agent, %error, "call without a reply");
                    ended(&error)
                }
            }
        }
        .boxed_local()
    }
}

fn ended(error: &TypedError) -> CallEnd {
    match error {
        TypedError::Call(CallError::TimedOut(_) | CallError::ServerDown { .. }) => CallEnd::Silent,
        TypedError::Call(_)
        | TypedError::NotUnderstood(_)
        | TypedError::Request(_)
        | TypedError::Reply(_) => CallEnd::Failed,
    }
}

/// Returns the port of a process. No other process has the same, also not at the same address.
fn port(generation: Generation) -> Port {
    Port(generation.random_bits() as u64)
}

impl Open {
    fn at(at: AgentAddress, key: Key, generation: Generation) -> Result<Self> {
        // The port is this process's alone, so no earlier epoch of it exists.
        let config = Server::config(port(generation), Epoch(1), key.clone())?;
        let server = bind(config, at)?;
        let Some(Address::Udp(address)) = server.addresses().first().cloned() else {
            bail!("{}: bound to no UDP address", at.ip);
        };
        let table = Arc::new(Table::default());
        let mut config = Client::config(key)?;
        config.limits.rto_initial = RTO_INITIAL;
        // From a loopback address no other host is reached.
        let from = if at.ip.is_loopback() { SocketAddr::new(at.ip, 0) } else { any_like(at.ip) };
        let client = Client::bind(config, &[Local::Udp(from)], table.clone())?;
        Ok(Self {
            address,
            server: typed::Server::new(server),
            client: typed::Client::new(client),
            table,
            asked: BTreeMap::new(),
            calls: 0,
        })
    }
}

/// Returns any local address of the same kind.
fn any_like(ip: IpAddr) -> SocketAddr {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

/// Returns the address at which this instance's agents answer.
async fn place(instance: &Instance, key: &Key) -> Result<AgentAddress> {
    match instance.settings.agents.address {
        Some(at) if !key.is_secret() && !at.ip.is_loopback() => {
            bail!("agents.address: {}: reachable by other hosts; set agents.rpc_key", at.ip)
        }
        Some(at) => Ok(at),
        None if key.is_secret() => found(instance).await,
        None => Ok(AgentAddress { ip: Ipv4Addr::LOCALHOST.into(), port: None }),
    }
}

/// Finds the address from which this host reaches Redis. No packet is sent.
async fn found(instance: &Instance) -> Result<AgentAddress> {
    let spool::Address::Tcp(host, port) = &instance.server.address else {
        return Ok(AgentAddress { ip: Ipv4Addr::LOCALHOST.into(), port: None });
    };
    let failed = || format!("{host}: no address found by which this host reaches Redis");
    let to = lookup_host((host.as_str(), *port)).await.with_context(failed)?.next();
    let to = to.with_context(failed)?;
    let socket = UdpSocket::bind(any_like(to.ip())).await.with_context(failed)?;
    socket.connect(to).await.with_context(failed)?;
    Ok(AgentAddress { ip: socket.local_addr().with_context(failed)?.ip(), port: None })
}

/// Binds a server to the address: to its port or one of the next, or else to any free port.
fn bind(config: rpc::server::Config, at: AgentAddress) -> Result<Server> {
    let AgentAddress { ip, port } = at;
    let Some(first) = port else { return Ok(bind_to(config, SocketAddr::new(ip, 0))?) };
    let last = first.saturating_add(PORTS - 1);
    for port in first..last {
        match bind_to(config.clone(), SocketAddr::new(ip, port)) {
            Err(BindError::Socket { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
    }
    Ok(bind_to(config, SocketAddr::new(ip, last))?)
}

fn bind_to(config: rpc::server::Config, at: SocketAddr) -> Result<Server, BindError> {
    Server::bind(config, &[Local::Udp(at)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool::Start;

    fn generation(n: u128) -> Generation {
        Generation::from_parts(1, n)
    }

    fn endpoint(n: u128, key: &Key) -> Endpoint {
        Endpoint::at("127.0.0.1".parse().unwrap(), key.clone(), generation(n)).unwrap()
    }

    /// Returns the agent of a generation at an endpoint's address.
    fn peer(endpoint: &Endpoint, n: u128) -> Peer {
        let (agent, address) = ("a".parse().unwrap(), endpoint.address().unwrap());
        Peer { agent, generation: generation(n), address, start: Start(1), taken: 1 }
    }

    /// Answers all calls while this call is open.
    async fn answered(server: &mut Endpoint, call: LocalBoxFuture<'static, CallEnd>) -> CallEnd {
        let mut call = call;
        loop {
            tokio::select! {
                end = &mut call => return end,
                (number, request) = server.next() => {
                    assert_eq!(request, Request::Probe);
                    server.reply(number, Reply::Here { has_lots: true });
                }
            }
        }
    }

    #[tokio::test]
    async fn an_agent_is_reached_by_those_that_know_its_generation_and_its_key() {
        let key = Key::from_secret(b"secret");
        let (mut server, client) = (endpoint(1, &key), endpoint(2, &key));
        let here = CallEnd::Replied(Reply::Here { has_lots: true });
        for _ in 0..2 {
            let call = client.call(&peer(&server, 1), Request::Probe);
            assert_eq!(answered(&mut server, call).await, here);
        }
        let later = client.call(&peer(&server, 3), Request::Probe);
        assert_eq!(answered(&mut server, later).await, CallEnd::Silent);
        for other in [Key::from_secret(b"other"), Key::none()] {
            let stranger = endpoint(4, &other).call(&peer(&server, 1), Request::Probe);
            assert_eq!(answered(&mut server, stranger).await, CallEnd::Silent);
        }
    }

    #[tokio::test]
    async fn an_agent_that_has_ended_is_silent() {
        let (server, client) = (endpoint(1, &Key::none()), endpoint(2, &Key::none()));
        let peer = peer(&server, 1);
        drop(server);
        assert_eq!(client.call(&peer, Request::Probe).await, CallEnd::Silent);
        let closed = Endpoint::closed().call(&peer, Request::Probe).await;
        assert_eq!(closed, CallEnd::Failed);
    }

    #[tokio::test]
    async fn agents_of_one_host_share_a_configured_port() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = AgentAddress { ip: Ipv4Addr::LOCALHOST.into(), port: Some(free.min(65_000)) };
        let open = |n| Endpoint::at(at, Key::none(), generation(n)).unwrap();
        let (first, second) = (open(1), open(2));
        let ports = [&first, &second].map(|it| it.address().unwrap().port());
        assert!(ports[0] < ports[1] && ports[1] < free + PORTS, "{ports:?}");
    }
}
