//! Records: parts of queue files, maildrop files and the conversation with cleanup.
//!
//! ```text
//! ┌──────┬────────────────────────────┬──────┐
//! │ type │ length, 7 bits a byte, the │ data │
//! │ byte │ lowest first; high bit=more│      │
//! └──────┴────────────────────────────┴──────┘
//! ```
//!
//! Besides the framing, later Postfix versions check these rules, and so does every reader of this
//! module:
//! - a byte that names no type is an error, NUL too;
//! - CR, LF and NUL are errors in all but content records: they would end a header or an envelope
//!   line early;
//! - a length has at most five bytes and fits 31 bits, as in C.
//!
//! One state machine reads type and length. The slice iterator [`Records`] and the streaming
//! [`RecordReader`] differ only in their source of bytes. Neither goes on after an error, because
//! the framing is lost.
//!
//! Source: `record(3)`, `rec_type.h`.

mod kind;
mod reader;
mod slice;

use std::io;

pub use kind::{RecordType, Segment};
pub use reader::RecordReader;
pub use slice::{Record, Records};

/// Most bytes of a length: five times seven bits cover C's `int`.
pub const MAX_LENGTH_BYTES: u32 = 5;
/// Most bytes of a record's data: the largest value of C's `int`.
pub const MAX_DATA_BYTES: usize = i32::MAX as usize;

/// Error in a stream of records. The writer of the stream is at fault, except for `Io`.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes could not be read.
    #[error("records: not read: {0}")]
    Io(#[from] io::Error),
    /// The byte names no record type.
    #[error("record: not read: unknown type {0}")]
    UnknownType(u8),
    /// The length takes too many bytes or is larger than C's `int`.
    #[error("record {0:?}: not read: malformed length")]
    MalformedLength(RecordType),
    /// The record has more data than the reader accepts.
    #[error("record {kind:?}: {length} bytes, more than {limit}")]
    TooLong {
        /// Type of the record.
        kind: RecordType,
        /// Length of the record, in bytes.
        length: usize,
        /// Limit of the reader, in bytes.
        limit: usize,
    },
    /// The bytes end within a record.
    #[error("record: not read: cut short")]
    Truncated,
    /// The data has CR, LF or NUL, which would end a line early.
    #[error("record {kind:?}: byte {byte} is not allowed")]
    ControlCharacter {
        /// Type of the record.
        kind: RecordType,
        /// The forbidden byte.
        byte: u8,
    },
}

/// Appends one record.
pub fn put(out: &mut Vec<u8>, kind: RecordType, data: &[u8]) {
    out.push(kind.into());
    let mut rest = data.len();
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(data);
}

/// Type of a record and the length of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: RecordType,
    length: usize,
}

/// Reads a [`Header`] byte by byte.
#[derive(Debug, Default)]
struct Framing {
    kind: Option<RecordType>,
    length: u64,
    length_bytes: u32,
}

impl Framing {
    /// Takes the next byte. Returns the header when it is complete; the next byte then begins
    /// another header.
    fn push(&mut self, byte: u8) -> Result<Option<Header>, RecordError> {
        let Some(kind) = self.kind else {
            self.kind = Some(RecordType::try_from(byte).map_err(RecordError::UnknownType)?);
            return Ok(None);
        };
        self.length |= u64::from(byte & 0x7f) << (7 * self.length_bytes);
        self.length_bytes += 1;
        if byte & 0x80 == 0 {
            return self.complete(kind).map(Some);
        }
        if self.length_bytes == MAX_LENGTH_BYTES {
            return Err(RecordError::MalformedLength(kind));
        }
        Ok(None)
    }

    fn complete(&mut self, kind: RecordType) -> Result<Header, RecordError> {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        if length > MAX_DATA_BYTES {
            return Err(RecordError::MalformedLength(kind));
        }
        *self = Self::default();
        Ok(Header { kind, length })
    }

    /// Returns whether the reader is between two records.
    fn at_boundary(&self) -> bool {
        self.kind.is_none()
    }
}

/// Fails if data that is not content has CR, LF or NUL.
fn check(kind: RecordType, data: &[u8]) -> Result<(), RecordError> {
    if kind.is_content() {
        return Ok(());
    }
    match data.iter().find(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        Some(&byte) => Err(RecordError::ControlCharacter { kind, byte }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
