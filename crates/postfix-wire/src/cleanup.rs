//! Requests to cleanup, and its answers.
//!
//! ```text
//! client                      cleanup
//!        ◀── protocol, queue_id
//!  flags ──▶
//!        ──▶ records … E
//!        ◀── status, reason
//! ```
//!
//! Source: `cleanup_user.h`, `cleanup_strerror(3)`, `input_transp(3)`, `pickup.c`.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::constants as c;

/// Value of `protocol` in cleanup's greeting.
pub const PROTOCOL: &str = "cleanup_protocol";

/// Flags of a request to cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CleanupFlags(u32);

impl CleanupFlags {
    /// No flag.
    pub const NONE: Self = Self(c::CLEANUP_FLAG_NONE);
    /// Cleanup bounces a message that it can't accept.
    pub const BOUNCE: Self = Self(c::CLEANUP_FLAG_BOUNCE);
    /// Cleanup applies header and body checks.
    pub const FILTER: Self = Self(c::CLEANUP_FLAG_FILTER);
    /// Cleanup puts the finished file into the hold queue.
    pub const HOLD: Self = Self(c::CLEANUP_FLAG_HOLD);
    /// Cleanup discards the message silently.
    pub const DISCARD: Self = Self(c::CLEANUP_FLAG_DISCARD);
    /// Cleanup adds automatic BCC recipients.
    pub const BCC_OK: Self = Self(c::CLEANUP_FLAG_BCC_OK);
    /// Cleanup maps addresses.
    pub const MAP_OK: Self = Self(c::CLEANUP_FLAG_MAP_OK);
    /// Cleanup applies Milters.
    pub const MILTER: Self = Self(c::CLEANUP_FLAG_MILTER);
    /// Cleanup answers with an SMTP reply.
    pub const SMTP_REPLY: Self = Self(c::CLEANUP_FLAG_SMTP_REPLY);
    /// The client asked for SMTPUTF8.
    pub const SMTPUTF8: Self = Self(c::CLEANUP_FLAG_SMTPUTF8);
    /// Cleanup finds out whether the message needs SMTPUTF8.
    pub const AUTOUTF8: Self = Self(c::CLEANUP_FLAG_AUTOUTF8);
    /// Flags of mail from outside: checks, Milters, BCC, mapping.
    pub const EXTERNAL: Self = Self(c::CLEANUP_FLAG_MASK_EXTERNAL);

    const NAMES: [(Self, &str); 10] = [
        (Self::BOUNCE, "enable_bad_mail_bounce"),
        (Self::FILTER, "enable_header_body_filter"),
        (Self::HOLD, "hold_message"),
        (Self::DISCARD, "discard_message"),
        (Self::BCC_OK, "enable_automatic_bcc"),
        (Self::MAP_OK, "enable_address_mapping"),
        (Self::MILTER, "enable_milters"),
        (Self::SMTP_REPLY, "enable_smtp_reply"),
        (Self::SMTPUTF8, "smtputf8_requested"),
        (Self::AUTOUTF8, "smtputf8_autodetect"),
    ];

    /// Returns the number that the protocol carries.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether all of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns these flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns these flags without any of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for CleanupFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for CleanupFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

impl fmt::Display for CleanupFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .map(|(_, name)| *name)
            .collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(" ") }.as_str())
    }
}

/// Error: Postfix doesn't know this word of `receive_override_options`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("receive_override_options: unknown option {0:?}")]
pub struct UnknownOverride(pub String);

/// Returns `flags` without those that the value of `receive_override_options` switches off. Fails
/// if Postfix doesn't know one of its words.
///
/// Words are separated by commas and blanks, and case matters, as in Postfix.
pub fn apply_receive_override_options(
    mut flags: CleanupFlags,
    options: &str,
) -> Result<CleanupFlags, UnknownOverride> {
    let separator = |ch| matches!(ch, ',' | ' ' | '\t' | '\r' | '\n');
    for word in options.split(separator).filter(|word| !word.is_empty()) {
        flags = flags.without(match word {
            "no_unknown_recipient_checks" => CleanupFlags::NONE,
            "no_address_mappings" => CleanupFlags::BCC_OK | CleanupFlags::MAP_OK,
            "no_header_body_checks" => CleanupFlags::FILTER,
            "no_milters" => CleanupFlags::MILTER,
            other => return Err(UnknownOverride(other.to_owned())),
        });
    }
    Ok(flags)
}

/// Status of cleanup, displayed as Postfix's text for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CleanupStatus(u32);

