//! Network namespaces: one alone, or two joined by a link that may be bad. Dropping the value
//! removes them.
//!
//! The link is the kernel's netem on a pair of veth devices. Where the kernel has none
//! (`CONFIG_NET_SCH_NETEM`), the link is a [`Wire`]: both ends are TUN devices, and this program
//! carries each packet at its time. TCP, UDP and IP are the kernel's in both cases, and a packet is
//! at most [`MTU`] bytes long.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use crate::link::{LinkConditions, MTU, QUEUE, ip, run};
use crate::namespace::{Namespace, Namespaces};
use crate::wire::{Wire, WireEnd};

/// Addresses of both ends, from a block for documentation.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// Mechanism that delays packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delayed {
    /// The kernel, by netem.
    Netem,
    /// This program, between two TUN devices.
    UserSpace,
}

/// One or two namespaces.
#[derive(Debug)]
pub struct Network {
    wire: Option<Wire>,
    namespaces: Namespaces,
}

impl Network {
    /// Makes one namespace, with its loopback device and nothing else of this machine's network.
    pub fn loopback() -> Result<Self> {
        Ok(Self { wire: None, namespaces: Namespaces::new(1)? })
    }

    /// Makes two namespaces with a link between them.
    pub fn with(link: &LinkConditions) -> Result<Self> {
        let mut network = Self { wire: None, namespaces: Namespaces::new(2)? };
        if let Err(error) = network.join_by_netem(link) {
            eprintln!("no netem in this kernel, so this program delays packets: {error:#}");
            let [a, b] = [0, 1].map(|end| WireEnd::named_after(network.at(end)));
            network.wire = Some(Wire::new([a, b], link)?);
        }
        network.set_addresses()?;
        Ok(network)
    }

    fn at(&self, end: usize) -> &Namespace {
        let all = self.namespaces.all();
        &all[end.min(all.len() - 1)]
    }

    fn names(&self) -> Vec<&str> {
        self.namespaces.all().iter().map(Namespace::name).collect()
    }

    /// Returns the mechanism that delays packets, if there is one.
    pub fn delayed(&self) -> Option<Delayed> {
        let delayed = self.wire.as_ref().map_or(Delayed::Netem, |_| Delayed::UserSpace);
        (self.names().len() > 1).then_some(delayed)
    }

    /// Returns the number of packets that have overtaken others, where this program carries them.
    pub fn overtaken(&self) -> Option<u64> {
        self.wire.as_ref().map(Wire::overtaken)
    }

    /// Returns the address at end 0 or 1.
    pub fn address(&self, end: usize) -> Ipv4Addr {
        if self.names().len() > 1 { ADDRESSES[end] } else { Ipv4Addr::LOCALHOST }
    }

    /// Sets TCP's congestion control at both ends. The setting is an attribute of the route, since
    /// only some algorithms may be set for a whole namespace.
    pub fn set_congestion_control(&self, algorithm: &str) -> Result<()> {
        let replace = |name, route: &str| {
            let words = ["-n", name, "route", "replace"].into_iter().chain(route.split(' '));
            ip(&words.chain(["congctl", algorithm]).collect::<Vec<_>>())
        };
        match &self.names()[..] {
            [name] => replace(name, "local 127.0.0.1 dev lo table local scope host"),
            names => names.iter().zip(ADDRESSES.iter().rev()).try_for_each(|(name, peer)| {
                replace(name, &format!("{peer} dev {name} scope link"))
            }),
        }
    }

    /// Returns a command that runs `program` at end 0 or 1.
    pub fn command(&self, end: usize, program: &std::path::Path) -> Command {
        self.at(end).command(program)
    }

    fn join_by_netem(&self, link: &LinkConditions) -> Result<()> {
        let [a, b] = [0, 1].map(|end| self.at(end).name());
        ip(&["-n", a, "link", "add", a, "type", "veth", "peer", "name", b, "netns", b])?;
        let delayed = self.names().into_iter().try_for_each(|name| impair(name, link));
        delayed.inspect_err(|_| drop(ip(&["-n", a, "link", "delete", a])))
    }

    /// Sets the addresses. Each device has the name of its namespace.
    fn set_addresses(&self) -> Result<()> {
        for (end, name) in self.names().into_iter().enumerate() {
            let [own, peer] = [end, 1 - end].map(|end| self.address(end).to_string());
            ip(&["-n", name, "address", "add", &own, "peer", &peer, "dev", name])?;
            let (mtu, queue) = (MTU.to_string(), QUEUE.to_string());
            ip(&["-n", name, "link", "set", name, "mtu", &mtu, "txqueuelen", &queue, "up"])?;
        }
        Ok(())
    }
}

fn impair(name: &str, link: &LinkConditions) -> Result<()> {
    let LinkConditions { round_trip, lost_percent, overtaking_percent } = link;
    let mut words = format!(
        "-n {name} qdisc add dev {name} root netem limit {QUEUE} delay {}us loss {lost_percent}%",
        (*round_trip / 2).as_micros()
    );
    if *overtaking_percent > 0 {
        words += &format!(" reorder {overtaking_percent}%");
    }
    run("tc", &words.split(' ').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_round_trip_takes_its_time_and_the_namespaces_are_removed() {
        let network = Network::with(&LinkConditions::taking(Duration::from_millis(20))).unwrap();
        let names: Vec<String> = network.names().into_iter().map(str::to_owned).collect();
        // No server listens: the refusal takes one round trip.
        let started = Instant::now();
        let mut command = network.command(0, Path::new("bash"));
        let status =
            command.args(["-c", "exec 2>/dev/null 3<>/dev/tcp/192.0.2.2/9"]).status().unwrap();
        assert!(!status.success());
        assert!(started.elapsed() >= Duration::from_millis(20), "{:?}", started.elapsed());
        drop(network);
        assert!(names.iter().all(|name| !Path::new("/run/netns").join(name).exists()));
    }
}
