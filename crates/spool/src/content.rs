//! A message's records, which may be in a file instead of memory.
//!
//! A submitting program keeps a small message in memory. Of a large message the program keeps only
//! the ends: the part between them is in a file, which is read in pieces. Reading doesn't move the
//! file's own position, so each repeated attempt can read the records again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Size of one piece of a file in memory, bytes.
const PIECE_BYTES: usize = 128 * 1024;

/// Records: `before`, then those in the file, then `after`.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The first records.
    pub before: &'a [u8],
    /// The records between, if they are in a file.
    pub file: Option<InFile<'a>>,
    /// The last records.
    pub after: &'a [u8],
}

/// The beginning of a file.
#[derive(Debug, Clone, Copy)]
pub struct InFile<'a> {
    /// The file, open for reading.
    pub file: &'a File,
    /// Number of bytes, from the file's beginning, that belong to the records.
    pub bytes: u64,
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(after: &'a [u8]) -> Self {
        Self { before: &[], file: None, after }
    }
}

impl Content<'_> {
    /// Returns the number of bytes in all.
    pub fn bytes(&self) -> u64 {
        self.file.map_or(0, |it| it.bytes) + (self.before.len() + self.after.len()) as u64
    }

    /// Gives all records to `take`, in pieces. `unreadable` converts an error of the file.
    pub fn each<E>(
        &self,
        unreadable: impl Fn(io::Error) -> E,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        take(self.before)?;
        if let Some(file) = self.file {
            file.each(unreadable, take)?;
        }
        take(self.after)
    }
}

impl InFile<'_> {
    pub(crate) fn each<E>(
        &self,
        unreadable: impl Fn(io::Error) -> E,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.bytes {
            let wanted = (self.bytes - at).min(PIECE_BYTES as u64) as usize;
            match self.file.read_at(&mut piece[..wanted], at) {
                Ok(0) => return Err(unreadable(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    take(&piece[..read])?;
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(content: Content<'_>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut take = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        content.each(|error| error, &mut take)?;
        assert_eq!(content.bytes(), all.len() as u64);
        Ok(all)
    }

    #[test]
    fn the_file_s_records_stand_between_those_in_memory() {
        let mut file = tempfile::tempfile().unwrap();
        let middle: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|n| n as u8).collect();
        file.write_all(&middle).unwrap();
        file.write_all(b"not counted").unwrap();
        let part = InFile { file: &file, bytes: middle.len() as u64 };
        let content = Content { before: b"<", file: Some(part), after: b">" };
        let whole = [b"<", middle.as_slice(), b">"].concat();
        assert_eq!(read(content).unwrap(), whole);
        assert_eq!(read(content).unwrap(), whole, "the second time");
        assert_eq!(read(Content::from(&b"abc"[..])).unwrap(), b"abc");
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let part = InFile { file: &file, bytes: 1 };
        let error = read(Content { before: b"", file: Some(part), after: b"" }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
