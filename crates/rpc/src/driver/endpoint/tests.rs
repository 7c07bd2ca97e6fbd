//! A machine with a bug: no waiter may wait for ever.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::{Bounded, Endpoint, Machine};
use crate::driver::Local;
use crate::{Address, Key, Time, Transmit};

const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    Packets,
    PacketsAndClosing,
    Timeouts,
}

#[derive(Debug)]
struct Config(Key, u32, Bug);

#[derive(Debug)]
struct Buggy {
    bug: Bug,
    closed: bool,
}

impl Bounded for Config {
    fn key(&self) -> &Key {
        &self.0
    }

    fn window_bytes(&mut self) -> &mut u32 {
        &mut self.1
    }

    fn idle(&self) -> Duration {
        LONG
    }
}

impl Machine for Buggy {
    type Config = Config;
    type Effect = ();

    fn new(Config(_, _, bug): Config) -> Self {
        Self { bug, closed: false }
    }

    fn handle_packet(&mut self, _now: Time, _from: &Address, _packet: &[u8]) {
        assert!(self.bug == Bug::Timeouts, "on purpose, in packets");
    }

    fn handle_timeout(&mut self, _now: Time) {
        panic!("on purpose, in timeouts");
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    fn poll_effect(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        (self.bug == Bug::Timeouts).then_some(Time(0))
    }

    fn observe(&mut self) {}

    fn close(&mut self, _now: Time) {
        assert!(self.bug != Bug::PacketsAndClosing, "on purpose, in closing");
        self.closed = true;
    }

    fn abort_waiters(&mut self) {
        self.closed = true;
    }

    fn perform(_endpoint: &Arc<Endpoint<Self>>, (): ()) {}
}

#[tokio::test]
async fn a_task_that_panics_closes_all() {
    for bug in [Bug::Packets, Bug::PacketsAndClosing, Bug::Timeouts] {
        let local = Local::Udp((Ipv4Addr::LOCALHOST, 0).into());
        let endpoint =
            Endpoint::<Buggy>::open(&[local], Config(Key::none(), 1 << 20, bug)).unwrap();
        let Address::Udp(at) = endpoint.sockets.addresses()[0] else { panic!("not UDP") };
        knock(at);
        // The timer is read when something has happened.
        if bug == Bug::Timeouts {
            endpoint.drive(|_, _| ());
        }
        tokio::time::timeout(LONG, endpoint.closed()).await.unwrap();
        assert!(endpoint.with(|machine| machine.closed), "{bug:?}");
    }
}

fn knock(at: SocketAddr) {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"knock", at).unwrap();
}
