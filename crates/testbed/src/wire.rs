//! A link between two network namespaces, in user space, for kernels without netem.
//!
//! Each end is a TUN device, which gives IP packets to this program and takes them from it. One
//! thread per direction has the packets under way in a queue, each with its due time. The delay is
//! constant, so the queue is in order; a packet that overtakes doesn't enter it. Only the
//! [`LinkConditions`]'s share of packets is lost, unless more than [`QUEUE`] packets are under way.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result as IoResult};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use simulation::Random;
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::link::{LinkConditions, MTU, QUEUE, ip};
use crate::namespace::Namespace;

/// Time within which the threads notice the link's end.
const IDLE: Duration = Duration::from_millis(50);

/// A link in user space; ends when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    ended: Arc<AtomicBool>,
    overtaken: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Puts a device into each end's namespace.
    pub(crate) fn new(ends: [WireEnd<'_>; 2], link: &LinkConditions) -> Result<Self> {
        let [a, b] = ends.map(|end| end.device().map(Arc::new));
        let (a, b) = (a?, b?);
        let ended = Arc::new(AtomicBool::new(false));
        let overtaken = Arc::new(AtomicU64::new(0));
        let threads = [(&a, &b, 1), (&b, &a, 2)].map(|(from, to, seed)| {
            let direction = Direction {
                from: from.clone(),
                to: to.clone(),
                link: *link,
                random: Random::new(seed),
                under_way: VecDeque::new(),
                overtaken: overtaken.clone(),
            };
            let ended = ended.clone();
            std::thread::spawn(move || direction.run(&ended))
        });
        Ok(Self { ended, overtaken, threads: threads.into() })
    }
}

impl Wire {
    /// Returns the number of packets that have overtaken others.
    pub(crate) fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// One end of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WireEnd<'a> {
    /// Name of the device.
    pub(crate) device: &'a str,
    /// Namespace of the device.
    pub(crate) namespace: &'a Namespace,
}

impl<'a> WireEnd<'a> {
    /// Returns an end whose device has the name of its namespace.
    pub(crate) fn named_after(namespace: &'a Namespace) -> Self {
        Self { device: namespace.name(), namespace }
    }

    /// Makes a device here and moves it to its namespace. This program keeps the device's
    /// descriptor.
    fn device(self) -> Result<SyncDevice> {
        let device = DeviceBuilder::new()
            .name(self.device)
            .enable(false)
            .build_sync()
            .context("TUN device: not made from /dev/net/tun")?;
        device.set_nonblocking(true)?;
        ip(&["link", "set", self.device, "netns", self.namespace.name()])?;
        Ok(device)
    }
}

struct Packet {
    due: Instant,
    content: Box<[u8]>,
}

struct Direction {
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    link: LinkConditions,
    random: Random,
    under_way: VecDeque<Packet>,
    overtaken: Arc<AtomicU64>,
}

impl Direction {
    fn run(mut self, ended: &AtomicBool) {
        // By default, the kernel may wake the thread 50 µs late.
        let _ = nix::sys::prctl::set_timerslack(1);
        while !ended.load(Ordering::Relaxed) {
            self.wait();
            // An error means that the other end is gone or not yet up; such a packet is lost.
            let _ = self.take();
            self.deliver();
        }
    }

    /// Waits until a packet comes or one is due.
    fn wait(&self) {
        let due = self
            .under_way
            .front()
            .map(|packet| packet.due.saturating_duration_since(Instant::now()));
        let mut files = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut files, Some(TimeSpec::from(due.unwrap_or(IDLE))), None);
    }

    fn take(&mut self) -> IoResult<()> {
        let mut buffer = [0; MTU as usize];
        loop {
            let length = match self.from.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            self.accept(&buffer[..length]);
        }
    }

    fn accept(&mut self, content: &[u8]) {
        if self.happens(self.link.lost_percent) || self.under_way.len() == QUEUE {
            return;
        }
        if self.happens(self.link.overtaking_percent) {
            self.overtaken.fetch_add(u64::from(!self.under_way.is_empty()), Ordering::Relaxed);
            let _ = self.to.send(content);
        } else {
            let due = Instant::now() + self.link.round_trip / 2;
            self.under_way.push_back(Packet { due, content: content.into() });
        }
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.random.chance(10 * u64::from(percent))
    }

    fn deliver(&mut self) {
        while self.under_way.front().is_some_and(|packet| packet.due <= Instant::now()) {
            let _ = self.under_way.pop_front().map(|packet| self.to.send(&packet.content));
        }
    }
}
