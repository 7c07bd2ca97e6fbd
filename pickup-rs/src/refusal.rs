//! Whether a message that was refused for good is worth nothing, by the reason that was given.
//!
//! Limits of what is kept aside apply to such messages only. All others may be good, and something
//! else at fault: this node's configuration, or a Redis that is not the one where the message is.

use crate::message::TOO_LONG;

/// The reasons of [`spool::Damage`] but for a missing message, and those of `Malformed` but one.
const WORTHLESS: [&str; 3] =
    ["checksum mismatch: ", "the stored message has no readable first line", "malformed: "];

/// Whether no configuration could make this message one that can be sent.
pub fn is_worthless(reason: &str) -> bool {
    WORTHLESS.iter().any(|start| reason.starts_with(start)) && !reason.ends_with(TOO_LONG)
}

#[cfg(test)]
mod tests {
    use spool::Damage;

    use super::*;
    use crate::message::Malformed;
    use postfix_wire::RecordType;

    #[test]
    fn only_what_no_configuration_can_mend_is_worthless() {
        let mismatch = Damage::Checksum { stored: 1, computed: 2, bytes: 3 };
        assert!(is_worthless(&mismatch.to_string()) && is_worthless(&Damage::Header.to_string()));
        assert!(is_worthless(&format!("malformed: {}", Malformed::NoEnd)));
        let long = Malformed::TooLong { kind: RecordType::Norm, bytes: 3000 };
        assert!(!is_worthless(&format!("malformed: {long}")));
        assert!(!is_worthless(&Damage::Missing.to_string()));
        assert!(!is_worthless("cleanup: internal protocol error"));
    }
}
