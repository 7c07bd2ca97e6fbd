//! Listings of a queue: the answer of showq(8) to postqueue(1), and its printed forms.
//!
//! ```text
//! protocol=mail_queue_list_protocol  end
//! queue_name, queue_id, time, size, forced_expire, sender   { recipient, reason }…   end
//! queue_name, …                                                                      end
//! end
//! ```
//!
//! Each line is an attribute list (see [`crate::attr`]); an empty list is the end. Unlike other
//! lists, those of a listing have no bound, because a message may have any number of recipients. So
//! [`ListingReader`] reads string by string and bounds each string. Addresses and reasons are text
//! for printing: quoted as RFC 822 requires, without control characters.
//!
//! Source: `showq(8)`, `postqueue(1)`, `showq_compat.c`, `showq_json.c`.

mod json;
mod printable;
mod text;

use std::io::{self, BufRead, Read};

pub use json::json_line;
pub use printable::{Charset, address};
pub use text::TextListing;

use crate::attr::encode_one;

/// Value of `protocol` in showq's greeting.
const PROTOCOL: &str = "mail_queue_list_protocol";
/// Most bytes of a string in a listing. The longest real string is a reason for a delay: a reply of
/// an SMTP server.
const STRING_BYTES_MAX: usize = 64 * 1024;

/// Error: a listing can't be read further. The peer is at fault, or gone.
#[derive(Debug, thiserror::Error)]
pub enum ShowqError {
    /// The connection failed, or ended too early.
    #[error("queue listing: {0}")]
    Io(#[from] io::Error),
    /// The listing has another name in the place of the expected attribute.
    #[error("queue listing: {expected} expected, {found:?} found")]
    Unexpected {
        /// Name that the protocol requires here.
        expected: &'static str,
        /// Name in the listing.
        found: String,
    },
}

/// Message in a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Queue: `active`, `deferred`, ...
    pub queue: String,
    /// Queue id of the message.
    pub id: String,
    /// Time of the arrival, in seconds since the Unix epoch.
    pub arrival_s: i64,
    /// Size of the content in bytes, or of the file while the content's size isn't known.
    pub bytes: u64,
    /// Whether the message was told to expire at the next attempt.
    pub is_expired: bool,
    /// Sender; `MAILER-DAEMON` for the null sender.
    pub sender: String,
    /// Recipients that still need delivery.
    pub recipients: Vec<Recipient>,
}

/// Recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Address in printed form.
    pub address: String,
    /// Reason for the delay; empty before the first attempt.
    pub reason: String,
}

/// Returns the bytes that a service sends before the first entry.
pub fn greeting() -> Vec<u8> {
    let mut out = Vec::new();
    encode_one(&mut out, "protocol", PROTOCOL);
    out.push(0);
    out
}

/// Bytes that a service sends after the last entry.
pub const END: &[u8] = b"\0";

impl Entry {
    /// Appends the entry as a service sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_one(out, "queue_name", &self.queue);
        encode_one(out, "queue_id", &self.id);
        encode_one(out, "time", self.arrival_s);
        encode_one(out, "size", self.bytes);
        encode_one(out, "forced_expire", u8::from(self.is_expired));
        encode_one(out, "sender", &self.sender);
        for recipient in &self.recipients {
            encode_one(out, "recipient", &recipient.address);
            encode_one(out, "reason", &recipient.reason);
        }
        out.push(0);
    }
}

/// Reader of a listing from a service.
#[derive(Debug)]
pub struct ListingReader<R>(R);

impl<R: BufRead> ListingReader<R> {
    /// Reads the greeting. Fails if the peer is no showq.
    pub fn open(reader: R) -> Result<Self, ShowqError> {
        let mut report = Self(reader);
        match report.value("protocol")?.as_str() {
            PROTOCOL => report.expect("").map(|()| report),
            other => Err(unexpected(PROTOCOL, other)),
        }
    }

    /// Returns the next message, or `None` after the last. Fails if the listing breaks off or is
    /// malformed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ShowqError> {
        match self.string()?.as_str() {
            "" => return Ok(None),
            "queue_name" => {}
            other => return Err(unexpected("queue_name", other)),
        }
        let mut entry = Entry {
            queue: self.string()?,
            id: self.value("queue_id")?,
            arrival_s: self.number("time")?,
            bytes: self.number("size")?,
            is_expired: self.number::<i32>("forced_expire")? != 0,
            sender: self.value("sender")?,
            recipients: Vec::new(),
        };
        loop {
            match self.string()?.as_str() {
                "" => return Ok(Some(entry)),
                "recipient" => {
                    let (address, reason) = (self.string()?, self.value("reason")?);
                    entry.recipients.push(Recipient { address, reason });
                }
                other => return Err(unexpected("recipient", other)),
            }
        }
    }

    fn number<N: std::str::FromStr>(&mut self, name: &'static str) -> Result<N, ShowqError> {
        let value = self.value(name)?;
        value.parse().map_err(|_| unexpected(name, &value))
    }

    fn value(&mut self, name: &'static str) -> Result<String, ShowqError> {
        self.expect(name)?;
        self.string()
    }

    fn expect(&mut self, name: &'static str) -> Result<(), ShowqError> {
        let found = self.string()?;
        if found == name { Ok(()) } else { Err(unexpected(name, &found)) }
    }

    fn string(&mut self) -> Result<String, ShowqError> {
        let mut bytes = Vec::new();
        self.0.by_ref().take(STRING_BYTES_MAX as u64).read_until(0, &mut bytes)?;
        match bytes.pop() {
            Some(0) => Ok(printable::text(&bytes, Charset::Utf8)),
            Some(_) if bytes.len() + 1 == STRING_BYTES_MAX => {
                Err(unexpected("end of a string", "more"))
            }
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

fn unexpected(expected: &'static str, found: &str) -> ShowqError {
    ShowqError::Unexpected { expected, found: found.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recipient() -> impl Strategy<Value = Recipient> {
        ("[ -~]{0,30}", "[ -~]{0,30}").prop_map(|(address, reason)| Recipient { address, reason })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let head = (
            "[a-z]{1,9}",
            "[0-9A-Z]{1,26}",
            0..i64::MAX,
            0..u64::MAX,
            any::<bool>(),
            "[ -~]{0,30}",
        );
        (head, prop::collection::vec(recipient(), 0..5)).prop_map(|(head, recipients)| {
            let (queue, id, arrival_s, bytes, is_expired, sender) = head;
            Entry { queue, id, arrival_s, bytes, is_expired, sender, recipients }
        })
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, ShowqError> {
        let mut report = ListingReader::open(bytes)?;
        std::iter::from_fn(|| report.next_entry().transpose()).collect()
    }

    proptest! {
        #[test]
        fn a_listing_is_read_as_it_was_sent(
            entries in prop::collection::vec(entry(), 0..5),
        ) {
            let mut bytes = greeting();
            entries.iter().for_each(|entry| entry.encode(&mut bytes));
            bytes.extend_from_slice(END);
            prop_assert_eq!(read(&bytes).unwrap(), entries);
        }

        #[test]
        fn a_listing_cut_short_is_an_error_and_no_bytes_make_the_reader_panic(
            bytes: Vec<u8>,
            entry in entry(),
        ) {
            prop_assert!(read(&bytes).is_err());
            let mut whole = greeting();
            entry.encode(&mut whole);
            prop_assert!(read(&whole).is_err());
            let _ = read(&[greeting(), bytes].concat());
        }
    }

    #[test]
    fn an_endless_string_is_not_awaited() {
        let mut report = ListingReader(io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(report.next_entry(), Err(ShowqError::Unexpected { .. })));
    }
}
