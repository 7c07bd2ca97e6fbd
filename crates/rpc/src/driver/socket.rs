//! One socket, over which any task may send, while one task waits for its datagrams.
//!
//! The socket is registered for reading alone. If it were registered for writing, the kernel would
//! wake its owner after every sent datagram. So the writing side is registered only while datagrams
//! wait in the outbox.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrLike, SockaddrStorage,
    UnixAddr, connect, getsockopt, recv, recvmsg, send, sendmsg, sendto, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use super::counters::SocketCounters;
use super::inbox::ReceiveBuffer;
use super::outbox::{Outbox, SendOutcome};
use super::{readiness, unix};
use crate::{Address, Transmit};

/// Most datagrams that the kernel takes in one piece and cuts apart (`UDP_MAX_SEGMENTS` is 64 in
/// older kernels).
const SEGMENTS: usize = 64;
/// Most bytes of such a piece: IPv4's longest packet, less its headers.
const SEGMENTS_BYTES: usize = 65_507;

/// Most attempts to receive in one turn, so that other tasks get their turn.
const ATTEMPTS: usize = 64;
/// Pause between attempts to watch for writability, while no descriptor is left to watch with.
const WATCH_AGAIN: Duration = Duration::from_millis(20);

/// Kinds of sockets.
#[derive(Debug)]
pub(super) enum SocketKind {
    /// A UDP socket, for any peer.
    Udp,
    /// A server's Unix socket at a path: every process with write permission may send to it.
    UnixServer,
    /// A client's Unix socket, connected to one server: the kernel lets no other process send to
    /// it.
    UnixClient(Address, UnixAddr, Mutex<ConnectedPeer>),
}

/// Peer that a client's Unix socket is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectedPeer {
    Server,
    /// The socket itself, because the server is dead.
    Itself,
}

/// A socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: AsyncFd<OwnedFd>,
    kind: SocketKind,
    outgoing: Mutex<Outgoing>,
}

/// Registration by which a socket's task learns when the kernel takes more.
#[derive(Debug, Default)]
pub(super) enum Writable {
    /// No datagram waits.
    #[default]
    Unneeded,
    Registered(AsyncFd<OwnedFd>),
    /// Registration failed. After a pause the task tries to register and to send again.
    Failed(Pin<Box<Sleep>>),
}

#[derive(Debug, Default)]
struct Outgoing {
    outbox: Outbox,
    /// Task that sends when the kernel takes more.
    task: Option<Waker>,
}

impl Socket {
    /// Takes over a nonblocking socket. Must be called inside a tokio runtime.
    pub(super) fn new(fd: OwnedFd, kind: SocketKind) -> io::Result<Self> {
        let fd = readiness::of(fd, Interest::READABLE)?;
        Ok(Self { fd, kind, outgoing: Mutex::default() })
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns the size of the kernel's receive buffer, the kernel's own cost included.
    pub(super) fn buffer_bytes(&self) -> Option<usize> {
        getsockopt(self.fd.get_ref(), sockopt::RcvBuf).ok()
    }

    /// Sends the datagrams that the kernel takes now, and the rest when the kernel takes more. All
    /// of `datagrams` have one destination.
    pub(super) fn send(&self, datagrams: &[Transmit], counters: &SocketCounters) {
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let run = run_length(rest);
            match self.send_run(&rest[..run]) {
                Ok(()) => counters.sent(run),
                Err(Errno::EAGAIN) => return self.keep(rest, counters),
                Err(Errno::EINTR) => continue,
                // The device or this size doesn't support segmentation.
                Err(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE) if run > 1 => {
                    self.one_by_one(&rest[..run], counters);
                }
                Err(error) => counters.undeliverable(&first.to, first.packet.len(), error),
            }
            rest = &rest[run..];
        }
    }

