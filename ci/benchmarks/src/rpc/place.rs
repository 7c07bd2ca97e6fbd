//! Places of client and server: one machine, or two network namespaces with delay between them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use testbed::{Delayed, LinkConditions, Network};

/// The places, named by the time of a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Distance {
    /// This machine's loopback device.
    Loopback,
    /// Two namespaces, 1 ms from one to the other and back.
    #[value(name = "1ms")]
    #[serde(rename = "1ms")]
    Near,
    /// Two namespaces, 20 ms from one to the other and back.
    #[value(name = "20ms")]
    #[serde(rename = "20ms")]
    Far,
}

impl Distance {
    /// Returns the name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Near => "1 ms",
            Self::Far => "20 ms",
        }
    }

    /// Returns the title of a plot.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Near => "1 ms there and back",
            Self::Far => "20 ms there and back",
        }
    }

    /// Sets the place up.
    pub(super) fn set_up(self, congestion_control: &str) -> Result<BenchNetwork> {
        let network = match self {
            Self::Loopback => Network::loopback(),
            Self::Near => Network::with(&LinkConditions::taking(Duration::from_millis(1))),
            Self::Far => Network::with(&LinkConditions::taking(Duration::from_millis(20))),
        }?;
        network.set_congestion_control(congestion_control)?;
        Ok(BenchNetwork { network, processors: [CLIENT, SERVER].map(processors) })
    }
}

/// A place that is set up; gone when dropped.
pub(super) struct BenchNetwork {
    network: Network,
    processors: [String; 2],
}

/// Ends of a network.
const CLIENT: usize = 0;
const SERVER: usize = 1;

impl BenchNetwork {
    pub(super) fn delayed(&self) -> Option<Delayed> {
        self.network.delayed()
    }

    pub(super) fn server_address(&self) -> Ipv4Addr {
        self.network.address(SERVER)
    }

    /// Returns this program as a command at the server's end.
    pub(super) fn at_server(&self) -> Result<Command> {
        self.command(SERVER)
    }

    /// Returns this program as a command at the client's end.
    pub(super) fn at_client(&self) -> Result<Command> {
        self.command(CLIENT)
    }

    fn command(&self, end: usize) -> Result<Command> {
        let mut command = self.network.command(end, &std::env::current_exe()?);
        command.args(["rpc-peer", "--processors", &self.processors[end]]);
        Ok(command)
    }
}

/// Returns half of this machine's processors, the first half for one end and the others for the
/// other end. Otherwise the scheduler's mood would decide whether a packet wakes an idle processor.
/// A single processor is for both.
fn processors(end: usize) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let own = (0..count).filter(|processor| count == 1 || processor * 2 / count == end);
    own.map(|processor| processor.to_string()).collect::<Vec<_>>().join(",")
}
