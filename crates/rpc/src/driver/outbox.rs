//! Datagrams that the kernel has not taken yet, by destination.
//!
//! On a Unix socket a single receiver may be full, and stay so for ever. Its datagrams must neither
//! delay others nor take all the room.

use std::collections::{BTreeMap, VecDeque};

use nix::errno::Errno;

use crate::{Address, Transmit};

/// Most bytes that wait for one destination: a few windows of the largest messages. More bytes are
/// dropped, as if lost on the way.
const EACH_BYTES: usize = 4 << 20;
/// Most bytes that wait for all destinations together.
const ALL_BYTES: usize = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<Address, Backlog>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Backlog {
    datagrams: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Outcome of one attempt to send.
pub(super) enum SendOutcome {
    /// The datagram is sent or lost.
    Gone,
    /// The kernel takes no datagram for the destination now.
    Full,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps the datagrams for which there is room. Returns the number of dropped ones.
    pub(super) fn keep(&mut self, datagrams: &[Transmit]) -> usize {
        let kept = datagrams.iter().take_while(|datagram| self.keep_one(datagram)).count();
        datagrams.len() - kept
    }

    fn keep_one(&mut self, Transmit { to, packet }: &Transmit) -> bool {
        let bytes = packet.len();
        let used = self.waiting.get(to).map_or(0, |waiting| waiting.bytes);
        if used + bytes > EACH_BYTES || self.bytes + bytes > ALL_BYTES {
            return false;
        }
        let waiting = self.waiting.entry(to.clone()).or_default();
        waiting.datagrams.push_back(packet.clone());
        waiting.bytes += bytes;
        self.bytes += bytes;
        true
    }

    /// Sends to each destination until it is full.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&Address, &[u8]) -> SendOutcome) {
        for (to, waiting) in &mut self.waiting {
            while let Some(packet) = waiting.datagrams.front() {
                if matches!(send(to, packet), SendOutcome::Full) {
                    break;
                }
                waiting.bytes -= packet.len();
                self.bytes -= packet.len();
                waiting.datagrams.pop_front();
            }
        }
        self.waiting.retain(|_, waiting| !waiting.datagrams.is_empty());
    }
}

impl SendOutcome {
    /// Returns whether an error means "not now".
    pub(super) fn is_later(error: Errno) -> bool {
        matches!(error, Errno::EAGAIN | Errno::EINTR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(name: &str, bytes: usize) -> Transmit {
        Transmit { to: Address::Unix(name.into()), packet: vec![0; bytes] }
    }

    #[test]
    fn a_full_receiver_delays_no_other_and_takes_a_part_of_the_room() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.keep(&vec![to("stuck", 1 << 20); 6]), 2);
        assert_eq!(outbox.keep(&vec![to("well", 100); 6]), 0);
        let mut sent = 0;
        outbox.flush(|to, _| {
            if *to == Address::Unix("stuck".into()) {
                return SendOutcome::Full;
            }
            sent += 1;
            SendOutcome::Gone
        });
        assert_eq!((sent, outbox.is_empty(), outbox.bytes), (6, false, 4 << 20));
        outbox.flush(|_, _| SendOutcome::Gone);
        assert_eq!((outbox.is_empty(), outbox.bytes), (true, 0));
    }
}
