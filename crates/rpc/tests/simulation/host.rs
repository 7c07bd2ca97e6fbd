//! A machine with a client or a server on it, which dies and comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rpc::client::{self, CallId, Client};
use rpc::server::{self, RequestId, Server};
use rpc::{Address, ClientGeneration, ClientId, Epoch, Identity, Key, Port, Time, Transmit};

use crate::ledger::CallNumber;
use crate::network::Flight;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client(ClientId),
    Server(Port),
}

#[allow(clippy::large_enum_variant)] // a handful
pub(crate) enum Process {
    Dead,
    Client(Client),
    Server(Server),
}

/// Traffic between one generation of a server and an address, bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Dealings {
    pub got: u64,
    pub gave: u64,
    /// Whether a packet of this generation has arrived at the address, which then can prove itself
    /// by the ticket. An eavesdropper who gets such packets can do so, too.
    pub has_arrived: bool,
}

/// State of a request in its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Executing,
    Cancelled,
    Replied,
}

pub(crate) struct Host {
    pub role: Role,
    /// Number of the host among those of its kind, which keeps twins' epochs apart.
    number: u64,
    pub address: Address,
    pub former: Vec<Address>,
    pub generation: u64,
    /// Start of the generation on the common clock: a process's own clock begins at zero.
    born_us: u64,
    pub process: Process,
    pub wake_us: Option<u64>,
    pub is_paused: bool,
    pub backlog: VecDeque<Flight>,
    pub resumed_us: u64,
    pub dealings: BTreeMap<Address, Dealings>,
    /// Ports that this generation has called.
    pub met: BTreeSet<u64>,
    pub open: Vec<(CallId, CallNumber)>,
    /// Requests that the services got in this generation.
    pub requests: Vec<(RequestId, State)>,
    request_by_id: HashMap<RequestId, usize>,
}

/// Number above that of the clients with one name.
const TWINS: u64 = 8;

/// Configuration that all hosts share.
#[derive(Clone)]
pub(crate) struct Equipment {
    pub key: Key,
    /// Secret of the tickets, the same in all generations, as in a restored image or on a machine
    /// without random numbers. The epoch alone must suffice.
    pub secret: [u8; 32],
    pub client: client::Limits,
    pub server: server::Limits,
    pub longest_reply_bytes: usize,
    #[cfg(feature = "mutations")]
    pub broken: Vec<rpc::Rule>,
}

impl Equipment {
    /// Returns the longest datagram that a host may send to an address.
    pub(crate) fn datagram_bytes(&self, host: &Host, to: &Address) -> usize {
        match (host.is_server(), to.is_local()) {
            (true, true) => self.server.local_datagram_bytes,
            (true, false) => self.server.datagram_bytes,
            (false, true) => self.client.local_datagram_bytes,
            (false, false) => self.client.datagram_bytes,
        }
    }
}

impl Host {
    pub(crate) fn new(role: Role, number: u64, address: Address) -> Self {
        Self {
            role,
            number,
            address,
            former: Vec::new(),
            generation: 0,
            born_us: 0,
            process: Process::Dead,
            wake_us: None,
            is_paused: false,
            backlog: VecDeque::new(),
            resumed_us: 0,
            dealings: BTreeMap::new(),
            met: BTreeSet::new(),
            open: Vec::new(),
            requests: Vec::new(),
            request_by_id: HashMap::new(),
        }
    }

    pub(crate) fn start(&mut self, now_us: u64, equipment: &Equipment, first_number: u64) {
        self.generation += 1;
        self.born_us = now_us;
        self.process = match self.role {
            Role::Client(_) => Process::Client(Client::new(client::Config {
                identity: self.identity(),
                key: equipment.key.clone(),
                first_number,
                limits: equipment.client.clone(),
            })),
            Role::Server(port) => Process::Server(Server::new(server::Config {
                port,
                epoch: Epoch(self.generation),
                key: equipment.key.clone(),
                secret: equipment.secret,
                limits: equipment.server.clone(),
            })),
        };
        #[cfg(feature = "mutations")]
        equipment.broken.iter().for_each(|rule| self.break_rule(*rule));
        self.wake_us = None;
    }

    #[cfg(feature = "mutations")]
    fn break_rule(&mut self, rule: rpc::Rule) {
        match &mut self.process {
            Process::Dead => (),
            Process::Client(client) => client.break_rule(rule),
            Process::Server(server) => server.break_rule(rule),
        }
    }

