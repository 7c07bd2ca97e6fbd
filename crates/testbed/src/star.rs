//! A network of hosts around a centre: each host is a network namespace with one link to the
//! centre, which passes packets on. A link can be cut and mended.
//!
//! ```text
//!   host 0 ──┐            ┌── host 2
//!            ├── centre ──┤
//!   host 1 ──┘            └── host 3
//! ```
//!
//! The links are pairs of veth devices, or [`Wire`]s where the kernel has no veth. Both ends of a
//! link have the name of the host's namespace. A cut takes down the end at the centre, as when
//! somebody pulls the plug there: the host's own device and addresses stay, and its loopback
//! device works.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use crate::link::{LinkConditions, MTU, ip};
use crate::namespace::{Namespace, Namespaces};
use crate::wire::{Wire, WireEnd};

/// Most hosts: namespaces have names by letter.
const HOSTS_MAX: u8 = 24;
/// Addresses of all, from a block for documentation.
const BLOCK: &str = "198.51.100.0/24";

/// The centre and its hosts. Dropping the value removes them.
#[derive(Debug)]
pub struct Star {
    /// Links in user space, where the kernel has no veth.
    wires: Vec<Wire>,
    namespaces: Namespaces,
}

impl Star {
    /// Makes a centre and `hosts` hosts, at most 24, with all links up.
    pub fn new(hosts: u8) -> Result<Self> {
        Self::joined_by(hosts, Self::join_by_veth)
    }

    fn joined_by(hosts: u8, join: fn(&mut Self, usize) -> Result<()>) -> Result<Self> {
        ensure!(hosts <= HOSTS_MAX, "network: {hosts} hosts, more than {HOSTS_MAX}");
        let mut star = Self { wires: Vec::new(), namespaces: Namespaces::new(hosts + 1)? };
        star.centre().enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("packets: not passed on")
        })?;
        for host in 0..usize::from(hosts) {
            join(&mut star, host)?;
            star.configure(host)?;
        }
        Ok(star)
    }

    /// Returns the centre's namespace.
    pub fn centre(&self) -> &Namespace {
        &self.namespaces.all()[0]
    }

    /// Returns a host's namespace, counted from 0.
    pub fn host(&self, host: usize) -> &Namespace {
        &self.namespaces.all()[host + 1]
    }

    /// Returns the centre's address.
    pub fn address_of_centre(&self) -> Ipv4Addr {
        address(0)
    }

    /// Returns a host's address.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        address(host + 1)
    }

    /// Takes a host's link down.
    pub fn cut(&self, host: usize) -> Result<()> {
        self.set_link(self.centre(), host, "down")
    }

    /// Brings a host's link up again.
    pub fn mend(&self, host: usize) -> Result<()> {
        self.set_link(self.centre(), host, "up")
    }

    /// Joins a host to the centre, in user space where the kernel has no veth.
    fn join_by_veth(&mut self, host: usize) -> Result<()> {
        let (centre, name) = (self.centre().name(), self.host(host).name());
        let pair = ["link", "add", name, "type", "veth", "peer", "name", name, "netns", name];
        let joined = ip(&[&["-n", centre], &pair[..]].concat());
        joined.or_else(|error| self.join_by_wire(host).with_context(|| format!("{error:#}, and")))
    }

    fn join_by_wire(&mut self, host: usize) -> Result<()> {
        let outer = self.host(host);
        let ends = [
            WireEnd { device: outer.name(), namespace: self.centre() },
            WireEnd::named_after(outer),
        ];
        let wire = Wire::new(ends, &LinkConditions::default())?;
        self.wires.push(wire);
        Ok(())
    }

    fn configure(&self, host: usize) -> Result<()> {
        let (centre, outer) = (self.centre(), self.host(host));
        let [inner, own] = [address(0), self.address(host)].map(|it| it.to_string());
        for (namespace, own, peer) in [(centre, &inner, &own), (outer, &own, &inner)] {
            let there = ["-n", namespace.name(), "address", "add", own, "peer", peer];
            ip(&[&there[..], &["dev", outer.name()]].concat())?;
            self.set_link(namespace, host, "up")?;
        }
        ip(&["-n", outer.name(), "route", "add", BLOCK, "via", &inner])
    }

    fn set_link(&self, namespace: &Namespace, host: usize, state: &str) -> Result<()> {
        let (device, mtu) = (self.host(host).name(), MTU.to_string());
        ip(&["-n", namespace.name(), "link", "set", device, "mtu", &mtu, state])
    }
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 100, 1).to_bits() + number as u32)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Longer than any answer takes.
    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(100);

    fn reach(star: &Star, from: usize, to: SocketAddr, limit: Duration) -> Option<ErrorKind> {
        let connected = star.host(from).enter(|| Ok(TcpStream::connect_timeout(&to, limit)));
        connected.unwrap().err().map(|error| error.kind())
    }

    #[test]
    fn hosts_reach_centre_and_each_other_unless_a_link_is_cut() {
        expect_links(&Star::joined_by(2, Star::join_by_veth).unwrap());
        expect_links(&Star::joined_by(2, Star::join_by_wire).unwrap());
    }

    fn expect_links(star: &Star) {
        let listen = |at: Ipv4Addr| Ok(TcpListener::bind((at, 0))?);
        let inner = star.centre().enter(|| listen(star.address_of_centre())).unwrap();
        let outer = star.host(1).enter(|| listen(star.address(1))).unwrap();
        let [centre, host] = [&inner, &outer].map(|it| it.local_addr().unwrap());
        let expect_all = || {
            for (from, to) in [(0, centre), (1, centre), (0, host)] {
                assert_eq!(reach(star, from, to, LONG), None, "{from} to {to}");
            }
        };
        expect_all();
        star.cut(0).unwrap();
        assert!(reach(star, 0, centre, SHORT).is_some());
        assert!(reach(star, 0, host, SHORT).is_some());
        assert_eq!(reach(star, 1, centre, LONG), None, "another link");
        star.mend(0).unwrap();
        expect_all();
    }
}
