//! Tickets: proof that a client was greeted, by this server, in this life, at this address, not long ago.

use std::time::Duration;

use super::Config;
use crate::key::Seal;
use crate::rules::{Rule, Rules};
use crate::{Address, Identity, Ticket, Time};

/// Makes and checks tickets; remembers none.
#[derive(Clone, Debug)]
pub(super) struct Tickets {
    seal: Seal,
    life: Duration,
}

impl Tickets {
    pub(super) fn new(config: &Config, rules: &Rules) -> Self {
        let epoch = if rules.obey(Rule::ServerEpoch) { config.epoch.0 } else { 0 };
        let mut bound = [0; 16];
        bound[..8].copy_from_slice(&config.port.0.to_be_bytes());
        bound[8..].copy_from_slice(&epoch.to_be_bytes());
        Self {
            seal: Seal::from_bytes(*blake3::keyed_hash(&config.secret, &bound).as_bytes()),
            life: config.limits.ticket_life,
        }
    }

    pub(super) fn issue(&self, now: Time, client: Identity, to: &Address) -> Ticket {
        Ticket { issued_us: now.0, proof: self.proof(now.0, client, to) }
    }

    /// Whether it is ours and for this client at this address.
    pub(super) fn is_ours(&self, ticket: Ticket, client: Identity, from: &Address) -> bool {
        ticket.proof == self.proof(ticket.issued_us, client, from)
    }

    /// Whether no session can have been opened with it and forgotten since.
    pub(super) fn is_young(&self, ticket: Ticket, now: Time) -> bool {
        now.since(Time(ticket.issued_us)) <= self.life
    }

    fn proof(&self, issued_us: u64, client: Identity, address: &Address) -> u64 {
        let place = address.to_string();
        let client = [client.id.0.to_be_bytes(), client.epoch.0.to_be_bytes()].concat();
        self.seal.proof(&[&issued_us.to_be_bytes(), &client, place.as_bytes()])
    }
}
