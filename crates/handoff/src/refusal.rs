//! Worthlessness of a message that pickup-rs refused for good, judged by the reason in the refusal.
//!
//! Limits of the quarantine apply to worthless messages only. Any other message may be good, and
//! this node's configuration or Redis at fault.

/// Last words of a reason that a larger `line_length_limit` would mend.
pub const TOO_LONG: &str = "is longer than line_length_limit";

/// First words of the reasons of [`spool::Damage`], except a missing message, and of `Malformed`,
/// except one.
const WORTHLESS: [&str; 3] =
    ["checksum mismatch: ", "the stored message has no readable first line", "malformed: "];

/// Whether no configuration could make this message sendable.
pub fn is_worthless(reason: &str) -> bool {
    WORTHLESS.iter().any(|start| reason.starts_with(start)) && !reason.ends_with(TOO_LONG)
}
