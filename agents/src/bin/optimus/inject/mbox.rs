//! mbox: messages one after the other, each after a line that begins with `From `.
//!
//! A message's own lines of that kind were quoted by whoever wrote the file: *mboxo* puts `>` before `From `, and a line that
//! was `>From ` already can't be told from it; *mboxrd* puts one more `>` before any number of them, and can be undone. A
//! separator stands at the beginning or after an empty line, and that line is not the message's.
//!
//! What is read can be large without being mail: lines are taken in pieces, and a message is kept up to a limit only.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

/// Of a line that is longer.
const PIECE_BYTES: u64 = 64 * 1024;

/// How `From ` lines were quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    Mboxo,
    Mboxrd,
}

/// Where in an input, and the CRC-32C of all before it: whether an input is the one that was marked can be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) offset: u64,
    checksum: u32,
}

impl Mark {
    fn after(self, bytes: &[u8]) -> Self {
        let checksum = crc32c::crc32c_append(self.checksum, bytes);
        Self { offset: self.offset + bytes.len() as u64, checksum }
    }
}

/// Reads messages one by one.
pub(super) struct Mbox<R> {
    input: R,
    quoting: Quoting,
    message_bytes_max: usize,
    /// A piece of a line, and whether it is its first.
    line: Vec<u8>,
    begins: bool,
    /// Where it begins.
    mark: Mark,
}

/// What was between two separators.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where its separator begins.
    pub(super) offset: u64,
    pub(super) message: Result<Vec<u8>, Unusable>,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("does not begin with a line \"From \"")]
    NoSeparator,
    #[error("is larger than message_size_limit")]
    TooLarge,
}

impl<R: BufRead> Mbox<R> {
    pub(super) fn new(input: R, quoting: Quoting, message_bytes_max: usize) -> Self {
        Self { input, quoting, message_bytes_max, line: Vec::new(), begins: true, mark: Mark::default() }
    }

    /// Where the next entry begins.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Goes on at an entry that is not before this one. Whether the input is the one in which it was marked is told by reading
    /// it, which for a stream is the only way there.
    pub(super) fn skip_to(&mut self, mark: Mark) -> io::Result<()> {
        while self.mark.offset < mark.offset {
            if !self.line.is_empty() {
                self.mark = self.mark.after(&self.line);
                self.line.clear();
                continue;
            }
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let left = usize::try_from(mark.offset - self.mark.offset).unwrap_or(usize::MAX);
            let count = bytes.len().min(left);
            self.mark = self.mark.after(&bytes[..count]);
            self.input.consume(count);
        }
        let is_same = self.mark == mark;
        let words = format!("its first {} bytes are not those that were read the last time", mark.offset);
        if is_same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, words)) }
    }

    /// `None` at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        while self.line.is_empty() || is_empty(&self.line) {
            if !self.read_line()? {
                return Ok(None);
            }
        }
        let (offset, is_message) = (self.mark.offset, is_separator(&self.line));
        let mut message = Vec::new();
        let (mut in_separator, mut after_empty, mut is_cut) = (true, false, false);
        while self.read_line()? {
            if self.begins && after_empty && is_separator(&self.line) {
                let empty = if message.ends_with(b"\r\n") { 2 } else { 1 };
                message.truncate(message.len() - if is_cut { 0 } else { empty });
                break;
            }
            after_empty = self.begins && is_empty(&self.line);
            in_separator &= !self.begins;
            is_cut |= message.len() > self.message_bytes_max || !is_message;
            if !is_cut && !in_separator {
                message.extend_from_slice(self.text());
            }
        }
        is_cut |= message.len() > self.message_bytes_max;
        let message = match (is_message, is_cut) {
            (false, _) => Err(Unusable::NoSeparator),
            (true, true) => Err(Unusable::TooLarge),
            (true, false) => Ok(message),
        };
        Ok(Some(Entry { offset, message }))
    }

    fn text(&self) -> &[u8] {
        if self.begins { unquoted(&self.line, self.quoting) } else { &self.line }
    }

    /// Whether there was one.
    fn read_line(&mut self) -> io::Result<bool> {
        self.begins = self.line.is_empty() || self.line.ends_with(b"\n");
        self.mark = self.mark.after(&self.line);
        self.line.clear();
        let read = self.input.by_ref().take(PIECE_BYTES).read_until(b'\n', &mut self.line)?;
        Ok(read > 0)
    }
}

