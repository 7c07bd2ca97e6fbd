//! The envelope of a message, read from its two ends: a listing must not read each content.
//!
//! ```text
//! 1 <checksum> <uid> <arrival> <host>\n  T A S R… M   N N N … N   X R… E
//! └──────────── head ─────────────────┘ └ head ──┘              └ tail ┘
//! ```
//!
//! Recipients from the command line stand before the content, and those from headers (`sendmail
//! -t`) after it. The first end is read record by record. The second end can't be read backwards,
//! but its start can be found: the last `X` record of the message, the bytes `X` NUL. No record
//! after that `X` may hold a NUL, and none is empty but `E`. Envelopes are for people only: no
//! program decides by them, so no checksum is compared.

use postfix_wire::record::{RecordType, Records};

use crate::message::{about, records_of};

/// Size of an end, bytes, in which nearly every envelope fits.
pub const END_BYTES: usize = 4096;

/// Envelope of a message, as a listing shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Number of the submitting user.
    pub uid: u32,
    /// Time of submission, Unix milliseconds.
    pub arrival_ms: u64,
    /// Sender as submitted; empty for the null sender.
    pub sender: Vec<u8>,
    /// Recipients as submitted, in their order.
    pub recipients: Vec<Vec<u8>>,
    /// Size of the records, bytes.
    pub bytes: usize,
}

/// A stored message, or its two ends.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// The first bytes.
    pub head: &'a [u8],
    /// The last bytes; they may overlap the first ones.
    pub tail: &'a [u8],
    /// Size of the whole message, bytes.
    pub total: usize,
}

/// Result of reading the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The whole envelope.
    Envelope(Envelope),
    /// More of the message is needed.
    More,
    /// The bytes are no stored message.
    Damaged,
}

impl Told {
    /// Returns the envelope, if there is one.
    pub fn envelope(self) -> Option<Envelope> {
        match self {
            Self::Envelope(envelope) => Some(envelope),
            Self::More | Self::Damaged => None,
        }
    }
}

impl<'a> Ends<'a> {
    /// Returns the ends of a message, from all its bytes.
    pub fn whole(value: &'a [u8]) -> Self {
        Self { head: value, tail: value, total: value.len() }
    }

    /// Reads the envelope.
    pub fn read(self) -> Told {
        let (first_line, records) = records_of(self.head);
        let Some((uid, arrival_ms)) = about(first_line) else { return Told::Damaged };
        let bytes = self.total.saturating_sub(first_line.len());
        let mut envelope = Envelope { uid, arrival_ms, bytes, ..Envelope::default() };
        let comes_to_content = envelope.take(Records::new(records), RecordType::Mesg);
        let is_whole = self.head.len() >= self.total;
        if !comes_to_content {
            return if is_whole { Told::Damaged } else { Told::More };
        }
        match extracted(self.tail) {
            Some(extracted) if envelope.take(Records::new(extracted), RecordType::End) => {
                Told::Envelope(envelope)
            }
            _ if is_whole => Told::Damaged,
            _ => Told::More,
        }
    }
}

impl Envelope {
    /// Takes the envelope's parts from records. Returns whether they reached `end`.
    fn take(&mut self, records: Records<'_>, end: RecordType) -> bool {
        for record in records.map_while(Result::ok) {
            match record.kind {
                RecordType::From => self.sender = record.data.to_vec(),
                RecordType::Rcpt => self.recipients.push(record.data.to_vec()),
                kind if kind == end => return true,
                _ => {}
            }
        }
        false
    }
}

/// Returns the records that follow the content.
fn extracted(tail: &[u8]) -> Option<&[u8]> {
    let mark = [u8::from(RecordType::Xtra), 0];
    let start = tail.windows(mark.len()).rposition(|two| two == mark)?;
    Some(&tail[start + mark.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, Submission};
    use postfix_wire::record::put;
    use proptest::prelude::*;

    fn value(envelope: &[&str], content: &[u8], extracted: &[&str]) -> Vec<u8> {
        let mut records = Vec::new();
        put(&mut records, RecordType::Time, b"1 2");
        put(&mut records, RecordType::From, b"ann@x");
        envelope.iter().for_each(|to| put(&mut records, RecordType::Rcpt, to.as_bytes()));
        put(&mut records, RecordType::Mesg, b"");
        content.chunks(2000).for_each(|piece| put(&mut records, RecordType::Norm, piece));
        put(&mut records, RecordType::Xtra, b"");
        extracted.iter().for_each(|to| put(&mut records, RecordType::Rcpt, to.as_bytes()));
        put(&mut records, RecordType::End, b"");
        let id = MessageId::from_parts(1, 2);
        let submission = Submission { id, uid: 7, arrival_ms: 8, host: "h", records: &records[..] };
        [submission.header().unwrap().into_bytes(), records].concat()
    }

    fn told(value: &[u8], end: usize) -> Told {
        let end = end.min(value.len());
        Ends { head: &value[..end], tail: &value[value.len() - end..], total: value.len() }.read()
    }

    fn recipients(told: Told) -> Vec<String> {
        let Told::Envelope(envelope) = told else { panic!("{told:?}") };
        assert_eq!(
            (envelope.uid, envelope.arrival_ms, &envelope.sender[..]),
            (7, 8, &b"ann@x"[..])
        );
        envelope.recipients.into_iter().map(|to| String::from_utf8(to).unwrap()).collect()
    }

    #[test]
    fn recipients_stand_before_the_content_or_after_it() {
        let content = b"X\0".repeat(20_000);
        for (before, after) in
            [(&["a", "b"][..], &[][..]), (&[], &["c", "X"]), (&["a"], &["b"]), (&[], &[])]
        {
            let found = recipients(told(&value(before, &content, after), END_BYTES));
            assert_eq!(found, [before, after].concat());
        }
    }

    #[test]
    fn an_envelope_that_is_longer_than_the_ends_needs_more_of_them() {
        let many = vec!["somebody@example.org"; 1000];
        for value in [value(&many, b"x", &[]), value(&[], b"x", &many)] {
            assert_eq!(told(&value, END_BYTES), Told::More);
            assert_eq!(recipients(Ends::whole(&value).read()).len(), 1000);
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_damaged() {
        assert_eq!(Ends::whole(b"").read(), Told::Damaged);
        assert_eq!(Ends::whole(b"1 01234567 1 2 h\nnonsense").read(), Told::Damaged);
    }

    proptest! {
        /// The ends have the recipients of the whole message, for any content and any cut.
        #[test]
        fn the_ends_never_contradict_the_whole_message(
            content in
                prop::collection::vec(prop::sample::select(b"XRE\0\x01a\n".to_vec()), 0..300),
            before in prop::collection::vec("[XRE@a]{1,4}", 0..3),
            after in prop::collection::vec("[XRE@a]{1,4}", 0..3),
            end in 20_usize..400,
        ) {
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            let value = value(&before, &content, &after);
            match told(&value, end) {
                Told::More => prop_assert!(end < value.len()),
                other => prop_assert_eq!(recipients(other), [before, after].concat()),
            }
        }

        #[test]
        fn no_bytes_make_the_ends_panic(head: Vec<u8>, tail: Vec<u8>, total: usize) {
            let _ = Ends { head: &head, tail: &tail, total }.read();
        }
    }
}
