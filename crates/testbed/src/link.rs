//! A link between two network namespaces: its qualities, and the commands that make one.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Ethernet's.
pub const MTU: u16 = 1500;
/// Packets that may be under way in one direction: so many that the link delays and never drops.
pub(crate) const QUEUE: usize = 20_000;

/// The treatment of packets by a link, in each direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// A packet takes half of it.
    pub round_trip: Duration,
    /// Packets of a hundred that are lost.
    pub lost_percent: u8,
    /// Packets of a hundred that overtake those that are under way.
    pub overtaking_percent: u8,
}

impl Link {
    /// One that loses nothing and keeps the order.
    pub fn taking(round_trip: Duration) -> Self {
        Self { round_trip, ..Self::default() }
    }
}

pub(crate) fn ip(words: &[&str]) -> Result<()> {
    run("ip", words)
}

pub(crate) fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output().context(program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
