//! All sockets of one client or server, and which of them a datagram leaves by.

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

use super::counters::Counters;
use super::error::BindError;
use super::socket::{Kind, Link, Socket, udp_address};
use super::task::Task;
use super::unix::{self, SocketFile};
use crate::{Address, Key, Transmit};

/// Asked of the kernel for each direction: a window of packets, and a burst of calls. It grants
/// what `net.core.rmem_max` and `wmem_max` allow, or all of it to root.
const BUFFER_BYTES: usize = 4 << 20;
/// Servers on Unix sockets that a client is connected to. Another takes the place of the one that
/// nothing was sent to for longest, if the client has forgotten that one by then ([`KEPT_IDLES`]);
/// if there is none such, it isn't sent to.
const UNIX_SERVERS: usize = 256;
/// Lifetime of an unused socket, in idle times. To a server, another socket is another client, to
/// whom it no longer answers what the first one asked. So a socket stays for so many times the time
/// after which a client that calls a server no more forgets it; it notices late.
const KEPT_IDLES: u32 = 2;

/// Two of the longest datagrams, so that something can be under way while something else is
/// handled.
const LEAST_WINDOW_BYTES: u32 = 1 << 16;

/// An address on which a server listens, or from which a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A UDP address. Port 0 is any.
    Udp(SocketAddr),
    /// A path for a Unix datagram socket, and the mode of the socket file: who may write to it may
    /// call. While it is served, there is a locked file beside it, with `.lock` behind the same
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

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Option<Arc<Socket>>,
    v6: Option<Arc<Socket>>,
    unix: Option<Arc<Socket>>,
    file: Mutex<Option<SocketFile>>,
    /// A client's, by server.
    connected: Mutex<HashMap<PathBuf, Connected>>,
    /// Time for which a socket is kept that nothing is sent by.
    kept: Duration,
    addresses: Vec<Address>,
}

/// Whether a datagram could be sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Yes,
    /// There is no socket of its kind.
    NoSocket,
    /// No Unix socket can have that path.
    NoPath,
    /// The server is one on a Unix socket too many.
    NoRoom,
}

#[derive(Debug)]
struct Connected {
    socket: Arc<Socket>,
    /// The time of the last sending.
    used: Instant,
    /// The task that receives from it.
    _task: Task,
}

impl Sockets {
    /// `idle` is the time after which a client that calls a server no more forgets it.
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
        let socket = Some(Arc::new(Socket::new(fd, Kind::Udp)?));
        if at.is_ipv4() {
            self.v4 = socket;
        } else {
            self.v6 = socket;
        }
        udp_address(&bound).ok_or_else(|| io::Error::other("bound to no address"))
    }

    fn add_unix(&mut self, path: &Path, mode: u32) -> io::Result<Address> {
        let (fd, file) = unix::serve(path, mode)?;
        enlarge_buffers(&fd);
        self.unix = Some(Arc::new(Socket::new(fd, Kind::UnixServer)?));
        self.file = Mutex::new(Some(file));
        Ok(Address::Unix(path.to_owned()))
    }

    /// Returns the bound addresses.
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// So much may be under way to a socket at once: a quarter of its buffer, of which the kernel
    /// counts half as its own expense, and other packets come too.
    pub(super) fn window_bytes(&self) -> u32 {
        let buffers =
            [&self.v4, &self.v6].into_iter().flatten().filter_map(|socket| socket.buffer_bytes());
        let least =
            buffers.min().map_or(u32::MAX, |bytes| u32::try_from(bytes / 4).unwrap_or(u32::MAX));
        least.max(LEAST_WINDOW_BYTES)
    }

    /// Those that were bound.
    pub(super) fn bound(&self) -> impl Iterator<Item = Arc<Socket>> {
        [self.v4.clone(), self.v6.clone(), self.unix.clone()].into_iter().flatten()
    }

    /// Whether a datagram could be sent there at all.
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

    /// Forgets the servers it is connected to, and ends the tasks that receive from them; removes a
    /// server's socket file.
    pub(super) fn disconnect(&self) {
        self.lock().clear();
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sends all, each by the socket of its kind. `begin` is told of a socket that was made for it.
    pub(super) fn send(
        &self,
        datagrams: &[Transmit],
        counters: &Counters,
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
        counters: &Counters,
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
                Kind::UnixClient(Address::Unix(path.to_owned()), server, Mutex::new(Link::Server)),
            )
            .map_err(|error| errno(&error))?,
        );
        let task = begin(socket.clone());
        let (used, known) = (Instant::now(), socket.clone());
        connected.insert(path.to_owned(), Connected { socket: known, used, _task: task });
        Ok(socket)
    }

    /// A server that is looked up again may be another one at the same path.
    pub(super) fn connect_again(&self, address: &Address) {
        let Address::Unix(path) = address else { return };
        if let Some(known) = self.lock().get(path) {
            // If nobody is there, sending will say so.
            let _ = known.socket.connect_again();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the server that nothing was sent to for longest, if there have to be fewer and it was so
/// long ago.
fn make_room(connected: &mut HashMap<PathBuf, Connected>, kept: Duration) -> bool {
    if connected.len() < UNIX_SERVERS {
        return true;
    }
    let longest = connected.iter().min_by_key(|(_, known)| known.used);
    let left =
        longest.filter(|(_, known)| known.used.elapsed() >= kept).map(|(path, _)| path.clone());
    left.is_some_and(|path| connected.remove(&path).is_some())
}

fn send_by(socket: Option<&Socket>, run: &[Transmit], counters: &Counters) {
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
    /// `IP_MTU_DISCOVER`, ip(7).
    IpMtuDiscover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int);
sockopt_impl!(
    /// `IPV6_MTU_DISCOVER`, ipv6(7).
    Ipv6MtuDiscover, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int);

fn udp_socket(at: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd =
        socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    enlarge_buffers(&fd);
    let_be_cut(&fd, at)?;
    // Linux 5.0; without it, datagrams just come one by one.
    let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(fd)
}

/// Datagrams may be cut on their way. By default the kernel forbids it to IPv4's routers, so that
/// behind one that tells nobody (no ICMP comes back) whatever is longer than its next link is lost
/// each time it is sent. Allowed, routers of IPv4 cut it and the receiver's kernel joins the
/// pieces; if it joins wrong ones, after identifiers have wrapped around (RFC 4963), the packet's
/// hash isn't right. Routers of IPv6 never cut: the sending kernel does, once it was told by ICMP,
/// and where none comes back the limits' `datagram_bytes` have to be 1,232 (RFC 8200, section 5).
fn let_be_cut(fd: &OwnedFd, at: SocketAddr) -> nix::Result<()> {
    if at.is_ipv4() {
        setsockopt(fd, IpMtuDiscover, &libc::IP_PMTUDISC_DONT)
    } else {
        setsockopt(fd, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_DONT)
    }
}

/// Enlarges buffers as far as wanted if this process may, else as far as is allowed: a wish, not a
/// condition.
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
