//! The hand-off between a Mail Agent and pickup-rs: one JSON object per line over a Unix socket.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`] | requests and replies, and what each one promises |
//! | [`client`] | the Mail Agent's end of the socket |
//! | [`lines`] | lines of a stream, for both ends |
//! | [`refusal`] | whether a refused message could ever be sent |

pub mod client;
pub mod lines;
pub mod protocol;
pub mod refusal;
