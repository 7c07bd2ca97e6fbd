//! The stored form of a message: one immutable value, from submission until it is settled.
//!
//! ```text
//! 1 <checksum> <uid> <arrival ms> <host>\n<records>
//! ```
//!
//! The first line is text: the form's version, the CRC-32C of all that follows it in hexadecimal,
//! the submitting user, the time of submission, and the submitting machine's name. The records are
//! exactly as stock postdrop would have written them into the maildrop. A message is one value: a
//! hash with fields would cost some 180 bytes more. The value never changes and doesn't have the
//! message's place, so the two can't disagree. The place is the index that holds the id.

use std::io;

use crate::checksum::checksum;
use crate::{Content, MessageId};

/// A message for submission. Its records are bytes in memory, or a [`Content`].
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a, R = &'a [u8]> {
    /// Id that the submitting program chose, once for all attempts.
    pub id: MessageId,
    /// Number of the submitting user.
    pub uid: u32,
    /// Time of submission, Unix milliseconds.
    pub arrival_ms: u64,
    /// `myhostname` of the submitting machine. Host and id make up a missing Message-ID.
    pub host: &'a str,
    /// Records as stock postdrop would have written them.
    pub records: R,
}

impl<'a, R: Into<Content<'a>> + Copy> Submission<'a, R> {
    /// Returns the bytes before the records in the inbox: the id, which a cut takes off, and the
    /// value's first line. Fails only if the records can't be read.
    pub(crate) fn head(&self) -> io::Result<String> {
        Ok(format!("{}{}", self.id, self.header()?))
    }

    /// Returns the value's first line, which precedes the records.
    pub(crate) fn header(&self) -> io::Result<String> {
        let host: String = self.host.chars().filter(|c| !c.is_control()).collect();
        let about = format!("{} {} {host}\n", self.uid, self.arrival_ms);
        let checksum = checksum(about.as_bytes(), self.records.into())?;
        Ok(format!("{FORM} {checksum:08x} {about}"))
    }
}

const FORM: &str = "1";

/// A message as it was submitted, with a verified checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Id of the message.
    pub id: MessageId,
    /// Number of the submitting user.
    pub uid: u32,
    /// Time of submission, Unix milliseconds.
    pub arrival_ms: u64,
    /// `myhostname` of the submitting machine.
    pub host: String,
    /// Records as stock postdrop would have written them.
    pub records: Vec<u8>,
}

/// Reason for which a stored message is unusable. The spool is unchanged. The caller must refuse
/// the message, which puts it into quarantine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Redis has the id without the message.
    // The text is a constant of `optimus.lua` too, where refuse verifies it.
    #[error("the message is missing")]
    Missing,
    /// The first line is in no known form.
    #[error("the stored message has no readable first line")]
    Header,
    /// The content is not the submitted one.
    #[error(
        "checksum mismatch: stored {stored:08x}, computed {computed:08x}, message of {bytes} bytes"
    )]
    Checksum {
        /// Checksum noted at submission.
        stored: u32,
        /// Checksum of the present content.
        computed: u32,
        /// Size of the present content, bytes.
        bytes: usize,
    },
}

impl Message {
    /// Reads a message from the stored value.
    pub fn decode(id: MessageId, mut value: Vec<u8>) -> Result<Self, Damage> {
        let (stored, start) = parse_checksum(&value).ok_or(Damage::Header)?;
        let computed = crc32c::crc32c(&value[start..]);
        if computed != stored {
            return Err(Damage::Checksum { stored, computed, bytes: value.len() });
        }
        let end = value.iter().position(|&byte| byte == b'\n').ok_or(Damage::Header)?;
        let (uid, arrival_ms, host) =
            value.get(start..end).and_then(parse_about).ok_or(Damage::Header)?;
        value.drain(..=end);
        Ok(Self { id, uid, arrival_ms, host, records: value })
    }
}

/// Splits a stored value, damaged or not, into its first line and its records, for people to look
/// at. Without such a line, the whole value counts as records.
pub fn records_of(value: &[u8]) -> (&[u8], &[u8]) {
    let start = value
        .iter()
        .take(FIRST_LINE_BYTES_MAX)
        .position(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    value.split_at(start)
}

/// Reads the submitting user and the time of submission (Unix milliseconds) from a first line with
/// its line break.
#[cfg(feature = "async")]
pub(crate) fn about(first_line: &[u8]) -> Option<(u32, u64)> {
    let (_, start) = parse_checksum(first_line)?;
    let (uid, arrival_ms, _) = parse_about(first_line.get(start..)?.strip_suffix(b"\n")?)?;
    Some((uid, arrival_ms))
}

/// Limit of a first line, bytes: a host name and some numbers are shorter.
const FIRST_LINE_BYTES_MAX: usize = 512;

/// Returns the checksum, and the start of the bytes that it covers.
fn parse_checksum(value: &[u8]) -> Option<(u32, usize)> {
    const START: usize = FORM.len() + " 01234567 ".len();
    let text = std::str::from_utf8(value.get(..START)?).ok()?;
    let hexadecimal = text.strip_prefix(FORM)?.strip_prefix(' ')?.strip_suffix(' ')?;
    Some((u32::from_str_radix(hexadecimal, 16).ok()?, START))
}

fn parse_about(line: &[u8]) -> Option<(u32, u64, String)> {
    let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(submission: &Submission<'_>) -> Vec<u8> {
        [submission.header().unwrap().as_bytes(), submission.records].concat()
    }

    fn sample(records: &[u8]) -> Submission<'_> {
        let id = MessageId::from_parts(1_700_000_000_000, 7);
        Submission { id, uid: 1000, arrival_ms: 1_700_000_000_001, host: "mx.example.org", records }
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was_submitted(records: Vec<u8>, uid: u32, arrival_ms: u64) {
            let submission = Submission { uid, arrival_ms, ..sample(&records) };
            let message = Message::decode(submission.id, stored(&submission)).unwrap();
            prop_assert_eq!((message.uid, message.arrival_ms), (uid, arrival_ms));
            prop_assert_eq!((message.host.as_str(), message.records), ("mx.example.org", records));
        }

        #[test]
        fn any_changed_byte_is_noticed(records: [u8; 24], at in 0_usize..50, change in 1_u8..) {
            let mut value = stored(&sample(&records));
            let at = value.len() - 1 - at;
            value[at] ^= change;
            let damage = Message::decode(sample(&records).id, value).unwrap_err();
            prop_assert!(matches!(damage, Damage::Checksum { .. }), "{}", damage);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(value: Vec<u8>) {
            let _ = Message::decode(sample(&[]).id, value);
        }
    }

    #[test]
    fn a_cut_message_is_noticed() {
        let mut value = stored(&sample(b"records"));
        value.pop();
        assert!(matches!(Message::decode(sample(&[]).id, value), Err(Damage::Checksum { .. })));
    }

    #[test]
    fn a_host_name_cannot_end_the_first_line_early() {
        let value = stored(&Submission { host: "a\nb", ..sample(b"x") });
        assert_eq!(Message::decode(sample(&[]).id, value).unwrap().host, "ab");
    }
}
