//! Record filter: the only way from a user's input to a submitted message.
//!
//! Any user may send any bytes to `postdrop`, and `sendmail` builds records from arguments and
//! headers. Both programs pass their records through one [`Filter`]. So one module decides which
//! records a local user may put into the queue:
//!
//! ```text
//!  T          written here, never taken from the caller
//!  envelope   F S R V A i n      ends with M
//!  content    N L                ends with X
//!  extracted  A R                ends with E
//! ```
//!
//! Any other record is an error, and nothing is submitted. Attributes (`A`) that are not on a short
//! list are left out with a warning, as in stock postdrop. The filter has three checks that Postfix
//! gained after 3.7: NUL is no record type; CR, LF and NUL are errors outside content; trace flags
//! must be ones that `sendmail` can ask for.
//!
//! A message over `message_size_limit`, or from a sender that its submitter may not use, is read to
//! its end and dropped. So the client gets an answer and not a broken pipe.
//!
//! Source: Postfix `postdrop(1)`, `rec_type.h`, `rec_attr_map(3)`.

use std::io;
use std::time::Duration;

use postfix_wire::CleanupStatus;
use postfix_wire::record::{RecordError, RecordType, Segment};

use host::limit::explained;

use crate::collected::{Collected, Room};
use crate::exit::without_numbers;

/// Error in the caller's record stream. Nothing is submitted.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The input is not records, or a record has data that is not allowed.
    #[error("malformed input: {0}")]
    Malformed(#[from] RecordError),
    /// The current segment takes no record of this type from a user.
    #[error("unexpected record type: {}", u8::from(*.0))]
    Unexpected(RecordType),
}

/// Completeness of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// More records must follow.
    More,
    /// The record was the end record.
    Complete,
}

/// Refusal of a well-formed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRefusal {
    /// Status that cleanup would give.
    pub status: CleanupStatus,
    /// Reason for the submitter; empty where the status alone explains the refusal.
    pub reason: String,
}

impl MessageRefusal {
    fn plain(status: CleanupStatus) -> Self {
        Self { status, reason: String::new() }
    }

    /// Returns the reason, or the status as text.
    pub fn words(&self) -> String {
        if self.reason.is_empty() { self.status.to_string() } else { self.reason.clone() }
    }
}

/// Check that the submitter may use a sender, which is given unquoted.
pub type SenderCheck<'a> = &'a dyn Fn(&[u8]) -> Result<(), MessageRefusal>;

/// Limits of a message.
#[derive(Debug, Clone, Copy)]
pub struct FilterLimits {
    /// Value of `message_size_limit` in bytes, over all records; `None` for no limit.
    pub message: Option<usize>,
    /// Value of `line_length_limit`: most bytes of data in one record.
    pub record: usize,
}

/// Filter of the records of one message.
pub struct Filter<'a> {
    limits: FilterLimits,
    senders: SenderCheck<'a>,
    segment: Option<Segment>,
    /// Accepted records; `None` once the message is refused.
    records: Option<Collected>,
    has_sender: bool,
    has_recipient: bool,
    /// Refusal. All records after a refusal are skipped up to the end.
    refusal: Option<MessageRefusal>,
}

impl<'a> Filter<'a> {
    /// Starts a message that arrived at `arrival`, counted from the Unix epoch. The message's
    /// records are kept in `room`.
    pub fn new(
        limits: FilterLimits,
        arrival: Duration,
        senders: SenderCheck<'a>,
        room: Room,
    ) -> Self {
        let time = format!("{} {}", arrival.as_secs(), arrival.subsec_micros());
        Self {
            limits,
            senders,
            segment: Some(Segment::Envelope),
            records: Some(Collected::beginning_with(RecordType::Time, time.as_bytes(), room)),
            has_sender: false,
            has_recipient: false,
            refusal: None,
        }
    }

