//! Envelopes that a user may submit and stock cleanup rejects.
//!
//! `postdrop` looks at each record alone, whereas cleanup also looks at order and meaning. Stock
//! pickup deletes a message that cleanup calls bad, with a warning. Such a message is its
//! submitter's fault, so pickup-rs drops it as well: in the quarantine, such messages would let any
//! user fill Redis. Cleanup may call a message bad for a reason that is not listed here. Such a
//! message may be good and this node's configuration at fault, for example
//! `queue_file_attribute_count_limit`. So pickup-rs refuses it for the quarantine.
//!
//! | submitted | cleanup's words |
//! |---|---|
//! | a recipient or its options before the sender | missing sender envelope record |
//! | two senders | multiple envelope sender records |
//! | an envelope id that is empty or not printable ASCII | bad DSN envelope ID record |
//! | a kind of return other than full and headers | bad DSN RET record |
//!
//! Source: Postfix `cleanup_envelope.c`, `dsn_mask.h`, and `rec_type.h` (`REC_TYPE_ENV_RECIPIENT`,
//! `REC_TYPE_POST_ENVELOPE`).

use postfix_wire::{Record, RecordType};

/// Reason for which stock cleanup rejects an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A recipient, or one of its options, comes before the sender.
    RecipientFirst,
    /// The envelope has two senders.
    TwoSenders,
    /// The envelope id of delivery status notifications is empty or not printable.
    EnvelopeId,
    /// The return option is neither `1` (full) nor `2` (headers).
    ReturnFlags,
}

/// Returns the fault of one more record of an envelope, given whether a sender came before.
pub(super) fn of(record: &Record<'_>, has_sender: bool) -> Option<Fault> {
    match record.kind {
        RecordType::From if has_sender => Some(Fault::TwoSenders),
        RecordType::Rcpt | RecordType::DsnNotify if !has_sender => Some(Fault::RecipientFirst),
        RecordType::DsnEnvid if !is_printable(record.data) => Some(Fault::EnvelopeId),
        RecordType::Attr => of_attribute(record.data),
        _ => None,
    }
}

/// Returns the fault of an attribute. One without a value is ignored, as cleanup ignores it.
fn of_attribute(data: &[u8]) -> Option<Fault> {
    let equals = data.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (data[..equals].trim_ascii(), data[equals + 1..].trim_ascii());
    match name {
        _ if value.is_empty() => None,
        b"envelope_id" if !is_printable(value) => Some(Fault::EnvelopeId),
        b"ret_flags" if !is_return(value) => Some(Fault::ReturnFlags),
        _ => None,
    }
}

/// Whether the text has bytes, all of which C's `isprint` accepts.
fn is_printable(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether the value is 1 or 2, read as C's `atoi` does, so that `01` is 1.
fn is_return(value: &[u8]) -> bool {
    let digits = value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
    digits && matches!(number, Some(1 | 2))
}
