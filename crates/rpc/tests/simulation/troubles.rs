//! Troubles of hosts and of the network between them, with their ends.

use rpc::Address;

use crate::host::Role;
use crate::network::udp;
use crate::plan::{MINUTE, MS, SECOND, Trouble};
use crate::world::{Event, World};

impl World {
    pub(crate) fn start(&mut self, host: usize) {
        if self.hosts[host].is_alive() {
            return;
        }
        let first_number = self.random.number() >> 1;
        self.hosts[host].start(self.now_us, &self.equipment, first_number);
        let (generation, address) = (self.hosts[host].generation, self.hosts[host].address.clone());
        self.trace.line(self.now_us, &|| {
            format!("host {host} starts at {address}, generation {generation}")
        });
        self.settle(host);
    }

    fn crash(&mut self, host: usize) {
        self.trace.line(self.now_us, &|| format!("host {host} dies"));
        for call in self.hosts[host].kill() {
            self.ledger.abandon(call);
        }
    }

    /// Resumes a host with its timers and its packets, in either order.
    pub(crate) fn resume(&mut self, host: usize) {
        if !self.hosts[host].is_paused {
            return;
        }
        self.trace.line(self.now_us, &|| format!("host {host} goes on"));
        (self.hosts[host].is_paused, self.hosts[host].resumed_us) = (false, self.now_us);
        let backlog = std::mem::take(&mut self.hosts[host].backlog);
        let is_timely = self.random.chance(500);
        if is_timely {
            self.wake(host);
        }
        backlog.iter().for_each(|flight| self.hand_over(host, flight));
        if !is_timely {
            self.wake(host);
        }
    }

    pub(crate) fn trouble(&mut self) {
        if self.plan.troubles.is_empty() {
            return;
        }
        match *self.random.pick(&self.plan.troubles) {
            Trouble::CrashServer => self.crash_server(false),
            Trouble::MoveServer => self.crash_server(true),
            Trouble::CrashClient => self.crash_client(),
            Trouble::PauseClient => self.pause(self.clients()),
            Trouble::PauseServer => self.pause(self.servers()),
            Trouble::Partition => self.divide(),
            Trouble::Replay => self.replay(),
        }
        let after_us = self.random.skewed(2 * self.plan.trouble_every_us);
        self.later(after_us, Event::Trouble);
    }

    pub(crate) fn any(&mut self, hosts: std::ops::Range<usize>) -> usize {
        self.random.between(hosts.start as u64, hosts.end as u64) as usize
    }

    fn crash_server(&mut self, moves: bool) {
        let host = self.any(self.servers());
        self.crash(host);
        if moves {
            let address = self.vacant_address();
            let it = &mut self.hosts[host];
            let former = std::mem::replace(&mut it.address, address);
            it.former.push(former);
        }
        let after_us = self.random.skewed(20 * SECOND);
        self.later(after_us, Event::Start { host });
    }

    /// Returns a vacant address, perhaps a former one of another host.
    fn vacant_address(&mut self) -> Address {
        let first = self.random.between(0, 4);
        // A host never moves to another kind of network: other hosts would have to cut messages
        // into new fragments.
        let network = if self.plan.is_local { 127 } else { 3 };
        let is_vacant =
            |candidate: &Address| self.hosts.iter().all(|host| host.address != *candidate);
        let vacant = (first..first + 4 + self.hosts.len() as u64)
            .map(|n| udp(network, 100 + n))
            .find(is_vacant);
        vacant.expect("more addresses than hosts")
    }

    fn crash_client(&mut self) {
        let host = self.any(self.clients());
        self.crash(host);
        if self.random.chance(200) {
            self.hosts[host].address = self.vacant_address();
        }
        let after_us = self.random.skewed(10 * SECOND);
        self.later(after_us, Event::Start { host });
    }

    fn pause(&mut self, hosts: std::ops::Range<usize>) {
        let host = self.any(hosts);
        let after_us = self.random.skewed(MINUTE);
        if !self.hosts[host].is_paused && self.hosts[host].is_alive() {
            self.trace.line(self.now_us, &|| format!("host {host} is stopped"));
            self.hosts[host].is_paused = true;
            self.later(after_us, Event::Resume { host });
        }
    }

    fn divide(&mut self) {
        let mut pairs = Vec::new();
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                if self.random.chance(300) {
                    pairs.push((self.hosts[from].address.clone(), self.hosts[to].address.clone()));
                }
            }
        }
        self.trace.line(self.now_us, &|| format!("divided: {pairs:?}"));
        self.network.divided.extend(pairs.iter().cloned());
        let after_us = MS + self.random.skewed(MINUTE);
        self.later(after_us, Event::Heal { pairs });
    }

    fn replay(&mut self) {
        let addresses: Vec<Address> = self.hosts.iter().map(|host| host.address.clone()).collect();
        for _ in 0..self.random.between(1, 10) {
            if let Some(flight) = self.network.replay(&mut self.random, &addresses) {
                let after_us = self.random.skewed(SECOND);
                self.later(after_us, Event::Arrive(flight));
            }
        }
    }

    /// Ends all troubles, though late packets are still on their way.
    pub(crate) fn clear_up(&mut self) {
        self.trace.line(self.now_us, &|| "all is well".to_owned());
        self.plan.troubles.clear();
        self.plan.lookups = crate::plan::Lookups { delay_us: MS, ..Default::default() };
        self.network.conditions = self.network.conditions.cleared();
        self.network.divided.clear();
        for host in 0..self.hosts.len() {
            self.resume(host);
            self.start(host);
        }
    }

    pub(crate) fn name(&self, host: usize) -> String {
        match self.hosts[host].role {
            Role::Client(id) => format!("client {id}"),
            Role::Server(port) => format!("server {port}"),
        }
    }
}