    /// Takes the next record. Calls `warn` for records that are left out or can't be kept. Fails if
    /// the record may not follow or has forbidden data.
    pub fn record(
        &mut self,
        kind: RecordType,
        data: &[u8],
        warn: &mut dyn FnMut(String),
    ) -> Result<Completeness, FilterError> {
        if self.refusal.is_some() {
            return Ok(if kind == RecordType::End {
                Completeness::Complete
            } else {
                Completeness::More
            });
        }
        self.check_data(kind, data)?;
        let Some(segment) = self.segment.filter(|segment| segment.accepts_from_user(kind)) else {
            return Err(FilterError::Unexpected(kind));
        };
        self.has_sender |= kind == RecordType::From;
        self.has_recipient |= kind == RecordType::Rcpt;
        match kind {
            RecordType::Attr => self.attribute(data, warn),
            RecordType::From => match (self.senders)(data) {
                Ok(()) => self.keep(kind, data, warn),
                Err(refusal) => self.refuse(refusal),
            },
            _ => self.keep(kind, data, warn),
        }
        if kind == segment.end() {
            self.segment = segment.next();
        }
        Ok(if self.segment.is_none() { Completeness::Complete } else { Completeness::More })
    }

    /// Returns the finished records, or the refusal.
    pub fn finish(self) -> Result<Collected, MessageRefusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if !self.has_sender || !self.has_recipient || self.segment.is_some() {
            return Err(MessageRefusal::plain(CleanupStatus::BAD));
        }
        self.records.ok_or_else(|| MessageRefusal::plain(CleanupStatus::BAD))
    }

    /// Ends a stream that stops too early. Returns the refusal, or `None` if the client has
    /// cancelled.
    pub fn abandon(self) -> Option<MessageRefusal> {
        self.refusal
    }

    fn refuse(&mut self, refusal: MessageRefusal) {
        self.refusal = Some(refusal);
        self.records = None;
    }

    fn check_data(&self, kind: RecordType, data: &[u8]) -> Result<(), RecordError> {
        if data.len() > self.limits.record {
            return Err(RecordError::TooLong {
                kind,
                length: data.len(),
                limit: self.limits.record,
            });
        }
        if kind.is_content() {
            return Ok(());
        }
        match data.iter().find(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            Some(&byte) => Err(RecordError::ControlCharacter { kind, byte }),
            None => Ok(()),
        }
    }

    fn attribute(&mut self, data: &[u8], warn: &mut dyn FnMut(String)) {
        match split_attribute(data) {
            Err(reason) => warn(format!("ignoring malformed record: {reason}: {}", excerpt(data))),
            Ok((name, value)) if is_allowed(name, value) => {
                self.keep(RecordType::Attr, &[name, b"=", value].concat(), warn);
            }
            Ok((name, value)) => {
                warn(format!("ignoring attribute record: {}={}", excerpt(name), excerpt(value)));
            }
        }
    }

    fn keep(&mut self, kind: RecordType, data: &[u8], warn: &mut dyn FnMut(String)) {
        let Some(records) = &mut self.records else { return };
        if let Err(error) = records.add(kind, data) {
            let refusal = not_written(&error);
            warn(refusal.words());
            return self.refuse(refusal);
        }
        if self.limits.message.is_some_and(|limit| records.bytes() > limit as u64) {
            self.refuse(MessageRefusal::plain(CleanupStatus::SIZE));
        }
    }
}

/// Refuses the message, as stock postdrop does when it can't write the message's file.
fn not_written(error: &io::Error) -> MessageRefusal {
    let reason = format!("the message is not submitted: temporary file: not written: {error}");
    MessageRefusal { status: CleanupStatus::WRITE, reason: without_numbers(&explained(&reason)) }
}

/// Splits `name = value`, and removes the blanks around name and value. Fails with the reason.
fn split_attribute(data: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let data = trim_start(data);
    let end = data.iter().position(|byte| *byte == b'=' || is_space(*byte)).unwrap_or(data.len());
    let (name, rest) = data.split_at(end);
    if name.is_empty() {
        return Err("missing attribute name");
    }
    match trim_start(rest).split_first() {
        Some((b'=', value)) => Ok((name, trim(value))),
        _ => Err("missing '=' after attribute name"),
    }
}

