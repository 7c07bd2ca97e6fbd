//! All sockets of one client or server, and the choice of a socket for each datagram.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket,
    sockopt,
};
use nix::{libc, setsockopt_impl, sockopt_impl};

use super::counters::SocketCounters;
use super::error::BindError;
use super::socket::{ConnectedPeer, Socket, SocketKind, udp_address};
use super::task::Task;
use super::unix::{self, SocketFile};
use crate::{Address, Key, Transmit};

/// Buffer requested from the kernel, in each direction, bytes: a window of packets, and a burst of
/// calls. The kernel grants as much as `net.core.rmem_max` and `wmem_max` allow, and everything to
/// root.
const BUFFER_BYTES: usize = 4 << 20;
/// Number of servers on Unix sockets that a client is connected to. Another server takes the place
/// of the longest unused one, if the client has forgotten that one by then ([`KEPT_IDLES`]).
/// Otherwise the client sends no packet to the new server.
const UNIX_SERVERS: usize = 256;
/// Lifetime of an unused socket, as a multiple of the idle time after which a client forgets a
/// server. To a server, another socket is another client, which gets no answers to the first one's
/// requests. The client notices late that it has forgotten a server, so its socket stays longer.
const KEPT_IDLES: u32 = 2;

/// Least window: two of the longest datagrams, so that one can be under way while the other is
/// handled.
const LEAST_WINDOW_BYTES: u32 = 1 << 16;

/// An address on which a server listens, or from which a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A UDP address. Port 0 stands for any free port.
    Udp(SocketAddr),
    /// The path of a Unix datagram socket, and the mode of the socket file, which decides who may
    /// call. While the server runs, a locked file lies beside it, with `.lock` behind the same
    /// name.
    Unix(PathBuf, u32),
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

impl Local {
    fn address(&self) -> Address {
        match self {
            Self::Udp(address) => Address::Udp(*address),
            Self::Unix(path, _) => Address::Unix(path.clone()),
        }
    }
}

/// The sockets of one client or server.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Option<Arc<Socket>>,
    v6: Option<Arc<Socket>>,
    unix: Option<Arc<Socket>>,
    file: Mutex<Option<SocketFile>>,
    /// Connected sockets of a client, by server.
    connected: Mutex<HashMap<PathBuf, Connected>>,
    /// Time for which an unused socket is kept.
    kept: Duration,
    addresses: Vec<Address>,
}

/// Whether a client can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Yes,
    /// There is no socket of the address's kind.
    NoSocket,
    /// No Unix socket can have this path.
    NoPath,
    /// There are too many servers on Unix sockets.
    NoRoom,
}

#[derive(Debug)]
struct Connected {
    socket: Arc<Socket>,
    /// Time of the last sending.
    used: Instant,
    /// Task that receives from the socket.
    _task: Task,
}

impl Sockets {
    /// Binds the sockets. `idle` is the time after which a client forgets an unused server.
    pub(super) fn bind(locals: &[Local], key: &Key, idle: Duration) -> Result<Self, BindError> {
        let mut sockets = Self { kept: idle.saturating_mul(KEPT_IDLES), ..Self::default() };
        for local in locals {
            let address = local.address();
            if !key.is_secret() && !address.is_local() {
                return Err(BindError::KeyNeeded(address));
            }
            sockets.add(local, &address)?;
        }
        Ok(sockets)
    }

    fn add(&mut self, local: &Local, address: &Address) -> Result<(), BindError> {
        let failed = |source| BindError::Socket { address: address.clone(), source };
        let taken = match local {
            Local::Udp(SocketAddr::V4(_)) => self.v4.is_some(),
            Local::Udp(SocketAddr::V6(_)) => self.v6.is_some(),
            Local::Unix(..) => self.unix.is_some(),
        };
        if taken {
            return Err(BindError::Twice(address.clone()));
        }
        let bound = match local {
            Local::Udp(at) => self.add_udp(*at).map_err(failed)?,
            Local::Unix(path, mode) => self.add_unix(path, *mode).map_err(failed)?,
        };
        self.addresses.push(bound);
        Ok(())
    }

