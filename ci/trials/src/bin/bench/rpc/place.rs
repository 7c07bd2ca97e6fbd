//! Where client and server are: on one machine, or in two network namespaces with delay between
//! them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use testbed::{Delayed, Link, Network};

/// The places, named by the time that the way there and back takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// This machine's loopback device.
    Loopback,
    /// Two namespaces, 1 ms from one to the other and back.
    #[value(name = "1ms")]
    #[serde(rename = "1ms")]
    Near,
    /// The same with 20 ms.
    #[value(name = "20ms")]
    #[serde(rename = "20ms")]
    Far,
}

impl Place {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Near => "1 ms",
            Self::Far => "20 ms",
        }
    }

    /// For the head of a plot.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Near => "1 ms there and back",
            Self::Far => "20 ms there and back",
        }
    }

    /// Makes it.
    pub(super) fn set_up(self, congestion_control: &str) -> Result<Site> {
        let network = match self {
            Self::Loopback => Network::loopback(),
            Self::Near => Network::with(&Link::taking(Duration::from_millis(1))),
            Self::Far => Network::with(&Link::taking(Duration::from_millis(20))),
        }?;
        network.set_congestion_control(congestion_control)?;
        Ok(Site { network, processors: [CLIENT, SERVER].map(processors) })
    }
}

/// A place that is there; gone when dropped.
pub(super) struct Site {
    network: Network,
    processors: [String; 2],
}

/// The ends of a network.
const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Site {
    pub(super) fn delayed(&self) -> Option<Delayed> {
        self.network.delayed()
    }

    pub(super) fn server_address(&self) -> Ipv4Addr {
        self.network.address(SERVER)
    }

    /// This program, where the server is.
    pub(super) fn at_server(&self) -> Result<Command> {
        self.command(SERVER)
    }

    /// This program, where the client is.
    pub(super) fn at_client(&self) -> Result<Command> {
        self.command(CLIENT)
    }

    fn command(&self, end: usize) -> Result<Command> {
        let mut command = self.network.command(end, &std::env::current_exe()?);
        command.args(["rpc-peer", "--processors", &self.processors[end]]);
        Ok(command)
    }
}

/// The first half of this machine's processors for one end, the others for the other end, so that
/// it isn't the scheduler's mood whether a packet wakes an idle processor. Both have the only one,
/// if there is only one.
fn processors(end: usize) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let own = (0..count).filter(|processor| count == 1 || processor * 2 / count == end);
    own.map(|processor| processor.to_string()).collect::<Vec<_>>().join(",")
}