    /// Ends the process as `kill -9` does. Returns the calls that die with the process.
    pub(crate) fn kill(&mut self) -> Vec<CallNumber> {
        self.process = Process::Dead;
        self.wake_us = None;
        self.is_paused = false;
        self.backlog.clear();
        self.dealings.clear();
        self.met.clear();
        self.requests.clear();
        self.request_by_id.clear();
        self.open.drain(..).map(|(_, number)| number).collect()
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.process, Process::Dead)
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }

    /// Returns the identity of a client in this generation.
    pub(crate) fn identity(&self) -> Identity {
        let Role::Client(id) = self.role else { panic!("a server") };
        Identity { id, generation: ClientGeneration(self.generation * TWINS + self.number) }
    }

    pub(crate) fn clock(&self, now_us: u64) -> Time {
        Time(now_us - self.born_us)
    }

    pub(crate) fn handle_packet(&mut self, now_us: u64, from: &Address, packet: &[u8]) {
        let now = self.clock(now_us);
        match &mut self.process {
            Process::Dead => (),
            Process::Client(client) => client.handle_packet(now, from, packet),
            Process::Server(server) => server.handle_packet(now, from, packet),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        let now = self.clock(now_us);
        match &mut self.process {
            Process::Dead => (),
            Process::Client(client) => client.handle_timeout(now),
            Process::Server(server) => server.handle_timeout(now),
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        match &mut self.process {
            Process::Dead => None,
            Process::Client(client) => client.poll_transmit(),
            Process::Server(server) => server.poll_transmit(),
        }
    }

    /// Sets the next time to wake the host, on the common clock.
    pub(crate) fn set_alarm(&mut self) {
        let wake = match &self.process {
            Process::Dead => None,
            Process::Client(client) => client.poll_timeout(),
            Process::Server(server) => server.poll_timeout(),
        };
        self.wake_us = wake.map(|at| at.0.saturating_add(self.born_us));
    }

    /// Notes a request that a service got, and returns its index; `None` if the id came before.
    pub(crate) fn enter_request(&mut self, id: RequestId) -> Option<usize> {
        let at = self.requests.len();
        self.requests.push((id, State::Executing));
        self.request_by_id.insert(id, at).is_none().then_some(at)
    }

    pub(crate) fn request(&mut self, id: RequestId) -> Option<&mut State> {
        self.request_by_id.get(&id).map(|at| &mut self.requests[*at].1)
    }

    /// Returns the number of packets that the host couldn't read.
    pub(crate) fn unreadable(&self) -> u64 {
        let (foreign, unauthentic, malformed) = match &self.process {
            Process::Dead => (0, 0, 0),
            Process::Client(client) => {
                let counters = client.counters();
                (counters.foreign, counters.unauthentic, counters.malformed)
            }
            Process::Server(server) => {
                let counters = server.counters();
                (counters.foreign, counters.unauthentic, counters.malformed)
            }
        };
        foreign + unauthentic + malformed
    }

    /// Returns the number of packets that a client sent because a timer expired.
    pub(crate) fn repeated(&self) -> u64 {
        match &self.process {
            Process::Client(client) => client.counters().repeated,
            Process::Dead | Process::Server(_) => 0,
        }
    }

    pub(crate) fn usage(&self) -> String {
        match &self.process {
            Process::Dead => "dead".to_owned(),
            Process::Client(client) => format!("{:?}", client.usage()),
            Process::Server(server) => format!("{:?}", server.usage()),
        }
    }

    /// Returns whether the tables are empty.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.process {
            Process::Dead => true,
            Process::Client(client) => client.usage() == client::Usage::default(),
            Process::Server(server) => server.usage() == server::Usage::default(),
        }
    }

    /// Describes a table over its limit, if there is one.
    pub(crate) fn excess(&self, equipment: &Equipment) -> Option<String> {
        let is_over = match &self.process {
            Process::Dead => false,
            Process::Client(client) => client.usage().calls > equipment.client.calls,
            Process::Server(server) => {
                let (usage, limits) = (server.usage(), &equipment.server);
                // The server keeps a service's reply even beyond the limit, and then refuses new
                // requests.
                let most_bytes = limits.bytes + limits.requests * equipment.longest_reply_bytes;
                usage.sessions > limits.sessions
                    || usage.requests > limits.requests
                    || usage.bytes > most_bytes
            }
        };
        is_over.then(|| self.usage())
    }

    pub(crate) fn take_open(&mut self, id: CallId) -> Option<CallNumber> {
        let at = self.open.iter().position(|(open, _)| *open == id)?;
        Some(self.open.swap_remove(at).1)
    }
}

pub(crate) fn duration(us: u64) -> Duration {
    Duration::from_micros(us)
}
