//! Exactly-once request/reply over datagrams.
//!
//! # The problem
//!
//! A client asks a server to do something and wants its answer. Datagrams get lost, doubled,
//! delayed and reordered; either side can die at any instant and come back. TCP answers the first
//! four with a connection, whose setting up costs a round trip and some ten packets for an exchange
//! that needs two, and doesn't answer the last: after a broken connection the caller doesn't know
//! whether its request was executed, and asking again may execute it twice.
//!
//! # The idea
//!
//! From "Sistema de comunicación exactamente una vez" (seed 002; sections in brackets are its). The
//! reply acknowledges the request [3.1]; nothing acknowledges the reply [3.2]. The client repeats a
//! request until it is answered; the server remembers what it answered, and answers a repetition
//! with the same reply without executing again.
//!
//! ```text
//!   client                                server              when nothing fails: two packets
//!     ├── Request(seq 7, floor 7) ─────────▶ execute
//!     ◀── Reply(seq 7) ───────────────────┤                   7 has ended at the client, which
//!     ├── Request(seq 8, floor 8) ─────────▶ forgets reply 7  says so in passing: floor, the
//!                                                             lowest seq that hasn't ended and
//!                                                             isn't known to be received
//!
//!     ├── Request(seq 9) ──╳                                  lost: the timer repeats it
//!     ├── Request(seq 9) ──────────────────▶ execute
//!     ╳── Reply(seq 9) ───────────────────┤                   lost: the repetition gets the
//!                                                             remembered reply
//!     ├── Request(seq 9) ──────────────────▶
//!     ◀── Reply(seq 9) ───────────────────┤
//!
//!     ├── Request(seq 10) ─────────────────▶ execute, slowly
//!     ◀── Working(seq 10) ────────────────┤  after ACK_WITHIN   the timer rests; heartbeats
//!                                                               watch the server
//!     ├── Ask(seq 10) ─────────────────────▶ each heartbeat
//!     ◀── Working(seq 10) ────────────────┤
//!     ◀── Reply(seq 10) ──────────────────┤  when done
//! ```
//!
//! ## Sessions: what keeps a late packet from being executed
//!
//! A server can't remember everybody for ever, and what it has forgotten it can't recognize. So it
//! must be able to refuse what it *might* have forgotten. What it remembers of a client is a
//! *session*: the sequence numbers that were seen and the replies not yet released. A session
//! begins with a *ticket*, which a client gets by a `Hello`, once:
//!
//! ```text
//!     ├── Hello ───────────────────────────▶ remembers nothing
//!     ◀── Welcome(epoch, ticket) ─────────┤  ticket = time of issue + keyed hash of it, client,
//!                                            address, port and epoch
//!     ├── Request(epoch, ticket, seq) ─────▶ opens the session, if the ticket is young
//! ```
//!
//! Every request belongs to the session under whose ticket it was first sent. If the server knows
//! the session it knows all of its requests. If it doesn't, and the ticket is as old as
//! [`server::Limits::session_idle`], the session may have been forgotten: refused, with a new
//! ticket for what comes next. A session is kept for that long after its last packet, so never
//! forgotten while its ticket is young. No clock is compared with another's, and a client that was
//! stopped for an hour is as safe as any other. A ticket goes to an address before it is accepted
//! from it, so nobody can have large replies sent to somebody else.
//!
//! One thing ends a session earlier: a later life of its client. Its ticket may still be young; but
//! then the later life's session lives, and outlives it, and while it does earlier lives are
//! refused.
//!
//! ## Epochs
//!
//! A server's *epoch* grows with each of its lives (`EpochFile`, or the caller's own counter). It
//! is part of every ticket and packet: a request of an earlier epoch is refused with the new one
//! [3.4], and the caller learns that the result is unknown. A client's epoch grows too: replies to
//! an earlier life are orphans and dropped, and a server that hears from the later life cancels
//! what it still executes for the earlier.
//!
//! # Invariants
//!
//! | | | kept by |
//! |---|---|---|
//! | 1 | a request is executed at most once, ever | the session's table; the epoch; the age of the ticket |
//! | 2 | a reply reaches the call that asked for it, or none | client id, client epoch, session and sequence in every packet, and the number of the packet it answers |
//! | 3 | every call ends: with the reply or a [`CallError`] | each has a time limit; retransmissions and heartbeats are counted |
//! | 4 | only errors whose [`CallError::execution`] is [`Execution::Never`] mean "not executed" | they are made where nothing was ever sent, or where the server knew the session and refused for good |
//! | 5 | every table is bounded, and empties when nothing is going on | [`client::Limits`], [`server::Limits`] |
//! | 6 | a packet without a valid hash changes nothing and gets no answer; nobody gets a larger answer than his packet who hasn't shown that he reads what is sent to his address | the order of checks in `packet` and `server`; the padding of `Hello` |
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | a request, or its reply, is lost | the client repeats it after RTO (RFC 6298, with back-off); the server doesn't execute it again |
//! | nothing comes back at all | after [`client::Limits::retransmissions`]: [`CallError::ServerDown`]. Half way, the port is looked up again, in case the server moved |
//! | the service takes long | `Working` after [`ACK_WITHIN`], then a heartbeat each [`client::Limits::heartbeat`] |
//! | the time limit passes | [`CallError::TimedOut`], saying whether the server is known to have received it; the server is told to cancel |
//! | the server died and came back | [`CallError::ServerRestarted`] for what was sent to the earlier life |
//! | the client died | the server hears no more heartbeats and cancels; or hears from the client's next life, and cancels at once |
//! | the server forgot the session or the request | [`CallError::Forgotten`]: after silence longer than the client had announced, or after a server was full for as long as a ticket is young |
//! | the client's address changes | [`CallError::ServerDown`]: its packets are dropped until it greets the server anew |
//! | the service gives a request up | [`CallError::Abandoned`], at once |
//! | the server is full | it refuses with `Busy`; the client repeats, more and more slowly, and at its limit ends with [`CallError::Busy`] |
//!
//! # Large messages
//!
//! A message longer than a datagram goes in fragments, up to [`MAX_MESSAGE_BYTES`]. All timers and
//! windows are the client's, in both directions: it sends a request's fragments within its window
//! and the server says which ones it [`Got`](packet::Answer::Got); it *asks* for a reply's
//! fragments by ranges, after a first burst that its request allowed. (A request of which the
//! server has acknowledged something lives on below the floor, so that nothing waits for a slow or
//! a large one; that it has `Ended` is said of many together.) So a server holds no retransmission
//! state and only ever answers, which is what makes the cached reply simple. Windows grow and
//! shrink as TCP's do (RFC 5681); loss is seen by later fragments arriving, as in QUIC (RFC 9002,
//! section 6.1).
//!
//! # Where this departs from the paper
//!
//! - The paper's communication server, one process per site between the applications and the
//!   network, is a library: it cost two more local messages per packet, and its death was
//!   everybody's.
//! - Replies are released by the time limit [3.2] *or* by the floor that the client's next packet
//!   carries. The limit alone keeps seconds of replies.
//! - The paper never says how a server that freed its tables knows a very late duplicate. Tickets
//!   do.
//! - The retransmission timer adapts; the paper's is fixed.
//! - The heartbeat [3.3] asks about one request, not about the server, so it finds a lost reply and
//!   a forgotten request too.
//! - Epochs alone need stable storage to be right; the ticket's hash also contains a secret of the
//!   server's life.
//! - The timer queue is an ordered set rather than a binary heap: a cancelled timer leaves it at
//!   once.
//! - Packets are authenticated, fragments, local sockets and nested requests exist (the paper's
//!   section 6).
//!
//! # Shape
//!
//! [`client::Client`] and [`server::Server`] are pure: packets and the time go in by `handle_*`,
//! packets and events come out by `poll_*`. They own no socket, clock, thread or source of
//! randomness. `driver` (a feature, on by default) gives them sockets and tokio's timers, and
//! `typed` messages instead of bytes.

