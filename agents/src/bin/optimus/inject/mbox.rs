//! mbox: messages one after the other, each after a line that begins with `From `.
//!
//! A message's own lines of that kind were quoted by whoever wrote the file: *mboxo* puts `>` before `From `, and a line that
//! was `>From ` already can't be told from it; *mboxrd* puts one more `>` before any number of them, and can be undone. A
//! separator stands at the beginning or after an empty line, and that line is not the message's.

use std::io::{self, BufRead};

/// How `From ` lines were quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    Mboxo,
    Mboxrd,
}

/// Reads messages one by one.
pub(super) struct Mbox<R> {
    input: R,
    quoting: Quoting,
    /// Of what follows, from the beginning of the file.
    offset: u64,
    line: Vec<u8>,
}

/// What was between two separators.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where its separator begins.
    pub(super) offset: u64,
    /// `None`: what is there doesn't begin with a separator, and isn't a message.
    pub(super) message: Option<Vec<u8>>,
}

impl<R: BufRead> Mbox<R> {
    /// `offset` is where the input begins in the file.
    pub(super) fn new(input: R, quoting: Quoting, offset: u64) -> Self {
        Self { input, quoting, offset, line: Vec::new() }
    }

    /// Where the next entry begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset - self.line.len() as u64
    }

    /// `None` at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        while self.line.is_empty() || is_empty(&self.line) {
            if !self.read_line()? {
                return Ok(None);
            }
        }
        let offset = self.offset();
        let is_message = is_separator(&self.line);
        let (mut message, mut after_empty) = (Vec::new(), false);
        while self.read_line()? {
            if after_empty && is_separator(&self.line) {
                let empty = if message.ends_with(b"\r\n") { 2 } else { 1 };
                message.truncate(message.len() - empty);
                break;
            }
            after_empty = is_empty(&self.line);
            message.extend_from_slice(unquoted(&self.line, self.quoting));
        }
        Ok(Some(Entry { offset, message: is_message.then_some(message) }))
    }

    /// Whether there was one.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line)?;
        self.offset += read as u64;
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

    fn read(text: &str, quoting: Quoting) -> Vec<(u64, Option<String>)> {
        let mut mbox = Mbox::new(text.as_bytes(), quoting, 0);
        let mut entries = Vec::new();
        while let Some(entry) = mbox.next_entry().unwrap() {
            entries.push((entry.offset, entry.message.map(|it| String::from_utf8(it).unwrap())));
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
    fn reading_can_go_on_at_any_entry() {
        let text = "From a\nA: 1\n\nFrom b\nB: 2\n\nFrom c\nC: 3\n";
        let mut mbox = Mbox::new(text.as_bytes(), Quoting::Mboxrd, 0);
        mbox.next_entry().unwrap();
        let offset = mbox.offset();
        let mut rest = Mbox::new(&text.as_bytes()[offset as usize..], Quoting::Mboxrd, offset);
        assert_eq!(rest.next_entry().unwrap(), mbox.next_entry().unwrap());
        assert_eq!(rest.offset(), mbox.offset());
    }
}