impl CleanupStatus {
    /// Success.
    pub const OK: Self = Self(c::CLEANUP_STAT_OK);
    /// Cleanup did not understand the request.
    pub const BAD: Self = Self(c::CLEANUP_STAT_BAD);
    /// The queue file could not be written.
    pub const WRITE: Self = Self(c::CLEANUP_STAT_WRITE);
    /// The message is larger than `message_size_limit`.
    pub const SIZE: Self = Self(c::CLEANUP_STAT_SIZE);
    /// Content rules reject the message.
    pub const CONT: Self = Self(c::CLEANUP_STAT_CONT);
    /// The message has too many Received: headers.
    pub const HOPS: Self = Self(c::CLEANUP_STAT_HOPS);
    /// The message has no recipient.
    pub const RCPT: Self = Self(c::CLEANUP_STAT_RCPT);
    /// A before-queue filter failed.
    pub const PROXY: Self = Self(c::CLEANUP_STAT_PROXY);
    /// Cleanup defers the message.
    pub const DEFER: Self = Self(c::CLEANUP_STAT_DEFER);
    /// Policy denies the message.
    pub const NOPERM: Self = Self(c::CLEANUP_STAT_NOPERM);
    /// A bare line feed was received.
    pub const BARE_LF: Self = Self(c::CLEANUP_STAT_BARE_LF);

    /// Statuses and Postfix's texts for them, the severest status first.
    const DETAILS: [(Self, &str); 10] = [
        (Self::DEFER, "service unavailable"),
        (Self::PROXY, "queue file write error"),
        (Self::BAD, "internal protocol error"),
        (Self::RCPT, "no recipients specified"),
        (Self::HOPS, "too many hops"),
        (Self::SIZE, "message file too big"),
        (Self::CONT, "message content rejected"),
        (Self::WRITE, "queue file write error"),
        (Self::NOPERM, "service denied"),
        (Self::BARE_LF, "bare <LF> received"),
    ];

    /// Returns the status for a number that the protocol carries.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the number that the protocol carries.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether cleanup has accepted the message.
    pub const fn is_ok(self) -> bool {
        self.0 == c::CLEANUP_STAT_OK
    }

    /// Returns whether all of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether stock pickup would keep the message and try again later. It gives up only on
    /// a broken record stream and a message without recipients, which cleanup can never accept.
    pub const fn may_retry(self) -> bool {
        !self.is_ok() && self.0 & (Self::BAD.0 | Self::RCPT.0) == 0
    }

    fn detail(self) -> Option<&'static str> {
        Self::DETAILS.iter().find(|(status, _)| self.0 & status.0 != 0).map(|&(_, words)| words)
    }
}

impl fmt::Display for CleanupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail() {
            Some(words) => f.write_str(words),
            None if self.is_ok() => f.write_str("Success"),
            None => write!(f, "unknown cleanup status {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: CleanupFlags = CleanupFlags(0x3ff);

    #[test]
    fn overrides_switch_off_the_flags_that_they_name() {
        let apply = |options| apply_receive_override_options(ALL, options).unwrap();
        assert_eq!(apply(""), ALL);
        assert_eq!(apply("no_unknown_recipient_checks"), ALL);
        assert_eq!(apply("no_milters"), ALL.without(CleanupFlags::MILTER));
        assert_eq!(
            apply(" no_address_mappings,\n\tno_header_body_checks"),
            ALL.without(CleanupFlags::BCC_OK | CleanupFlags::MAP_OK | CleanupFlags::FILTER)
        );
    }

    #[test]
    fn an_unknown_override_is_an_error() {
        let error = apply_receive_override_options(ALL, "no_milters, No_Milters").unwrap_err();
        assert_eq!(error, UnknownOverride("No_Milters".to_owned()));
    }

    #[test]
    fn the_severest_status_gives_the_text() {
        let both = CleanupStatus::from_bits(c::CLEANUP_STAT_CONT | c::CLEANUP_STAT_DEFER);
        assert_eq!(both.to_string(), "service unavailable");
        assert_eq!(CleanupStatus::OK.to_string(), "Success");
        assert_eq!(
            CleanupStatus::from_bits(1 << 30).to_string(),
            "unknown cleanup status 1073741824"
        );
    }

    #[test]
    fn retries_are_those_of_stock_pickup() {
        for status in
            [CleanupStatus::WRITE, CleanupStatus::DEFER, CleanupStatus::SIZE, CleanupStatus::CONT]
        {
            assert!(status.may_retry(), "{status}");
        }
        for status in [CleanupStatus::OK, CleanupStatus::BAD, CleanupStatus::RCPT] {
            assert!(!status.may_retry(), "{status}");
        }
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(
            (CleanupFlags::HOLD | CleanupFlags::BOUNCE).to_string(),
            "enable_bad_mail_bounce hold_message"
        );
        assert_eq!(CleanupFlags::NONE.to_string(), "none");
    }

    proptest! {
        #[test]
        fn any_options_are_read_or_refused(options in ".{0,80}") {
            let _ = apply_receive_override_options(ALL, &options);
        }
    }
}
