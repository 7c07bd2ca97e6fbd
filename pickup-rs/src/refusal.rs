//! Worthlessness of a message that was refused for good, judged by the reason given.
//!
//! Limits of the quarantine apply to worthless messages only. All others may be good, and the fault
//! elsewhere: this node's configuration, or a Redis that is not the one with the message.

use crate::message::TOO_LONG;

/// First words of the reasons of [`spool::Damage`], except a missing message, and of `Malformed`,
/// except one.
const WORTHLESS: [&str; 3] =
    ["checksum mismatch: ", "the stored message has no readable first line", "malformed: "];

/// Whether no configuration could make this message sendable.
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