#[cfg(feature = "driver")]
mod epoch;
mod error;
mod fragments;
#[cfg(feature = "driver")]
mod identity;
mod ids;
#[cfg(feature = "driver")]
mod kept;
mod key;
mod replay;
mod rtt;
mod rules;
mod time;
mod timers;
mod window;

pub mod client;
#[cfg(feature = "driver")]
pub mod driver;
pub mod packet;
pub mod server;
#[cfg(feature = "driver")]
pub mod typed;

#[cfg(feature = "driver")]
pub use epoch::EpochFile;
pub use error::{CallError, Execution, Progress};
#[cfg(feature = "driver")]
pub use identity::IdentityFile;
pub use ids::{
    Address, ClientGeneration, ClientId, Epoch, Identity, PacketNumber, Port, Sequence, Ticket,
};
#[cfg(feature = "driver")]
pub use kept::KeptError;
pub use key::{Key, KeyError};
#[cfg(feature = "mutations")]
pub use rules::Rule;
pub use time::Time;

use std::time::Duration;

/// The longest message, request or reply.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A server acknowledges a request that it hasn't answered for so long. Clients add it to their
/// retransmission timer, so that the acknowledgement comes first [paper, 3.3].
pub const ACK_WITHIN: Duration = Duration::from_millis(10);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination.
    pub to: Address,
    /// All of it.
    pub packet: Vec<u8>,
}