    fn add_udp(&mut self, at: SocketAddr) -> io::Result<Address> {
        let fd = udp_socket(at)?;
        let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
        let socket = Some(Arc::new(Socket::new(fd, SocketKind::Udp)?));
        if at.is_ipv4() {
            self.v4 = socket;
        } else {
            self.v6 = socket;
        }
        udp_address(&bound)
            .ok_or_else(|| io::Error::other("the bound address is neither IPv4 nor IPv6"))
    }

    fn add_unix(&mut self, path: &Path, mode: u32) -> io::Result<Address> {
        let (fd, file) = unix::serve(path, mode)?;
        enlarge_buffers(&fd);
        self.unix = Some(Arc::new(Socket::new(fd, SocketKind::UnixServer)?));
        self.file = Mutex::new(Some(file));
        Ok(Address::Unix(path.to_owned()))
    }

    /// Returns the bound addresses.
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns the bytes that may be under way to a socket at once: a quarter of its buffer. The
    /// kernel uses half of the buffer for itself, and other packets come too.
    pub(super) fn window_bytes(&self) -> u32 {
        let buffers =
            [&self.v4, &self.v6].into_iter().flatten().filter_map(|socket| socket.buffer_bytes());
        let least =
            buffers.min().map_or(u32::MAX, |bytes| u32::try_from(bytes / 4).unwrap_or(u32::MAX));
        least.max(LEAST_WINDOW_BYTES)
    }

    /// Returns the bound sockets.
    pub(super) fn bound(&self) -> impl Iterator<Item = Arc<Socket>> {
        [self.v4.clone(), self.v6.clone(), self.unix.clone()].into_iter().flatten()
    }

    /// Returns whether a datagram could be sent to this address.
    pub(super) fn can_reach(&self, address: &Address) -> Reach {
        let (socket, missing) = match address {
            Address::Udp(SocketAddr::V4(_)) => (self.v4.is_some(), Reach::NoSocket),
            Address::Udp(SocketAddr::V6(_)) => (self.v6.is_some(), Reach::NoSocket),
            Address::Unix(path) if unix::address_of(path).is_err() => (false, Reach::NoPath),
            Address::Unix(path) => (self.unix.is_some() || self.has_room_for(path), Reach::NoRoom),
        };
        if socket { Reach::Yes } else { missing }
    }

    fn has_room_for(&self, path: &Path) -> bool {
        let mut connected = self.lock();
        connected.contains_key(path) || make_room(&mut connected, self.kept)
    }