    fn one_by_one(&self, datagrams: &[Transmit], counters: &SocketCounters) {
        for datagram in datagrams {
            match self.send_one(&datagram.to, &datagram.packet) {
                Ok(()) => counters.sent(1),
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    self.keep(std::slice::from_ref(datagram), counters);
                }
                Err(error) => counters.undeliverable(&datagram.to, datagram.packet.len(), error),
            }
        }
    }

    fn send_run(&self, run: &[Transmit]) -> nix::Result<()> {
        let [first, _, ..] = run else {
            return run.first().map_or(Ok(()), |only| self.send_one(&only.to, &only.packet));
        };
        let pieces: Vec<_> = run.iter().map(|transmit| IoSlice::new(&transmit.packet)).collect();
        let size = u16::try_from(first.packet.len()).map_err(|_| Errno::EMSGSIZE)?;
        let Address::Udp(to) = &first.to else { return Err(Errno::EINVAL) };
        let to = SockaddrStorage::from(*to);
        sendmsg(
            self.raw(),
            &pieces,
            &[ControlMessage::UdpGsoSegments(&size)],
            MsgFlags::empty(),
            Some(&to),
        )
        .map(drop)
    }

    fn send_one(&self, to: &Address, packet: &[u8]) -> nix::Result<()> {
        match (&self.kind, to) {
            (SocketKind::UnixClient(_, server, link), _) => {
                self.send_to_server(packet, server, link)
            }
            (_, Address::Udp(to)) => self.send_to(packet, &SockaddrStorage::from(*to)),
            (_, Address::Unix(path)) => self.send_to(packet, &unix::address_of(path)?),
        }
    }

    fn send_to(&self, packet: &[u8], to: &dyn SockaddrLike) -> nix::Result<()> {
        sendto(self.raw(), packet, to, MsgFlags::empty()).map(drop)
    }

    /// Sends to the server, and connects again if needed: a server restarted at the same path is
    /// another socket to the kernel.
    fn send_to_server(
        &self,
        packet: &[u8],
        server: &UnixAddr,
        link: &Mutex<ConnectedPeer>,
    ) -> nix::Result<()> {
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        let send = || send(self.raw(), packet, MsgFlags::empty()).map(drop);
        if *link == ConnectedPeer::Server {
            match send() {
                Err(error) if is_nobody(error) => {}
                other => return other,
            }
        }
        let sent = connect(self.raw(), server).and_then(|()| {
            *link = ConnectedPeer::Server;
            send()
        });
        if sent.is_err_and(is_nobody) && unix::connect_to_self(self.raw()).is_ok() {
            *link = ConnectedPeer::Itself;
        }
        sent
    }

    /// Connects to the socket that is at the server's path now, if this socket is a client's.
    pub(super) fn connect_again(&self) -> nix::Result<()> {
        if let SocketKind::UnixClient(_, server, link) = &self.kind {
            let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
            connect(self.raw(), server)?;
            *link = ConnectedPeer::Server;
        }
        Ok(())
    }

    fn keep(&self, datagrams: &[Transmit], counters: &SocketCounters) {
        let mut outgoing = self.outgoing();
        counters.overflowed(outgoing.outbox.keep(datagrams));
        if let Some(task) = &outgoing.task {
            task.wake_by_ref();
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until datagrams have arrived, and receives as many as the inbox has room for. After
    /// many errors in a row the inbox may still be empty.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut ReceiveBuffer,
        counters: &SocketCounters,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            let drained = self.receive_all(inbox, counters);
            if drained == Drained::Yes {
                ready.clear_ready();
            }
            if drained == Drained::No || !inbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn receive_all(&self, inbox: &mut ReceiveBuffer, counters: &SocketCounters) -> Drained {
        for _ in 0..ATTEMPTS {
            if !inbox.has_room() {
                break;
            }
            match self.receive(inbox) {
                Ok(Received::Named) | Err(Errno::EINTR) => {}
                Ok(Received::Nameless) => counters.nameless(),
                Err(Errno::EAGAIN) => return Drained::Yes,
                // An earlier datagram met an error on its way (ICMP). The kernel reports the error
                // once, and the datagram counts as lost.
                Err(error) => counters.returned(error),
            }
        }
        Drained::No
    }

    fn receive(&self, inbox: &mut ReceiveBuffer) -> nix::Result<Received> {
        let (buffer, control) = inbox.space();
        let mut buffer = [io::IoSliceMut::new(buffer)];
        let (from, bytes, stride) = match &self.kind {
            SocketKind::Udp => {
                let message = recvmsg::<SockaddrStorage>(
                    self.raw(),
                    &mut buffer,
                    Some(control),
                    MsgFlags::empty(),
                )?;
                (message.address.as_ref().and_then(udp_address), message.bytes, stride(&message))
            }
            SocketKind::UnixServer => {
                let message =
                    recvmsg::<UnixAddr>(self.raw(), &mut buffer, None, MsgFlags::empty())?;
                (
                    message.address.as_ref().and_then(unix::path_of).map(Address::Unix),
                    message.bytes,
                    None,
                )
            }
            SocketKind::UnixClient(server, ..) => {
                let bytes = recv(self.raw(), &mut buffer[0], MsgFlags::empty())?;
                (Some(server.clone()), bytes, None)
            }
        };
        // A datagram from a Unix socket without a name can't be answered.
        let Some(from) = from else { return Ok(Received::Nameless) };
        inbox.push(from, bytes, stride);
        Ok(Received::Named)
    }

    /// Sends waiting datagrams when the kernel takes them. `writable` belongs to the calling task,
    /// which is woken to call again. A failure to send never ends the receiving.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        writable: &mut Writable,
        counters: &SocketCounters,
    ) {
        while self.has_waiting(cx) {
            let ready = match writable {
                Writable::Registered(registered) => registered.poll_write_ready(cx),
                Writable::Failed(pause) => {
                    if pause.as_mut().poll(cx).is_pending() {
                        return;
                    }
                    self.flush(counters);
                    *writable = self.watch(counters);
                    continue;
                }
                Writable::Unneeded => {
                    *writable = self.watch(counters);
                    continue;
                }
            };
            let Poll::Ready(ready) = ready else { return };
            match ready {
                Ok(mut ready) if self.flush(counters) == Drained::No => ready.clear_ready(),
                Ok(_) => {}
                Err(error) => *writable = Writable::failed(counters, &error),
            }
        }
        *writable = Writable::Unneeded;
    }

    /// Registers for writability.
    fn watch(&self, counters: &SocketCounters) -> Writable {
        let another = self.fd.get_ref().try_clone();
        let registered = another.and_then(|another| readiness::of(another, Interest::WRITABLE));
        registered.map_or_else(|error| Writable::failed(counters, &error), Writable::Registered)
    }

    fn has_waiting(&self, cx: &Context<'_>) -> bool {
        let mut outgoing = self.outgoing();
        if !outgoing.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            outgoing.task = Some(cx.waker().clone());
        }
        !outgoing.outbox.is_empty()
    }

    fn flush(&self, counters: &SocketCounters) -> Drained {
        let mut outgoing = self.outgoing();
        outgoing.outbox.flush(|to, packet| match self.send_one(to, packet) {
            Ok(()) => {
                counters.sent(1);
                SendOutcome::Gone
            }
            Err(error) if SendOutcome::is_later(error) => SendOutcome::Full,
            Err(error) => {
                counters.undeliverable(to, packet.len(), error);
                SendOutcome::Gone
            }
        });
        if outgoing.outbox.is_empty() { Drained::Yes } else { Drained::No }
    }
}

