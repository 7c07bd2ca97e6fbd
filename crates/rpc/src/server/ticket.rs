//! Tickets: proof that this server greeted a client recently, in this generation, at this address.

use std::fmt;
use std::time::Duration;

use super::Config;
use crate::rules::{Rule, Rules};
use crate::{Address, Identity, Ticket, Time};

/// Maker and checker of tickets, which remembers none.
#[derive(Clone)]
pub(super) struct Tickets {
    key: [u8; 32],
    youth: Duration,
}

impl Tickets {
    pub(super) fn new(config: &Config, rules: &Rules) -> Self {
        let epoch = if rules.obey(Rule::ServerEpoch) { config.epoch.0 } else { 0 };
        let scope = [config.port.0.to_be_bytes(), epoch.to_be_bytes()].concat();
        Self {
            key: *blake3::keyed_hash(&config.secret, &scope).as_bytes(),
            youth: config.limits.session_idle,
        }
    }

    pub(super) fn issue(&self, now: Time, client: Identity, to: &Address) -> Ticket {
        Ticket { issued_us: now.0, proof: self.proof(now.0, client, to) }
    }

    /// Returns whether this server made the ticket, for this client at this address.
    pub(super) fn is_ours(&self, ticket: Ticket, client: Identity, from: &Address) -> bool {
        ticket.proof == self.proof(ticket.issued_us, client, from)
    }

    /// Returns whether the ticket is so young that no session opened with it can have been
    /// forgotten.
    pub(super) fn is_young(&self, ticket: Ticket, now: Time) -> bool {
        now.since(Time(ticket.issued_us)) < self.youth
    }

    fn proof(&self, issued_us: u64, client: Identity, address: &Address) -> u64 {
        let numbers = [issued_us, client.id.0, client.generation.0].map(u64::to_be_bytes);
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(numbers.as_flattened()).update(address.to_string().as_bytes());
        let mut proof = [0; 8];
        hasher.finalize_xof().fill(&mut proof);
        u64::from_be_bytes(proof)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}
