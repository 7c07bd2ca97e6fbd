//! Bursts of datagrams that have arrived and wait to be handled together.

use crate::Address;

/// Most bytes that the kernel returns at once: one datagram, or several that it has joined
/// (UDP_GRO).
const LONGEST_BYTES: usize = 65_536;
/// Size of the buffer, bytes: enough for a burst of large datagrams.
const BYTES: usize = 8 * LONGEST_BYTES;
/// Most datagrams handled together, so that other tasks get their turn.
const DATAGRAMS: usize = 64;
/// Size of the buffer for control messages, which have the length of joined datagrams, bytes.
const CONTROL_BYTES: usize = 64;

/// Buffer for received datagrams, which lie one behind the other.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    used: usize,
    arrived: Vec<Burst>,
    control: [u8; CONTROL_BYTES],
}

#[derive(Debug)]
struct Burst {
    from: Address,
    start: usize,
    end: usize,
    stride: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BYTES],
            used: 0,
            arrived: Vec::with_capacity(DATAGRAMS),
            control: [0; CONTROL_BYTES],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.arrived.len() < DATAGRAMS && self.bytes.len() - self.used >= LONGEST_BYTES
    }

    /// Returns the room for the next datagram and its control messages.
    pub(super) fn space(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut self.bytes[self.used..self.used + LONGEST_BYTES], &mut self.control)
    }

    /// Notes a datagram that was received into that room.
    pub(super) fn push(&mut self, from: Address, bytes: usize, stride: Option<usize>) {
        let (start, end) = (self.used, self.used + bytes);
        self.arrived.push(Burst { from, start, end, stride: stride.unwrap_or(bytes).max(1) });
        self.used = end;
    }

    /// Hands all datagrams to `handle`, and empties the buffer.
    pub(super) fn take_all(&mut self, mut handle: impl FnMut(&Address, &[u8])) {
        for Burst { from, start, end, stride } in self.arrived.drain(..) {
            for packet in self.bytes[start..end].chunks(stride) {
                handle(&from, packet);
            }
        }
        self.used = 0;
    }
}