fn is_separator(line: &[u8]) -> bool {
    line.starts_with(b"From ")
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

fn unquoted(line: &[u8], quoting: Quoting) -> &[u8] {
    let quotes = line.iter().take_while(|it| **it == b'>').count();
    let is_quoted = match quoting {
        Quoting::Mboxo => quotes == 1,
        Quoting::Mboxrd => quotes > 0,
    };
    if is_quoted && is_separator(&line[quotes..]) { &line[1..] } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn read(text: &str, quoting: Quoting) -> Vec<(u64, Option<String>)> {
        let mut mbox = Mbox::new(text.as_bytes(), quoting, LIMIT);
        let mut entries = Vec::new();
        while let Some(entry) = mbox.next_entry().unwrap() {
            entries.push((entry.offset, entry.message.ok().map(|it| String::from_utf8(it).unwrap())));
        }
        entries
    }

    fn message(offset: u64, text: &str) -> (u64, Option<String>) {
        (offset, Some(text.to_owned()))
    }

    #[test]
    fn messages_are_between_separators_after_empty_lines() {
        let text = "From a\nA: 1\n\nFrom here\nb\n\nFrom b\nB: 2\n\nx\n";
        let entries = read(text, Quoting::Mboxrd);
        // The line after the header's end is text that nobody has quoted, and taken for a separator: as by all who read mbox.
        assert_eq!(entries, [message(0, "A: 1\n"), message(13, "b\n"), message(26, "B: 2\n\nx\n")]);
        assert_eq!(read("From a\nA: 1\nFrom b\n\n", Quoting::Mboxrd), [message(0, "A: 1\nFrom b\n\n")]);
        assert_eq!(
            read("From a\r\nA: 1\r\n\r\nFrom b\r\nB: 1\r\n", Quoting::Mboxrd),
            [message(0, "A: 1\r\n"), message(16, "B: 1\r\n")]
        );
        assert_eq!(read("", Quoting::Mboxrd), []);
    }

    #[test]
    fn quoting_is_undone_as_it_was_done() {
        let text = "From a\n\n>From x\n>>From y\n> From z\n";
        assert_eq!(read(text, Quoting::Mboxrd), [message(0, "\nFrom x\n>From y\n> From z\n")]);
        assert_eq!(read(text, Quoting::Mboxo), [message(0, "\nFrom x\n>>From y\n> From z\n")]);
    }

    #[test]
    fn what_is_before_the_first_separator_is_no_message() {
        assert_eq!(read("junk\nmore\n\nFrom a\nA: 1\n", Quoting::Mboxrd), [(0, None), message(11, "A: 1\n")]);
    }

    #[test]
    fn reading_can_go_on_at_any_entry_of_the_same_input() {
        let text = "From a\nA: 1\n\nFrom b\nB: 2\n\nFrom c\nC: 3\n";
        let of = |text: &'static str| Mbox::new(text.as_bytes(), Quoting::Mboxrd, LIMIT);
        let mut mbox = of(text);
        let mut marks = vec![mbox.mark()];
        while mbox.next_entry().unwrap().is_some() {
            marks.push(mbox.mark());
        }
        assert_eq!(marks.len(), 4);
        // From the beginning, or from where an earlier entry has been read.
        for (from, to) in [(0, 1), (0, 2), (1, 2), (1, 1), (0, 3)] {
            let mut rest = of(text);
            (0..from).for_each(|_| drop(rest.next_entry().unwrap()));
            rest.skip_to(marks[to]).unwrap();
            assert_eq!(
                rest.next_entry().unwrap().map(|it| it.offset),
                marks[..3].get(to).map(|it| it.offset)
            );
        }
        for other in ["From a\nA: 9\n\nFrom b\nB: 2\n\nFrom c\nC: 3\n", "From a\n", ""] {
            let error = of(other).skip_to(marks[1]).unwrap_err().to_string();
            assert_eq!(error, "its first 13 bytes are not those that were read the last time");
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_the_next_is_found() {
        let large = [format!("{}\n", "x".repeat(300_000)), "short\n\n".repeat(50), "x".repeat(101)];
        for large in large {
            let text = format!("From a\n{large}\n\nFrom b\nB: 2\n\nFrom {}\nC: 3\n", "c".repeat(100_000));
            let mut mbox = Mbox::new(text.as_bytes(), Quoting::Mboxrd, LIMIT);
            let entry = mbox.next_entry().unwrap().unwrap();
            assert_eq!((entry.offset, entry.message), (0, Err(Unusable::TooLarge)));
            assert_eq!(mbox.next_entry().unwrap().unwrap().message, Ok(b"B: 2\n".to_vec()));
            assert_eq!(mbox.next_entry().unwrap().unwrap().message, Ok(b"C: 3\n".to_vec()));
            assert!(mbox.line.capacity() < 300_000);
        }
        let whole = "x".repeat(LIMIT - 1) + "\n";
        let text = format!("From a\n{whole}\nFrom b\n");
        assert_eq!(read(&text, Quoting::Mboxrd)[0], message(0, &whole));
    }
}