    /// Forgets the connected servers, and ends the tasks that receive from them. Removes a server's
    /// socket file.
    pub(super) fn disconnect(&self) {
        self.lock().clear();
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sends all datagrams, each by the socket of its kind. `begin` gets each socket that was made
    /// for them.
    pub(super) fn send(
        &self,
        datagrams: &[Transmit],
        counters: &SocketCounters,
        begin: impl Fn(Arc<Socket>) -> Task,
    ) {
        for run in datagrams.chunk_by(|a, b| a.to == b.to) {
            let Some(to) = run.first().map(|first| &first.to) else { continue };
            match to {
                Address::Udp(SocketAddr::V4(_)) => send_by(self.v4.as_deref(), run, counters),
                Address::Udp(SocketAddr::V6(_)) => send_by(self.v6.as_deref(), run, counters),
                Address::Unix(path) => self.send_unix(path, run, counters, &begin),
            }
        }
    }

    fn send_unix(
        &self,
        path: &Path,
        run: &[Transmit],
        counters: &SocketCounters,
        begin: &impl Fn(Arc<Socket>) -> Task,
    ) {
        if let Some(socket) = &self.unix {
            return socket.send(run, counters);
        }
        match self.connected(path, begin) {
            Ok(socket) => socket.send(run, counters),
            Err(error) => {
                for datagram in run {
                    counters.undeliverable(&datagram.to, datagram.packet.len(), error);
                }
            }
        }
    }

    fn connected(
        &self,
        path: &Path,
        begin: &impl Fn(Arc<Socket>) -> Task,
    ) -> nix::Result<Arc<Socket>> {
        let mut connected = self.lock();
        if let Some(known) = connected.get_mut(path) {
            known.used = Instant::now();
            return Ok(known.socket.clone());
        }
        if !make_room(&mut connected, self.kept) {
            return Err(Errno::EUSERS);
        }
        let server = unix::address_of(path)?;
        let fd = unix::reach(&server)?;
        enlarge_buffers(&fd);
        let socket = Arc::new(
            Socket::new(
                fd,
                SocketKind::UnixClient(
                    Address::Unix(path.to_owned()),
                    server,
                    Mutex::new(ConnectedPeer::Server),
                ),
            )
            .map_err(|error| errno(&error))?,
        );
        let task = begin(socket.clone());
        let (used, known) = (Instant::now(), socket.clone());
        connected.insert(path.to_owned(), Connected { socket: known, used, _task: task });
        Ok(socket)
    }

    /// Connects again to a server that was looked up again: another server may be at the same path.
    pub(super) fn connect_again(&self, address: &Address) {
        let Address::Unix(path) = address else { return };
        if let Some(known) = self.lock().get(path) {
            // If no server is at the path, the next sending reports the failure.
            let _ = known.socket.connect_again();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the longest unused server, if there are too many servers and it was unused for long
/// enough.
fn make_room(connected: &mut HashMap<PathBuf, Connected>, kept: Duration) -> bool {
    if connected.len() < UNIX_SERVERS {
        return true;
    }
    let longest = connected.iter().min_by_key(|(_, known)| known.used);
    let left =
        longest.filter(|(_, known)| known.used.elapsed() >= kept).map(|(path, _)| path.clone());
    left.is_some_and(|path| connected.remove(&path).is_some())
}

fn send_by(socket: Option<&Socket>, run: &[Transmit], counters: &SocketCounters) {
    match socket {
        Some(socket) => socket.send(run, counters),
        None => {
            for datagram in run {
                counters.undeliverable(&datagram.to, datagram.packet.len(), Errno::EAFNOSUPPORT);
            }
        }
    }
}

sockopt_impl!(
    /// Option `IP_MTU_DISCOVER`, ip(7).
    IpMtuDiscover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int);
sockopt_impl!(
    /// Option `IPV6_MTU_DISCOVER`, ipv6(7).
    Ipv6MtuDiscover, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int);

fn udp_socket(at: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd =
        socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    enlarge_buffers(&fd);
    allow_fragmentation(&fd, at)?;
    // Linux has this option since 5.0. Without the option, datagrams come one by one.
    let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(fd)
}

/// Allows datagrams to be cut on their way. By default the kernel forbids IPv4's routers to cut. A
/// router that sends no ICMP then loses each datagram that is longer than its next link, at every
/// attempt. When allowed, routers cut the datagram and the receiver's kernel joins the pieces. If
/// the kernel joins wrong pieces, after identifiers have wrapped around (RFC 4963), the packet's
/// hash is wrong. Routers of IPv6 never cut: the sending kernel cuts, after an ICMP message. On a
/// path without these messages, the limits' `datagram_bytes` must be 1,232 (RFC 8200, section 5).
fn allow_fragmentation(fd: &OwnedFd, at: SocketAddr) -> nix::Result<()> {
    if at.is_ipv4() {
        setsockopt(fd, IpMtuDiscover, &libc::IP_PMTUDISC_DONT)
    } else {
        setsockopt(fd, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_DONT)
    }
}

/// Enlarges the buffers to [`BUFFER_BYTES`] if this process may, else as far as the kernel allows.
fn enlarge_buffers(fd: &OwnedFd) {
    if setsockopt(fd, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(fd, sockopt::RcvBuf, &BUFFER_BYTES);
    }
    if setsockopt(fd, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(fd, sockopt::SndBuf, &BUFFER_BYTES);
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