fn trim_start(data: &[u8]) -> &[u8] {
    let start = data.iter().position(|byte| !is_space(*byte)).unwrap_or(data.len());
    &data[start..]
}

fn trim(data: &[u8]) -> &[u8] {
    let end = data.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    trim_start(&data[..end])
}

/// Returns the result of C's `isspace`, which includes the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Returns whether a local user may give this attribute.
fn is_allowed(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"encoding" => matches!(value, b"7bit" | b"8bit" | b""),
        b"rewrite_context" => matches!(value, b"local" | b"remote"),
        b"trace_flags" => is_user_trace_flags(value),
        b"envelope_id" | b"notify_flags" | b"ret_flags" | b"dsn_orig_rcpt" | b"create_time" => true,
        _ => false,
    }
}

/// Trace flags of `sendmail -bv` and `sendmail -v`. Other flags are Postfix's own
/// (`deliver_request.h`).
const USER_TRACE_FLAGS: u32 = 1 << 9 | 1 << 10;

fn is_user_trace_flags(value: &[u8]) -> bool {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
    number.is_some_and(|flags| flags & !USER_TRACE_FLAGS == 0)
}

/// Returns the start of a user's data, fit for a log line.
fn excerpt(data: &[u8]) -> String {
    let start = &data[..data.len().min(200)];
    String::from_utf8_lossy(start).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use postfix_wire::record::Records;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FilterLimits = FilterLimits { message: Some(4000), record: 100 };

    fn only_not_mallory(sender: &[u8]) -> Result<(), MessageRefusal> {
        let refusal =
            || MessageRefusal { status: CleanupStatus::NOPERM, reason: "not mallory".to_owned() };
        if sender == b"mallory" { Err(refusal()) } else { Ok(()) }
    }

    /// Records after `T`, and warnings.
    type Filtered = (Vec<(RecordType, String)>, Vec<String>);

    fn filter(records: &[(RecordType, &str)]) -> Result<Filtered, String> {
        let mut filter =
            Filter::new(LIMITS, Duration::new(7, 8_000), &only_not_mallory, Room::memory());
        let mut warnings = Vec::new();
        for (kind, data) in records {
            let step = filter.record(*kind, data.as_bytes(), &mut |warning| warnings.push(warning));
            step.map_err(|error| error.to_string())?;
        }
        let records = filter.finish().map_err(|refusal| refusal.words())?.into_bytes().unwrap();
        let mut all = Records::new(&records).map(|record| {
            record.map(|r| (r.kind, String::from_utf8_lossy(r.data).into_owned())).unwrap()
        });
        assert_eq!(all.next(), Some((Time, "7 8".to_owned())));
        Ok((all.collect(), warnings))
    }

    use RecordType::{Attr, Cont, End, From, Full, Mesg, Norm, Rcpt, Time, Xtra};

    /// Filters a message whose envelope has these records as well.
    fn with(more: &[(RecordType, &str)]) -> Result<Filtered, String> {
        let mut records = vec![(From, "a@b")];
        records.extend_from_slice(more);
        records.extend([(Rcpt, "c@d"), (Mesg, ""), (Norm, "x"), (Xtra, ""), (End, "")]);
        filter(&records)
    }

    #[test]
    fn a_message_passes_with_the_filter_s_time() {
        let records = [
            (Full, "A"),
            (From, "a"),
            (Mesg, ""),
            (Cont, "x\0\r"),
            (Norm, ""),
            (Xtra, ""),
            (Rcpt, "c"),
            (End, ""),
        ];
        let (passed, warnings) = filter(&records).unwrap();
        let passed: Vec<_> = passed.iter().map(|(kind, data)| (*kind, data.as_str())).collect();
        assert_eq!(passed, records);
        assert!(warnings.is_empty());
    }

    #[test]
    fn records_belong_to_their_segment() {
        assert_eq!(with(&[(Time, "1 2")]).unwrap_err(), "unexpected record type: 84");
        assert_eq!(with(&[(Norm, "x")]).unwrap_err(), "unexpected record type: 78");
        assert_eq!(with(&[(Xtra, "")]).unwrap_err(), "unexpected record type: 88");
        let after_end = [(From, ""), (Rcpt, "c"), (Mesg, ""), (Xtra, ""), (End, ""), (Rcpt, "d")];
        assert_eq!(filter(&after_end).unwrap_err(), "unexpected record type: 82");
    }

    #[test]
    fn only_content_may_break_a_line() {
        for data in ["a\nb", "a\rb", "a\0b"] {
            assert!(
                with(&[(Rcpt, data)]).unwrap_err().starts_with("malformed input: "),
                "{data:?}"
            );
        }
        assert!(with(&[(Rcpt, &"x".repeat(101))]).unwrap_err().starts_with("malformed input: "));
    }

    #[test]
    fn a_message_needs_sender_recipient_and_end() {
        let all = [(From, ""), (Rcpt, "c"), (Mesg, ""), (Xtra, ""), (End, "")];
        assert!(filter(&all).is_ok());
        for missing in [0, 1, 4] {
            let mut some = all.to_vec();
            some.remove(missing);
            assert_eq!(filter(&some).unwrap_err(), "internal protocol error", "without {missing}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_read_to_its_end_and_dropped() {
        let line = "x".repeat(100);
        let mut records = vec![(From, ""), (Rcpt, "c"), (Mesg, "")];
        records.extend(std::iter::repeat_n((Norm, line.as_str()), 50));
        records.extend([(Xtra, ""), (End, "")]);
        assert_eq!(filter(&records).unwrap_err(), "message file too big");
    }

    #[test]
    fn after_a_refused_sender_all_records_are_skipped_up_to_the_end() {
        let records =
            [(From, "mallory"), (Norm, "where no line may be"), (Rcpt, "a\nb"), (End, "")];
        assert_eq!(filter(&records).unwrap_err(), "not mallory");
    }

    #[test]
    fn only_attributes_that_a_user_may_give_pass() {
        for good in [
            "encoding=8bit",
            "encoding=",
            "rewrite_context=remote",
            "trace_flags=512",
            "envelope_id=x=y",
        ] {
            assert_eq!(with(&[(Attr, good)]).unwrap().0[1], (Attr, good.to_owned()));
        }
        assert_eq!(
            with(&[(Attr, " ret_flags \t=  1 ")]).unwrap().0[1],
            (Attr, "ret_flags=1".to_owned())
        );
        for bad in [
            "encoding=base64",
            "optimus_id=1",
            "trace_flags=256",
            "trace_flags=x",
            "=x",
            "x",
            "",
            "Encoding=8bit",
        ] {
            let (passed, warnings) = with(&[(Attr, bad)]).unwrap();
            assert_eq!((passed.len(), warnings.len()), (6, 1), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_message_that_passes_is_well_formed(
            records in prop::collection::vec(
                (prop::sample::select(RecordType::ALL.to_vec()), ".{0,12}"),
                0..30,
            ),
        ) {
            let mut filter = Filter::new(LIMITS, Duration::ZERO, &|_| Ok(()), Room::memory());
            for (kind, data) in &records {
                let _ = filter.record(*kind, data.as_bytes(), &mut drop);
            }
            if let Ok(kept) = filter.finish() {
                let kept = kept.into_bytes().unwrap();
                let records = Records::new(&kept);
                let kinds: Vec<_> = records.map(|record| record.unwrap().kind).collect();
                prop_assert_eq!(kinds.first(), Some(&Time));
                prop_assert_eq!(kinds.last(), Some(&End));
                prop_assert!(kinds.contains(&From) && kinds.contains(&Rcpt));
            }
        }
    }
}
