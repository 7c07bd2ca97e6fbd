//! Attribute lists: the language of Postfix's internal sockets.
//!
//! `name` NUL `value` NUL, any number of times, then a lone NUL: an empty name ends the list. A
//! list doesn't begin with its length, so a reader must look for the end. [`decode`] asks for more
//! bytes until the end is there, and gives up at a limit.
//!
//! Nested lists (names `{` and `}` around a table) are an error: OPTIMUS talks to no service that
//! uses them.
//!
//! Source: `attr_print0(3)`, `attr_scan0(3)`.

use std::fmt::Display;

/// Most bytes of a list. The longest real list has a reason of cleanup, of a line or two.
pub const MAX_LIST_BYTES: usize = 64 * 1024;
/// Most attributes in a list, as in Postfix (`ATTR_HASH_LIMIT`).
pub const MAX_ATTRIBUTES: usize = 1024;

/// Error in an attribute list. The peer is at fault, and the connection can't be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    /// The list has no end within [`MAX_LIST_BYTES`].
    #[error("attribute list: not read: longer than {MAX_LIST_BYTES} bytes")]
    TooLong,
    /// The list has more than [`MAX_ATTRIBUTES`].
    #[error("attribute list: not read: more than {MAX_ATTRIBUTES} attributes")]
    TooMany,
    /// The list contains another list.
    #[error("attribute list: not read: another list begins within the list")]
    Nested,
    /// The list lacks an attribute that the caller requires.
    #[error("attribute {0}: missing")]
    Missing(&'static str),
    /// An attribute has a value that the caller can't use.
    #[error("attribute {name}: unusable value {value:?}")]
    Value {
        /// Name of the attribute.
        name: &'static str,
        /// Value of the attribute, as received.
        value: String,
    },
}

/// Attributes of a list, in their order. Bytes that are not UTF-8 become U+FFFD, since values are
/// numbers, ids and log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(String, String)>);

impl Attributes {
    /// Returns the value of the first attribute of this name, or `None` if the list has none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Returns the value of a required attribute. Fails if the attribute is missing.
    pub fn require(&self, name: &'static str) -> Result<&str, AttrError> {
        self.get(name).ok_or(AttrError::Missing(name))
    }

    /// Returns the value of a required attribute, as a number. Fails if the attribute is missing or
    /// no number.
    pub fn require_u32(&self, name: &'static str) -> Result<u32, AttrError> {
        let value = self.require(name)?;
        value.parse().map_err(|_| AttrError::Value { name, value: value.to_owned() })
    }

    /// Returns names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Appends one list with its end.
///
/// Names and values are C strings to the peer. So each stops before its first NUL, and a value
/// can't smuggle in an attribute. An attribute without a name would end the list and is left out.
pub fn encode(out: &mut Vec<u8>, attrs: &[(&str, &str)]) {
    for (name, value) in attrs {
        let (name, value) = (c_string(name), c_string(value));
        if !name.is_empty() {
            out.extend_from_slice(name);
            out.push(0);
            out.extend_from_slice(value);
            out.push(0);
        }
    }
    out.push(0);
}

fn c_string(text: &str) -> &[u8] {
    text.as_bytes().split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Appends one attribute with a number and no list end, for lists made attribute by attribute.
pub fn encode_one(out: &mut Vec<u8>, name: &str, value: impl Display) {
    encode(out, &[(name, &value.to_string())]);
    out.pop();
}

/// Reads one list from the start of `buf`. Returns the attributes and the number of bytes read, or
/// `None` if more bytes are needed. Fails if the bytes can't begin a list.
pub fn decode(buf: &[u8]) -> Result<Option<(Attributes, usize)>, AttrError> {
    let mut attributes = Vec::new();
    let mut strings = Strings { buf, offset: 0 };
    loop {
        let Some(name) = strings.next() else { return more(buf) };
        match name {
            b"" if strings.offset > MAX_LIST_BYTES => return Err(AttrError::TooLong),
            b"" => return Ok(Some((Attributes(attributes), strings.offset))),
            b"{" | b"}" => return Err(AttrError::Nested),
            _ => {}
        }
        let Some(value) = strings.next() else { return more(buf) };
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(AttrError::TooMany);
        }
        attributes.push((lossy(name), lossy(value)));
    }
}

fn more(buf: &[u8]) -> Result<Option<(Attributes, usize)>, AttrError> {
    if buf.len() >= MAX_LIST_BYTES { Err(AttrError::TooLong) } else { Ok(None) }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// NUL-terminated strings, without an unterminated last one.
struct Strings<'a> {
    buf: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.buf[self.offset..];
        let length = rest.iter().position(|&byte| byte == 0)?;
        self.offset += length + 1;
        Some(&rest[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        "[^\0]{0,40}"
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z_]{1,20}"
    }

    proptest! {
        #[test]
        fn an_encoded_list_is_decoded(
            list in prop::collection::vec((name(), text()), 0..20),
            rest in any::<Vec<u8>>(),
        ) {
            let borrowed: Vec<_> = list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let mut bytes = Vec::new();
            encode(&mut bytes, &borrowed);
            let length = bytes.len();
            bytes.extend(rest);
            prop_assert_eq!(decode(&bytes), Ok(Some((Attributes(list), length))));
        }

        #[test]
        fn a_prefix_asks_for_more(
            list in prop::collection::vec((name(), text()), 1..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let borrowed: Vec<_> = list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let mut bytes = Vec::new();
            encode(&mut bytes, &borrowed);
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), Ok(None));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in any::<Vec<u8>>()) {
            if let Ok(Some((_, consumed))) = decode(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&consumed));
            }
        }
    }

    #[test]
    fn a_value_cannot_smuggle_in_an_attribute() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &[("reason", "x\0status\x001"), ("", "ends it"), ("status", "0")]);
        let (list, _) = decode(&bytes).unwrap().unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [("reason", "x"), ("status", "0")]);
    }

    #[test]
    fn a_list_has_limits() {
        assert_eq!(decode(&vec![b'x'; MAX_LIST_BYTES - 1]), Ok(None));
        assert_eq!(decode(&vec![b'x'; MAX_LIST_BYTES]), Err(AttrError::TooLong));
        let mut long = vec![b'x'; MAX_LIST_BYTES];
        long.extend(b"\0y\0\0");
        assert_eq!(decode(&long), Err(AttrError::TooLong));
        assert_eq!(decode(&b"a\0b\0".repeat(MAX_ATTRIBUTES + 1)), Err(AttrError::TooMany));
        assert_eq!(decode(b"{\0a\0b\0}\0\0"), Err(AttrError::Nested));
    }

    #[test]
    fn a_missing_required_attribute_is_an_error() {
        let (list, _) = decode(b"status\x0012\0reason\0\0\0").unwrap().unwrap();
        assert_eq!(list.require_u32("status"), Ok(12));
        assert_eq!(list.require("reason"), Ok(""));
        assert_eq!(list.require("queue_id"), Err(AttrError::Missing("queue_id")));
        assert!(matches!(list.require_u32("reason"), Err(AttrError::Value { name: "reason", .. })));
    }
}
