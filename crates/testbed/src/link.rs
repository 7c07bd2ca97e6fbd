//! A link between two network namespaces: its qualities, and the commands that make one.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest packet of Ethernet, bytes.
pub const MTU: u16 = 1500;
/// Limit of packets under way in one direction: so many that the link delays and never drops.
pub(crate) const QUEUE: usize = 20_000;

/// Treatment of packets by a link, in each direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkConditions {
    /// Time of a round trip. A packet takes half of this time.
    pub round_trip: Duration,
    /// Share of lost packets, in percent.
    pub lost_percent: u8,
    /// Share of packets that overtake others under way, in percent.
    pub overtaking_percent: u8,
}

impl LinkConditions {
    /// Returns a link that loses nothing and keeps the order.
    pub fn taking(round_trip: Duration) -> Self {
        Self { round_trip, ..Self::default() }
    }
}

pub(crate) fn ip(words: &[&str]) -> Result<()> {
    run("ip", words)
}

pub(crate) fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| format!("{program}: not run"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
