//! Ends of a call without a reply.

use std::fmt;

use thiserror::Error;

use crate::{Address, Epoch, Port};

/// Whether the server may have executed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// The request was certainly not executed, and never will be.
    Never,
    /// The request may have been executed, or may be yet; at most once.
    Unknown,
    /// The request was certainly executed, and once.
    Once,
}

/// The progress of a call when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No packet of the request was ever sent.
    Unsent,
    /// The request was sent, and the server never acknowledged it.
    Sent,
    /// The server acknowledged the request.
    Received,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent => "before the request was sent",
            Self::Sent => "before the request was known to be received",
            Self::Received => "after the server had received the request",
        })
    }
}

/// A call's end without a reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// Too many calls are open. No packet was sent; the caller may call again when one has ended.
    #[error("call: not begun: {open} calls are open; wait until one has ended")]
    TooManyCalls {
        /// Number of open calls.
        open: usize,
    },
    /// The request is longer than [`MAX_MESSAGE_BYTES`](crate::MAX_MESSAGE_BYTES). Nothing was
    /// sent.
    #[error("request: not sent: {bytes} bytes are too long; send a shorter one")]
    TooLong {
        /// The request's length, bytes.
        bytes: usize,
    },
    /// The server takes no request of this length, and has not executed this one.
    #[error("request: not executed: too long for the server: {bytes} bytes; send a shorter one")]
    TooLongForServer {
        /// The request's length, bytes.
        bytes: usize,
    },
    /// The directory knows no such port. No packet was sent.
    #[error(
        "call: not sent: the directory has no server for port {0}; start one, or mend the directory"
    )]
    NoSuchPort(Port),
    /// The directory gave an address to which this client doesn't send. No packet was sent.
    #[error("call: not sent: address {address} not used: {why}; mend the directory")]
    AddressRefused {
        /// The address.
        address: Address,
        /// Reason of the refusal.
        why: &'static str,
    },
    /// The time limit passed.
    #[error("call: ended: its time limit passed {0}")]
    TimedOut(Progress),
    /// The server answered none of several transmissions in a row.
    #[error("call: ended: the server answered none of {transmissions} transmissions, {progress}")]
    ServerDown {
        /// Number of transmissions, or heartbeats, in a row.
        transmissions: u32,
        /// The progress of the call.
        progress: Progress,
    },
    /// The server began a new generation after the request was sent. The earlier one may have
    /// executed the request or not.
    #[error("call: result unknown: the server restarted, now with epoch {now}")]
    ServerRestarted {
        /// The server's epoch now.
        now: Epoch,
    },
    /// The server no longer knows whether it executed this request, because it heard nothing of
    /// this client for too long.
    #[error("call: result unknown: the server has forgotten the request")]
    Forgotten,
    /// The service gave the request up without a reply; it may have been executed in part.
    #[error("call: result unknown: the service gave the request up, and may have executed a part")]
    Abandoned,
    /// The server had no room for this request at any attempt, until the time limit.
    #[error("call: result unknown: the server was busy until the time limit")]
    Busy,
    /// The caller cancelled the call or closed the client, or the request that the call served was
    /// cancelled.
    #[error("call: cancelled {0}")]
    Cancelled(Progress),
}

impl CallError {
    /// Returns whether the request may have been executed.
    #[must_use]
    pub fn execution(&self) -> Execution {
        match self {
            Self::TooManyCalls { .. }
            | Self::TooLong { .. }
            | Self::TooLongForServer { .. }
            | Self::NoSuchPort(_)
            | Self::AddressRefused { .. } => Execution::Never,
            Self::TimedOut(progress)
            | Self::ServerDown { progress, .. }
            | Self::Cancelled(progress) => match progress {
                Progress::Unsent => Execution::Never,
                Progress::Sent | Progress::Received => Execution::Unknown,
            },
            Self::ServerRestarted { .. } | Self::Forgotten | Self::Busy | Self::Abandoned => {
                Execution::Unknown
            }
        }
    }
}
