//! Shared parts of pure cores: none of them has a clock, a thread or a socket. Time is an argument.
//!
//! | module | content |
//! |---|---|
//! | [`Backoff`] | a pause after each failure in a row, twice as long each time |
//! | [`Throttle`] | the same trouble in the log once in a while |
//! | [`Time`], [`Timers`] | moments of a simulated or a real clock, and one timer per key |
//!
//! **Architecture invariant**: this crate depends on nothing but the standard library, and calls
//! neither `Instant::now` nor `sleep`.

mod backoff;
mod throttle;
mod time;
mod timers;

pub use backoff::{Backoff, Policy};
pub use throttle::Throttle;
pub use time::Time;
pub use timers::Timers;
