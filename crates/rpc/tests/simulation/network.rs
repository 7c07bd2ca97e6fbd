//! The network between hosts, which loses, doubles, delays and damages packets, and divides hosts.
//! An attacker in the network records packets and sends them again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

use rpc::Address;
use simulation::Random;

/// Probabilities of packets' fates, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    pub loss: u64,
    pub duplicate: u64,
    pub damage: u64,
    /// Share of packets that come late, by up to `late_us`.
    pub late: u64,
    pub late_us: u64,
    pub delay_us: (u64, u64),
}

impl Conditions {
    /// Returns the conditions without troubles.
    pub(crate) fn cleared(self) -> Self {
        let delay_us = if self.delay_us.1 > 100_000 { (10, 20_000) } else { self.delay_us };
        Self { delay_us, ..Self::default() }
    }
}

/// A host and the number of its generation.
pub(crate) type Sender = (usize, u64);

/// A packet on its way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub from: Address,
    pub to: Address,
    pub packet: Rc<[u8]>,
    /// Address to which the packet's writer sent it.
    pub meant_for: Address,
    /// Host that wrote the packet.
    pub sender: Option<Sender>,
    pub is_replayed: bool,
    pub is_damaged: bool,
}

/// Number of packets that the recorder keeps.
const RECORDED: usize = 128;
/// Number of the attacker's addresses.
const ATTACKERS: u64 = 3;

#[derive(Debug)]
pub(crate) struct Network {
    pub conditions: Conditions,
    /// Pairs of addresses whose packets from the first to the second are lost.
    pub divided: BTreeSet<(Address, Address)>,
    recorded: Vec<Flight>,
    pub is_recording: bool,
    /// Whether the network is inside one machine: the kernel keeps packets whole, and no host has a
    /// key.
    is_local: bool,
}

impl Network {
    pub(crate) fn new(conditions: Conditions, is_local: bool) -> Self {
        Self {
            is_local,
            conditions,
            divided: BTreeSet::new(),
            recorded: Vec::new(),
            is_recording: false,
        }
    }

    /// Returns the copies that will arrive, each with its delay.
    pub(crate) fn carry(&mut self, random: &mut Random, flight: &Flight) -> Vec<(u64, Flight)> {
        self.record(random, flight);
        let is_cut = self.divided.contains(&(flight.from.clone(), flight.to.clone()));
        if is_cut || random.chance(self.conditions.loss) {
            return Vec::new();
        }
        let copies =
            if random.chance(self.conditions.duplicate) { random.between(2, 4) } else { 1 };
        (0..copies)
            .map(|_| (self.delay_us(random), self.maybe_damaged(random, flight.clone())))
            .collect()
    }

    fn delay_us(&self, random: &mut Random) -> u64 {
        let Conditions { late, late_us, delay_us: (low, high), .. } = self.conditions;
        if random.chance(late) { random.skewed(late_us) } else { random.between(low, high) }
    }

    fn maybe_damaged(&self, random: &mut Random, flight: Flight) -> Flight {
        if self.is_local || !random.chance(self.conditions.damage) {
            return flight;
        }
        let mut packet = flight.packet.to_vec();
        damage(random, &mut packet);
        // The damage may be undone: a packet can lose its last byte and get the same byte back.
        let is_damaged = packet[..] != flight.packet[..];
        Flight { packet: packet.into(), is_damaged, ..flight }
    }

    fn record(&mut self, random: &mut Random, flight: &Flight) {
        if !self.is_recording {
            return;
        }
        let kept = Flight { is_replayed: true, ..flight.clone() };
        if self.recorded.len() < RECORDED {
            self.recorded.push(kept);
        } else if random.chance(300) {
            let at = random.between(0, RECORDED as u64) as usize;
            self.recorded[at] = kept;
        }
    }

    /// Returns a recorded packet, perhaps with another sender, with damage, or with another
    /// destination.
    pub(crate) fn replay(&self, random: &mut Random, hosts: &[Address]) -> Option<Flight> {
        if self.recorded.is_empty() {
            return None;
        }
        let mut flight = random.pick(&self.recorded).clone();
        match random.between(0, 6) {
            0 => flight.from = udp(203, random.between(0, ATTACKERS)),
            1 => flight.from = random.pick(hosts).clone(),
            2 => flight.to = random.pick(hosts).clone(),
            _ => (),
        }
        if !self.is_local && random.chance(100) {
            let mut packet = flight.packet.to_vec();
            damage(random, &mut packet);
            flight.is_damaged = packet[..] != flight.packet[..];
            flight.packet = packet.into();
        }
        Some(flight)
    }
}

fn damage(random: &mut Random, packet: &mut Vec<u8>) {
    let at = random.between(0, packet.len().max(1) as u64) as usize;
    match random.between(0, 4) {
        0 => packet.truncate(at),
        1 => packet.push(random.between(0, 256) as u8),
        _ => {
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= 1 << random.between(0, 8);
            }
        }
    }
}

pub(crate) fn udp(network: u8, host: u64) -> Address {
    Address::from(SocketAddr::from(([network, 0, 0, host as u8 + 1], 4_000)))
}