impl Writable {
    fn failed(counters: &SocketCounters, error: &io::Error) -> Self {
        counters.unwatched(error);
        Self::Failed(Box::pin(sleep(WATCH_AGAIN)))
    }
}

/// Result of receiving one datagram; a datagram whose sender has no name is dropped.
#[derive(PartialEq, Eq)]
enum Received {
    Named,
    Nameless,
}

#[derive(PartialEq, Eq)]
enum Drained {
    Yes,
    No,
}

/// Returns whether an error of send(2) or connect(2) means that no server is at the path.
fn is_nobody(error: Errno) -> bool {
    matches!(error, Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET | Errno::ENOENT)
}

/// Returns the number of datagrams, from the first, that the kernel can take as one: all must have
/// the first one's length, and only the last may be shorter.
fn run_length(datagrams: &[Transmit]) -> usize {
    let Some(Transmit { to: Address::Udp(_), packet: first }) = datagrams.first() else { return 1 };
    let most = (SEGMENTS_BYTES / first.len().max(1)).clamp(1, SEGMENTS);
    let same =
        datagrams.iter().take(most).take_while(|next| next.packet.len() == first.len()).count();
    match datagrams.get(same) {
        Some(last) if same < most && last.packet.len() < first.len() => same + 1,
        _ => same,
    }
}

/// Returns the length of each datagram, where the kernel has joined several.
fn stride<S>(message: &RecvMsg<'_, '_, S>) -> Option<usize> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
        _ => None,
    })
}

pub(super) fn udp_address(from: &SockaddrStorage) -> Option<Address> {
    let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()));
    v4.or_else(v6).map(Address::Udp)
}
