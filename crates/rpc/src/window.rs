//! The window for large messages: slow start and congestion avoidance (RFC 5681), in bytes.

/// Window at the beginning of slow start. With more than TCP's ten segments, 64 KiB take one round
/// trip, which agents on one network need.
const INITIAL_BYTES: u32 = 96 << 10;
/// Largest window by default. A window holds whole fragments, so it is somewhat larger than 1 MiB,
/// and 1 MiB takes one round trip.
pub(crate) const MOST_BYTES: u32 = 9 << 17;
/// Fragments of the smallest window after any loss.
const LEAST_FRAGMENTS: u32 = 2;

/// Window of one direction to one server.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    bytes: u32,
    threshold: u32,
    max: u32,
    /// Bytes that arrived since congestion avoidance last widened the window.
    gained: u32,
    /// Bytes that must arrive before another loss counts as a new one.
    recovering: u32,
    /// Whether a timer expired and the threshold isn't reached again. Other timers that expire
    /// meanwhile concern the same loss.
    collapsed: bool,
}

impl Window {
    /// Returns a window that never exceeds `max` bytes, the other side's limit.
    pub(crate) fn new(max: u32) -> Self {
        Self {
            bytes: INITIAL_BYTES.min(max),
            threshold: max,
            max,
            gained: 0,
            recovering: 0,
            collapsed: false,
        }
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Returns the number of fragments of this size that each of `sharers` messages may have under
    /// way.
    pub(crate) fn fragments(&self, chunk_bytes: u32, sharers: u32) -> u32 {
        (self.bytes / chunk_bytes.max(1) / sharers.max(1)).max(LEAST_FRAGMENTS)
    }

    /// Notes that bytes have arrived.
    pub(crate) fn arrived(&mut self, bytes: u32) {
        if self.recovering > 0 {
            self.recovering = self.recovering.saturating_sub(bytes);
        } else if self.bytes < self.threshold {
            self.bytes = self.bytes.saturating_add(bytes).min(self.max);
        } else {
            self.collapsed = false;
            self.avoid_congestion(bytes);
        }
    }

    /// Halves the window after a loss, once per window.
    pub(crate) fn lost(&mut self, chunk_bytes: u32) {
        if self.recovering == 0 {
            self.recovering = self.bytes;
            self.shrink_to(self.bytes / 2, chunk_bytes);
        }
    }

    /// Begins again with a small window, because a timer expired. Many messages share the window,
    /// each with a timer of its own. Only the first to expire lowers the threshold, as RFC 5681,
    /// section 3.1, has it for several in a row.
    pub(crate) fn timed_out(&mut self, chunk_bytes: u32) {
        if !self.collapsed {
            self.lost(chunk_bytes);
        }
        self.collapsed = true;
        self.recovering = 0;
        self.bytes = (LEAST_FRAGMENTS * chunk_bytes).min(self.max);
    }

    fn shrink_to(&mut self, bytes: u32, chunk_bytes: u32) {
        self.bytes = bytes.max(LEAST_FRAGMENTS * chunk_bytes).min(self.max);
        self.threshold = self.bytes;
    }

    /// Widens the window by a sixteenth of the initial window for each window of bytes that
    /// arrives.
    fn avoid_congestion(&mut self, bytes: u32) {
        self.gained += bytes;
        if self.gained >= self.bytes {
            self.gained = 0;
            self.bytes = self.bytes.saturating_add(INITIAL_BYTES / 16).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_per_window_and_halves_once_per_window() {
        let mut window = Window::new(1 << 20);
        window.arrived(INITIAL_BYTES);
        assert_eq!(window.bytes(), 2 * INITIAL_BYTES);
        window.lost(1_000);
        window.lost(1_000);
        assert_eq!(window.bytes(), INITIAL_BYTES);
        window.arrived(2 * INITIAL_BYTES);
        window.arrived(INITIAL_BYTES);
        assert_eq!(window.bytes(), INITIAL_BYTES + INITIAL_BYTES / 16);
        window.timed_out(1_000);
        assert_eq!((window.bytes(), window.fragments(1_000, 9)), (2_000, 2));
    }

    #[test]
    fn timers_that_expire_together_lower_the_threshold_once() {
        let mut window = Window::new(1 << 20);
        window.arrived(1 << 20);
        for _ in 0..16 {
            window.timed_out(1_000);
            window.arrived(1_000);
        }
        window.arrived(1 << 19);
        assert!((1 << 19..1 << 20).contains(&window.bytes()), "{window:?}");
        window.arrived(1);
        window.timed_out(1_000);
        window.arrived(1 << 18);
        window.arrived(1 << 18);
        assert!(window.bytes() < 1 << 19, "{window:?}");
    }

    #[test]
    fn the_other_side_s_limit_is_the_largest_window() {
        let mut window = Window::new(10_000);
        window.arrived(1 << 30);
        assert_eq!(window.bytes(), 10_000);
    }
}
