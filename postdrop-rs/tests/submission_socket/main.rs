//! Tests of `sendmail` and `postdrop` through the submission socket, in places where set-group-id
//! has no effect. The results must be the same as elsewhere.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test")]

mod callers;
mod dying;
mod hostile;
mod memory;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod surroundings;

use postfix_wire::record::RecordType::{End, From, Mesg, Norm, Rcpt, Xtra};

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";

/// Returns a whole message, as postdrop's clients send it.
fn records() -> Vec<u8> {
    support::stream(&[
        (From, b"ann"),
        (Rcpt, b"bob"),
        (Mesg, b""),
        (Norm, b"x"),
        (Xtra, b""),
        (End, b""),
    ])
}
