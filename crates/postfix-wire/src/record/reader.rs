//! Reader of records from a stream.

use std::io::{self, BufRead, Read};

use super::{Framing, Header, RecordError, RecordType, check};

/// Reader of records one by one, with a limit on each record. The reader's memory grows with the
/// received data, not with the announced length.
#[derive(Debug)]
pub struct RecordReader<R> {
    stream: R,
    limit_bytes: usize,
}

impl<R: BufRead> RecordReader<R> {
    /// Returns a reader that accepts at most `limit_bytes` of data in one record.
    pub fn new(stream: R, limit_bytes: usize) -> Self {
        Self { stream, limit_bytes }
    }

    /// Reads the next record's data into `buf`, which is emptied first. Returns the record's type,
    /// or `None` if the stream ended between two records.
    ///
    /// After an error the position in the stream is lost, and the reader must not be used again.
    pub fn next(&mut self, buf: &mut Vec<u8>) -> Result<Option<RecordType>, RecordError> {
        buf.clear();
        let Some(Header { kind, length }) = self.header()? else { return Ok(None) };
        if length > self.limit_bytes {
            return Err(RecordError::TooLong { kind, length, limit: self.limit_bytes });
        }
        (&mut self.stream).take(length as u64).read_to_end(buf)?;
        if buf.len() < length {
            return Err(RecordError::Truncated);
        }
        check(kind, buf)?;
        Ok(Some(kind))
    }

    /// Returns the stream, at the start of the next record.
    pub fn into_inner(self) -> R {
        self.stream
    }

    fn header(&mut self) -> Result<Option<Header>, RecordError> {
        let mut framing = Framing::default();
        loop {
            match self.byte()? {
                Some(byte) => {
                    if let Some(header) = framing.push(byte)? {
                        return Ok(Some(header));
                    }
                }
                None if framing.at_boundary() => return Ok(None),
                None => return Err(RecordError::Truncated),
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.stream.fill_buf() {
                Ok(available) => {
                    let byte = available.first().copied();
                    self.stream.consume(usize::from(byte.is_some()));
                    return Ok(byte);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
