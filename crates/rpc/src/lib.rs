//! Exactly-once request/reply over datagrams.
//!
//! # The problem
//!
//! A client asks a server to do something and wants its answer. Datagrams get lost, doubled,
//! delayed and reordered. Either side can die at any instant and come back. TCP solves the first
//! four by a connection, which costs a round trip and some ten packets for an exchange that needs
//! two. TCP doesn't solve the last. After a broken connection the caller doesn't know whether the
//! server executed the request, and asking again may execute it twice.
//!
//! # The idea
//!
//! The idea is from the paper "Sistema de comunicación exactamente una vez", whose sections are in
//! brackets. The reply acknowledges the request [3.1]; nothing acknowledges the reply [3.2]. The
//! client repeats a request until it is answered. The server remembers its replies, and answers a
//! repetition with the same reply, without executing it again.
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
//! ## Sessions keep late packets from being executed
//!
//! A server can't remember all clients for ever, and can't recognize a forgotten request. So the
//! server must be able to refuse a request that it *might* have forgotten. Its memory of a client
//! is a *session*: the sequence numbers that were seen and the replies not yet released. A session
//! begins with a *ticket*, which a client gets once, by a `Hello`:
//!
//! ```text
//!     ├── Hello ───────────────────────────▶ remembers nothing
//!     ◀── Welcome(epoch, ticket) ─────────┤  ticket = time of issue + keyed hash of it, client,
//!                                            address, port and epoch
//!     ├── Request(epoch, ticket, seq) ─────▶ opens the session, if the ticket is young
//! ```
//!
//! Every request belongs to the session under whose ticket it was first sent. A server that knows
//! the session knows all of the session's requests. If the server doesn't know the session, and the
//! ticket is as old as [`server::Limits::session_idle`], the session may have been forgotten. Then
//! the server refuses the request, with a new ticket for later requests. A session is kept for that
//! time after its last packet, so it is never forgotten while its ticket is young. No clock is
//! compared with another one, and a client that was stopped for an hour is as safe as any other.
//! The server sends a ticket to an address before it accepts the ticket from there, so nobody can
//! have large replies sent to a stranger.
//!
//! Only a later generation of the client ends a session earlier. The session's ticket may still be
//! young then. But the later generation's session outlives the ticket, and while it lives earlier
//! generations are refused.
//!
//! ## Epochs
//!
//! A server's *epoch* grows with each of its generations (`EpochFile`, or the caller's own
//! counter). The epoch is part of every ticket and packet. The server refuses a request of an
//! earlier epoch and names its own [3.4], so the caller learns that the result is unknown. The
//! number of a client's generation grows, too. The client drops replies to an earlier generation:
//! they are orphans. A server that hears from a later generation cancels the requests of the
//! earlier one.
//!
//! # Invariants
//!
//! | | | kept by |
//! |---|---|---|
//! | 1 | a request is executed at most once, ever | the session's table; the epoch; the age of the ticket |
//! | 2 | a reply reaches the call that asked for it, or none | client id, client generation, session and sequence in every packet, and the number of the packet it answers |
//! | 3 | every call ends: with the reply or a [`CallError`] | each has a time limit; retransmissions and heartbeats are counted |
//! | 4 | only errors whose [`CallError::execution`] is [`Execution::Never`] mean "not executed" | they are made where nothing was ever sent, or where the server knew the session and refused for good |
//! | 5 | every table is bounded, and empties when nothing is going on | [`client::Limits`], [`server::Limits`] |
//! | 6 | a packet without a valid hash changes nothing and gets no answer | the order of checks in `packet` |
//! | 7 | an address without a ticket gets no answer larger than its packet | the padding of `Hello` |
//!
//! # Events and their consequences
//!
//! | | |
//! |---|---|
//! | a request, or its reply, is lost | the client repeats it after RTO (RFC 6298, with back-off); the server doesn't execute it again |
//! | nothing comes back at all | after [`client::Limits::retransmissions`]: [`CallError::ServerDown`]. Half way, the client looks the port up again, in case the server moved |
//! | the service takes long | `Working` after [`ACK_WITHIN`], then a heartbeat each [`client::Limits::heartbeat`] |
//! | the time limit passes | [`CallError::TimedOut`] with the call's progress; the server is told to cancel |
//! | the server died and came back | [`CallError::ServerRestarted`] for requests to the earlier generation |
//! | the client died | the server cancels: after silence, or at a packet of the client's next generation |
//! | the server forgot the session or the request | [`CallError::Forgotten`]: after silence longer than the client had announced, or after a server was full for as long as a ticket is young |
//! | the client's address changes | [`CallError::ServerDown`]: its packets are dropped until it greets the server anew |
//! | the service gives a request up | [`CallError::Abandoned`], at once |
//! | the server is full | the server refuses with `Busy`; the client repeats, more and more slowly, and at its limit ends the call with [`CallError::Busy`] |
//!
//! # Large messages
//!
//! A message longer than a datagram goes in fragments, up to [`MAX_MESSAGE_BYTES`]. All timers and
//! windows are the client's, in both directions. The client sends a request's fragments within its
//! window, and the server reports the ones that it [`Got`](packet::ServerBody::Got). The client *asks*
//! for a reply's fragments by ranges, after a first burst that its request allowed. So a server has
//! no retransmission state and only answers, which keeps the remembered reply simple.
//!
//! A request lives on below the floor once the server has acknowledged a part of it, so no request
//! waits for a slow or large one. The client reports that such requests have `Ended`, many at a
//! time. Windows grow and shrink as TCP's do (RFC 5681). A later fragment's arrival shows a loss,
//! as in QUIC (RFC 9002, section 6.1).
//!
//! # Where this departs from the paper
//!
//! - The paper has a communication server, one process per site between the applications and the
//!   network. Here a library takes its place. The process cost two more local messages per packet,
//!   and its death ended every application's calls.
//! - Replies are released by the time limit [3.2] *or* by the floor in the client's next packet.
//!   With the limit alone, replies would be kept for seconds.
//! - The paper doesn't explain how a server that freed its tables recognizes a very late duplicate.
//!   Here a late duplicate is refused by its ticket.
//! - The retransmission timer adapts; the paper's is fixed.
//! - The heartbeat [3.3] asks about one request, not about the server, so the heartbeat finds a
//!   lost reply and a forgotten request too.
//! - Epochs alone are right only with stable storage. Here the ticket's hash also contains a secret
//!   of the server's generation.
//! - The timer queue is an ordered set rather than a binary heap: a cancelled timer leaves it at
//!   once.
//! - There are authenticated packets, fragments, local sockets and nested requests (the paper's
//!   section 6).
//!
//! # Shape
//!
//! [`client::Client`] and [`server::Server`] are pure: packets and the time go in by `handle_*`,
//! packets and events come out by `poll_*`. Both own no socket, clock, thread or source of random
//! numbers. The feature `driver`, on by default, gives them sockets and tokio's timers (`driver`),
//! and messages instead of bytes (`typed`). `Rules::obey` is always true, except in tests that
//! break a rule on purpose. The tables of [`client`] and [`server`] say what each input does to a
//! call and to a request.
//!
//! A call with its reply passes these functions of `src/`, in this order; a test checks that each
//! exists. Input of all kinds enters a core through `drive`, which locks the core, gives it the
//! input, takes its outputs and unlocks. Then `drive` sends the packets and carries out the
//! effects. Its machine is `driver/caller.rs` on a client and `driver/service.rs` on a server.
//!
//! | file | functions | purpose |
//! |---|---|---|
//! | `driver/client.rs` | `call`, `send`, `begin_call` | takes a permit, makes the channel for the reply |
//! | `driver/endpoint.rs` | `drive`, `emit` | runs the core for the caller, then sends the packet |
//! | `driver/caller.rs` | `call` | keeps the channel by the call's id |
//! | `client/mod.rs` | `call` | sets the time limit, picks the server's conversation |
//! | `client/conversation.rs` | `add`, `proceed` | queues the call; goes on with the first of these three that is lacking: |
//! | `client/reaching.rs` | `find` | — the address: an event has it looked up, |
//! | `driver/caller.rs` | `poll_effect`, `perform` | — by the driver, |
//! | `driver/search.rs` | `start`, `look_up`, `found_at`, `end` | — in a task, whose result comes by `drive` |
//! | `driver/caller.rs` | `found` | — to the core |
//! | `client/mod.rs` | `handle_found` | — and its conversation, |
//! | `client/conversation.rs` | `found` | — which goes on |
//! | `client/reaching.rs` | `greet` | — the session: sends a `Hello`, |
//! | `server/mod.rs` | `welcome` | — which gets a ticket |
//! | `client/answers.rs` | `handle_welcome` | — that the client's core takes |
//! | `client/reaching.rs` | `takes_welcome` | — and keeps; then the call goes on |
//! | `client/conversation.rs` | `send_waiting` | — the packet: sends calls, not too far ahead of the floor |
//! | `client/sending.rs` | `send_first`, `send_request`, `send_fragment` | cuts the request into fragments, sets the timer |
//! | `client/peer.rs` | `send` | seals a packet, for `drive` to take |
//! | `driver/endpoint.rs` | `receive` | gives the packet to the server's core |
//! | `server/mod.rs` | `handle_packet`, `handle_question` | opens the packet, checks its hash and port |
//! | `server/sessions.rs` | `admit` | finds or opens the session |
//! | `server/requests.rs` | `handle_question`, `handle_request`, `add`, `handle_fragment`, `execute` | makes one request of it, once |
//! | `driver/service.rs` | `poll_effect`, `arrive`, `perform` | queues the request, wakes a receiver |
//! | `driver/server.rs` | `recv` | returns the request to the program |
//! | `driver/request.rs` | `reply` | runs the core with the reply |
//! | `server/requests.rs` | `reply`, `send_reply` | keeps the reply until the client has it, sends it |
//! | `driver/endpoint.rs` | `receive` | gives the packet to the client's core |
//! | `client/answers.rs` | `handle_packet`, `handle_answer`, `answer_call`, `handle_reply` | finds the call that it answers |
//! | `client/peer.rs` | `end` | forgets the call, reports its end |
//! | `driver/caller.rs` | `poll_effect`, `ended`, `perform` | sends the reply through the channel |
//! | `driver/client.rs` | `poll` | the caller's future returns it |

#[cfg(feature = "driver")]
mod epoch;
mod error;
mod fragments;
#[cfg(feature = "driver")]
mod generation_file;
#[cfg(feature = "driver")]
mod identity;
mod ids;
mod key;
mod replay;
mod rtt;
mod rules;
#[cfg(test)]
mod table;
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
pub use generation_file::GenerationFileError;
#[cfg(feature = "driver")]
pub use identity::IdentityFile;
pub use ids::{
    Address, ClientGeneration, ClientId, Epoch, Identity, PacketNumber, Port, Sequence, Ticket,
};
pub use key::{Key, KeyError};
#[cfg(feature = "mutations")]
pub use rules::Rule;
pub use sansio::Time;

use std::time::Duration;

/// Longest message, request or reply, bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Time after which a server acknowledges a request that it hasn't answered. Clients add it to
/// their retransmission timer, so that the acknowledgement comes first [paper, 3.3].
pub const ACK_WITHIN: Duration = Duration::from_millis(10);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination.
    pub to: Address,
    /// The whole datagram.
    pub packet: Vec<u8>,
}
