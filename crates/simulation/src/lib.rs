//! For tests only: choices that a seed brings back, and the order of events.
//!
//! A simulation runs pure machines under a clock of its own. All that could differ between two runs
//! is chosen by a [`Random`], and all that will happen waits in a [`Timeline`]. So a seed
//! determines a run, and a failure names the seed that brings it back.
//!
//! | variable | effect |
//! |---|---|
//! | `OPTIMUS_SEED=n` | runs this seed alone |
//! | `OPTIMUS_SEEDS=n` | runs n seeds, from 0 on |
//! | `FUZZ_SECONDS=n` | runs new seeds for n seconds, and prints how many; see `ci/fuzz` |
//!
//! Network, hosts and checks belong to each simulation: rpc's network carries packets that it can
//! damage, record and divide; between agents and Redis there are calls with answers.

mod random;
mod seeds;
mod timeline;

pub use random::Random;
pub use seeds::{for_each_seed, given_seed};
pub use timeline::Timeline;
