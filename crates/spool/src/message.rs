//! The stored form of a message: one immutable value, from submission until it is settled.
//!
//! ```text
//! 1 <checksum> <uid> <arrival ms> <host>\n<records>
//! ```
//!
//! The first line is text: the form's version, the CRC-32C of all that follows it, in hexadecimal,
//! the submitting user, the time of submission, and the name of the submitting machine. Records are
//! exactly what stock postdrop would have written into maildrop. One value and not a hash with
//! fields, because a hash costs some 180 bytes more, and because a value that never changes can't
//! disagree with anything: where a message stands is told by which index holds its id.

use std::io;

use crate::checksum::checksum;
use crate::{Content, MessageId};

/// A message to be stored. Its records are bytes in memory, or a [`Content`].
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a, R = &'a [u8]> {
    /// Named by the submitting program, once; the same for every attempt.
    pub id: MessageId,
    /// The submitting user's number.
    pub uid: u32,
    /// When it was submitted, Unix milliseconds.
    pub arrival_ms: u64,
    /// `myhostname` of the submitting machine; a missing Message-ID is made of the id and this.
    pub host: &'a str,
    /// What stock postdrop would have written.
    pub records: R,
}

impl<'a, R: Into<Content<'a>> + Copy> Submission<'a, R> {
    /// What precedes the records in the inbox: the id, which a lot's cut takes off, and the value's
    /// first line. Fails only if the records can't be read.
    pub(crate) fn head(&self) -> io::Result<String> {
        Ok(format!("{}{}", self.id, self.header()?))
    }

    /// The value's first line. The records follow it.
    pub(crate) fn header(&self) -> io::Result<String> {
        let host: String = self.host.chars().filter(|c| !c.is_control()).collect();
        let about = format!("{} {} {host}\n", self.uid, self.arrival_ms);
        let checksum = checksum(about.as_bytes(), self.records.into())?;
        Ok(format!("{FORM} {checksum:08x} {about}"))
    }
}

const FORM: &str = "1";

/// A message as it was submitted; its checksum has been compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// The submitting user's number.
    pub uid: u32,
    /// When it was submitted, Unix milliseconds.
    pub arrival_ms: u64,
    /// `myhostname` of the submitting machine.
    pub host: String,
    /// What stock postdrop would have written.
    pub records: Vec<u8>,
}

/// Why a stored message can't be used. Nothing was changed: refuse it, so that it is kept aside and
/// shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its id is known and its value isn't there.
    // These words are a constant of `optimus.lua` too, which looks whether they are true.
    #[error("the message is missing")]
    Missing,
    /// The first line is not in a form known here.
    #[error("the stored message has no readable first line")]
    Header,
    /// It is not what was submitted.
    #[error(
        "checksum mismatch: stored {stored:08x}, computed {computed:08x}, message of {bytes} bytes"
    )]
    Checksum {
        /// As noted at submission.
        stored: u32,
        /// Of what is there now.
        computed: u32,
        /// How many bytes there are now.
        bytes: usize,
    },
}

impl Message {
    /// From the stored value.
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

/// What looks like the records of a stored value, whatever is wrong with it: all that follows its
/// first line, or all of it where there is no such line. For people to look at.
pub fn records_of(value: &[u8]) -> (&[u8], &[u8]) {
    let start = value
        .iter()
        .take(FIRST_LINE_BYTES_MAX)
        .position(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    value.split_at(start)
}

/// Of a first line, break included: the submitting user, and when, Unix milliseconds.
#[cfg(feature = "async")]
pub(crate) fn about(first_line: &[u8]) -> Option<(u32, u64)> {
    let (_, start) = parse_checksum(first_line)?;
    let (uid, arrival_ms, _) = parse_about(first_line.get(start..)?.strip_suffix(b"\n")?)?;
    Some((uid, arrival_ms))
}

/// A host name and some numbers are no longer.
const FIRST_LINE_BYTES_MAX: usize = 512;

/// The checksum, and where what it covers starts.
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
        fn no_bytes_make_it_fall_over(value: Vec<u8>) {
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
