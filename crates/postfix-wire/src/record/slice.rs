//! Iterator over records in memory.

use super::{Framing, RecordError, RecordType, check};

/// Record in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type of the record.
    pub kind: RecordType,
    /// Data of the record.
    pub data: &'a [u8],
}

/// Iterator over all records of a slice, also those after `E`. An error is the last item.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// Returns an iterator that starts at the slice's beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Returns the offset of the next record.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let mut framing = Framing::default();
        for (index, &byte) in self.bytes[self.offset..].iter().enumerate() {
            if let Some(header) = framing.push(byte)? {
                let start = self.offset + index + 1;
                let rest = &self.bytes[start..];
                let data = rest.get(..header.length).ok_or(RecordError::Truncated)?;
                check(header.kind, data)?;
                self.offset = start + header.length;
                return Ok(Record { kind: header.kind, data });
            }
        }
        Err(RecordError::Truncated)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset == self.bytes.len() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.offset = self.bytes.len();
        }
        Some(record)
    }
}

impl std::iter::FusedIterator for Records<'_> {}
